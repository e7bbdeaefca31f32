//! The agent and the Rust SDK: gives services an address through a Portcullis server, from a place
//! that only dials out.
//!
//! Take the connections yourself, as a stream:
//!
//! ```no_run
//! use futures_util::StreamExt as _;
//! use portcullis_agent::{Agent, EndpointOptions};
//! use tokio::io::AsyncWriteExt as _;
//!
//! # async fn example(join: portcullis_model::Secret) -> Result<(), portcullis_model::Error> {
//! let agent = Agent::builder().authtoken(join).connect().await?;
//! let mut listener = agent.listen(EndpointOptions::new().name("hello")).await?;
//! println!("clients connect to {}", listener.url());
//! while let Some(mut conn) = listener.next().await {
//!     tokio::spawn(async move { conn.write_all(b"hello\n").await });
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Or have them forwarded to an upstream:
//!
//! ```no_run
//! use portcullis_agent::{Agent, EndpointOptions};
//!
//! # async fn example(agent: Agent) -> Result<(), portcullis_model::Error> {
//! let options = EndpointOptions::at("tcp://edge.example.com:20001").allow("10.0.0.0/8");
//! let forwarder = agent.forward(options, "localhost:5432").await?;
//! println!("{} -> {}", forwarder.url(), forwarder.upstream());
//! // Dropping `forwarder` closes the endpoint; this waits until something else does.
//! let why = forwarder.closed().await;
//! # drop(why);
//! # Ok(())
//! # }
//! ```
//!
//! Or connect to an internal endpoint of the account yourself, with [`Agent::dial`], or with a
//! [`Dialler`] where no agent runs.
//!
//! [`Agent::builder`] takes a join string (or a bare authtoken and a server), and a state directory
//! where the agent's identity is kept: with it, a random address stays the same across restarts.
//! Errors carry their `PTC_…` code. `examples/hello.rs` is a whole program.
//!
//! Inside: a supervisor keeps one session up; the session's actor feeds `portcullis_proto`'s machine
//! and reconciles the endpoints that are wanted with those that are bound; each data channel is a task
//! that serves one client connection after another (`connection.rs` reads as its story).
//!
//! Must never: listen on anything but the local API; know about edges, stores or the command line.

pub mod builder;
pub mod config;
pub mod defaults;
pub mod local_api;
pub mod options;
pub mod server;
pub mod status;
pub mod termination;

mod agent;
mod backoff;
mod bindings;
mod channels;
mod client;
mod conn;
mod connection;
mod dial;
mod dialler;
mod endpoint;
mod health;
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
pub use dialler::{Carried, Dialled, Dialler};
pub use listener::{Forwarder, Listener};
pub use local_api::{LocalAddr, LocalApi, LocalApiConfig};
pub use options::{EndpointOptions, EndpointUpdate};
pub use server::{ConnectCas, ServerSources};
pub use status::{ConnectionStats, EndpointState, EndpointStatus, SessionState, Status};
pub use termination::{PemSource, TlsTermination};
