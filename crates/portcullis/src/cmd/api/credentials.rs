//! `portcullis api credentials`: what agents connect with.

use clap::{Args, Subcommand};

use super::common::{self, Body, Common, IdArgs, Kind, Labels, ListArgs};
use crate::failure::Failure;

const KIND: Kind = Kind {
    path: "/credentials",
    key: "credentials",
    columns: &[
        ("id", "id"),
        ("description", "description"),
        ("acl", "acl"),
        ("created", "created_at"),
    ],
};

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create a credential; its authtoken is shown once.
    Create(CreateArgs),
    /// Show one.
    Get(IdArgs),
    /// List them.
    List(ListArgs),
    /// Change rules, description or metadata.
    Update(UpdateArgs),
    /// Revoke one: its agents are disconnected within a second.
    Delete(IdArgs),
}

/// `create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// What its agents may bind; repeatable. Without a rule everything is allowed.
    #[arg(long, value_name = "RULE")]
    acl: Vec<String>,
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
    /// What its agents may bind; repeatable, replaces all rules.
    #[arg(long, value_name = "RULE")]
    acl: Vec<String>,
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
                .with_list("acl", args.acl)
                .with("owner_id", args.owner_id);
            common::create(KIND, body, &args.common).await.map(drop)
        }
        Verb::Get(args) => common::get(KIND, &args).await.map(drop),
        Verb::List(args) => common::list(KIND, args).await,
        Verb::Update(args) => {
            let body = Body::labelled(args.labels).with_list("acl", args.acl);
            common::update(KIND, &args.id, body, &args.common).await
        }
        Verb::Delete(args) => common::delete(KIND, &args, &[]).await,
    }
}
