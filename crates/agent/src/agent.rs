//! The handle on a running agent.

use std::sync::Arc;
use std::time::Duration;

use portcullis_model::Error;
use tokio::sync::watch;

use crate::builder::AgentBuilder;
use crate::endpoint::LocalEndpoint;
use crate::listener::{Forwarder, Listener};
use crate::options::{EndpointOptions, EndpointUpdate};
use crate::status::{EndpointStatus, Status};

/// A running agent: one identity, one session that comes back by itself, any number of endpoints.
/// Clones are handles on the same agent; it ends with the last handle, listener and forwarder, or
/// by [`shutdown`](Self::shutdown).
#[derive(Debug, Clone)]
pub struct Agent {
    status: watch::Receiver<Status>,
}

/// How an agent ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Why: `PTC_AGENT_STOPPED` when someone stopped it through the API, the server's refusal when
    /// no further attempt can help. `None` after [`Agent::shutdown`].
    pub error: Option<Error>,
}

impl Agent {
    /// Settings of a new agent.
    pub fn builder() -> AgentBuilder {
        AgentBuilder::default()
    }

    /// Opens an endpoint whose connections the program takes itself. Returns when it is bound;
    /// while there is no session it waits for one.
    ///
    /// # Errors
    /// Why the server or the local checks refused it, or why the agent ended.
    pub async fn listen(&self, options: EndpointOptions) -> Result<Listener, Error> {
        let _ = options;
        Err(Error::internal("not built yet"))
    }

    /// Opens an endpoint whose connections go to `upstream`: a port, `host:port`, `tcp://host:port`,
    /// `tls://host:port` or `unix:/path`. Returns when it is bound; while there is no session it
    /// waits for one.
    ///
    /// # Errors
    /// `PTC_UPSTREAM_INVALID`, why the server or the local checks refused it, or why the agent ended.
    pub async fn forward(&self, options: EndpointOptions, upstream: &str) -> Result<Forwarder, Error> {
        let _ = (options, upstream);
        Err(Error::internal("not built yet"))
    }

    /// Opens an endpoint like [`forward`](Self::forward), but returns at once, bound or not; it is
    /// offered to the server until it is accepted, and stays until [`remove`](Self::remove) or the
    /// agent's end. [`Status::endpoints`] tells how it fares.
    ///
    /// # Errors
    /// `PTC_UPSTREAM_INVALID`, what the local checks refuse, a name that is taken.
    pub fn offer(&self, options: EndpointOptions, upstream: &str) -> Result<String, Error> {
        let _ = (options, upstream);
        Err(Error::internal("not built yet"))
    }

    /// Changes an endpoint in place.
    ///
    /// # Errors
    /// `PTC_ENDPOINT_NOT_FOUND`, or why the server refused the change.
    pub async fn update(&self, name: &str, update: EndpointUpdate) -> Result<(), Error> {
        let _ = (name, update);
        Err(Error::internal("not built yet"))
    }

    /// Closes an endpoint by its name, whoever holds it. Connections in progress go on.
    ///
    /// # Errors
    /// `PTC_ENDPOINT_NOT_FOUND`.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        let _ = name;
        Err(Error::internal("not built yet"))
    }

    /// One endpoint as it stands now.
    pub fn endpoint(&self, name: &str) -> Option<EndpointStatus> {
        self.status.borrow().endpoints.iter().find(|endpoint| endpoint.name == name).cloned()
    }

    /// What the agent shows of itself; changes are published at once, figures every second.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Waits until the agent has ended.
    pub async fn stopped(&self) -> Stopped {
        std::future::pending().await
    }

    /// Ends the agent: closes its endpoints, waits up to `wait` for connections to end, says goodbye.
    pub async fn shutdown(&self, wait: Duration) {
        let _ = wait;
    }

    pub(crate) fn start(builder: AgentBuilder) -> Result<Self, Error> {
        let _ = builder;
        Err(Error::internal("not built yet"))
    }

    pub(crate) async fn first_attempt(&self) -> Result<(), Error> {
        Ok(())
    }

    pub(crate) fn release(&self, endpoint: &Arc<LocalEndpoint>) {
        let _ = endpoint;
    }

    pub(crate) async fn close_held(&self, endpoint: &Arc<LocalEndpoint>) {
        let _ = endpoint;
    }
}
