//! `portcullis accounts`: the owners of everything, for who holds an admin key.

use clap::{Args, Subcommand};

use super::api::common::{self, Body, Common, IdArgs, Kind, ListArgs};
use super::block_on;
use crate::failure::Failure;

const KIND: Kind = Kind {
    path: "/accounts",
    key: "accounts",
    columns: &[
        ("id", "id"),
        ("name", "name"),
        ("plan", "plan"),
        ("verified", "verified"),
        ("created", "created_at"),
        ("description", "description"),
    ],
};

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create an account.
    Create(CreateArgs),
    /// Show one.
    Get(IdArgs),
    /// List them.
    List(ListArgs),
    /// Change one.
    Update(UpdateArgs),
    /// Delete one.
    Delete(DeleteArgs),
}

/// Fields that can be set and changed.
#[derive(Debug, Args)]
pub(crate) struct Fields {
    /// A plan of the server's configuration.
    #[arg(long)]
    plan: Option<String>,
    /// Whether the operator has verified it.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    verified: Option<bool>,
    /// What it is for, at most 255 bytes.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Text for programs, at most 4,096 bytes.
    #[arg(long, value_name = "TEXT")]
    metadata: Option<String>,
}

/// `create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Its name, unique.
    #[arg(
        value_name = "NAME",
        required_unless_present = "name_flag",
        conflicts_with = "name_flag"
    )]
    name: Option<String>,
    /// Its name, unique.
    #[arg(long = "name", id = "name_flag", value_name = "NAME")]
    name_flag: Option<String>,
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
    /// Its new name, unique.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    fields: Fields,
    #[command(flatten)]
    common: Common,
}

/// `delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    id: IdArgs,
    /// Delete everything that belongs to it as well.
    #[arg(long)]
    force: bool,
}

fn body(fields: Fields) -> Body {
    Body::default()
        .with("plan", fields.plan)
        .with("verified", fields.verified)
        .with("description", fields.description)
        .with("metadata", fields.metadata)
}

/// Does it.
///
/// # Errors
/// What the API said, or that it cannot be reached.
pub(crate) fn run(verb: Verb) -> Result<(), Failure> {
    block_on(async move {
        match verb {
            Verb::Create(args) => {
                let body = body(args.fields).with("name", args.name.or(args.name_flag));
                common::create(KIND, body, &args.common).await.map(drop)
            }
            Verb::Get(args) => common::get(KIND, &args).await.map(drop),
            Verb::List(args) => common::list(KIND, args).await,
            Verb::Update(args) => {
                common::update(
                    KIND,
                    &args.id,
                    body(args.fields).with("name", args.name),
                    &args.common,
                )
                .await
            }
            Verb::Delete(args) => {
                let query: Vec<(&str, String)> = args
                    .force
                    .then(|| ("force", "true".to_owned()))
                    .into_iter()
                    .collect();
                common::delete(KIND, &args.id, &query).await
            }
        }
    })
}
