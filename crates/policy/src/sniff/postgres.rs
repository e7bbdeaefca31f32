//! PostgreSQL: what a client says first, which has a length and a code and no type.

use super::bytes::{Stop, Told, byte, must};
use super::{First, Looked, Protocol};

/// Longest first message that a server takes (`MAX_STARTUP_PACKET_LENGTH`).
const BYTES_MAX: u32 = 10_000;
/// The high half of codes that are requests and no version.
const REQUEST: u16 = 1234;
/// Their low halves.
const CANCEL: u16 = 5678;
const TLS: u16 = 5679;
const GSSAPI: u16 = 5680;
/// The high half of the code of a startup message: version 3.
const VERSION: u16 = 3;
/// Length of a request for encryption.
const REQUEST_BYTES: u32 = 8;
/// Length of a request to cancel: with a key of 4 bytes until version 3.0, of at most 256 from 3.2.
const CANCEL_BYTES: std::ops::RangeInclusive<u32> = 16..=12 + 256;
/// The shortest startup message: length, version and the end of the parameters.
const STARTUP_BYTES_MIN: u32 = 9;

/// A request for encryption is refused, and what follows it is looked at again.
pub(super) fn look(bytes: &[u8], _ended: bool) -> Told<Looked> {
    must(byte(bytes, 0)? == 0)?;
    must(byte(bytes, 1)? == 0)?;
    must(u32::from(byte(bytes, 2)?) <= BYTES_MAX >> 8)?;
    let length = u32::from(byte(bytes, 2)?) << 8 | u32::from(byte(bytes, 3)?);
    must((REQUEST_BYTES..=BYTES_MAX).contains(&length))?;

    let highs = [VERSION, REQUEST].map(u16::to_be_bytes);
    let first = byte(bytes, 4)?;
    must(highs.iter().any(|high| high[0] == first))?;
    let high = u16::from_be_bytes([first, byte(bytes, 5)?]);
    must(high == REQUEST || (high == VERSION && length >= STARTUP_BYTES_MIN))?;
    if high == VERSION {
        // The version's low half may be any: a server answers with the one that it knows.
        byte(bytes, 7)?;
        return Ok(Looked::Found(First::of(Protocol::Postgres)));
    }
    must(byte(bytes, 6)? == CANCEL.to_be_bytes()[0])?;
    let low = u16::from_be_bytes([byte(bytes, 6)?, byte(bytes, 7)?]);
    match low {
        CANCEL if CANCEL_BYTES.contains(&length) => {
            Ok(Looked::Found(First::of(Protocol::Postgres)))
        }
        TLS | GSSAPI if length == REQUEST_BYTES => Ok(Looked::Answer {
            taken: REQUEST_BYTES as usize,
            say: b"N",
        }),
        _ => Err(Stop::Not),
    }
}
