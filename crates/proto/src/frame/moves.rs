//! Payloads of the frames that grant credit and move a direction from one link to another.

use super::{FrameError, FrameType};
use crate::defaults::{CREDIT_BYTES, LEG_BYTES, SWITCH_BYTES};

/// One open on one link of a session: where a client connection's bytes pass, or passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Leg {
    /// The link's number in the session, of a carrier or a channel.
    pub link: u64,
    /// The open's number on that link.
    pub open: u32,
}

impl Leg {
    /// The payload of a RESUME frame.
    pub fn encode(self) -> [u8; LEG_BYTES] {
        let mut bytes = [0; LEG_BYTES];
        bytes[..8].copy_from_slice(&self.link.to_be_bytes());
        bytes[8..].copy_from_slice(&self.open.to_be_bytes());
        bytes
    }

    /// Reads the payload of a RESUME frame: the leg that the new open continues.
    ///
    /// # Errors
    /// `FrameError::Payload` for another length than [`LEG_BYTES`].
    pub fn decode(payload: &[u8]) -> Result<Self, FrameError> {
        let kind = FrameType::Resume;
        let bytes =
            <[u8; LEG_BYTES]>::try_from(payload).map_err(|_| FrameError::Payload { kind })?;
        Ok(Self::from_bytes(bytes))
    }

    fn from_bytes(bytes: [u8; LEG_BYTES]) -> Self {
        let [l0, l1, l2, l3, l4, l5, l6, l7, open @ ..] = bytes;
        Self {
            link: u64::from_be_bytes([l0, l1, l2, l3, l4, l5, l6, l7]),
            open: u32::from_be_bytes(open),
        }
    }
}

/// The payload of a SWITCH frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch {
    /// Where the direction goes on.
    pub to: Leg,
    /// Bytes of DATA that the direction had on the leg that it leaves.
    pub offset: u64,
}

impl Switch {
    /// The payload.
    pub fn encode(self) -> [u8; SWITCH_BYTES] {
        let mut bytes = [0; SWITCH_BYTES];
        bytes[..LEG_BYTES].copy_from_slice(&self.to.encode());
        bytes[LEG_BYTES..].copy_from_slice(&self.offset.to_be_bytes());
        bytes
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// `FrameError::Payload` for another length than [`SWITCH_BYTES`].
    pub fn decode(payload: &[u8]) -> Result<Self, FrameError> {
        let kind = FrameType::Switch;
        let malformed = FrameError::Payload { kind };
        let (leg, offset) = payload
            .split_first_chunk::<LEG_BYTES>()
            .ok_or(malformed.clone())?;
        let offset = <[u8; 8]>::try_from(offset).map_err(|_| malformed)?;
        Ok(Self {
            to: Leg::from_bytes(*leg),
            offset: u64::from_be_bytes(offset),
        })
    }
}

/// The payload of a CREDIT frame.
pub fn encode_credit(bytes: u32) -> [u8; CREDIT_BYTES] {
    bytes.to_be_bytes()
}

/// Reads the payload of a CREDIT frame: at least one byte.
///
/// # Errors
/// `FrameError::Payload` for another length than [`CREDIT_BYTES`], and for a credit of nothing.
pub fn decode_credit(payload: &[u8]) -> Result<u32, FrameError> {
    match <[u8; CREDIT_BYTES]>::try_from(payload).map(u32::from_be_bytes) {
        Ok(bytes) if bytes > 0 => Ok(bytes),
        _ => Err(FrameError::Payload {
            kind: FrameType::Credit,
        }),
    }
}
