//! Frames of a carrier or channel: an 8-byte header {type u8, reserved u8 = 0, length u16 BE, open u32 BE}
//! and at most 65,535 bytes of payload. A header is checked whole, its length against its type,
//! before a byte of payload is read.
//!
//! Must never: decide whether a frame is allowed now; that is [`crate::open`].

mod moves;

use std::fmt;
use std::net::SocketAddr;

use portcullis_model::id::ConnectionId;
use portcullis_model::{Code, EndpointId, Error};
use serde::{Deserialize, Serialize};

use crate::defaults::{
    CREDIT_BYTES, FRAME_HEADER_BYTES, FRAME_PAYLOAD_BYTES_MAX, LEG_BYTES, OPEN_FIRST_BYTES_MAX,
    OPEN_HEADER_BYTES_MAX, OPEN_PAYLOAD_BYTES_MAX, REASON_BYTES_MAX, REASON_MESSAGE_BYTES_MAX,
    SWITCH_BYTES,
};

pub use moves::{Leg, Switch, decode_credit, encode_credit};

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameType {
    /// Edge: a client connection begins. Payload: [`OpenHeader`] and first bytes.
    Open = 1,
    /// Agent: the upstream accepted. No payload.
    Opened = 2,
    /// Agent: the upstream could not be reached. Payload: a reason.
    Refused = 3,
    /// Either: bytes, at least one.
    Data = 4,
    /// Either: no more bytes from this side. No payload.
    End = 5,
    /// Either: the connection was reset on this side. Payload: a reason or nothing.
    Reset = 6,
    /// Either: this side is done with the open. No payload.
    Released = 7,
    /// Either, on a carrier: so many more bytes of DATA may be sent for this open. Payload: a count.
    Credit = 8,
    /// Either: this direction goes on at another leg. Payload: a [`Switch`].
    Switch = 9,
    /// Edge: an open begins that continues another leg. Payload: that [`Leg`].
    Resume = 10,
    /// Agent, on a carrier: much is to be sent; the edge may give the open a channel. No payload.
    Move = 11,
}

impl FrameType {
    /// Every type, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Open,
        Self::Opened,
        Self::Refused,
        Self::Data,
        Self::End,
        Self::Reset,
        Self::Released,
        Self::Credit,
        Self::Switch,
        Self::Resume,
        Self::Move,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        let at = usize::from(byte).checked_sub(1)?;
        Self::ALL.get(at).copied()
    }

    /// The lengths of payload that the type allows, both included.
    pub const fn payload_bounds(self) -> (usize, usize) {
        match self {
            Self::Open => (2, OPEN_PAYLOAD_BYTES_MAX),
            Self::Opened | Self::End | Self::Released | Self::Move => (0, 0),
            Self::Refused => (2, REASON_BYTES_MAX),
            Self::Data => (1, FRAME_PAYLOAD_BYTES_MAX),
            Self::Reset => (0, REASON_BYTES_MAX),
            Self::Credit => (CREDIT_BYTES, CREDIT_BYTES),
            Self::Switch => (SWITCH_BYTES, SWITCH_BYTES),
            Self::Resume => (LEG_BYTES, LEG_BYTES),
        }
    }
}

impl fmt::Display for FrameType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "OPEN",
            Self::Opened => "OPENED",
            Self::Refused => "REFUSED",
            Self::Data => "DATA",
            Self::End => "END",
            Self::Reset => "RESET",
            Self::Released => "RELEASED",
            Self::Credit => "CREDIT",
            Self::Switch => "SWITCH",
            Self::Resume => "RESUME",
            Self::Move => "MOVE",
        })
    }
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the frame says.
    pub kind: FrameType,
    /// Bytes of payload that follow.
    pub length: u16,
    /// Which open of the link it belongs to, from 1.
    pub open: u32,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A type that this version does not have.
    #[error("there is no frame type {0}")]
    UnknownType(u8),
    /// The reserved byte is not zero.
    #[error("the reserved byte of a frame is {0} instead of 0")]
    Reserved(u8),
    /// A length that the type does not allow.
    #[error("a {kind} frame cannot have {length} bytes of payload")]
    Length {
        /// The frame's type.
        kind: FrameType,
        /// What it claims, or what was to be sent.
        length: usize,
    },
    /// A payload that does not hold what its type says.
    #[error("the payload of a {kind} frame is malformed")]
    Payload {
        /// The frame's type.
        kind: FrameType,
    },
}

impl From<FrameError> for Error {
    fn from(error: FrameError) -> Self {
        Self::new(Code::ProtocolViolation, error.to_string())
    }
}

impl Header {
    /// A header for a payload of `length` bytes.
    ///
    /// # Errors
    /// `FrameError::Length` when the type does not allow that length.
    pub fn new(kind: FrameType, open: u32, length: usize) -> Result<Self, FrameError> {
        let (min, max) = kind.payload_bounds();
        match u16::try_from(length) {
            Ok(short) if (min..=max).contains(&length) => Ok(Self {
                kind,
                length: short,
                open,
            }),
            _ => Err(FrameError::Length { kind, length }),
        }
    }

    /// The eight bytes.
    pub fn encode(self) -> [u8; FRAME_HEADER_BYTES] {
        let [l0, l1] = self.length.to_be_bytes();
        let [o0, o1, o2, o3] = self.open.to_be_bytes();
        [self.kind as u8, 0, l0, l1, o0, o1, o2, o3]
    }

    /// Reads eight bytes.
    ///
    /// # Errors
    /// An unknown type, a reserved byte in use, or a length that the type does not allow.
    pub fn decode(bytes: [u8; FRAME_HEADER_BYTES]) -> Result<Self, FrameError> {
        let [kind, reserved, l0, l1, o0, o1, o2, o3] = bytes;
        let kind = FrameType::from_byte(kind).ok_or(FrameError::UnknownType(kind))?;
        if reserved != 0 {
            return Err(FrameError::Reserved(reserved));
        }
        let length = u16::from_be_bytes([l0, l1]);
        Self::new(
            kind,
            u32::from_be_bytes([o0, o1, o2, o3]),
            usize::from(length),
        )
    }
}

/// What an OPEN frame tells the agent about the client connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenHeader {
    /// The agent's endpoint that the connection is for.
    pub endpoint_id: EndpointId,
    /// The connection, as the edge's record names it.
    pub connection_id: ConnectionId,
    /// The client's address, from a trusted PROXY header where there was one.
    pub client: SocketAddr,
    /// The public address that the client connected to.
    pub server: SocketAddr,
}

/// The payload of an OPEN frame: u16 BE length, JSON, then the client's first bytes.
///
/// # Errors
/// `FrameError::Length` when there are more first bytes than [`OPEN_FIRST_BYTES_MAX`].
pub fn encode_open(header: &OpenHeader, first_bytes: &[u8]) -> Result<Vec<u8>, FrameError> {
    let kind = FrameType::Open;
    if first_bytes.len() > OPEN_FIRST_BYTES_MAX {
        return Err(FrameError::Length {
            kind,
            length: first_bytes.len(),
        });
    }
    let json = serde_json::to_vec(header).map_err(|_| FrameError::Payload { kind })?;
    let length = match u16::try_from(json.len()) {
        Ok(length) if json.len() <= OPEN_HEADER_BYTES_MAX => length,
        _ => {
            return Err(FrameError::Length {
                kind,
                length: json.len(),
            });
        }
    };
    let mut payload = Vec::with_capacity(2 + json.len() + first_bytes.len());
    payload.extend_from_slice(&length.to_be_bytes());
    payload.extend_from_slice(&json);
    payload.extend_from_slice(first_bytes);
    Ok(payload)
}

/// Takes the payload of an OPEN frame apart: the header and the client's first bytes.
///
/// # Errors
/// `FrameError::Payload` when it does not hold what an OPEN frame holds.
pub fn decode_open(payload: &[u8]) -> Result<(OpenHeader, &[u8]), FrameError> {
    let malformed = FrameError::Payload {
        kind: FrameType::Open,
    };
    let Some((length, rest)) = payload.split_first_chunk::<2>() else {
        return Err(malformed);
    };
    let length = usize::from(u16::from_be_bytes(*length));
    if length > OPEN_HEADER_BYTES_MAX {
        return Err(malformed);
    }
    let Some((json, first_bytes)) = rest.split_at_checked(length) else {
        return Err(malformed);
    };
    let header = serde_json::from_slice(json).map_err(|_| malformed.clone())?;
    if first_bytes.len() > OPEN_FIRST_BYTES_MAX {
        return Err(malformed);
    }
    Ok((header, first_bytes))
}

/// The payload of a REFUSED or RESET frame: code and message as JSON. What only the log may say is
/// left out, and a long message is cut.
///
/// # Errors
/// None in practice: code and cut message always fit.
pub fn encode_reason(reason: &Error) -> Result<Vec<u8>, FrameError> {
    let kind = FrameType::Refused;
    let wire = Error::new(reason.code, clip(&reason.message));
    serde_json::to_vec(&wire).map_err(|_| FrameError::Payload { kind })
}

/// Reads the payload of a REFUSED or RESET frame; `None` for an empty one.
///
/// # Errors
/// `FrameError::Payload` when it is neither empty nor a code and a message.
pub fn decode_reason(kind: FrameType, payload: &[u8]) -> Result<Option<Error>, FrameError> {
    if payload.is_empty() {
        return Ok(None);
    }
    match serde_json::from_slice::<Error>(payload) {
        Ok(reason) => Ok(Some(Error::new(reason.code, clip(&reason.message)))),
        Err(_) => Err(FrameError::Payload { kind }),
    }
}

/// At most [`REASON_MESSAGE_BYTES_MAX`] bytes of a message, cut at a character.
pub(crate) fn clip(message: &str) -> String {
    message[..message.floor_char_boundary(REASON_MESSAGE_BYTES_MAX)].to_owned()
}
