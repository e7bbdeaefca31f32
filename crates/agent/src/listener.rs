//! Endpoints in the hand of a program: [`Listener`], a stream of [`Conn`]s, and [`Forwarder`].
//! Dropping either closes the endpoint.
//!
//! Must never: block the agent; a queue that is full refuses connections.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use portcullis_model::{EndpointId, Error};
use tokio::sync::mpsc;

use crate::Agent;
use crate::conn::Conn;
use crate::endpoint::LocalEndpoint;

/// Keeps an endpoint open; closes it when dropped.
#[derive(Debug)]
struct Held {
    agent: Agent,
    endpoint: Arc<LocalEndpoint>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.agent.release(&self.endpoint);
    }
}

impl Held {
    async fn close(self) {
        self.agent.close_held(&self.endpoint).await;
    }
}

macro_rules! about_the_endpoint {
    () => {
        /// The URL it has: complete, with its port.
        pub fn url(&self) -> String {
            self.held.endpoint.url()
        }

        /// Its id at the server. It changes when the session does.
        pub fn id(&self) -> Option<EndpointId> {
            self.held.endpoint.id()
        }

        /// Its name within the agent.
        pub fn name(&self) -> &str {
            self.held.endpoint.name()
        }

        /// Waits until the endpoint is closed from elsewhere, and says why: the server stopped it,
        /// the local API deleted it, or the agent ended.
        pub async fn closed(&self) -> Error {
            self.held.endpoint.closed().await
        }

        /// Closes the endpoint and waits until the server knows. Connections in progress go on.
        pub async fn close(self) {
            self.held.close().await;
        }
    };
}

/// An endpoint whose connections the program takes itself, as a [`Stream`].
///
/// A connection that finds the queue of 64 full for a second is refused.
#[derive(Debug)]
pub struct Listener {
    held: Held,
    queue: mpsc::Receiver<Conn>,
}

impl Listener {
    pub(crate) fn new(
        agent: Agent,
        endpoint: Arc<LocalEndpoint>,
        queue: mpsc::Receiver<Conn>,
    ) -> Self {
        Self {
            held: Held { agent, endpoint },
            queue,
        }
    }

    /// The next connection.
    ///
    /// # Errors
    /// Why the endpoint closed; there will be no more connections.
    ///
    /// # Cancel safety
    /// A connection is not lost when the future is dropped.
    pub async fn accept(&mut self) -> Result<(Conn, SocketAddr), Error> {
        match self.queue.recv().await {
            Some(conn) => {
                let peer = conn.peer_addr();
                Ok((conn, peer))
            }
            None => Err(self.held.endpoint.closed().await),
        }
    }

    about_the_endpoint!();
}

impl Stream for Listener {
    type Item = Conn;

    /// Ends when the endpoint closes; [`Listener::closed`] says why.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Conn>> {
        self.queue.poll_recv(cx)
    }
}

/// An endpoint whose connections go to an upstream.
#[derive(Debug)]
pub struct Forwarder {
    held: Held,
}

impl Forwarder {
    pub(crate) fn new(agent: Agent, endpoint: Arc<LocalEndpoint>) -> Self {
        Self {
            held: Held { agent, endpoint },
        }
    }

    /// Where the connections go.
    pub fn upstream(&self) -> String {
        self.held.endpoint.upstream()
    }

    about_the_endpoint!();
}
