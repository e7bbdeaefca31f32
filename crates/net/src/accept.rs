//! The accept loop: takes connections from a listener and hands each to a task with its permit.
//! Errors are classified: the peer's fault goes on, lack of descriptors or memory backs off (and, when
//! it lasts, resets what waits), anything else ends the loop. Over the cap connections are reset and
//! counted, never queued.
//!
//! Must never: await anything of a connection; a silent peer costs its permit and nothing else.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::defaults::{ACCEPT_BACKOFF_MAX, ACCEPT_BACKOFF_MIN, LISTEN_BACKLOG};
use crate::socket::reset_on_drop;

mod reserve;

/// Hears what an accept loop does; metrics do. Every call must return at once.
pub trait AcceptObserver: Send + Sync {
    /// A connection was handed on.
    fn accepted(&self) {}
    /// A connection was reset because no permit, or no descriptor, was left.
    fn shed(&self) {}
    /// A connection died in the queue, or the network refused it; the loop goes on.
    fn peer_error(&self, _error: &io::Error) {}
    /// No descriptor or memory was left; the loop pauses.
    fn backoff(&self, _error: &io::Error, _pause: Duration) {}
}

/// Hears nothing.
impl AcceptObserver for () {}

/// What an accept loop runs with.
#[derive(Clone)]
pub struct AcceptOptions {
    /// Connections that may be alive at once; the permit of each goes with it.
    pub permits: Arc<Semaphore>,
    /// Ends the loop: what waits in the queue is still handed on, and the listener is closed.
    pub shutdown: CancellationToken,
    /// Hears what happens.
    pub observer: Arc<dyn AcceptObserver>,
}

/// Runs until the shutdown or until the listener fails for good. `on_accept` is called in the loop:
/// it spawns a task and returns.
///
/// # Errors
/// The listener's error that will not go away. Shutdown is no error.
pub async fn run<F>(listener: TcpListener, options: AcceptOptions, on_accept: F) -> io::Result<()>
where
    F: Fn(TcpStream, SocketAddr, OwnedSemaphorePermit) + Send,
{
    reserve::prepare();
    run_source(listener, options, on_accept).await
}

/// Where connections come from: a listener, or a test.
trait Source: Send + Sized {
    /// The next connection.
    fn next(&mut self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send;
    /// Resets what waits although no descriptor is left; how many that were.
    fn shed(&mut self) -> usize;
    /// What waits at the end; nothing is taken after it.
    fn rest(self) -> Vec<(TcpStream, SocketAddr)>;
}

impl Source for TcpListener {
    async fn next(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept().await
    }

    fn shed(&mut self) -> usize {
        reserve::shed(self)
    }

    /// Closing the listener would reset those whose handshake is done. The kernel is asked itself: the
    /// runtime may not have heard of the last ones. An error leaves the others to the close.
    fn rest(self) -> Vec<(TcpStream, SocketAddr)> {
        let Ok(listener) = self.into_std() else {
            return Vec::new();
        };
        let most = usize::try_from(LISTEN_BACKLOG).unwrap_or(0);
        std::iter::from_fn(|| {
            let (stream, peer) = listener.accept().ok()?;
            stream.set_nonblocking(true).ok()?;
            Some((TcpStream::from_std(stream).ok()?, peer))
        })
        .take(most)
        .collect()
    }
}

async fn run_source<S, F>(mut source: S, options: AcceptOptions, on_accept: F) -> io::Result<()>
where
    S: Source,
    F: Fn(TcpStream, SocketAddr, OwnedSemaphorePermit) + Send,
{
    let mut pause = ACCEPT_BACKOFF_MIN;
    let mut shutdown = pin!(options.shutdown.cancelled());
    loop {
        // Shutdown first: a flood of connections must not outrun it.
        let next = tokio::select! {
            biased;
            () = shutdown.as_mut() => break,
            next = source.next() => next,
        };
        let error = match next {
            Ok((stream, peer)) => {
                pause = ACCEPT_BACKOFF_MIN;
                admit(stream, peer, &options, &on_accept);
                continue;
            }
            Err(error) => error,
        };
        match classify(&error) {
            Fault::Peer => options.observer.peer_error(&error),
            Fault::Resources => {
                options.observer.backoff(&error, pause);
                // A spike of a tenth of a second costs nobody a connection.
                if pause > ACCEPT_BACKOFF_MIN {
                    (0..source.shed()).for_each(|_| options.observer.shed());
                }
                tokio::select! {
                    biased;
                    () = shutdown.as_mut() => break,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(ACCEPT_BACKOFF_MAX);
            }
            Fault::Listener => return Err(error),
        }
    }
    for (stream, peer) in source.rest() {
        admit(stream, peer, &options, &on_accept);
    }
    Ok(())
}

fn admit<F>(stream: TcpStream, peer: SocketAddr, options: &AcceptOptions, on_accept: &F)
where
    F: Fn(TcpStream, SocketAddr, OwnedSemaphorePermit) + Send,
{
    // A closed semaphore counts as full: its owner is going away.
    let Ok(permit) = Arc::clone(&options.permits).try_acquire_owned() else {
        reset_on_drop(&stream);
        options.observer.shed();
        return;
    };
    options.observer.accepted();
    on_accept(
        stream,
        SocketAddr::new(peer.ip().to_canonical(), peer.port()),
        permit,
    );
}

/// Whose fault an error of `accept` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Peer,
    Resources,
    Listener,
}

/// accept(2): errors pending on the new socket come out of `accept` and mean that one peer; the list
/// is the manual's. EPERM is a firewall's refusal.
fn classify(error: &io::Error) -> Fault {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Fault::Resources,
        Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP | libc::EFAULT) => {
            Fault::Listener
        }
        _ => Fault::Peer,
    }
}

#[cfg(test)]
mod tests;
