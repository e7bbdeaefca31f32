//! `portcullis api connections`: the client connections that are open now.

use clap::Subcommand;

use super::common::{self, IdArgs, Kind, ListArgs};
use crate::failure::Failure;

const KIND: Kind = Kind {
    path: "/connections",
    key: "connections",
    columns: &[
        ("id", "id"),
        ("url", "url"),
        ("client", "client"),
        ("upstream", "upstream"),
        ("in", "bytes_in"),
        ("out", "bytes_out"),
        ("opened", "opened_at"),
    ],
};

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show one.
    Get(IdArgs),
    /// List them.
    List(ListArgs),
    /// End one.
    #[command(alias = "stop")]
    Delete(IdArgs),
}

/// Does it.
pub(crate) async fn run(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Get(args) => common::get(KIND, &args).await.map(drop),
        Verb::List(args) => common::list(KIND, args).await,
        Verb::Delete(args) => common::delete(KIND, &args, &[]).await,
    }
}
