//! `portcullis api tls-certificates`: what TLS is terminated with. Private keys go in and never come out.

use clap::{Args, Subcommand};

use super::common::{self, Body, Common, IdArgs, Kind, Labels, ListArgs};
use super::pem::Pem;
use crate::failure::Failure;

const KIND: Kind = Kind {
    path: "/tls_certificates",
    key: "tls_certificates",
    columns: &[
        ("id", "id"),
        ("names", "subject_alternative_names.dns_names"),
        ("issuer", "issuer_common_name"),
        ("valid until", "not_after"),
        ("description", "description"),
    ],
};

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create a certificate with its private key.
    Create(CreateArgs),
    /// Show one, without its key.
    Get(IdArgs),
    /// List them, without their keys.
    List(ListArgs),
    /// Change description or metadata.
    Update(UpdateArgs),
    /// Delete one that no endpoint names.
    Delete(IdArgs),
}

/// `create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The chain, leaf first: a PEM file (`-` reads standard input), or the PEM itself.
    #[arg(
        long,
        visible_alias = "certificate-pem-file",
        value_name = "FILE",
        allow_hyphen_values = true
    )]
    certificate_pem: Pem,
    /// The leaf's private key: a PEM file (`-` reads standard input), or the PEM itself, which stays in the
    /// shell's history and the list of processes.
    #[arg(
        long,
        visible_alias = "private-key-pem-file",
        value_name = "FILE",
        allow_hyphen_values = true
    )]
    private_key_pem: Pem,
    #[command(flatten)]
    labels: Labels,
    #[command(flatten)]
    common: Common,
}

/// `update`.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Its id.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    labels: Labels,
    #[command(flatten)]
    common: Common,
}

/// Does it.
pub(crate) async fn run(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Create(args) => {
            if args.certificate_pem.is_stdin() && args.private_key_pem.is_stdin() {
                let text = "only one of certificate and key can be read from standard input";
                return Err(Failure::Usage(text.to_owned()));
            }
            let body = Body::labelled(args.labels)
                .with("certificate_pem", Some(args.certificate_pem.read()?))
                .with("private_key_pem", Some(args.private_key_pem.read()?));
            common::create(KIND, body, &args.common).await.map(drop)
        }
        Verb::Get(args) => common::get(KIND, &args).await.map(drop),
        Verb::List(args) => common::list(KIND, args).await,
        Verb::Update(args) => {
            common::update(KIND, &args.id, Body::labelled(args.labels), &args.common).await
        }
        Verb::Delete(args) => common::delete(KIND, &args, &[]).await,
    }
}
