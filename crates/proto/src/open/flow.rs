//! How far one direction of an open is, and when a side may have its last word.

use crate::frame::FrameType;

/// How far one direction is, by what its sender has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// Bytes may follow.
    Open,
    /// END was sent; RESET and SWITCH may still follow.
    Ended,
    /// SWITCH was sent, perhaps behind END; RESET may still follow.
    Moved,
    /// RESET or REFUSED was sent; only RELEASED may follow.
    Cut,
    /// RELEASED was sent; nothing may follow.
    Released,
}

impl Flow {
    /// The state behind a frame that is allowed now.
    pub(super) fn after(self, kind: FrameType) -> Self {
        match (kind, self) {
            (FrameType::End, _) => Self::Ended,
            (FrameType::Switch, _) => Self::Moved,
            (FrameType::Reset | FrameType::Refused, _) => Self::Cut,
            (FrameType::Released, _) => Self::Released,
            (_, flow) => flow,
        }
    }

    /// RESET ends a direction that has not been cut, also behind END and SWITCH.
    pub(super) fn may_reset(self) -> bool {
        !matches!(self, Self::Cut | Self::Released)
    }
}

/// The verdict of the agent about an open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Awaited,
    Opened,
    Refused,
}

/// RELEASED is a side's last word. It needs the side's own end, and then the other's, unless one of
/// them cut the open: after that the other's bytes are thrown away anyway. A direction that moved away
/// has ended here when the other has moved too; when both had come to END before, the connection is
/// complete and nothing moves. Each direction is its flow, and whether END was part of it.
pub(super) fn release_allowed(
    verdict: Verdict,
    (own, own_end): (Flow, bool),
    (other, other_end): (Flow, bool),
) -> bool {
    let done = matches!(other, Flow::Cut | Flow::Released);
    match own {
        Flow::Released => false,
        Flow::Cut => true,
        Flow::Ended => other_end || done,
        Flow::Moved => other == Flow::Moved || (own_end && other_end) || done,
        // The edge has nothing to end when the agent refused.
        Flow::Open => verdict == Verdict::Refused,
    }
}
