//! PostgreSQL: what a client says first, which has a length and a code and no type.

use super::bytes::{Stop, Told, byte, must};
use super::{Asked, CancelKey, First, Front, Looked, Protocol, tls};

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

/// A request for encryption is answered, and what follows it is looked at again: TLS is possible, GSSAPI is not.
pub(super) fn look(bytes: &[u8], ended: bool) -> Told<Looked> {
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
        CANCEL if CANCEL_BYTES.contains(&length) => cancel(bytes, length as usize, ended),
        TLS if length == REQUEST_BYTES => Ok(answer(b"S", Asked::Tls)),
        GSSAPI if length == REQUEST_BYTES => Ok(answer(b"N", Asked::Gssapi)),
        _ => Err(Stop::Not),
    }
}

fn answer(say: &'static [u8], then: Asked) -> Looked {
    Looked::Answer {
        taken: REQUEST_BYTES as usize,
        say,
        then,
    }
}

/// The key of a request to cancel, if all of it is there.
fn cancel(bytes: &[u8], length: usize, ended: bool) -> Told<Looked> {
    let mut first = First::of(Protocol::Postgres);
    match bytes.get(REQUEST_BYTES as usize..length) {
        Some([a, b, c, d, key @ ..]) => {
            first.cancel = Some(CancelKey {
                process: u32::from_be_bytes([*a, *b, *c, *d]),
                key: key.to_vec(),
            });
        }
        _ if !ended => return Err(Stop::More),
        _ => {}
    }
    Ok(Looked::Found(first))
}

/// What follows an answer. It is PostgreSQL whatever it is.
pub(super) fn behind(bytes: &[u8], ended: bool, asked: Asked) -> Looked {
    let plain = First::of(Protocol::Postgres);
    let front = || First {
        front: Front::Postgres,
        ..plain.clone()
    };
    let looked = match asked {
        // One who was told to go ahead asks for nothing more, and begins with TLS.
        Asked::Tls => tls::look(bytes, ended),
        Asked::Nothing | Asked::Gssapi => look(bytes, ended),
    };
    match (looked, asked) {
        (Ok(Looked::Found(first)), Asked::Tls) => Looked::Found(First {
            sni: first.sni,
            alpn: first.alpn,
            ..front()
        }),
        // It was answered that before.
        (Ok(Looked::Answer { then, .. }), _) if then == asked => Looked::Found(plain),
        (Ok(looked), _) => looked,
        (Err(Stop::More), _) if !ended => Looked::More,
        // Its ClientHello may still come.
        (Err(Stop::More), Asked::Tls) => Looked::Found(front()),
        (Err(_), _) => Looked::Found(plain),
    }
}
