//! The target of the cases with many connections: one handler a connection, all gone when the case ends.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::wire;

/// How long an echoing connection may be silent, which is longer than any case.
const IDLE: Duration = Duration::from_secs(120);

/// Accepts and handles connections until it is dropped, and its handlers with it.
pub(crate) struct Server(JoinHandle<()>);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Server {
    /// Runs `handle` for each connection.
    pub(crate) fn new<F>(
        listener: Arc<TcpListener>,
        handle: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self(tokio::spawn(async move {
            let mut running = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => match accepted {
                        Ok((stream, _)) => drop(running.spawn(handle(stream))),
                        // Gone before it was accepted.
                        Err(_) => tokio::task::yield_now().await,
                    },
                    Some(_) = running.join_next() => {}
                }
            }
        }))
    }

    /// Sends back what comes, and ends when it ends.
    pub(crate) fn echo(listener: Arc<TcpListener>) -> Self {
        Self::new(listener, echo)
    }
}

async fn echo(stream: TcpStream) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(n) = wire::read(&stream, &mut buffer, IDLE).await {
        if n == 0 {
            // Where the client is gone nobody is there to be told.
            drop(wire::finish(&stream));
            return;
        }
        if wire::write(&stream, &buffer[..n], IDLE).await.is_err() {
            return;
        }
    }
}
