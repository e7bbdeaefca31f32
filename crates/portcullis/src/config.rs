//! The server's configuration: YAML read raw, then checked as a whole. Every error is found in one
//! go and named by its path; unknown keys are refused; what results is complete, defaults included.
//!
//! Must never: open a socket, or stop at the first error.

pub(crate) mod acme;
pub(crate) mod endpoints;
pub(crate) mod hosts;
pub(crate) mod places;
pub(crate) mod reader;
pub(crate) mod server;
pub(crate) mod tls;

pub(crate) use endpoints::DirectEndpoint;
pub(crate) use server::{ApiTls, LogFormat, RuntimeConfig, ServerConfig};
