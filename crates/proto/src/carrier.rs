//! What a carrier as a whole keeps: which numbers its opens have had, and how many live. The opens
//! themselves, an [`OpenState`] each, stand in the table of who owns the carrier.
//!
//! Numbers only increase and are never used again, so a frame for a number that isn't in the table is
//! a violation: nothing may follow a side's RELEASED. Whatever is refused here closes the carrier.
//! See `carrier/LIFECYCLE.md`.
//!
//! Must never: hold bytes, or look a number up.

mod bulk;
mod window;

pub use bulk::{Bulk, may_return};
pub use window::{Budget, Window};

use crate::defaults::{CARRIER_OPENS_MAX, OPEN_MAX};
use crate::frame::{FrameType, Header};
use crate::open::{Incoming, LinkKind, OpenState, Role, Violation};

/// The numbers of one end of a carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CarrierState {
    role: Role,
    /// The highest number so far; 0 before the first.
    last: u32,
    /// Opens that both sides have not released yet.
    live: u32,
}

impl CarrierState {
    /// A new carrier without opens.
    pub const fn new(role: Role) -> Self {
        Self {
            role,
            last: 0,
            live: 0,
        }
    }

    /// Which end this is.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Opens that live.
    pub const fn live(&self) -> u32 {
        self.live
    }

    /// Whether another open may begin.
    pub const fn has_room(&self) -> bool {
        self.live < CARRIER_OPENS_MAX && self.last < OPEN_MAX
    }

    /// Begins an open (edge only): the OPEN frame with the number returned counts as sent, and is to
    /// be written before any with a higher number.
    ///
    /// # Errors
    /// At the agent's end, when the carrier is full, or has no number left; the carrier is as before.
    pub fn open_next(&mut self) -> Result<(u32, OpenState), Violation> {
        let number = self.begin(FrameType::Open)?;
        Ok((number, OpenState::opened(self.role, LinkKind::Carrier)))
    }

    /// Begins an open that continues another leg (edge only): as [`Self::open_next`], with RESUME.
    ///
    /// # Errors
    /// As [`Self::open_next`].
    pub fn resume_next(&mut self) -> Result<(u32, OpenState), Violation> {
        let number = self.begin(FrameType::Resume)?;
        Ok((number, OpenState::resumed(self.role, LinkKind::Carrier)))
    }

    /// Accounts for a frame whose number is not in the table: an OPEN or RESUME begins an open, which
    /// goes into the table under the frame's number.
    ///
    /// # Errors
    /// Any other frame, a number that isn't above all before it, too many opens, and any of this at
    /// the edge's end: the carrier is to be closed.
    pub fn on_unknown(&mut self, header: &Header) -> Result<(OpenState, Incoming), Violation> {
        let Header { kind, open, .. } = *header;
        let (state, incoming) = match kind {
            FrameType::Open => (
                OpenState::opened(self.role, LinkKind::Carrier),
                Incoming::Open,
            ),
            FrameType::Resume => (
                OpenState::resumed(self.role, LinkKind::Carrier),
                Incoming::Resume,
            ),
            _ => return Err(Violation::UnknownOpen { kind, open }),
        };
        if self.role == Role::Edge {
            return Err(Violation::NotAllowed { kind, open });
        }
        if open <= self.last {
            let last = self.last;
            return Err(Violation::NumberReused { last, found: open });
        }
        if self.live >= CARRIER_OPENS_MAX {
            return Err(Violation::Full);
        }
        self.last = open;
        self.live += 1;
        Ok((state, incoming))
    }

    /// Accounts for an open that was taken out of the table, because it is free.
    pub fn on_gone(&mut self) {
        self.live = self.live.saturating_sub(1);
    }

    fn begin(&mut self, kind: FrameType) -> Result<u32, Violation> {
        if self.last == OPEN_MAX {
            return Err(Violation::Exhausted);
        }
        let next = self.last + 1;
        if self.role != Role::Edge {
            return Err(Violation::NotAllowed { kind, open: next });
        }
        if self.live >= CARRIER_OPENS_MAX {
            return Err(Violation::Full);
        }
        self.last = next;
        self.live += 1;
        Ok(next)
    }
}
