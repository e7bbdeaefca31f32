//! The agent and the Rust SDK: sessions, endpoints, upstreams, the local API.

pub mod builder;
pub mod config;
pub mod defaults;
pub mod local_api;
pub mod options;
pub mod server;
pub mod status;

mod agent;
mod backoff;
mod bindings;
mod channels;
mod conn;
mod connection;
mod dial;
mod endpoint;
mod identity;
mod listener;
mod policy_text;
mod record;
mod routes;
mod session;
mod settings;
mod shared;
mod stats;
mod supervisor;
mod upstream;

pub use agent::{Agent, Stopped};
pub use builder::AgentBuilder;
pub use config::{AgentConfig, Overrides};
pub use conn::Conn;
pub use listener::{Forwarder, Listener};
pub use local_api::{LocalAddr, LocalApi, LocalApiConfig};
pub use options::{EndpointOptions, EndpointUpdate};
pub use server::{ConnectCas, ServerSources};
pub use status::{ConnectionStats, EndpointState, EndpointStatus, SessionState, Status};
