//! The state of one recycled data channel: one open at a time, numbered 1, 2, 3 …, and when the
//! channel is free for the next client. See `channel/LIFECYCLE.md`.
//!
//! This is the wall between clients: bytes of one open never reach another. Whatever the rules do not
//! allow closes the channel for good.
//!
//! Must never: hold bytes or do I/O; `net::channel` asks it before each frame.

use crate::defaults::OPEN_MAX;
use crate::frame::{FrameType, Header, Leg, Switch};
use crate::open::{Incoming, LinkKind, OpenState, Role, Violation};

/// The state machine of one end of a channel.
#[derive(Debug, Clone)]
pub struct ChannelState {
    /// The current open's number, or the last one's when the channel is free; 0 before the first.
    number: u32,
    open: OpenState,
    closed: bool,
}

impl ChannelState {
    /// A new channel, free, before its first open.
    pub fn new(role: Role) -> Self {
        Self {
            number: 0,
            open: OpenState::free(role, LinkKind::Channel),
            closed: false,
        }
    }

    /// Which end this is.
    pub fn role(&self) -> Role {
        self.open.role()
    }

    /// The current open, or the last one; only to look at. After [`Self::is_closed`] it says nothing.
    pub fn open(&self) -> &OpenState {
        &self.open
    }

    /// Whether the next open may begin: both sides have released the last one.
    pub fn is_free(&self) -> bool {
        !self.closed && self.open.is_free()
    }

    /// Whether the channel must be dropped.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The open that is going on.
    pub fn current(&self) -> Option<u32> {
        let busy = !self.closed && !self.is_free();
        busy.then_some(self.number)
    }

    /// Whether RELEASED may be sent now: this side has ended, and the peer has too or needn't.
    pub fn may_release(&self) -> bool {
        !self.closed && self.open.may_release()
    }

    /// Whether bytes may be sent now, the verdict being there.
    pub fn may_send_data(&self) -> bool {
        !self.closed && self.open.may_send_data()
    }

    /// Bytes that one DATA frame may carry now, also before the verdict; 0 when none may be sent.
    pub fn room(&self) -> usize {
        if self.closed { 0 } else { self.open.room() }
    }

    /// Whether the peer sends no more bytes for the current open.
    pub fn peer_ended(&self) -> bool {
        self.open.peer_ended()
    }

    /// Whether this side has cut the current open: payload that still arrives is thrown away.
    pub fn is_discarding(&self) -> bool {
        self.closed || self.open.is_discarding()
    }

    /// Closes the channel from this side: an I/O error, an `abort`, a deadline.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Begins the next open (edge only): the OPEN frame with the number returned counts as sent.
    ///
    /// # Errors
    /// When the channel is not free, is the agent's end, is closed, or has no number left.
    pub fn open_next(&mut self) -> Result<u32, Violation> {
        self.begin(FrameType::Open)
    }

    /// Begins the next open as the continuation of another leg (edge only): the RESUME frame with the
    /// number returned counts as sent.
    ///
    /// # Errors
    /// As [`Self::open_next`].
    pub fn resume_next(&mut self) -> Result<u32, Violation> {
        self.begin(FrameType::Resume)
    }

    /// See [`OpenState::note_first_bytes`].
    pub fn note_first_bytes(&mut self, count: usize) {
        self.open.note_first_bytes(count);
    }

    /// Accounts for a frame that this side is about to send; SWITCH goes through [`Self::switch`].
    ///
    /// # Errors
    /// A frame that the state does not allow; the channel is closed then, and the frame must not be sent.
    pub fn on_send(&mut self, header: &Header) -> Result<(), Violation> {
        let Header { kind, open, length } = *header;
        self.check_number(kind, open, self.number)?;
        let sent = self.open.on_send(kind, usize::from(length));
        self.closing(sent)
    }

    /// Accounts for a SWITCH frame that this side is about to send, and returns its payload.
    ///
    /// # Errors
    /// See [`OpenState::switch`]; the channel is closed then.
    pub fn switch(&mut self, to: Leg) -> Result<Switch, Violation> {
        self.check_number(FrameType::Switch, self.number, self.number)?;
        let payload = self.open.switch(to);
        self.closing(payload)
    }

    /// Accounts for a frame that arrived, by its header, before its payload is read.
    ///
    /// # Errors
    /// A frame that the state does not allow; the channel is closed then.
    pub fn on_recv(&mut self, header: &Header) -> Result<Incoming, Violation> {
        let Header { kind, open, length } = *header;
        let begins = matches!(kind, FrameType::Open | FrameType::Resume);
        if !(begins && self.role() == Role::Agent && self.is_free()) {
            self.check_number(kind, open, self.number)?;
            let taken = self.open.on_recv(kind, usize::from(length));
            return self.closing(taken);
        }
        let next = self.next()?;
        self.check_number(kind, open, next)?;
        self.start(kind, next);
        Ok(match kind {
            FrameType::Resume => Incoming::Resume,
            _ => Incoming::Open,
        })
    }

    /// Takes the payload of a SWITCH frame; see [`OpenState::on_switch`].
    ///
    /// # Errors
    /// As there; the channel is closed then.
    pub fn on_switch(&mut self, payload: &[u8]) -> Result<Leg, Violation> {
        let leg = self.open.on_switch(payload);
        self.closing(leg)
    }

    fn begin(&mut self, kind: FrameType) -> Result<u32, Violation> {
        let next = self.next()?;
        if self.role() != Role::Edge || !self.is_free() {
            return self.fail(Violation::NotAllowed { kind, open: next });
        }
        self.start(kind, next);
        Ok(next)
    }

    fn start(&mut self, kind: FrameType, number: u32) {
        let (role, link) = (self.role(), LinkKind::Channel);
        self.number = number;
        self.open = match kind {
            FrameType::Resume => OpenState::resumed(role, link),
            _ => OpenState::opened(role, link),
        };
    }

    fn next(&mut self) -> Result<u32, Violation> {
        if self.closed {
            return Err(Violation::Closed);
        }
        if self.number == OPEN_MAX {
            return self.fail(Violation::Exhausted);
        }
        Ok(self.number + 1)
    }

    fn check_number(
        &mut self,
        kind: FrameType,
        found: u32,
        expected: u32,
    ) -> Result<(), Violation> {
        if self.closed {
            return Err(Violation::Closed);
        }
        if found != expected {
            return self.fail(Violation::WrongOpen {
                kind,
                expected,
                found,
            });
        }
        Ok(())
    }

    fn closing<T>(&mut self, result: Result<T, Violation>) -> Result<T, Violation> {
        result.or_else(|violation| {
            let number = self.number;
            self.fail(violation.at(number))
        })
    }

    fn fail<T>(&mut self, violation: Violation) -> Result<T, Violation> {
        self.closed = true;
        Err(violation)
    }
}
