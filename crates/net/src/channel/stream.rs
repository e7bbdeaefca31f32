//! One client connection over a channel, as the relay sees it, and how it is settled afterwards.
//!
//! Must never: give the channel back before both sides released the open.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use portcullis_model::Error;
use portcullis_proto::FrameType;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::abort::AbortHandle;
use super::link::{Event, Link};
use super::{Channel, Finished};
use crate::defaults::{CHANNEL_DATA_BYTES_MAX, RELEASE_TIMEOUT, RESET_FLUSH_TIMEOUT};
use crate::relay::RelayIo;

/// One client connection over a channel.
#[derive(Debug)]
pub struct TunnelStream {
    link: Box<Link>,
    /// END was written.
    end_sent: bool,
    /// END was read.
    peer_ended: bool,
    /// RESET was read.
    pub(super) peer_reset: bool,
    /// Our end of the open is a reset, with this reason for the peer if there is one.
    reset: Option<Option<Error>>,
}

impl TunnelStream {
    pub(super) fn new(link: Box<Link>) -> Self {
        Self {
            link,
            end_sent: false,
            peer_ended: false,
            peer_reset: false,
            reset: None,
        }
    }

    /// The number of the channel in its session.
    pub fn channel(&self) -> u64 {
        self.link.id()
    }

    /// The number of the open on its channel.
    pub fn open(&self) -> u32 {
        self.link.open()
    }

    /// Ends the stream from elsewhere, when the control connection brought `abort`.
    pub fn abort_handle(&self) -> AbortHandle {
        AbortHandle(self.link.abort.clone())
    }

    /// Why the peer reset the connection, if it did and said so.
    pub fn peer_reason(&self) -> Option<&Error> {
        self.link.reason.as_ref()
    }

    /// Whether the channel itself is gone, not just the connection that it carried. Its errors are
    /// never of the kind `ConnectionReset`, so that a relay's end tells the two apart.
    pub fn is_lost(&self) -> bool {
        self.link.state.is_closed()
    }

    /// Like [`RelayIo::reset`], and tells the peer why.
    pub fn reset_with(&mut self, why: &Error) {
        self.reset = Some(Some(why.clone()));
    }

    /// After the relay, at once: settles the open with the peer. A reset goes out here. A clean end
    /// may take as long as the peer needs to write its last bytes (bounded by `RELEASE_TIMEOUT`), so
    /// nothing else may wait for it.
    pub async fn finish(mut self) -> Finished {
        let (channel, open) = (self.channel(), self.open());
        if self.link.state.is_closed() || self.link.abort.is_set() {
            self.link.fail(io::ErrorKind::ConnectionAborted.into());
            return Finished::Closed;
        }
        let cut = !self.end_sent || !self.peer_ended || self.reset.is_some();
        let limit: Duration = if cut {
            RESET_FLUSH_TIMEOUT
        } else {
            RELEASE_TIMEOUT
        };
        let mut begun = false;
        match tokio::time::timeout(limit, poll_fn(|cx| self.poll_settle(cx, &mut begun))).await {
            Ok(Ok(())) => Finished::Reusable(Channel { link: self.link }),
            Ok(Err(error)) => {
                tracing::debug!(channel, open, %error, "channel dropped");
                Finished::Closed
            }
            Err(_) => {
                self.link.fail(io::ErrorKind::TimedOut.into());
                // Who reset first needs no telling.
                if cut && !self.peer_reset {
                    Finished::Abort { channel, open }
                } else {
                    Finished::Closed
                }
            }
        }
    }

    /// Ready when both sides have released the open and everything of ours is on its way.
    fn poll_settle(&mut self, cx: &mut Context<'_>, begun: &mut bool) -> Poll<io::Result<()>> {
        self.check_abort(cx)?;
        if !std::mem::replace(begun, true) {
            self.write_reset(cx)?;
        }
        loop {
            if self.link.state.may_release() {
                self.link.put(cx, FrameType::Released, &[])?;
            }
            let flushed = self.link.poll_flush(cx)?.is_ready();
            if self.link.state.is_free() {
                return if flushed {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            }
            // Reading goes on while our frames wait: the peer may need room to see them.
            ready!(self.poll_note(cx))?;
        }
    }

    /// Our end is a reset when the relay said so, or when it never came to END.
    fn write_reset(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let answered = self.peer_reset && self.end_sent;
        if (self.reset.is_none() && self.end_sent) || answered {
            return Ok(());
        }
        let why = self.reset.take().flatten();
        self.link.put_reason(cx, FrameType::Reset, why.as_ref())
    }

    /// One frame that is not for the reader.
    fn poll_note(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.link.poll_event(cx))? {
            Event::End => self.peer_ended = true,
            Event::Reset => self.peer_reset = true,
            // An edge that gave up before the verdict may still get one.
            Event::Data | Event::Released | Event::Opened | Event::Refused(_) => {}
            Event::Open(_) => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
        }
        Poll::Ready(Ok(()))
    }

    fn check_abort(&self, cx: &Context<'_>) -> io::Result<()> {
        if self.link.abort.poll(cx) {
            Err(io::ErrorKind::ConnectionReset.into())
        } else {
            Ok(())
        }
    }

    /// As much as is there now; an end or a reset waits until the bytes in front of it were taken.
    fn poll_fill(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while buf.remaining() > 0 && !self.peer_ended {
            if self.peer_reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if ready!(self.link.poll_payload(cx, buf))?.is_some() {
                continue;
            }
            match ready!(self.link.poll_event(cx))? {
                Event::Data => {}
                Event::End => self.peer_ended = true,
                Event::Reset => self.peer_reset = true,
                Event::Released if self.peer_reset => {}
                _ => {
                    let error = io::ErrorKind::InvalidData.into();
                    return Poll::Ready(Err(self.link.fail(error)));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_abort(cx)?;
        let before = buf.filled().len();
        match self.poll_fill(cx, buf) {
            // What failed behind these bytes fails again at the next read.
            Poll::Pending | Poll::Ready(Err(_)) if buf.filled().len() > before => {
                Poll::Ready(Ok(()))
            }
            result => result,
        }
    }
}

impl AsyncWrite for TunnelStream {
    /// One frame, whole, or nothing: what TLS has buffered goes out first.
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_abort(cx)?;
        if self.peer_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(self.link.poll_flush(cx))?;
        let payload = &buf[..buf.len().min(CHANNEL_DATA_BYTES_MAX)];
        self.link.put(cx, FrameType::Data, payload)?;
        Poll::Ready(Ok(payload.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_flush(cx)
    }

    /// Sends END; the channel stays.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_abort(cx)?;
        if !self.end_sent {
            ready!(self.link.poll_flush(cx))?;
            self.link.put(cx, FrameType::End, &[])?;
            self.end_sent = true;
        }
        self.link.poll_flush(cx)
    }
}

impl RelayIo for TunnelStream {
    fn reset(&mut self) {
        self.reset.get_or_insert(None);
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if let Err(error) = self.check_abort(cx) {
            return Poll::Ready(error);
        }
        if !self.peer_ended {
            return self.link.poll_broken(cx);
        }
        // Behind END only RESET matters; the peer has sent all of its bytes.
        while !self.peer_reset {
            match ready!(self.poll_note(cx)) {
                Ok(()) => {}
                // Both directions are complete: the end of the channel takes nothing away.
                Err(_) if self.end_sent => return Poll::Pending,
                Err(error) => return Poll::Ready(error),
            }
        }
        Poll::Ready(io::ErrorKind::ConnectionReset.into())
    }
}
