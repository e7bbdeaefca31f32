//! One client connection on a channel of its own, and how it is settled afterwards.
//!
//! Must never: give the channel back before both sides released the open.

use std::future::poll_fn;
use std::io;
use std::os::fd::BorrowedFd;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use portcullis_model::Error;
use portcullis_proto::{FrameType, Leg as Name, OpenState};
use tokio::io::ReadBuf;

use super::abort::AbortHandle;
use super::legs::{Got, Heard, Wrote};
use super::link::{Event, Link};
use super::{Channel, Finished};
use crate::defaults::{CHANNEL_DATA_BYTES_MAX, RELEASE_TIMEOUT, RESET_FLUSH_TIMEOUT};

/// An open's end on a channel.
#[derive(Debug)]
pub(crate) struct ChannelLeg {
    link: Box<Link>,
    /// What the edge sent before our verdict; those before `early_taken` were read.
    early: Vec<u8>,
    early_taken: usize,
    /// END was written.
    end_sent: bool,
    /// The peer's SWITCH was read, and leads there.
    switched: Option<Name>,
    /// Nobody was told yet.
    fresh_switch: bool,
    /// END was read.
    peer_ended: bool,
    /// RESET was read.
    peer_reset: bool,
    /// Our end of the open is a reset, with this reason for the peer if there is one.
    reset: Option<Box<Option<Error>>>,
}

impl ChannelLeg {
    pub(super) fn new(link: Box<Link>) -> Self {
        Self {
            link,
            early: Vec::new(),
            early_taken: 0,
            end_sent: false,
            switched: None,
            fresh_switch: false,
            peer_ended: false,
            peer_reset: false,
            reset: None,
        }
    }

    /// The number of the channel in its session.
    pub(crate) fn link(&self) -> u64 {
        self.link.id()
    }

    /// The number of the open on its channel.
    pub(crate) fn open(&self) -> u32 {
        self.link.open()
    }

    /// What reaches the open from elsewhere.
    pub(super) fn abort_handle(&self) -> AbortHandle {
        AbortHandle::of_channel(self.link.door.clone())
    }

    /// Why the peer reset the connection, if it did and said so.
    pub(crate) fn peer_reason(&self) -> Option<&Error> {
        self.link.reason.as_ref()
    }

    /// Whether the channel itself is gone, not just the connection that it carried. Its errors are
    /// never of the kind `ConnectionReset`, so that a relay's end tells the two apart.
    pub(crate) fn is_lost(&self) -> bool {
        self.link.state.is_closed()
    }

    /// What is known of the open.
    pub(crate) fn state(&self) -> OpenState {
        *self.link.state.open()
    }

    pub(crate) fn end_sent(&self) -> bool {
        self.end_sent
    }

    pub(crate) fn peer_ended(&self) -> bool {
        self.peer_ended
    }

    /// The peer's END was read elsewhere, and comes again here: nothing else may.
    pub(crate) fn expect_end(&mut self) {
        self.peer_ended = true;
    }

    /// Something happened that concerns a move.
    pub(crate) fn is_called(&self) -> bool {
        // A move is put off until a frame that is spliced is whole: SWITCH must not come within.
        self.is_wanted() && !self.is_mid_frame()
    }

    /// What is known of moves here, taken once.
    pub(crate) fn hear(&mut self) -> Heard {
        let (resumed, wish) = self.link.door.answer();
        let fresh = std::mem::take(&mut self.fresh_switch);
        Heard {
            switched: self.switched.filter(|_| fresh),
            resumed,
            wish,
        }
    }

    pub(crate) fn await_call(&self, cx: &Context<'_>) {
        self.link.door.listen(cx);
        self.hear_again(cx);
    }

    /// What called since it was last looked at, and before there was somebody to wake, was not heard.
    pub(crate) fn hear_again(&self, cx: &Context<'_>) {
        if self.link.door.is_called() {
            cx.waker().wake_by_ref();
        }
    }

    fn is_wanted(&self) -> bool {
        self.link.door.is_called() || self.fresh_switch
    }

    /// A move waits for a frame that was begun. Whoever writes is to make it whole at once, from memory: the
    /// peer may not read before the move.
    pub(crate) fn is_put_off(&self) -> bool {
        self.is_wanted() && self.is_mid_frame()
    }

    /// Whether a frame was begun by a splice and is not whole yet.
    pub(crate) fn is_mid_frame(&self) -> bool {
        self.link.is_mid_frame()
    }

    /// Whether everything up to the peer's SWITCH was read. It is read in its order.
    pub(crate) fn is_through(&self) -> bool {
        self.switched.is_some()
    }

    /// While it is the one that comes: whether somebody has ended it.
    pub(crate) fn watch(&self, cx: &Context<'_>) -> io::Result<()> {
        self.check_abort(cx)
    }

    /// Puts SWITCH: this side goes on elsewhere.
    pub(crate) fn put_switch(&mut self, cx: &mut Context<'_>, to: Name) -> io::Result<bool> {
        self.link.put_switch(cx, to).map(|()| true)
    }

    /// Has whoever waits look again.
    pub(crate) fn wake(&self) {
        self.link.door.wake();
    }

    /// Our end of the open is a reset; tells the peer why.
    pub(crate) fn reset_with(&mut self, why: Option<&Error>) {
        self.reset = Some(Box::new(why.cloned()));
    }

    /// After the relay, at once: settles the open with the peer. A reset goes out here. A clean end
    /// may take as long as the peer needs to write its last bytes (bounded by `RELEASE_TIMEOUT`), so
    /// nothing else may wait for it.
    pub(crate) async fn finish(mut self) -> Finished {
        let (channel, open) = (self.link(), self.open());
        if self.link.state.is_closed() || self.link.door.is_aborted() {
            self.link.fail(io::ErrorKind::ConnectionAborted.into());
            return Finished::Closed;
        }
        let cut = self.reset.is_some();
        // Who has cut the open throws away what comes of it: so the frame can be made whole.
        if self.peer_reset && self.link.fill_frame().is_err() {
            return self.dropped(cut, open);
        }
        // Within a frame nothing can be said any more, not even a reset.
        if self.link.is_mid_frame() {
            self.link.fail(io::ErrorKind::ConnectionAborted.into());
            return self.dropped(cut, open);
        }
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
                self.dropped(cut, open)
            }
        }
    }

    /// The channel goes with its open.
    fn dropped(&self, cut: bool, open: u32) -> Finished {
        let channel = self.link();
        // Who reset first needs no telling.
        match cut && !self.peer_reset {
            true => Finished::Abort { channel, open },
            false => Finished::Closed,
        }
    }

    /// Ready when both sides have released the open and everything of ours is on its way.
    fn poll_settle(&mut self, cx: &mut Context<'_>, begun: &mut bool) -> Poll<io::Result<()>> {
        self.check_abort(cx)?;
        if !std::mem::replace(begun, true) {
            self.write_end(cx)?;
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

    /// Our last word: a reset, or END where it has not been said.
    fn write_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let state = *self.link.state.open();
        let answered = self.peer_reset && self.end_sent;
        match self.reset.take() {
            Some(why) if state.may_reset() && !answered => {
                self.link
                    .put_reason(cx, FrameType::Reset, why.as_ref().as_ref())
            }
            None if state.may_end() => self.put(cx, FrameType::End, &[]),
            _ => Ok(()),
        }
    }

    /// One frame that is not for the reader.
    fn poll_note(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.link.poll_event(cx))? {
            Event::End => self.peer_ended = true,
            Event::Reset => self.peer_reset = true,
            // An edge that gave up before the verdict may still get one.
            Event::Data | Event::Released | Event::Opened | Event::Refused(_) => {}
            Event::Switch(to) => self.note_switch(to),
            Event::Open(_) | Event::Resume(_) => {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    fn note_switch(&mut self, to: Name) {
        self.switched = Some(to);
        self.fresh_switch = true;
    }

    fn check_abort(&self, cx: &Context<'_>) -> io::Result<()> {
        if self.link.door.poll(cx) {
            Err(io::ErrorKind::ConnectionReset.into())
        } else {
            Ok(())
        }
    }

    fn take_early(&mut self, buf: &mut ReadBuf<'_>) {
        let there = &self.early[self.early_taken..];
        let taken = there.len().min(buf.remaining());
        buf.put_slice(&there[..taken]);
        self.early_taken += taken;
        if self.early_taken == self.early.len() {
            self.early = Vec::new();
            self.early_taken = 0;
        }
    }

    /// Agent, before the verdict: waits until the edge gives the open up. What it sends meanwhile is kept,
    /// at most `OPEN_FIRST_BYTES_MAX`: the state sees to that.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.peer_reset {
                return Poll::Ready(());
            }
            let event = if self.link.door.poll(cx) {
                Err(io::ErrorKind::ConnectionReset.into())
            } else {
                match self.link.poll_collect(cx, &mut self.early) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) => Err(error),
                    Poll::Ready(Ok(true)) => continue,
                    Poll::Ready(Ok(false)) => ready!(self.link.poll_event(cx)),
                }
            };
            match event {
                Ok(Event::Data) => {}
                Ok(Event::End) => self.peer_ended = true,
                Ok(Event::Reset) => self.peer_reset = true,
                // Whatever else comes before our verdict, a frame or the channel's end, means that it is over.
                _ => {
                    self.link.fail(io::ErrorKind::InvalidData.into());
                    self.peer_reset = true;
                }
            }
        }
    }

    /// Agent: the verdict, or edge: bytes in front of it. One frame, whole.
    pub(super) fn put(
        &mut self,
        cx: &mut Context<'_>,
        kind: FrameType,
        payload: &[u8],
    ) -> io::Result<()> {
        self.link.put(cx, kind, payload)?;
        self.end_sent |= kind == FrameType::End;
        Ok(())
    }

    /// The link, for what is no stream yet or any more.
    pub(super) fn link_mut(&mut self) -> &mut Link {
        &mut self.link
    }

    pub(super) fn into_link(self) -> Box<Link> {
        self.link
    }

    pub(crate) fn peer_reset(&self) -> bool {
        self.peer_reset
    }

    /// As much as is there now; an end or a reset waits until the bytes in front of it were taken.
    fn poll_fill(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.early_taken < self.early.len() {
            self.take_early(buf);
            return Poll::Ready(Ok(()));
        }
        while buf.remaining() > 0 && !self.peer_ended && self.switched.is_none() {
            if self.peer_reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if ready!(self.link.poll_payload(cx, buf))?.is_some() {
                continue;
            }
            ready!(self.poll_frame(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// The next frame of those that a reader comes upon; its data is not read.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.link.poll_event(cx))? {
            Event::Data => {}
            Event::End => self.peer_ended = true,
            Event::Reset => self.peer_reset = true,
            Event::Switch(to) => self.note_switch(to),
            Event::Released if self.peer_reset => {}
            _ => {
                let error = io::ErrorKind::InvalidData.into();
                return Poll::Ready(Err(self.link.fail(error)));
            }
        }
        Poll::Ready(Ok(()))
    }

    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Got>> {
        self.check_abort(cx)?;
        let before = buf.filled().len();
        let filled = self.poll_fill(cx, buf);
        // What failed behind these bytes fails again at the next read.
        if buf.filled().len() > before {
            self.link.door.note_bytes();
            return Poll::Ready(Ok(Got::Bytes));
        }
        ready!(filled)?;
        Poll::Ready(Ok(match (self.peer_ended, self.switched) {
            (false, Some(_)) => Got::Through,
            _ => Got::End,
        }))
    }

    /// One frame, whole, or nothing: what the link has buffered goes out first.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> io::Result<Wrote> {
        if self.peer_reset || self.link.door.is_aborted() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if buf.is_empty() {
            return Ok(Wrote::Bytes(0));
        }
        let at_once = self.is_put_off();
        if !at_once && self.link.poll_flush(cx)?.is_pending() {
            return self.clogged(cx).map(|()| Wrote::Clogged);
        }
        if self.is_mid_frame() {
            let taken = self.link.put_rest(cx, buf)?;
            self.wrote(cx);
            return Ok(Wrote::Bytes(taken));
        }
        let payload = &buf[..buf.len().min(CHANNEL_DATA_BYTES_MAX)];
        self.link.put(cx, FrameType::Data, payload)?;
        self.link.door.note_bytes();
        Ok(Wrote::Bytes(payload.len()))
    }

    /// Nothing can be written now; the caller is woken when it can, or when the open is aborted.
    fn clogged(&self, cx: &Context<'_>) -> io::Result<()> {
        self.link.door.listen_to_write(cx);
        // What was called before that was not heard.
        match self.link.door.is_aborted() {
            true => Err(io::ErrorKind::ConnectionReset.into()),
            false => Ok(()),
        }
    }

    /// Bytes of a spliced frame went out; with the last of them what was put off can be done.
    fn wrote(&self, cx: &Context<'_>) {
        self.link.door.note_bytes();
        if self.is_called() {
            cx.waker().wake_by_ref();
        }
    }

    /// Whether its frames pass in the clear, so that their data can be spliced.
    pub(crate) fn is_plain(&self) -> bool {
        self.link.is_plain()
    }

    /// Waits for data to splice; ready as well for whatever only a read can tell. `ask`: the socket itself.
    pub(crate) fn poll_spliceable(
        &mut self,
        cx: &mut Context<'_>,
        ask: bool,
    ) -> Poll<io::Result<()>> {
        self.check_abort(cx)?;
        self.link.read_exactly();
        while self.early.is_empty()
            && !self.peer_ended
            && !self.peer_reset
            && self.switched.is_none()
        {
            let ready = match self.link.poll_data(cx, ask) {
                Some(ready) => ready,
                None => match self.poll_frame(cx) {
                    Poll::Ready(Ok(())) => continue,
                    other => other,
                },
            };
            return ready;
        }
        Poll::Ready(Ok(()))
    }

    /// Moves data to a pipe, of as many frames as are there.
    pub(crate) fn splice_in(
        &mut self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> io::Result<usize> {
        let mut moved = 0;
        while moved < most && self.early.is_empty() {
            match self.link.splice_in(cx, pipe, most - moved) {
                Ok(0) => break,
                Ok(bytes) => moved += bytes,
                Err(_) if moved > 0 => break, // it fails again at the next
                Err(error) => return Err(error),
            }
            let within = self.link.poll_data(cx, false).is_some();
            if within || !matches!(self.poll_spliceable(cx, false), Poll::Ready(Ok(()))) {
                break;
            }
        }
        if moved > 0 {
            self.link.door.note_bytes();
        }
        Ok(moved)
    }

    /// Moves bytes from a pipe, as a frame or the rest of one.
    pub(crate) fn poll_splice_out(
        &mut self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        if self.peer_reset || self.link.door.is_aborted() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if self.is_put_off() {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into())); // the rest goes by way of memory
        }
        let Poll::Ready(moved) = self.link.poll_splice_out(cx, pipe, most) else {
            self.clogged(cx)?;
            return Poll::Pending;
        };
        self.wrote(cx);
        Poll::Ready(moved)
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.poll_flush(cx)
    }

    /// Sends END; the channel stays.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_abort(cx)?;
        if !self.end_sent {
            ready!(self.link.poll_flush(cx))?;
            self.put(cx, FrameType::End, &[])?;
        }
        self.link.poll_flush(cx)
    }

    pub(crate) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if let Err(error) = self.check_abort(cx) {
            return Poll::Ready(error);
        }
        if !self.peer_ended {
            return self.link.poll_broken(cx);
        }
        // Behind END only RESET matters, and SWITCH; the peer has sent all of its bytes.
        while !self.peer_reset {
            match ready!(self.poll_note(cx)) {
                Ok(()) if self.fresh_switch => return Poll::Pending,
                Ok(()) => {}
                // Both directions are complete: the end of the channel takes nothing away.
                Err(_) if self.end_sent => return Poll::Pending,
                Err(error) => return Poll::Ready(error),
            }
        }
        Poll::Ready(io::ErrorKind::ConnectionReset.into())
    }
}
