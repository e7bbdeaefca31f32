//! The state of one recycled data channel: which frame either side may send now, what becomes of
//! one that arrives, and when the channel is free for the next client. See `channel/LIFECYCLE.md`.
//!
//! This is the wall between clients: bytes of one open never reach another. Whatever the rules do not
//! allow closes the channel for good.
//!
//! Must never: hold bytes or do I/O; `net::channel` asks it before each frame.

use portcullis_model::{Code, Error};

use crate::defaults::OPEN_MAX;
use crate::frame::{FrameError, FrameType, Header};

/// Which end of the channel this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Opens.
    Edge,
    /// Answers.
    Agent,
}

/// What to do with a frame that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    /// OPEN: a client connection begins (agent only).
    Open,
    /// OPENED: the upstream accepted (edge only).
    Opened,
    /// REFUSED: the upstream could not be reached (edge only). Answer with RELEASED.
    Refused,
    /// DATA: hand the payload on, as long as [`ChannelState::is_discarding`] stays false: a RESET sent
    /// while the payload is still arriving makes the rest of it waste.
    Deliver,
    /// DATA or OPENED of an open that this side has reset: read the payload and throw it away.
    Discard,
    /// END: the peer sends no more bytes.
    End,
    /// RESET: the peer's connection is gone. Answer with RESET unless this side ended already.
    Reset,
    /// RELEASED: the peer is done with this open.
    Released,
}

/// Why a frame is not allowed. Whichever it is, the channel is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A frame for another open than the current one.
    #[error("a {kind} frame for open {found} arrived where open {expected} is expected")]
    WrongOpen {
        /// The frame's type.
        kind: FrameType,
        /// What it should carry.
        expected: u32,
        /// What it carries.
        found: u32,
    },
    /// A frame that the state does not allow.
    #[error("a {kind} frame is not allowed in the current state of open {open}")]
    NotAllowed {
        /// The frame's type.
        kind: FrameType,
        /// The open.
        open: u32,
    },
    /// The numbers are used up.
    #[error("the channel has used all of its open numbers")]
    Exhausted,
    /// The channel was closed before.
    #[error("the channel is closed")]
    Closed,
    /// The frame itself is malformed.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::new(Code::ProtocolViolation, violation.to_string())
    }
}

/// How far one direction of the current open is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// Bytes may follow.
    Open,
    /// END was sent; RESET may still follow.
    Ended,
    /// RESET or REFUSED was sent; only RELEASED may follow.
    Cut,
    /// RELEASED was sent; nothing may follow.
    Released,
}

/// The verdict of the agent about the current open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Awaited,
    Opened,
    Refused,
}

/// The state machine of one end of a channel.
#[derive(Debug, Clone)]
pub struct ChannelState {
    role: Role,
    /// The current open, or the last one when the channel is free; 0 before the first.
    open: u32,
    verdict: Verdict,
    ours: Flow,
    theirs: Flow,
    /// Whether this side has cut the open: what still arrives for it is thrown away.
    discarding: bool,
    closed: bool,
}

impl ChannelState {
    /// A new channel, free, before its first open.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            open: 0,
            verdict: Verdict::Refused,
            ours: Flow::Released,
            theirs: Flow::Released,
            discarding: false,
            closed: false,
        }
    }

    /// Which end this is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether the next open may begin: both sides have released the last one.
    pub fn is_free(&self) -> bool {
        !self.closed && self.ours == Flow::Released && self.theirs == Flow::Released
    }

    /// Whether the channel must be dropped.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The open that is going on.
    pub fn current(&self) -> Option<u32> {
        let busy = !self.closed && !self.is_free();
        busy.then_some(self.open)
    }

    /// Whether RELEASED may be sent now: this side has ended, and the peer has too or needn't.
    pub fn may_release(&self) -> bool {
        !self.closed && self.release_allowed(self.ours, self.theirs)
    }

    /// Whether bytes may be sent now.
    pub fn may_send_data(&self) -> bool {
        !self.closed && self.ours == Flow::Open && self.verdict == Verdict::Opened
    }

    /// Whether the peer has sent END, RESET, REFUSED or RELEASED for the current open.
    pub fn peer_ended(&self) -> bool {
        self.theirs != Flow::Open
    }

    /// Whether this side has cut the current open: payload that still arrives is thrown away.
    pub fn is_discarding(&self) -> bool {
        self.closed || self.discarding
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
        if self.open == OPEN_MAX {
            return self.fail(Violation::Exhausted);
        }
        let next = self.open + 1;
        self.on_send(FrameType::Open, next)?;
        Ok(next)
    }

    /// Accounts for a frame that this side is about to send.
    ///
    /// # Errors
    /// A frame that the state does not allow; the channel is closed then, and the frame must not be sent.
    pub fn on_send(&mut self, kind: FrameType, open: u32) -> Result<(), Violation> {
        self.check_number(kind, open, Role::Edge)?;
        let edge = self.role == Role::Edge;
        let allowed = match kind {
            FrameType::Open => edge && self.is_free(),
            FrameType::Opened | FrameType::Refused => {
                !edge && self.verdict == Verdict::Awaited && self.ours == Flow::Open
            }
            FrameType::Data | FrameType::End => self.may_send_data(),
            FrameType::Reset => self.reset_allowed(self.ours),
            FrameType::Released => self.may_release(),
        };
        if !allowed {
            return self.fail(Violation::NotAllowed { kind, open });
        }
        self.ours = self.apply(kind, open, self.ours);
        self.discarding |= matches!(kind, FrameType::Reset | FrameType::Refused);
        Ok(())
    }

    /// Accounts for a frame that arrived, by its header, before its payload is read.
    ///
    /// # Errors
    /// A frame that the state does not allow; the channel is closed then.
    pub fn on_recv(&mut self, header: &Header) -> Result<Incoming, Violation> {
        let Header { kind, open, .. } = *header;
        self.check_number(kind, open, Role::Agent)?;
        let agent = self.role == Role::Agent;
        let flowing = self.theirs == Flow::Open;
        let allowed = match kind {
            FrameType::Open => agent && self.is_free(),
            FrameType::Opened | FrameType::Refused => {
                !agent && self.verdict == Verdict::Awaited && flowing
            }
            FrameType::Data | FrameType::End => self.verdict == Verdict::Opened && flowing,
            FrameType::Reset => self.reset_allowed(self.theirs),
            FrameType::Released => self.release_allowed(self.theirs, self.ours),
        };
        if !allowed {
            return self.fail(Violation::NotAllowed { kind, open });
        }
        self.theirs = self.apply(kind, open, self.theirs);
        Ok(self.incoming(kind))
    }

    fn incoming(&self, kind: FrameType) -> Incoming {
        match kind {
            FrameType::Data | FrameType::Opened if self.discarding => Incoming::Discard,
            FrameType::Open => Incoming::Open,
            FrameType::Opened => Incoming::Opened,
            FrameType::Refused => Incoming::Refused,
            FrameType::Data => Incoming::Deliver,
            FrameType::End => Incoming::End,
            FrameType::Reset => Incoming::Reset,
            FrameType::Released => Incoming::Released,
        }
    }

    /// A frame carries the current number; OPEN, which only an `opener` can send or receive, the next.
    fn check_number(&mut self, kind: FrameType, found: u32, opener: Role) -> Result<(), Violation> {
        if self.closed {
            return Err(Violation::Closed);
        }
        let opens = kind == FrameType::Open && self.role == opener && self.is_free();
        let expected = if opens {
            self.open.saturating_add(1)
        } else {
            self.open
        };
        if opens && self.open == OPEN_MAX {
            return self.fail(Violation::Exhausted);
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

    /// RESET ends a direction that has not been cut, also behind END; nothing is left to reset once
    /// the open was refused, except that the edge's RESET may cross the agent's REFUSED.
    fn reset_allowed(&self, flow: Flow) -> bool {
        matches!(flow, Flow::Open | Flow::Ended)
    }

    /// RELEASED is a side's last word. It needs the side's own end, and then the other's, unless one
    /// of them cut the open: after that the other's bytes are thrown away anyway.
    fn release_allowed(&self, own: Flow, other: Flow) -> bool {
        match own {
            Flow::Released => false,
            Flow::Cut => true,
            Flow::Ended => other != Flow::Open,
            // The edge has nothing to end when the agent refused.
            Flow::Open => self.verdict == Verdict::Refused,
        }
    }

    /// The direction's state after an allowed frame; OPEN and the verdict are noted on the way.
    fn apply(&mut self, kind: FrameType, open: u32, flow: Flow) -> Flow {
        match kind {
            FrameType::Open => {
                self.open = open;
                self.verdict = Verdict::Awaited;
                self.discarding = false;
                self.ours = Flow::Open;
                self.theirs = Flow::Open;
                Flow::Open
            }
            FrameType::Opened => {
                self.verdict = Verdict::Opened;
                flow
            }
            FrameType::Refused => {
                self.verdict = Verdict::Refused;
                Flow::Cut
            }
            FrameType::Data => flow,
            FrameType::End => Flow::Ended,
            FrameType::Reset => Flow::Cut,
            FrameType::Released => Flow::Released,
        }
    }

    fn fail<T>(&mut self, violation: Violation) -> Result<T, Violation> {
        self.closed = true;
        Err(violation)
    }
}
