//! The agent and the Rust SDK: sessions, endpoints, upstreams, the local API.

pub mod builder;
pub mod config;
pub mod defaults;
pub mod local_api;
pub mod options;
pub mod server;
pub mod status;

mod agent;
mod conn;
mod endpoint;
mod listener;
mod policy_text;

pub use agent::{Agent, Stopped};
pub use builder::AgentBuilder;
pub use config::{AgentConfig, Overrides};
pub use conn::Conn;
pub use listener::{Forwarder, Listener};
pub use local_api::{LocalAddr, LocalApi, LocalApiConfig};
pub use options::{EndpointOptions, EndpointUpdate};
pub use server::{ConnectCas, ServerSources};
pub use status::{ConnectionStats, EndpointState, EndpointStatus, SessionState, Status};
