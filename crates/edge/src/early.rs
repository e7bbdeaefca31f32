//! What a client says before its upstream is there: kept until the verdict, so that policies can look at
//! it, and so that it can be said again to the next member after a refusal.
//!
//! An open takes the first [`OPEN_FIRST_BYTES_MAX`] of it; the rest follows as ordinary data behind the
//! verdict. Every byte is counted when it is read, whatever becomes of it.
//!
//! Must never: read more than it is asked for, or read a client that nobody waits for.

use std::io;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use portcullis_net::channel::EdgeOpening;
use portcullis_net::{Counters, Side};
use portcullis_policy::sniff::Asked;
use portcullis_proto::defaults::OPEN_FIRST_BYTES_MAX;
use tokio::io::{AsyncRead, ReadBuf};

use crate::defaults::EARLY_READ_BYTES;

/// The first bytes of one client. Shared by the open, which sends them, and its story, which reads them;
/// both are one task, so the lock is never waited for.
#[derive(Debug)]
pub(crate) struct Early<'a> {
    counters: &'a Counters,
    inner: Mutex<Inner>,
}

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
    /// Nothing of it may go along with an open: the upstream is asked something first.
    held: bool,
    /// What the client asked for, and was answered, in front of the bytes.
    asked: Asked,
}

impl<'a> Early<'a> {
    /// Nothing was read yet.
    pub(crate) fn new(counters: &'a Counters) -> Self {
        Self {
            counters,
            inner: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an OPEN takes of what was read so far.
    pub(crate) fn first(&self) -> Vec<u8> {
        let inner = self.lock();
        if inner.held {
            return Vec::new();
        }
        inner.bytes[..inner.bytes.len().min(OPEN_FIRST_BYTES_MAX)].to_vec()
    }

    /// What this open has not been told: it follows once the upstream is there.
    pub(crate) fn untold(&self) -> Vec<u8> {
        let inner = self.lock();
        inner.bytes[inner.sent..].to_vec()
    }

    /// Looks at what was read so far, and at whether that is all.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&[u8], bool) -> T) -> T {
        let inner = self.lock();
        look(&inner.bytes, inner.ended)
    }

    /// Forgets the first bytes: this was asked with them, and answered.
    pub(crate) fn answered(&self, count: usize, asked: Asked) {
        let mut inner = self.lock();
        let count = count.min(inner.bytes.len());
        inner.bytes.drain(..count);
        inner.asked = asked;
    }

    /// What was asked and answered so.
    pub(crate) fn asked(&self) -> Asked {
        self.lock().asked
    }

    /// Takes all of it, for a handshake. What is read from here on is what the client says behind that.
    pub(crate) fn take(&self) -> Vec<u8> {
        let mut inner = self.lock();
        (inner.sent, inner.ended, inner.asked) = (0, false, Asked::Nothing);
        std::mem::take(&mut inner.bytes)
    }

    /// Keeps the first message of PostgreSQL's, whose length its first four bytes tell, and forgets what follows.
    pub(crate) fn keep_message(&self) {
        let mut inner = self.lock();
        if let Some(length) = inner.bytes.first_chunk::<4>() {
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            inner.bytes.truncate(length);
        }
    }

    /// Whether bytes are kept back from opens, so that they are all [`Self::untold`].
    pub(crate) fn hold(&self, held: bool) {
        self.lock().held = held;
    }

    /// Whether they are.
    pub(crate) fn is_held(&self) -> bool {
        self.lock().held
    }

    /// The counters of its connection.
    pub(crate) fn counters(&self) -> &Counters {
        self.counters
    }

    /// An open goes out that has been told so many bytes. From here on the client is read, if the peer can
    /// take what it says.
    pub(crate) fn begun(&self, told: usize, wanted: bool) {
        let mut inner = self.lock();
        inner.sent = told.min(inner.bytes.len());
        inner.end_sent = false;
        inner.wanted = wanted && !inner.held;
    }

    /// The open is over, one way or the other: the client is not read any more.
    pub(crate) fn over(&self) {
        self.lock().wanted = false;
    }

    /// Tells the open what it has not been told, as far as it may take that before its verdict.
    ///
    /// # Errors
    /// The open's link broke.
    pub(crate) fn tell(&self, cx: &mut Context<'_>, opening: &mut EdgeOpening) -> io::Result<()> {
        let mut inner = self.lock();
        if !inner.wanted {
            return Ok(());
        }
        let most = inner.bytes.len().min(OPEN_FIRST_BYTES_MAX);
        if inner.sent < most {
            opening.say(cx, &inner.bytes[inner.sent..most])?;
            inner.sent = most;
        }
        // The end of what does not fit is the relay's to find.
        if inner.ended && !inner.end_sent && inner.sent == inner.bytes.len() {
            opening.end(cx)?;
            inner.end_sent = true;
        }
        Ok(())
    }

    /// Reads what the client says, if an open wants it; ready when there is something to tell.
    ///
    /// # Errors
    /// The client is gone.
    pub(crate) fn poll_take<C: AsyncRead + Unpin>(
        &self,
        cx: &mut Context<'_>,
        client: &mut C,
    ) -> Poll<io::Result<()>> {
        if !self.lock().wanted {
            return Poll::Pending; // whoever asks watches the client otherwise
        }
        self.poll_read(cx, client, OPEN_FIRST_BYTES_MAX)
    }

    /// Reads what the client says, up to so many bytes in all; ready when there is more, or its end. Never
    /// ready behind the end, or when it is full.
    ///
    /// # Errors
    /// The client is gone.
    pub(crate) fn poll_read<C: AsyncRead + Unpin>(
        &self,
        cx: &mut Context<'_>,
        client: &mut C,
        most: usize,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        let room = most.saturating_sub(inner.bytes.len());
        if inner.ended || room == 0 {
            return Poll::Pending;
        }
        let mut chunk = [0; EARLY_READ_BYTES];
        let mut space = ReadBuf::new(&mut chunk[..room.min(EARLY_READ_BYTES)]);
        ready!(Pin::new(client).poll_read(cx, &mut space))?;
        let read = space.filled();
        inner.ended = read.is_empty();
        inner.bytes.extend_from_slice(read);
        self.counters.add(Side::Client, read.len() as u64);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use portcullis_net::TcpConn;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (TcpStream, TcpConn) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("address");
        let outside = TcpStream::connect(at).await.expect("connected");
        let (inside, _) = listener.accept().await.expect("accepted");
        (outside, TcpConn::new(inside))
    }

    async fn read_to(early: &Early<'_>, client: &mut TcpConn, most: usize) {
        while early.look(|bytes, ended| !ended && bytes.len() < most) {
            poll_fn(|cx| early.poll_read(cx, client, most))
                .await
                .expect("read");
        }
    }

    #[tokio::test]
    async fn an_open_takes_its_part_and_the_rest_follows_each_byte_once() {
        let (mut outside, mut client) = pair().await;
        let said: Vec<u8> = (0..40_000_u32).flat_map(u32::to_le_bytes).collect();
        let said = &said[..50_000];
        outside.write_all(said).await.expect("write");
        let counters = Counters::new();
        let early = Early::new(&counters);
        read_to(&early, &mut client, said.len()).await;
        for told in [OPEN_FIRST_BYTES_MAX, 0] {
            let first = early.first();
            assert_eq!(first.len(), OPEN_FIRST_BYTES_MAX);
            early.begun(told, false);
            assert!([&first[..told], &early.untold()].concat() == said);
        }
        assert_eq!(counters.from(Side::Client), 50_000, "counted once");
    }

    #[tokio::test]
    async fn what_was_answered_is_not_said_again() {
        let (mut outside, mut client) = pair().await;
        outside.write_all(b"askedthen").await.expect("write");
        drop(outside);
        let counters = Counters::new();
        let early = Early::new(&counters);
        read_to(&early, &mut client, 100).await;
        early.answered(5, Asked::Gssapi);
        assert_eq!(early.asked(), Asked::Gssapi);
        assert_eq!(early.first(), b"then");
        early.begun(4, false);
        assert!(early.untold().is_empty());
        assert!(early.look(|_, ended| ended));
        early.answered(100, Asked::Tls);
        early.begun(100, false);
        assert!(early.untold().is_empty());
    }

    #[tokio::test]
    async fn what_is_held_goes_with_no_open_and_what_is_taken_is_gone() {
        let (mut outside, mut client) = pair().await;
        outside.write_all(b"hello").await.expect("write");
        let counters = Counters::new();
        let early = Early::new(&counters);
        read_to(&early, &mut client, 5).await;
        early.hold(true);
        assert!(early.first().is_empty());
        early.begun(0, true);
        assert!(!early.lock().wanted);
        assert_eq!(early.untold(), b"hello");
        assert_eq!(early.take(), b"hello");
        assert!(early.untold().is_empty());
    }

    #[tokio::test]
    async fn nothing_is_read_beyond_what_is_asked_for() {
        let (mut outside, mut client) = pair().await;
        outside.write_all(&[7; 100]).await.expect("write");
        let counters = Counters::new();
        let early = Early::new(&counters);
        read_to(&early, &mut client, 10).await;
        assert_eq!(early.look(|bytes, _| bytes.len()), 10);
        let again = poll_once(&early, &mut client, 10).await;
        assert!(again.is_pending());
        let unwanted = poll_fn(|cx| Poll::Ready(early.poll_take(cx, &mut client))).await;
        assert!(unwanted.is_pending(), "no open wants it");
    }

    async fn poll_once(
        early: &Early<'_>,
        client: &mut TcpConn,
        most: usize,
    ) -> Poll<io::Result<()>> {
        poll_fn(|cx| Poll::Ready(early.poll_read(cx, client, most))).await
    }
}
