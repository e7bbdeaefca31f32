//! The local API: what `portcullis` on the same machine, scripts and the terminal ask the agent.
//!
//! Owns its listener and its token. Must never: answer without the token on TCP, or to a Host
//! header that is not one of its names.

use std::net::SocketAddr;
use std::path::PathBuf;

use portcullis_model::Error;

use crate::Agent;

/// Where the local API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalAddr {
    /// A TCP address; a taken port falls to the next free one.
    Tcp(SocketAddr),
    /// A Unix socket, 0600; no token is asked there.
    Unix(PathBuf),
}

/// Settings of the local API.
#[derive(Debug, Clone)]
pub struct LocalApiConfig {
    /// Where it listens.
    pub addr: LocalAddr,
    /// Where `local.token` is written, 0600.
    pub state_dir: PathBuf,
    /// Names in the Host header that are accepted beside the loopback ones.
    pub allow_hosts: Vec<String>,
}

/// A running local API. It ends when dropped.
#[derive(Debug)]
pub struct LocalApi {
    addr: LocalAddr,
}

impl LocalApi {
    /// Where it listens in fact.
    pub fn addr(&self) -> &LocalAddr {
        &self.addr
    }

    /// Stops it and waits until it has.
    pub async fn close(self) {}
}

/// Starts the local API of `agent`.
///
/// # Errors
/// `PTC_PORT_TAKEN` when no port of the range is free, `PTC_BIND_FAILED`, `PTC_STORE_READ_ONLY` when
/// the token cannot be written.
pub async fn serve(config: LocalApiConfig, agent: Agent) -> Result<LocalApi, Error> {
    let _ = (config, agent);
    Err(Error::internal("not built yet"))
}
