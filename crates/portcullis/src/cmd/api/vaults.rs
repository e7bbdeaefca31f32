//! `portcullis api vaults`: secrets under one name.

use clap::{Args, Subcommand};

use super::common::{self, Body, Common, IdArgs, Kind, Labels, ListArgs};
use super::vault_secrets;
use crate::failure::Failure;

const KIND: Kind = Kind {
    path: "/vaults",
    key: "vaults",
    columns: &[
        ("id", "id"),
        ("name", "name"),
        ("description", "description"),
        ("updated", "updated_at"),
    ],
};

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create a vault.
    Create(CreateArgs),
    /// Show one.
    Get(IdArgs),
    /// List them.
    List(ListArgs),
    /// List the secrets of one, without their values.
    Secrets(SecretsArgs),
    /// Change name, description or metadata.
    Update(UpdateArgs),
    /// Delete one; it must be empty.
    Delete(IdArgs),
}

/// `create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Letters, digits and `_/.`; policies read its secrets by it.
    #[arg(long)]
    name: String,
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
    /// Its new name; not while a policy reads its secrets.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    labels: Labels,
    #[command(flatten)]
    common: Common,
}

/// `secrets`.
#[derive(Debug, Args)]
pub(crate) struct SecretsArgs {
    /// Its id.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    list: ListArgs,
}

/// Does it.
pub(crate) async fn run(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Create(args) => {
            let body = Body::labelled(args.labels).with("name", Some(args.name));
            common::create(KIND, body, &args.common).await.map(drop)
        }
        Verb::Get(args) => common::get(KIND, &args).await.map(drop),
        Verb::List(args) => common::list(KIND, args).await,
        Verb::Secrets(args) => {
            common::list_below(KIND, &args.id, vault_secrets::KIND, args.list).await
        }
        Verb::Update(args) => {
            let body = Body::labelled(args.labels).with("name", args.name);
            common::update(KIND, &args.id, body, &args.common).await
        }
        Verb::Delete(args) => common::delete(KIND, &args, &[]).await,
    }
}
