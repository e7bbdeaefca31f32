//! The sockets of the data path: accept, TLS, PROXY protocol, upstream dial, relay, tunnel channels.
//! Everything that moves bytes between two sockets, or makes one, is here.
//!
//! Must never: decide (routing, policy and limits are the edge's), log per read, or keep a record of
//! a connection. It is the only crate that may use `unsafe`: `sys` does.

pub mod accept;
pub mod carrier;
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
#[allow(unsafe_code, reason = "system calls that no crate wraps safely")]
mod sys;
pub mod task;
pub mod tls;
pub mod upstream;
pub mod wheel;

#[cfg(test)]
mod testing;

pub use relay::{Counters, Relay, RelayEnd, RelayIo, RelayLimits, Side, relay};
pub use socket::{TcpConn, UnixConn};
pub use sys::set_time_slice;
