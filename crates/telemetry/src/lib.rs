//! What is known of connections: the record that every connection has, the closed list of reasons why
//! they end, the metrics, the table of live connections, and the commands that control gives a node.
//!
//! Owns: what is counted and logged about a connection, and under which names.
//! Must never: touch a socket, decide anything about a connection, or depend on who serves it.

pub mod close;
pub mod commands;
mod entry;
pub mod kill;
pub mod live;
pub mod metrics;
pub mod names;
pub mod record;
pub mod reference;
mod runtimes;

pub use close::{CloseReason, Ended, Fault};
pub use commands::{
    DrainOutcome, EndpointHealth, EndpointState, EndpointStatus, HealthState, NodeCommands,
    UpstreamFailure,
};
pub use entry::SharedEndpoint;
pub use kill::KillSwitch;
pub use live::{ConnectionView, Live, LiveConnection, Traffic};
pub use metrics::Metrics;
pub use record::{Phase, Record, Records};
