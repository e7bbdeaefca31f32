//! `portcullis api ip-restrictions`: what the account lets in by address.

use clap::{Args, Subcommand};

use super::common::{self, Body, Common, IdArgs, Kind, Labels, ListArgs};
use crate::failure::Failure;

const KIND: Kind = Kind {
    path: "/ip_restrictions",
    key: "ip_restrictions",
    columns: &[
        ("id", "id"),
        ("type", "type"),
        ("enforced", "enforced"),
        ("policies", "ip_policies"),
        ("description", "description"),
    ],
};

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create an IP restriction.
    Create(CreateArgs),
    /// Show one.
    Get(IdArgs),
    /// List them.
    List(ListArgs),
    /// Change its policies, whether it is enforced, description or metadata.
    Update(UpdateArgs),
    /// Delete one.
    Delete(IdArgs),
}

/// What can be changed.
#[derive(Debug, Args)]
pub(crate) struct Fields {
    /// Refuse; without it what would be refused is only logged.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    enforced: Option<bool>,
    /// IP policies whose rules count, together; repeatable. They replace all there are.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    ip_policy_ids: Vec<String>,
    #[command(flatten)]
    labels: Labels,
}

impl Fields {
    fn body(self) -> Body {
        Body::labelled(self.labels)
            .with("enforced", self.enforced)
            .with_list("ip_policy_ids", self.ip_policy_ids)
    }
}

/// `create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// What it is for: dashboard, api, agent or endpoints; for good.
    #[arg(long = "type", value_name = "TYPE")]
    kind: String,
    #[command(flatten)]
    fields: Fields,
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
    fields: Fields,
    #[command(flatten)]
    common: Common,
}

/// Does it.
pub(crate) async fn run(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Create(args) => {
            let body = args.fields.body().with("type", Some(args.kind));
            common::create(KIND, body, &args.common).await.map(drop)
        }
        Verb::Get(args) => common::get(KIND, &args).await.map(drop),
        Verb::List(args) => common::list(KIND, args).await,
        Verb::Update(args) => {
            common::update(KIND, &args.id, args.fields.body(), &args.common).await
        }
        Verb::Delete(args) => common::delete(KIND, &args, &[]).await,
    }
}
