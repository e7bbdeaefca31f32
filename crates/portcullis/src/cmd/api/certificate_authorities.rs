//! `portcullis api certificate-authorities`: who may have issued the certificates of clients.

use clap::{Args, Subcommand};

use super::common::{self, Body, Common, IdArgs, Kind, Labels, ListArgs};
use super::pem::Pem;
use crate::failure::Failure;

const KIND: Kind = Kind {
    path: "/certificate_authorities",
    key: "certificate_authorities",
    columns: &[
        ("id", "id"),
        ("name", "subject_common_name"),
        ("valid until", "not_after"),
        ("description", "description"),
    ],
};

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create a certificate authority.
    Create(CreateArgs),
    /// Show one.
    Get(IdArgs),
    /// List them.
    List(ListArgs),
    /// Change description or metadata.
    Update(UpdateArgs),
    /// Delete one that no endpoint uses.
    Delete(IdArgs),
}

/// `create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// One or more certificates of authorities: a PEM file (`-` reads standard input), or the PEM itself.
    #[arg(
        long,
        visible_alias = "ca-pem-file",
        value_name = "FILE",
        allow_hyphen_values = true
    )]
    ca_pem: Pem,
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
            let body = Body::labelled(args.labels).with("ca_pem", Some(args.ca_pem.read()?));
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
