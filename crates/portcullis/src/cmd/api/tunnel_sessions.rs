//! `portcullis api tunnel-sessions`: the agents that are connected.

use clap::Subcommand;

use super::common::{self, IdArgs, Kind, ListArgs};
use crate::failure::Failure;

const KIND: Kind = Kind {
    path: "/tunnel_sessions",
    key: "tunnel_sessions",
    columns: &[
        ("id", "id"),
        ("ip", "ip"),
        ("region", "region"),
        ("version", "agent_version"),
        ("os", "os"),
        ("credential", "credential"),
        ("started", "started_at"),
        ("metadata", "metadata"),
    ],
};

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show one.
    Get(IdArgs),
    /// List them.
    List(ListArgs),
    /// Stop the agent; it does not come back by itself.
    Stop(IdArgs),
    /// Make the agent reconnect.
    Restart(IdArgs),
}

/// Does it.
pub(crate) async fn run(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Get(args) => common::get(KIND, &args).await.map(drop),
        Verb::List(args) => common::list(KIND, args).await,
        Verb::Stop(args) => common::act(KIND, "stop", &args, "stopped").await,
        Verb::Restart(args) => common::act(KIND, "restart", &args, "restarted").await,
    }
}
