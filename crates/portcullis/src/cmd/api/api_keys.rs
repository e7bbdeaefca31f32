//! `portcullis api api-keys`: keys to the REST API.

use clap::{Args, Subcommand};

use super::common::{self, Body, Common, IdArgs, Kind, Labels, ListArgs};
use crate::failure::Failure;

const KIND: Kind = Kind {
    path: "/api_keys",
    key: "keys",
    columns: &[
        ("id", "id"),
        ("description", "description"),
        ("admin", "admin"),
        ("created", "created_at"),
    ],
};

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create a key; it is shown once.
    Create(CreateArgs),
    /// Show one.
    Get(IdArgs),
    /// List them.
    List(ListArgs),
    /// Change description or metadata.
    Update(UpdateArgs),
    /// Delete one; it stops working at once.
    Delete(IdArgs),
}

/// `create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Let it manage accounts and act for others (admin keys only).
    #[arg(long)]
    admin: bool,
    /// Who owns it.
    #[arg(long, value_name = "ID")]
    owner_id: Option<String>,
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
            let body = Body::labelled(args.labels)
                .with("admin", args.admin.then_some(true))
                .with("owner_id", args.owner_id);
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
