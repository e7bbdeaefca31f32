//! What becomes of the frames that arrive for an open.

use super::flow::{Flow, Verdict, release_allowed};
use super::{Incoming, LinkKind, OpenState, Role, Violation, add_credit, narrow, not_allowed};
use crate::frame::{FrameType, Leg, Switch, decode_credit};

impl OpenState {
    /// Accounts for a frame that arrived, by its header, before its payload is read. OPEN and RESUME
    /// belong to the link.
    ///
    /// # Errors
    /// A frame that the state does not allow: the link is to be closed.
    pub fn on_recv(&mut self, kind: FrameType, length: usize) -> Result<Incoming, Violation> {
        let edge = self.role == Role::Edge;
        let flowing = self.theirs == Flow::Open;
        let allowed = match kind {
            FrameType::Opened | FrameType::Refused => {
                edge && self.verdict == Verdict::Awaited && flowing
            }
            FrameType::Data | FrameType::End => flowing && self.may_precede_verdict(self.peer()),
            FrameType::Reset => self.theirs.may_reset(),
            FrameType::Released => release_allowed(self.verdict, self.their_end(), self.our_end()),
            FrameType::Credit => self.credit_allowed(self.theirs),
            FrameType::Switch => self.switch_expected(),
            FrameType::Move => {
                edge && self.link == LinkKind::Carrier && flowing && self.verdict == Verdict::Opened
            }
            FrameType::Open | FrameType::Resume => false,
        };
        if !allowed {
            return Err(not_allowed(kind));
        }
        if kind == FrameType::Data {
            self.take_data(length)?;
        }
        self.note_verdict(kind);
        self.theirs = self.theirs.after(kind);
        self.end_arrived |= kind == FrameType::End;
        Ok(self.incoming(kind))
    }

    /// Takes the payload of a CREDIT frame that [`Self::on_recv`] let in, and returns how many bytes
    /// more may be sent.
    ///
    /// # Errors
    /// A malformed payload, or more credit than [`CREDIT_MAX`]: the link is to be closed.
    pub fn on_credit(&mut self, payload: &[u8]) -> Result<u32, Violation> {
        let bytes = decode_credit(payload)?;
        self.credit = add_credit(self.credit, bytes)?;
        Ok(bytes)
    }

    /// Takes the payload of a SWITCH frame that [`Self::on_recv`] let in, and returns the leg on which
    /// the peer goes on.
    ///
    /// # Errors
    /// A malformed payload, or an offset that isn't the number of bytes that arrived: the link is to
    /// be closed.
    pub fn on_switch(&self, payload: &[u8]) -> Result<Leg, Violation> {
        let Switch { to, offset } = Switch::decode(payload)?;
        if offset != self.received {
            return Err(Violation::Offset {
                said: offset,
                received: self.received,
            });
        }
        Ok(to)
    }

    fn incoming(&self, kind: FrameType) -> Incoming {
        match kind {
            FrameType::Data
            | FrameType::Opened
            | FrameType::Credit
            | FrameType::Switch
            | FrameType::Move
                if self.discarding =>
            {
                Incoming::Discard
            }
            FrameType::Open => Incoming::Open,
            FrameType::Opened => Incoming::Opened,
            FrameType::Refused => Incoming::Refused,
            FrameType::Data => Incoming::Deliver,
            FrameType::End => Incoming::End,
            FrameType::Reset => Incoming::Reset,
            FrameType::Released => Incoming::Released,
            FrameType::Credit => Incoming::Credit,
            FrameType::Switch => Incoming::Switch,
            FrameType::Resume => Incoming::Resume,
            FrameType::Move => Incoming::Move,
        }
    }

    fn take_data(&mut self, length: usize) -> Result<(), Violation> {
        if self.link == LinkKind::Carrier {
            let credit = self.granted;
            self.granted = credit
                .checked_sub(narrow(length))
                .ok_or(Violation::CreditExceeded { length, credit })?;
        }
        if self.verdict != Verdict::Opened && length > usize::from(self.early) {
            return Err(Violation::EarlyExceeded);
        }
        self.spend_early(length);
        self.received += length as u64;
        Ok(())
    }

    /// The edge moves first; the agent only answers, and what this side cut it may answer late.
    fn switch_expected(&self) -> bool {
        let answer = self.ours == Flow::Moved || self.discarding;
        self.verdict == Verdict::Opened
            && matches!(self.theirs, Flow::Open | Flow::Ended)
            && (self.role == Role::Agent || answer)
    }
}
