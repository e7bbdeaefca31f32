//! One client connection on a carrier, as its own task sees it.
//!
//! Must never: be dropped without the peer hearing of it: what was not settled is reset.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use portcullis_model::{Code, Error};
use portcullis_proto::frame::{encode_credit, encode_reason};
use portcullis_proto::{FrameType, Leg, OpenState};
use tokio::io::ReadBuf;

use super::slot::{Inner, Slot};
use super::{NOTHING, Shared, violation};
use crate::channel::NotOpened;
use crate::channel::legs::{Got, Wrote};

/// An open's end on a carrier.
pub(crate) struct CarrierLeg {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    settled: bool,
}

impl CarrierLeg {
    pub(super) fn new(shared: Arc<Shared>, slot: Arc<Slot>) -> Self {
        Self {
            shared,
            slot,
            settled: false,
        }
    }

    /// The number of the carrier in its session.
    pub(crate) fn link(&self) -> u64 {
        self.shared.id
    }

    /// The number of the open on its carrier.
    pub(crate) fn open(&self) -> u32 {
        self.slot.number()
    }

    /// What ends the open from elsewhere.
    pub(crate) fn slot(&self) -> Arc<Slot> {
        Arc::clone(&self.slot)
    }

    pub(crate) fn slot_ref(&self) -> &Slot {
        &self.slot
    }

    /// What is known of the open.
    pub(crate) fn state(&self) -> OpenState {
        self.slot.lock().state
    }

    pub(crate) fn end_sent(&self) -> bool {
        self.slot.lock().end_sent
    }

    /// END arrived, and everything in front of it was read.
    pub(crate) fn peer_ended(&self) -> bool {
        let inner = self.slot.lock();
        inner.peer_ended && inner.is_drained()
    }

    /// The peer's END was read elsewhere, and comes again here: nothing else may.
    pub(crate) fn expect_end(&mut self) {
        self.slot.lock().peer_ended = true;
    }

    /// While it is the one that comes: whether it was ended.
    pub(crate) fn watch(&self, cx: &Context<'_>) -> io::Result<()> {
        let mut inner = self.slot.lock();
        inner.await_read(cx);
        inner.failure().map_or(Ok(()), Err)
    }

    /// Puts SWITCH: this side goes on elsewhere; not when nothing is left to move, which may have come
    /// about a moment ago.
    pub(crate) fn put_switch(&mut self, to: Leg) -> io::Result<bool> {
        let mut inner = self.slot.lock();
        if let Some(error) = inner.failure() {
            return Err(error);
        }
        if !inner.state.may_switch() {
            return Ok(false);
        }
        let payload = inner.state.switch(to).map_err(violation)?.encode();
        self.shared
            .put(FrameType::Switch, self.slot.number(), &payload)?;
        drop(inner);
        self.shared.outbox.kick();
        Ok(true)
    }

    /// Whether the carrier itself is gone.
    pub(crate) fn is_lost(&self) -> bool {
        self.slot.lock().lost
    }

    /// Whether the peer reset the connection.
    pub(crate) fn peer_reset(&self) -> bool {
        self.slot.lock().peer_reset
    }

    /// Why the peer reset the connection, if it did and said so.
    pub(crate) fn peer_reason(&self) -> Option<Error> {
        self.slot.lock().reason.as_deref().cloned()
    }

    /// Edge: the agent's verdict.
    pub(crate) fn poll_verdict(&mut self, cx: &Context<'_>) -> Poll<Result<(), NotOpened>> {
        let mut inner = self.slot.lock();
        if inner.refused {
            return Poll::Ready(Err(NotOpened::Refused(inner.refusal())));
        }
        if inner.failure().is_some() {
            let reason = inner.reason.take().map(|reason| *reason);
            let why = reason.unwrap_or_else(|| Error::of(Code::AgentLostUnknown));
            return Poll::Ready(Err(NotOpened::Lost(why)));
        }
        if inner.state.is_awaiting() {
            inner.await_read(cx);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for what may be read. What called since it was last looked at was not heard, and wakes at once.
    fn await_read(&self, inner: &mut Inner, cx: &Context<'_>) {
        inner.await_read(cx);
        if self.slot.is_called() {
            cx.waker().wake_by_ref();
        }
    }

    /// The same for what may be written.
    fn await_write(&self, inner: &mut Inner, cx: &Context<'_>) {
        inner.await_write(cx);
        if self.slot.is_called() {
            cx.waker().wake_by_ref();
        }
    }

    /// Agent: how many of the client's bytes came in the OPEN.
    pub(super) fn note_first_bytes(&self, count: usize) {
        self.slot.lock().state.note_first_bytes(count);
    }

    /// Agent: waits until the edge gives the open up.
    pub(crate) fn poll_gone(&mut self, cx: &Context<'_>) -> Poll<()> {
        let mut inner = self.slot.lock();
        if inner.failure().is_some() {
            return Poll::Ready(());
        }
        inner.await_read(cx);
        Poll::Pending
    }

    /// Agent: the upstream accepted.
    pub(crate) fn opened(&mut self) -> io::Result<()> {
        self.say(FrameType::Opened, NOTHING)
    }

    /// Agent: the upstream cannot be reached. The open is over.
    pub(crate) fn refuse(mut self, why: &Error) -> io::Result<()> {
        if self.peer_reset() {
            return Ok(()); // the drop answers
        }
        let reason = encode_reason(why).map_err(violation)?;
        self.say(FrameType::Refused, &reason)?;
        self.settle(None, false);
        Ok(())
    }

    /// Edge: bytes before the verdict. They need no turn: there are at most 16 KiB.
    pub(crate) fn say_early(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.say(FrameType::Data, bytes)
    }

    /// A frame of this side, whole.
    pub(crate) fn say(&self, kind: FrameType, payload: &[u8]) -> io::Result<()> {
        let mut inner = self.slot.lock();
        if let Some(error) = inner.failure() {
            return Err(error);
        }
        self.put(&mut inner, kind, payload)?;
        inner.end_sent |= kind == FrameType::End;
        drop(inner);
        self.shared.outbox.kick();
        Ok(())
    }

    /// Accounts for a frame and queues it, under the slot's lock, so that frames go out in the order of
    /// their states.
    fn put(&self, inner: &mut Inner, kind: FrameType, payload: &[u8]) -> io::Result<()> {
        let number = self.slot.number();
        inner
            .state
            .on_send(kind, payload.len())
            .map_err(|error| violation(error.at(number)))?;
        self.shared.put(kind, number, payload)
    }

    /// What has arrived. An end or a reset waits until the bytes in front of it were taken.
    pub(crate) fn poll_read(
        &mut self,
        cx: &Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Got>> {
        let mut inner = self.slot.lock();
        if inner.take(buf).is_some() {
            if let Some(bytes) = inner.due(&self.shared.flow) {
                let number = self.slot.number();
                self.shared
                    .put(FrameType::Credit, number, &encode_credit(bytes))?;
                drop(inner);
                self.shared.outbox.kick();
            }
            return Poll::Ready(Ok(Got::Bytes));
        }
        if inner.peer_ended {
            return Poll::Ready(Ok(Got::End));
        }
        if inner.is_switched() {
            return Poll::Ready(Ok(Got::Through));
        }
        if let Some(error) = inner.failure() {
            return Poll::Ready(Err(error));
        }
        self.await_read(&mut inner, cx);
        Poll::Pending
    }

    /// One frame, or nothing when there is neither credit nor room.
    pub(crate) fn poll_write(&mut self, cx: &Context<'_>, buf: &[u8]) -> io::Result<Wrote> {
        let mut inner = self.slot.lock();
        if let Some(error) = inner.failure() {
            return Err(error);
        }
        if buf.is_empty() {
            return Ok(Wrote::Bytes(0));
        }
        if inner.queued {
            self.await_write(&mut inner, cx);
            return Ok(Wrote::Clogged);
        }
        let room = inner.state.room();
        if room == 0 {
            // Behind END nobody writes, so what is missing is credit. The turn is another's.
            inner.turn = false;
            self.await_write(&mut inner, cx);
            return Ok(Wrote::Starved);
        }
        let payload = &buf[..buf.len().min(room)];
        let (number, turn) = (self.slot.number(), std::mem::take(&mut inner.turn));
        if !self.shared.outbox.put_data(number, payload, turn)? {
            inner.queued = true;
            self.await_write(&mut inner, cx);
            self.shared.outbox.wait(&self.slot);
            return Ok(Wrote::Clogged);
        }
        let sent = inner.state.on_send(FrameType::Data, payload.len());
        sent.map(|()| Wrote::Bytes(payload.len()))
            .map_err(violation)
    }

    /// Sends END, once; the carrier stays.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        let mut inner = self.slot.lock();
        if inner.end_sent {
            return Ok(());
        }
        if let Some(error) = inner.failure() {
            return Err(error);
        }
        self.put(&mut inner, FrameType::End, NOTHING)?;
        inner.end_sent = true;
        drop(inner);
        self.shared.outbox.kick();
        Ok(())
    }

    /// Ready when the peer reset the connection or the carrier is gone, even while nobody reads.
    pub(crate) fn poll_broken(&mut self, cx: &Context<'_>) -> Poll<io::Error> {
        let mut inner = self.slot.lock();
        // Both directions are complete: the end of the carrier takes nothing away.
        let complete = inner.peer_ended && inner.end_sent && !inner.peer_reset;
        if let Some(error) = inner.failure().filter(|_| !complete) {
            return Poll::Ready(error);
        }
        self.await_read(&mut inner, cx);
        Poll::Pending
    }

    /// Settles the open: this side's last words, which pass whatever is clogged. A reset, when it is to be
    /// cut; else END where it has not been said. RELEASED follows now or when the peer has had its say.
    pub(crate) fn settle(&mut self, why: Option<&Error>, cut: bool) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let mut inner = self.slot.lock();
        inner.forget(&self.shared.flow);
        if inner.lost {
            return;
        }
        let said = self.last_word(&mut inner, why, cut);
        inner.orphan = true;
        let said = match said {
            Ok(()) if inner.state.may_release() => {
                self.put(&mut inner, FrameType::Released, NOTHING)
            }
            other => other,
        };
        let free = inner.state.is_free();
        drop(inner);
        if let Err(error) = said {
            // What was accounted for wrongly could reach another client.
            tracing::error!(carrier = self.shared.id, open = self.slot.number(), %error, "an open could not be settled");
            self.shared.table.kill();
        }
        if free {
            self.shared.table.remove(self.slot.number());
        }
        self.shared.outbox.kick();
    }

    fn last_word(&self, inner: &mut Inner, why: Option<&Error>, cut: bool) -> io::Result<()> {
        let answered = inner.peer_reset && inner.end_sent;
        if cut && inner.state.may_reset() && !answered && !inner.refused {
            let reason = why.map(encode_reason).transpose().ok().flatten();
            return self.put(inner, FrameType::Reset, &reason.unwrap_or_default());
        }
        if !cut && inner.state.may_end() {
            return self.put(inner, FrameType::End, NOTHING);
        }
        Ok(())
    }
}

impl Drop for CarrierLeg {
    fn drop(&mut self) {
        self.settle(None, true);
    }
}

impl std::fmt::Debug for CarrierLeg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CarrierLeg")
            .field("carrier", &self.shared.id)
            .field("open", &self.slot.number())
            .finish_non_exhaustive()
    }
}
