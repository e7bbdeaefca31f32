//! The API against a registry on SQLite and a node that only remembers what it was told. Requests go
//! straight into the router; `server.rs` alone opens sockets.

mod certificates;
mod conventions;
mod filter;
mod harness;
mod ip_policies;
mod ip_restrictions;
mod isolation;
mod openapi;
mod others;
mod paging;
mod resources;
mod server;
mod tls;
mod vaults;

pub(crate) use harness::{Api, Got};
