//! Framing of control messages: u32 big-endian length, at most 64 KiB, then JSON. The length is
//! checked before a byte of the body is read, so a peer can make this side hold one message at most.
//!
//! Must never: read past the message it returns; on a channel's connection data frames follow.

use portcullis_model::{Code, Error};
use serde_json::Value;

use crate::defaults::MESSAGE_BYTES_MAX;
use crate::message::Message;

/// Bytes of the length in front of a message.
pub const PREFIX_BYTES: usize = 4;
/// Bytes of buffer that a decoder keeps between messages; nearly every message is smaller.
const BUFFER_KEPT_BYTES: usize = 1024;
/// Characters of an unknown type's name that an error repeats.
const NAME_CHARS_MAX: usize = 64;
/// Characters of the parser's words that an error repeats.
const CAUSE_CHARS_MAX: usize = 200;

/// Why bytes are not a message, or a message not bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Longer than the limit.
    #[error("a message of {bytes} bytes is larger than {MESSAGE_BYTES_MAX}")]
    TooLarge {
        /// What it has, or claims.
        bytes: usize,
    },
    /// Not a JSON object, with the parser's word for it.
    #[error("the message is not a JSON object: {0}")]
    NotObject(String),
    /// No `type`, or one that isn't a string.
    #[error("the message has no `type`")]
    NoType,
    /// A type that is not expected here.
    #[error("there is no message type `{0}` here")]
    UnknownType(String),
    /// A known type whose fields don't fit.
    #[error("the message `{kind}` is malformed: {cause}")]
    Malformed {
        /// The type.
        kind: String,
        /// What doesn't fit.
        cause: String,
    },
    /// The decoder refused an earlier message.
    #[error("an earlier message was refused")]
    Poisoned,
}

impl From<CodecError> for Error {
    fn from(error: CodecError) -> Self {
        let code = match error {
            CodecError::TooLarge { .. } => Code::MessageTooLarge,
            _ => Code::ProtocolViolation,
        };
        Self::new(code, error.to_string())
    }
}

/// A message with its length in front.
///
/// # Errors
/// `CodecError::TooLarge`.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![0; PREFIX_BYTES];
    serde_json::to_writer(&mut bytes, message).map_err(|e| CodecError::Malformed {
        kind: message.kind().to_owned(),
        cause: e.to_string(),
    })?;
    let body = bytes.len() - PREFIX_BYTES;
    match u32::try_from(body) {
        Ok(length) if body <= MESSAGE_BYTES_MAX => {
            bytes[..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
            Ok(bytes)
        }
        _ => Err(CodecError::TooLarge { bytes: body }),
    }
}

/// The length of the body that follows `prefix`.
///
/// # Errors
/// `CodecError::TooLarge`, before anything of the body is read.
pub fn body_length(prefix: [u8; PREFIX_BYTES]) -> Result<usize, CodecError> {
    let bytes = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if bytes > MESSAGE_BYTES_MAX {
        Err(CodecError::TooLarge { bytes })
    } else {
        Ok(bytes)
    }
}

/// Reads a message's body.
///
/// # Errors
/// See [`CodecError`]; it never repeats the values of fields, which may be secret.
pub fn decode<M: Message>(body: &[u8]) -> Result<M, CodecError> {
    let value: Value =
        serde_json::from_slice(body).map_err(|e| CodecError::NotObject(e.to_string()))?;
    let Value::Object(fields) = &value else {
        return Err(CodecError::NotObject("another JSON value".to_owned()));
    };
    let Some(Value::String(kind)) = fields.get("type") else {
        return Err(CodecError::NoType);
    };
    let Some(kind) = M::TYPES.iter().find(|known| *known == kind) else {
        return Err(CodecError::UnknownType(
            kind.chars().take(NAME_CHARS_MAX).collect(),
        ));
    };
    let kind = (*kind).to_owned();
    serde_json::from_value(value).map_err(|e| CodecError::Malformed {
        kind,
        cause: mask(&e),
    })
}

/// serde quotes wrong values in quotation marks or backticks; what stands there may be a secret in
/// the wrong field, so nothing quoted is kept but the name of a missing field, which is ours.
fn mask(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let quote = |c| c == '"' || c == '`';
    let masked = match (text.find(quote), text.rfind(quote)) {
        (Some(first), Some(last)) if !text.starts_with("missing field") => {
            format!("{}…{}", &text[..first], &text[last + 1..])
        }
        _ => text,
    };
    masked.chars().take(CAUSE_CHARS_MAX).collect()
}

/// Takes messages out of a stream of bytes as they come. It holds one message at most and takes no
/// byte behind the message that it returns.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    poisoned: bool,
}

impl Decoder {
    /// An empty decoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes from the front of `input` what the current message needs and returns the message when
    /// it is complete; `None` when `input` is used up before.
    ///
    /// # Errors
    /// See [`CodecError`]. After an error the stream has lost its frame: every later call fails.
    pub fn next<M: Message>(&mut self, input: &mut &[u8]) -> Result<Option<M>, CodecError> {
        if self.poisoned {
            return Err(CodecError::Poisoned);
        }
        let result = self.advance(input);
        self.poisoned = result.is_err();
        result
    }

    /// Whether a message has begun and is not complete: the end of the stream would cut it.
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    fn advance<M: Message>(&mut self, input: &mut &[u8]) -> Result<Option<M>, CodecError> {
        self.fill(input, PREFIX_BYTES);
        let Some(prefix) = self.buffer.first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let end = PREFIX_BYTES + body_length(*prefix)?;
        self.fill(input, end);
        if self.buffer.len() < end {
            return Ok(None);
        }
        let message = decode(&self.buffer[PREFIX_BYTES..])?;
        self.buffer.clear();
        // A session whose one large message was a policy doesn't keep 64 KiB for its heartbeats.
        self.buffer.shrink_to(BUFFER_KEPT_BYTES);
        Ok(Some(message))
    }

    /// Moves bytes from `input` until the buffer holds `wanted`.
    fn fill(&mut self, input: &mut &[u8], wanted: usize) {
        let missing = wanted.saturating_sub(self.buffer.len()).min(input.len());
        let (taken, rest) = input.split_at(missing);
        self.buffer.extend_from_slice(taken);
        *input = rest;
    }
}
