//! What a peer can do wrong on a link.

use portcullis_model::{Code, Error};

use crate::defaults::{CREDIT_MAX, OPEN_FIRST_BYTES_MAX};
use crate::frame::{FrameError, FrameType};

/// Why a frame is not allowed. Whichever it is, the link is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A frame for another open than the channel's current one.
    #[error("a {kind} frame for open {found} arrived where open {expected} is expected")]
    WrongOpen {
        /// The frame's type.
        kind: FrameType,
        /// What it should carry.
        expected: u32,
        /// What it carries.
        found: u32,
    },
    /// A frame for an open that the carrier doesn't have, or has no more.
    #[error("a {kind} frame arrived for open {open}, which the carrier does not have")]
    UnknownOpen {
        /// The frame's type.
        kind: FrameType,
        /// The open.
        open: u32,
    },
    /// An open whose number is not above all earlier ones of its carrier.
    #[error("open {found} begins behind open {last}")]
    NumberReused {
        /// The highest number so far.
        last: u32,
        /// What the frame carries.
        found: u32,
    },
    /// More opens at once than a carrier may have.
    #[error("the carrier has as many opens as it may have")]
    Full,
    /// A frame that the state does not allow.
    #[error("a {kind} frame is not allowed in the current state of open {open}")]
    NotAllowed {
        /// The frame's type.
        kind: FrameType,
        /// The open; 0 where only the link knows it.
        open: u32,
    },
    /// More bytes before the verdict than [`OPEN_FIRST_BYTES_MAX`].
    #[error("there are more bytes in front of the verdict than {OPEN_FIRST_BYTES_MAX}")]
    EarlyExceeded,
    /// More bytes of DATA than there is credit for.
    #[error("{length} bytes of DATA arrived with credit for {credit}")]
    CreditExceeded {
        /// The frame's payload.
        length: usize,
        /// What was left.
        credit: u32,
    },
    /// More credit than can be counted.
    #[error("the credit of an open goes beyond {CREDIT_MAX} bytes")]
    CreditOverflow,
    /// A SWITCH that names another offset than what arrived.
    #[error("a SWITCH says {said} bytes where {received} arrived")]
    Offset {
        /// What the frame says.
        said: u64,
        /// What this side counted.
        received: u64,
    },
    /// The numbers are used up.
    #[error("the link has used all of its open numbers")]
    Exhausted,
    /// The link was closed before.
    #[error("the link is closed")]
    Closed,
    /// The frame itself is malformed.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl Violation {
    /// With the number of the open, which [`OpenState`] doesn't know.
    #[must_use]
    pub fn at(self, number: u32) -> Self {
        match self {
            Self::NotAllowed { kind, open: 0 } => Self::NotAllowed { kind, open: number },
            other => other,
        }
    }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::new(Code::ProtocolViolation, violation.to_string())
    }
}
