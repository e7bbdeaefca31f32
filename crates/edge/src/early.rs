//! What a client says before its upstream is there: kept until the verdict, so that it can be said again
//! to the next member after a refusal.
//!
//! Must never: hold more than an agent takes before its verdict, or read a client that nobody waits for.

use std::io;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use portcullis_net::TcpConn;
use portcullis_net::channel::EdgeOpening;
use portcullis_proto::defaults::OPEN_FIRST_BYTES_MAX;
use tokio::io::{AsyncRead as _, ReadBuf};

use crate::defaults::EARLY_READ_BYTES;

/// The first bytes of one client. Shared by the open, which sends them, and its story, which reads them;
/// both are one task, so the lock is never waited for.
#[derive(Debug, Default)]
pub(crate) struct Early(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    bytes: Vec<u8>,
    /// How many of them this open has been told.
    sent: usize,
    /// The client has come to its end.
    ended: bool,
    /// This open has been told.
    end_sent: bool,
    /// An open is on its way that can be told.
    wanted: bool,
}

impl Early {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was read so far.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    /// How much was read.
    pub(crate) fn len(&self) -> usize {
        self.lock().bytes.len()
    }

    /// An OPEN went out with everything that was there. From here on the client is read, if the peer can
    /// take what it says.
    pub(crate) fn begun(&self, wanted: bool) {
        let mut inner = self.lock();
        inner.sent = inner.bytes.len();
        inner.end_sent = false;
        inner.wanted = wanted;
    }

    /// The open is over, one way or the other: the client is not read any more.
    pub(crate) fn over(&self) {
        self.lock().wanted = false;
    }

    /// Tells the open what it has not been told.
    ///
    /// # Errors
    /// The open's link broke.
    pub(crate) fn tell(&self, cx: &mut Context<'_>, opening: &mut EdgeOpening) -> io::Result<()> {
        let mut inner = self.lock();
        if !inner.wanted {
            return Ok(());
        }
        if inner.sent < inner.bytes.len() {
            opening.say(cx, &inner.bytes[inner.sent..])?;
            inner.sent = inner.bytes.len();
        }
        if inner.ended && !inner.end_sent {
            opening.end(cx)?;
            inner.end_sent = true;
        }
        Ok(())
    }

    /// Reads what the client says, if anyone wants it; ready when there is something to tell.
    ///
    /// # Errors
    /// The client is gone.
    pub(crate) fn poll_take(
        &self,
        cx: &mut Context<'_>,
        client: &mut TcpConn,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        let room = OPEN_FIRST_BYTES_MAX.saturating_sub(inner.bytes.len());
        if !inner.wanted || inner.ended || room == 0 {
            return Poll::Pending; // whoever asks watches the client otherwise
        }
        let mut chunk = [0; EARLY_READ_BYTES];
        let mut space = ReadBuf::new(&mut chunk[..room.min(EARLY_READ_BYTES)]);
        ready!(Pin::new(client).poll_read(cx, &mut space))?;
        inner.ended = space.filled().is_empty();
        inner.bytes.extend_from_slice(space.filled());
        Poll::Ready(Ok(()))
    }
}
