//! One client connection on one link: which frame either side may send for it now, what becomes of
//! one that arrives, how much may still be sent, and when both sides are done with it.
//!
//! A channel has one of these at a time, a carrier one for each number; who owns the link looks the
//! number up and asks here. See `channel/LIFECYCLE.md` and `carrier/LIFECYCLE.md`.
//!
//! Must never: hold bytes, allocate, or know a number; that is the link's.

mod arriving;
mod flow;
mod violation;

use crate::defaults::{
    CARRIER_DATA_BYTES_MAX, CREDIT_MAX, FRAME_PAYLOAD_BYTES_MAX, OPEN_FIRST_BYTES_MAX,
    WINDOW_INITIAL,
};
use crate::frame::{FrameType, Leg, Switch};
use flow::{Flow, Verdict, release_allowed};
pub use violation::Violation;

/// Which end of the link this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Opens.
    Edge,
    /// Answers.
    Agent,
}

/// What kind of link an open lives on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkKind {
    /// One open at a time; the connection's own flow control governs.
    Channel,
    /// Many opens at once; credit governs each.
    Carrier,
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
    /// DATA: hand the payload on, as long as [`OpenState::is_discarding`] stays false: a RESET sent
    /// while the payload is still arriving makes the rest of it waste.
    Deliver,
    /// A frame that matters no more, because this side has cut the open: read its payload, if it has
    /// one, and throw it away.
    Discard,
    /// END: the peer sends no more bytes.
    End,
    /// RESET: the peer's connection is gone. Answer with RESET unless this side ended already.
    Reset,
    /// RELEASED: the peer is done with this open.
    Released,
    /// CREDIT: hand the payload to [`OpenState::on_credit`].
    Credit,
    /// SWITCH: hand the payload to [`OpenState::on_switch`].
    Switch,
    /// RESUME: the payload, a [`Leg`], names what the new open continues (agent only).
    Resume,
    /// MOVE: the agent has much to send (edge only).
    Move,
}

/// The state of one open on one link, as one end sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenState {
    role: Role,
    link: LinkKind,
    verdict: Verdict,
    ours: Flow,
    theirs: Flow,
    /// END was sent here; it stays so behind SWITCH, RESET and RELEASED.
    end_sent: bool,
    /// END arrived here.
    end_arrived: bool,
    /// Whether this side has cut the open: what still arrives for it is thrown away.
    discarding: bool,
    /// Bytes that the edge may still send before the verdict.
    early: u16,
    /// Bytes of DATA that this side may still send; carriers only.
    credit: u32,
    /// Bytes of DATA that the peer may still send; carriers only.
    granted: u32,
    /// Bytes of DATA that this side has sent.
    sent: u64,
    /// Bytes of DATA that have arrived.
    received: u64,
}

impl OpenState {
    /// Before any open, and after one that both sides released.
    pub const fn free(role: Role, link: LinkKind) -> Self {
        Self {
            role,
            link,
            verdict: Verdict::Refused,
            ours: Flow::Released,
            theirs: Flow::Released,
            end_sent: false,
            end_arrived: false,
            discarding: false,
            early: 0,
            credit: 0,
            granted: 0,
            sent: 0,
            received: 0,
        }
    }

    /// Behind an OPEN: the verdict is awaited. Bytes before it need [`Self::note_first_bytes`].
    pub const fn opened(role: Role, link: LinkKind) -> Self {
        Self::begun(role, link, Verdict::Awaited)
    }

    /// Behind a RESUME: there is no verdict to wait for.
    pub const fn resumed(role: Role, link: LinkKind) -> Self {
        Self::begun(role, link, Verdict::Opened)
    }

    const fn begun(role: Role, link: LinkKind, verdict: Verdict) -> Self {
        Self {
            verdict,
            ours: Flow::Open,
            theirs: Flow::Open,
            credit: WINDOW_INITIAL,
            granted: WINDOW_INITIAL,
            ..Self::free(role, link)
        }
    }

    /// Which end this is.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Whether both sides have released it: it is gone, and its link may forget it.
    pub fn is_free(&self) -> bool {
        self.ours == Flow::Released && self.theirs == Flow::Released
    }

    /// Whether RELEASED may be sent now: this side has ended, and the peer has too or needn't.
    pub fn may_release(&self) -> bool {
        release_allowed(self.verdict, self.our_end(), self.their_end())
    }

    /// Whether this side has sent RELEASED: nothing more of its own goes out.
    pub fn has_released(&self) -> bool {
        self.ours == Flow::Released
    }

    /// Whether RESET may be sent now: this side has neither cut nor released the open.
    pub fn may_reset(&self) -> bool {
        self.ours.may_reset()
    }

    /// Whether the verdict was OPENED (or never needed), and this side's direction is open.
    pub fn may_send_data(&self) -> bool {
        self.ours == Flow::Open && self.verdict == Verdict::Opened
    }

    /// Whether END may be sent now; the edge may end before the verdict.
    pub fn may_end(&self) -> bool {
        self.ours == Flow::Open && self.may_precede_verdict(self.role)
    }

    /// Bytes that one DATA frame may carry now; 0 when none may be sent. What limits it is the frame's
    /// size, before the verdict the early bytes, on a carrier the credit.
    pub fn room(&self) -> usize {
        if !self.may_end() {
            return 0;
        }
        let frame = match self.link {
            LinkKind::Channel => FRAME_PAYLOAD_BYTES_MAX,
            LinkKind::Carrier => CARRIER_DATA_BYTES_MAX.min(self.credit as usize),
        };
        match self.verdict {
            Verdict::Awaited => frame.min(usize::from(self.early)),
            Verdict::Opened | Verdict::Refused => frame,
        }
    }

    /// Bytes of DATA that this side may still send on a carrier.
    pub fn credit(&self) -> u32 {
        self.credit
    }

    /// Bytes of DATA that the peer may still send on a carrier.
    pub fn granted(&self) -> u32 {
        self.granted
    }

    /// Bytes of DATA that this side has sent; what travelled in OPEN doesn't count.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Bytes of DATA that have arrived.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether the verdict is still to come.
    pub fn is_awaiting(&self) -> bool {
        self.verdict == Verdict::Awaited
    }

    /// Whether the peer sends no more bytes here: END, SWITCH, RESET, REFUSED or RELEASED arrived.
    pub fn peer_ended(&self) -> bool {
        self.theirs != Flow::Open
    }

    /// Whether the peer's RESET or REFUSED was the last that arrived.
    pub fn peer_cut(&self) -> bool {
        self.theirs == Flow::Cut
    }

    /// Whether END was sent here, whatever followed.
    pub fn end_sent(&self) -> bool {
        self.end_sent
    }

    /// Whether both directions came to their END here: no byte of the connection passes elsewhere.
    pub fn is_complete(&self) -> bool {
        self.end_sent && self.end_arrived
    }

    /// Agent: what answers a RESUME that continues this open, when the connection it belonged to has
    /// none of its own to give: END when the connection came to a clean end here, else RESET, which
    /// is also the answer when the open is not known any more.
    pub fn answer_to_resume(&self) -> FrameType {
        if self.is_complete() && !self.discarding && !self.peer_cut() {
            FrameType::End
        } else {
            FrameType::Reset
        }
    }

    /// Whether [`Self::switch`] is allowed now: the edge's may move what hasn't ended both ways, the
    /// agent only answers.
    pub fn may_switch(&self) -> bool {
        let here = |flow| matches!(flow, Flow::Open | Flow::Ended);
        let turn = match self.role {
            Role::Edge => here(self.theirs),
            Role::Agent => self.theirs == Flow::Moved,
        };
        self.verdict == Verdict::Opened && here(self.ours) && turn && !self.is_complete()
    }

    /// Whether this side has cut the open: payload that still arrives is thrown away.
    pub fn is_discarding(&self) -> bool {
        self.discarding
    }

    /// Notes how many of the client's bytes came in the OPEN itself: the rest of
    /// [`OPEN_FIRST_BYTES_MAX`] may be sent before the verdict. Both ends call it, the agent when it
    /// has read the OPEN's payload; without it nothing may precede the verdict.
    pub fn note_first_bytes(&mut self, count: usize) {
        let left = OPEN_FIRST_BYTES_MAX.saturating_sub(count);
        self.early = u16::try_from(left).unwrap_or(u16::MAX);
    }

    /// Accounts for a frame that this side is about to send. OPEN and RESUME belong to the link,
    /// CREDIT and SWITCH to [`Self::grant`] and [`Self::switch`].
    ///
    /// # Errors
    /// A frame that the state does not allow; it must not be sent.
    pub fn on_send(&mut self, kind: FrameType, length: usize) -> Result<(), Violation> {
        let allowed = match kind {
            FrameType::Opened | FrameType::Refused => {
                self.role == Role::Agent
                    && self.verdict == Verdict::Awaited
                    && self.ours == Flow::Open
            }
            FrameType::Data => (1..=self.room()).contains(&length),
            FrameType::End => self.may_end(),
            FrameType::Reset => self.may_reset(),
            FrameType::Released => self.may_release(),
            FrameType::Move => {
                self.role == Role::Agent && self.link == LinkKind::Carrier && self.may_send_data()
            }
            FrameType::Open | FrameType::Resume | FrameType::Credit | FrameType::Switch => false,
        };
        if !allowed {
            return Err(not_allowed(kind));
        }
        if kind == FrameType::Data {
            self.sent += length as u64;
            self.credit = self.credit.saturating_sub(narrow(length));
            self.spend_early(length);
        }
        self.note_verdict(kind);
        self.ours = self.ours.after(kind);
        self.end_sent |= kind == FrameType::End;
        self.discarding |= matches!(kind, FrameType::Reset | FrameType::Refused);
        Ok(())
    }

    /// Accounts for a CREDIT frame that this side is about to send.
    ///
    /// # Errors
    /// On a channel, before the verdict, behind this side's own RESET or RELEASED, and beyond
    /// [`CREDIT_MAX`]; it must not be sent.
    pub fn grant(&mut self, bytes: u32) -> Result<(), Violation> {
        if bytes == 0 || !self.credit_allowed(self.ours) {
            return Err(not_allowed(FrameType::Credit));
        }
        self.granted = add_credit(self.granted, bytes)?;
        Ok(())
    }

    /// Accounts for a SWITCH frame that this side is about to send, and returns its payload.
    ///
    /// # Errors
    /// When nothing is left to move, when the agent would be the first, or behind this side's own
    /// RESET or RELEASED.
    pub fn switch(&mut self, to: Leg) -> Result<Switch, Violation> {
        if !self.may_switch() {
            return Err(not_allowed(FrameType::Switch));
        }
        self.ours = self.ours.after(FrameType::Switch);
        let offset = self.sent;
        Ok(Switch { to, offset })
    }

    fn peer(&self) -> Role {
        match self.role {
            Role::Edge => Role::Agent,
            Role::Agent => Role::Edge,
        }
    }

    /// Whether bytes or the end of `sender`'s direction may pass with the verdict as it is. The edge's
    /// may be on their way when the agent refuses or resets.
    fn may_precede_verdict(&self, sender: Role) -> bool {
        match (sender, self.verdict) {
            (_, Verdict::Opened) | (Role::Edge, Verdict::Awaited) => true,
            (Role::Edge, Verdict::Refused) => self.role == Role::Agent,
            (Role::Agent, Verdict::Awaited | Verdict::Refused) => false,
        }
    }

    fn spend_early(&mut self, length: usize) {
        if self.verdict != Verdict::Opened {
            let spent = u16::try_from(length).unwrap_or(u16::MAX);
            self.early = self.early.saturating_sub(spent);
        }
    }

    /// CREDIT is about the other direction: it may follow END and SWITCH, and cross whatever ends that
    /// direction.
    fn credit_allowed(&self, own: Flow) -> bool {
        self.link == LinkKind::Carrier
            && self.verdict == Verdict::Opened
            && !matches!(own, Flow::Cut | Flow::Released)
    }

    fn our_end(&self) -> (Flow, bool) {
        (self.ours, self.end_sent)
    }

    fn their_end(&self) -> (Flow, bool) {
        (self.theirs, self.end_arrived)
    }

    fn note_verdict(&mut self, kind: FrameType) {
        match kind {
            FrameType::Opened => self.verdict = Verdict::Opened,
            FrameType::Refused => self.verdict = Verdict::Refused,
            _ => {}
        }
    }
}

fn not_allowed(kind: FrameType) -> Violation {
    Violation::NotAllowed { kind, open: 0 }
}

fn add_credit(have: u32, more: u32) -> Result<u32, Violation> {
    match have.checked_add(more) {
        Some(sum) if sum <= CREDIT_MAX => Ok(sum),
        _ => Err(Violation::CreditOverflow),
    }
}

/// A payload's length; what doesn't fit is beyond any credit.
fn narrow(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
