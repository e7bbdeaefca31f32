//! What reaches an open from elsewhere: an abort, when the control connection brought one or the session
//! is over; a leg that continues it; and that it is to leave its channel.
//!
//! Must never: reach an open other than the one it was made for.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Context;

use futures_util::task::AtomicWaker;
use portcullis_proto::OpenState;

use super::resume::{NotTaken, Resumed};
use crate::carrier::Slot;

/// The door of one open on a channel, and who waits behind it.
#[derive(Debug, Default)]
pub(super) struct Door {
    aborted: AtomicBool,
    /// There is something in the mailbox, or a wish.
    called: AtomicBool,
    /// Edge: it is quiet, and is to return to a carrier.
    leave: AtomicBool,
    /// How often in a row [`AbortHandle::is_quiet`] was asked since a byte moved.
    quiet: AtomicU32,
    mailbox: Mutex<Mailbox>,
    /// Who reads or watches, and who waits to write: they may be two tasks.
    waiting: AtomicWaker,
    writing: AtomicWaker,
}

#[derive(Debug, Default)]
enum Mailbox {
    #[default]
    Empty,
    Full(Box<Resumed>),
    /// The open is over.
    Closed,
}

impl Door {
    /// Whether it was aborted; if not, the caller is woken when it is.
    pub(super) fn poll(&self, cx: &Context<'_>) -> bool {
        self.listen(cx);
        self.is_aborted()
    }

    /// Has the caller woken by whatever comes.
    pub(super) fn listen(&self, cx: &Context<'_>) {
        self.waiting.register(cx.waker());
    }

    /// The same for who waits to write.
    pub(super) fn listen_to_write(&self, cx: &Context<'_>) {
        self.writing.register(cx.waker());
    }

    /// Has whoever waits look again.
    pub(super) fn wake(&self) {
        self.waiting.wake();
        self.writing.wake();
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }

    pub(super) fn is_called(&self) -> bool {
        self.called.load(Ordering::Acquire)
    }

    /// Bytes move.
    pub(super) fn note_bytes(&self) {
        self.quiet.store(0, Ordering::Relaxed);
    }

    /// Takes what called; the leg that came, and whether the open is to leave.
    pub(super) fn answer(&self) -> (Option<Box<Resumed>>, bool) {
        self.called.store(false, Ordering::Release);
        let leave = self.leave.swap(false, Ordering::AcqRel);
        let mut mailbox = self.mailbox.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::take(&mut *mailbox) {
            Mailbox::Full(resumed) => (Some(resumed), leave),
            Mailbox::Empty => (None, leave),
            Mailbox::Closed => {
                *mailbox = Mailbox::Closed;
                (None, leave)
            }
        }
    }

    /// The open is over: what comes from now on is not taken.
    fn close(&self) -> Option<Box<Resumed>> {
        let mut mailbox = self.mailbox.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *mailbox, Mailbox::Closed) {
            Mailbox::Full(resumed) => Some(resumed),
            Mailbox::Empty | Mailbox::Closed => None,
        }
    }

    fn resume(&self, resumed: Box<Resumed>) -> Result<(), NotTaken> {
        let mut mailbox = self.mailbox.lock().unwrap_or_else(PoisonError::into_inner);
        // Of an open that is over on a channel nothing is known; the answer is a reset.
        if !matches!(*mailbox, Mailbox::Empty) {
            use portcullis_proto::{LinkKind, Role};
            return Err((resumed, OpenState::free(Role::Agent, LinkKind::Channel)));
        }
        *mailbox = Mailbox::Full(resumed);
        drop(mailbox);
        self.call();
        Ok(())
    }

    fn call(&self) {
        self.called.store(true, Ordering::Release);
        self.wake();
    }
}

/// Reaches one open from elsewhere.
#[derive(Debug, Clone)]
pub struct AbortHandle(Of);

#[derive(Debug, Clone)]
enum Of {
    Channel(Arc<Door>),
    Carrier(Arc<Slot>),
}

impl AbortHandle {
    pub(super) fn of_channel(door: Arc<Door>) -> Self {
        Self(Of::Channel(door))
    }

    pub(crate) fn of_carrier(slot: Arc<Slot>) -> Self {
        Self(Of::Carrier(slot))
    }

    /// The peer gave the open up and dropped the channel: the stream fails like a reset, and our end
    /// of the channel is dropped too. Does nothing once the open is over.
    pub fn abort(&self) {
        match &self.0 {
            Of::Channel(door) => {
                door.aborted.store(true, Ordering::Release);
                door.wake();
            }
            Of::Carrier(slot) => slot.abort(),
        }
    }

    /// How often in a row this was asked without a byte moved in between, in either direction. Of an open on
    /// a carrier it is not known.
    pub fn quiet_turns(&self) -> u32 {
        match &self.0 {
            Of::Channel(door) => door.quiet.fetch_add(1, Ordering::Relaxed),
            Of::Carrier(_) => 0,
        }
    }

    /// Edge: the connection is to return to a carrier.
    pub fn leave(&self) {
        if let Of::Channel(door) = &self.0 {
            door.leave.store(true, Ordering::Release);
            door.call();
        }
    }

    /// Agent: a leg that continues this one has come.
    pub(super) fn resume(&self, resumed: Box<Resumed>) -> Result<(), NotTaken> {
        match &self.0 {
            Of::Channel(door) => door.resume(resumed),
            Of::Carrier(slot) => slot.resume(resumed),
        }
    }

    /// The open is over: what comes from now on is not taken; what has come and was not, is returned.
    pub(super) fn close(&self) -> Option<Box<Resumed>> {
        match &self.0 {
            Of::Channel(door) => door.close(),
            Of::Carrier(slot) => slot.close(),
        }
    }
}
