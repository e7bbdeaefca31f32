//! The sockets of the data path: accept, TLS, PROXY protocol, upstream dial, relay, tunnel channels.
//! Everything that moves bytes between two sockets, or makes one, is here.
//!
//! Must never: decide (routing, policy and limits are the edge's), log per read, or keep a record of
//! a connection. It is the only crate that may use `unsafe`; so far it has not needed to.

pub mod accept;
pub mod channel;
pub mod control;
pub mod defaults;
pub mod descriptors;
mod files;
pub mod listen;
pub mod outbound;
pub mod proxy_protocol;
pub mod relay;
pub mod resolve;
pub mod seal;
pub mod socket;
pub mod task;
pub mod tls;
pub mod upstream;

#[cfg(test)]
mod testing;

pub use relay::{Counters, RelayEnd, RelayIo, RelayLimits, Side, relay};
pub use socket::{TcpConn, UnixConn};
