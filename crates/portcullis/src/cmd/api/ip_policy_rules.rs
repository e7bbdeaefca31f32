//! `portcullis api ip-policy-rules`: the networks of IP policies, one by one.

use clap::{Args, Subcommand};

use super::common::{self, Body, Common, IdArgs, Kind, Labels, ListArgs};
use crate::failure::Failure;

const KIND: Kind = Kind {
    path: "/ip_policy_rules",
    key: "ip_policy_rules",
    columns: &[
        ("id", "id"),
        ("cidr", "cidr"),
        ("action", "action"),
        ("policy", "ip_policy"),
        ("description", "description"),
    ],
};

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create a rule of an IP policy.
    Create(CreateArgs),
    /// Show one.
    Get(IdArgs),
    /// List those of all IP policies.
    List(ListArgs),
    /// Change the network, description or metadata.
    Update(UpdateArgs),
    /// Delete one.
    Delete(IdArgs),
}

/// `create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The IP policy it is for.
    #[arg(long, value_name = "ID")]
    ip_policy_id: String,
    /// The network: base address and mask.
    #[arg(long, value_name = "CIDR")]
    cidr: String,
    /// What it does: allow or deny.
    #[arg(long, value_name = "ACTION")]
    action: String,
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
    /// Another network: base address and mask.
    #[arg(long, value_name = "CIDR")]
    cidr: Option<String>,
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
                .with("ip_policy_id", Some(args.ip_policy_id))
                .with("cidr", Some(args.cidr))
                .with("action", Some(args.action));
            common::create(KIND, body, &args.common).await.map(drop)
        }
        Verb::Get(args) => common::get(KIND, &args).await.map(drop),
        Verb::List(args) => common::list(KIND, args).await,
        Verb::Update(args) => {
            let body = Body::labelled(args.labels).with("cidr", args.cidr);
            common::update(KIND, &args.id, body, &args.common).await
        }
        Verb::Delete(args) => common::delete(KIND, &args, &[]).await,
    }
}
