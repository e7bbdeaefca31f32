//! MQTT: the CONNECT packet of the versions 3.1, 3.1.1 and 5.

use super::bytes::{Stop, Told, begins, byte, must, varint};
use super::{First, Looked, Protocol};

/// The type of CONNECT, with its flags.
const CONNECT: u8 = 0x10;
/// The shortest rest of the packet: the protocol's name (6), level (1), flags (1), keep-alive (2) and an empty
/// client id (2).
const REST_BYTES_MIN: usize = 12;
/// A bridge between two servers says so in the level's highest bit.
const BRIDGE: u8 = 0x80;

pub(super) fn look(bytes: &[u8], _ended: bool) -> Told<Looked> {
    must(byte(bytes, 0)? == CONNECT)?;
    let (rest_bytes, taken) = varint(&bytes[1..], 4)?;
    must(rest_bytes >= REST_BYTES_MIN)?;
    let rest = &bytes[1 + taken..];
    let level = match (begins(rest, b"\0\x04MQTT"), begins(rest, b"\0\x06MQIsdp")) {
        (Ok(()), _) => byte(rest, 6)? & !BRIDGE,
        (_, Ok(())) => byte(rest, 8)? & !BRIDGE,
        (Err(Stop::Not), Err(Stop::Not)) => return Err(Stop::Not),
        _ => return Err(Stop::More),
    };
    must(match rest[1] {
        4 => matches!(level, 4 | 5),
        _ => level == 3,
    })?;
    Ok(Looked::Found(First::of(Protocol::Mqtt)))
}
