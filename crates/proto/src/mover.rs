//! One client connection whose bytes move between a carrier and a channel: which leg this side writes
//! on, which it reads from, and what has to be said on which leg now. See `carrier/LIFECYCLE.md`.
//!
//! A connection has one leg, and a second one while it moves. The edge begins every move; both sides
//! leave the old leg by SWITCH and give it back before the next move. Each direction keeps its order,
//! because the new leg is read only when the old one was read up to SWITCH.
//!
//! Must never: hold bytes or know a link; who owns the legs asks here and writes the frames.

use crate::frame::{FrameType, Leg};
use crate::open::{OpenState, Role};

/// Which of a connection's legs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The one that it has, and leaves while it moves.
    Current,
    /// The one that it moves to.
    Next,
}

/// What a move asks this side to write now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Nothing yet.
    Wait,
    /// SWITCH to this leg on the current one ([`OpenState::switch`] has its payload), then END on the
    /// next one if this side's direction has ended already. From here on this side writes there.
    Switch {
        /// Where this side's direction goes on.
        to: Leg,
        /// Whether END follows there at once.
        end: bool,
    },
    /// The connection has no use for the leg that was resumed: say this on it, then RELEASED. The leg
    /// never becomes one of the connection's.
    Decline(FrameType),
}

/// What the peer did wrong in moving. Both links are to be closed, and the connection is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoveViolation {
    /// SWITCH and RESUME name different legs, or a second move began within the first.
    #[error("the connection was to go on at another leg")]
    WrongLeg,
    /// Bytes behind the end.
    #[error("bytes arrived behind the end of the connection's direction")]
    DataAfterEnd,
    /// SWITCH where the edge has begun no move.
    #[error("the agent moved what the edge has not moved")]
    NotMoving,
}

impl From<MoveViolation> for portcullis_model::Error {
    fn from(violation: MoveViolation) -> Self {
        Self::new(
            portcullis_model::Code::ProtocolViolation,
            violation.to_string(),
        )
    }
}

/// The legs of one connection, as one end sees them. It begins with the verdict: before OPENED nothing
/// moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mover {
    role: Role,
    current: Leg,
    /// RESUME was sent or arrived for it.
    next: Option<Leg>,
    /// Where the peer's SWITCH leads; it was seen, and perhaps not read up to.
    peer_to: Option<Leg>,
    /// This side has sent SWITCH.
    switched: bool,
    /// The peer's bytes on the current leg were read up to its SWITCH.
    read_through: bool,
    /// This side has sent END.
    ended: bool,
    /// The peer's END was read.
    peer_ended: bool,
    /// Either side has reset the connection, or a leg that it needs was lost.
    reset: bool,
}

impl Mover {
    /// A connection that lives on one leg.
    pub const fn new(role: Role, leg: Leg) -> Self {
        Self {
            role,
            current: leg,
            next: None,
            peer_to: None,
            switched: false,
            read_through: false,
            ended: false,
            peer_ended: false,
            reset: false,
        }
    }

    /// The leg that it has.
    pub const fn current(&self) -> Leg {
        self.current
    }

    /// The leg that it moves to.
    pub const fn next(&self) -> Option<Leg> {
        self.next
    }

    /// Whether a move has begun and is not finished.
    pub const fn is_moving(&self) -> bool {
        self.next.is_some() || self.peer_to.is_some()
    }

    /// Whether both directions have come to their end, this side having read the peer's.
    pub const fn is_complete(&self) -> bool {
        self.ended && self.peer_ended
    }

    /// Whether the connection was reset, from either side or by the loss of a leg.
    pub const fn is_reset(&self) -> bool {
        self.reset
    }

    /// Where this side's DATA and END go.
    pub const fn writes(&self) -> Place {
        if self.switched {
            Place::Next
        } else {
            Place::Current
        }
    }

    /// Where the peer's bytes are to be read from; `None` while the peer's SWITCH leads to a leg whose
    /// RESUME has not come.
    pub const fn reads(&self) -> Option<Place> {
        match (self.read_through, self.next) {
            (false, _) => Some(Place::Current),
            (true, Some(_)) => Some(Place::Next),
            (true, None) => None,
        }
    }

    /// Edge: whether a move may begin, `current` being the current leg's state.
    pub fn may_move(&self, current: &OpenState) -> bool {
        self.role == Role::Edge && !self.is_moving() && !self.reset && current.may_switch()
    }

    /// Edge: begins a move, which [`Self::may_move`] allowed. RESUME with [`Self::current`] goes out on
    /// `to`, whose number it has begun; then what is returned.
    pub fn start(&mut self, to: Leg) -> Answer {
        self.next = Some(to);
        self.answer(to)
    }

    /// Agent: RESUME arrived on `leg` and names the current one, whose state is `current`.
    ///
    /// # Errors
    /// When a move goes on already, or the peer's SWITCH leads elsewhere.
    pub fn on_resume(&mut self, leg: Leg, current: &OpenState) -> Result<Answer, MoveViolation> {
        if self.reset || current.is_complete() {
            return Ok(Answer::Decline(self.farewell()));
        }
        if self.next.is_some() || self.peer_to.is_some_and(|to| to != leg) {
            return Err(MoveViolation::WrongLeg);
        }
        self.next = Some(leg);
        Ok(self.answer_if_due(current))
    }

    /// SWITCH arrived on the current leg, whose state is `current`, and leads to `to`. It may be told
    /// before the bytes in front of it were read; the agent answers the sooner.
    ///
    /// # Errors
    /// When the edge has begun no move, or one to another leg.
    pub fn on_switch(&mut self, to: Leg, current: &OpenState) -> Result<Answer, MoveViolation> {
        match (self.role, self.next) {
            (_, Some(next)) if next != to => return Err(MoveViolation::WrongLeg),
            (Role::Edge, None) => return Err(MoveViolation::NotMoving),
            _ => {}
        }
        self.peer_to = Some(to);
        Ok(self.answer_if_due(current))
    }

    /// The peer's bytes on the current leg were read up to its SWITCH: reading goes on at the next.
    pub fn on_read_through(&mut self) {
        self.read_through = true;
    }

    /// Bytes of the peer are about to be handed on.
    ///
    /// # Errors
    /// When the peer's END was read, on whichever leg.
    pub fn on_data(&self) -> Result<(), MoveViolation> {
        if self.peer_ended {
            Err(MoveViolation::DataAfterEnd)
        } else {
            Ok(())
        }
    }

    /// END was read; it comes again on the next leg.
    pub fn on_end(&mut self) {
        self.peer_ended = true;
    }

    /// END was sent on the leg that this side writes on.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// This side resets the connection; [`Self::due`] says on which legs.
    pub fn reset(&mut self) {
        self.reset = true;
    }

    /// RESET arrived on a leg. Returns whether it is the connection's: not when the connection is
    /// complete, because a leg that came too late for it may be answered with one. `current` is the
    /// current leg's state.
    pub fn on_reset(&mut self, place: Place, current: &OpenState) -> bool {
        let late = place == Place::Next && current.is_complete();
        self.reset |= !late && !self.is_complete();
        self.reset
    }

    /// The link of a leg broke. Returns whether the connection is lost with it: not when nothing of it
    /// was to pass there any more. Either way the leg is gone; tell it by [`Self::on_gone`].
    pub fn on_lost(&mut self, place: Place, current: &OpenState) -> bool {
        let left = self.switched && self.read_through;
        let needed = match place {
            Place::Current => !left,
            Place::Next => !current.is_complete(),
        };
        self.reset |= needed && !self.is_complete();
        self.reset
    }

    /// What closes a leg now, if anything does: RESET, END or RELEASED. Ask again until it is `None`,
    /// after every frame that this side sends or reads.
    ///
    /// `current` and `next` are the states of the legs that there are; a lost one is not there.
    pub fn due(
        &self,
        current: Option<&OpenState>,
        next: Option<&OpenState>,
    ) -> Option<(Place, FrameType)> {
        let on_current = current.and_then(|leg| self.due_on_current(leg));
        if let Some(kind) = on_current {
            return Some((Place::Current, kind));
        }
        let kind = self.due_on_next(current, next?)?;
        Some((Place::Next, kind))
    }

    /// A leg is done with: the edge says so when both sides have released it, the agent when it has
    /// released it itself, and either when it is lost. The next leg becomes the current one.
    pub fn on_gone(&mut self, place: Place) {
        if place == Place::Current
            && let Some(next) = self.next
        {
            self.current = next;
        }
        self.next = None;
        self.peer_to = None;
        self.switched = false;
        self.read_through = false;
    }

    /// Whether a leg in this state is done with for [`Self::on_gone`].
    pub fn is_gone(&self, leg: &OpenState) -> bool {
        match self.role {
            Role::Edge => leg.is_free(),
            Role::Agent => leg.has_released(),
        }
    }

    fn due_on_current(&self, leg: &OpenState) -> Option<FrameType> {
        if self.reset {
            return reset_due(leg);
        }
        // A leg that was resumed for a connection that then came to its end on the old one.
        if self.is_complete() && leg.may_end() {
            return Some(FrameType::End);
        }
        let left = self.switched && self.read_through;
        ((left || self.is_complete()) && leg.may_release()).then_some(FrameType::Released)
    }

    fn due_on_next(&self, current: Option<&OpenState>, leg: &OpenState) -> Option<FrameType> {
        if self.reset {
            return reset_due(leg);
        }
        // The old leg first: its loss must still be able to reset what goes on here.
        if !self.is_complete() || current.is_some_and(|current| !current.has_released()) {
            return None;
        }
        if leg.may_end() {
            return Some(FrameType::End);
        }
        leg.may_release().then_some(FrameType::Released)
    }

    /// The agent answers when it knows both halves of the edge's move.
    fn answer_if_due(&mut self, current: &OpenState) -> Answer {
        match (self.next, self.peer_to) {
            (Some(to), Some(_)) if !self.switched && !self.reset && current.may_switch() => {
                self.answer(to)
            }
            _ => Answer::Wait,
        }
    }

    fn answer(&mut self, to: Leg) -> Answer {
        self.switched = true;
        Answer::Switch {
            to,
            end: self.ended,
        }
    }

    fn farewell(&self) -> FrameType {
        if self.reset {
            FrameType::Reset
        } else {
            FrameType::End
        }
    }
}

/// A leg of a connection that was reset: RESET, unless the peer's came first and this side has ended
/// already, then RELEASED.
fn reset_due(leg: &OpenState) -> Option<FrameType> {
    if leg.may_release() && (leg.peer_cut() || !leg.may_reset()) {
        Some(FrameType::Released)
    } else if leg.may_reset() {
        Some(FrameType::Reset)
    } else {
        None
    }
}
