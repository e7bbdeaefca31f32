//! Minecraft (Java edition): the handshake, and the server list's ping of clients before 1.7.

use super::bytes::{Reader, Stop, Told, begins, byte, must, varint};
use super::{First, Looked, Protocol, host};

/// Longest handshake. A host has at most 255 characters, but proxies append addresses, an id and a signed skin.
const HANDSHAKE_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a handshake behind the host: a port and what comes next.
const TAIL_BYTES: usize = 3;
/// The ping of old, and the byte that came to it with 1.4.
const PING: u8 = 0xfe;
const PING_AGAIN: u8 = 0x01;
/// What follows them from 1.6 on: a message on a channel of this name, in UTF-16.
const PING_HOST: &[u8] = b"\xfe\x01\xfa\0\x0b\0M\0C\0|\0P\0i\0n\0g\0H\0o\0s\0t";
/// Most bytes of that message behind the name: its length, a version, the host in UTF-16 and a port.
const PING_REST_BYTES_MAX: usize = 2 + 1 + 2 + 2 * 255 + 4;

pub(super) fn look(bytes: &[u8], ended: bool) -> Told<Looked> {
    if byte(bytes, 0)? != PING {
        return handshake(bytes);
    }
    match bytes.get(1) {
        // Clients before 1.4 send just this and wait.
        None if ended => found(None),
        None => Err(Stop::More),
        Some(&PING_AGAIN) => match bytes.get(2) {
            // As do those before 1.6.
            None if ended => found(None),
            None => Err(Stop::More),
            Some(0xfa) => ping_host(bytes, ended),
            Some(_) => handshake(bytes),
        },
        Some(_) => handshake(bytes),
    }
}

/// Length, packet 0, the protocol's version, host, port, and what comes next: status, login or transfer.
fn handshake(bytes: &[u8]) -> Told<Looked> {
    let (length, taken) = varint(bytes, 2)?;
    // The packet's number, a version of 1 byte, an empty host, and the tail.
    must((1 + 1 + 1 + TAIL_BYTES..=HANDSHAKE_BYTES_MAX).contains(&length))?;
    let whole = taken + length;
    must(byte(bytes, taken)? == 0)?;
    let at = taken + 1;
    let at = at + version_bytes(&bytes[at..])?;
    let (host_bytes, taken) = varint(&bytes[at..], 2)?;
    let at = at + taken;
    must(at + host_bytes + TAIL_BYTES == whole)?;
    let next = byte(bytes, whole - 1)?;
    must(matches!(next, 1..=3))?;
    found(player_wrote(&bytes[at..at + host_bytes]))
}

/// How many bytes the protocol's version takes: at most five, as snapshots set a high bit.
fn version_bytes(bytes: &[u8]) -> Told<usize> {
    for at in 0..5 {
        if byte(bytes, at)? & 0x80 == 0 {
            return Ok(at + 1);
        }
    }
    Err(Stop::Not)
}

/// The host without what was appended: mods (`\0FML2\0`) and proxies put a zero byte first, others three slashes.
fn player_wrote(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0);
    let bytes = &bytes[..end.unwrap_or(bytes.len())];
    let end = bytes.windows(3).position(|three| three == b"///");
    host::name_or_address(&bytes[..end.unwrap_or(bytes.len())])
}

/// The ping of 1.6, which names the host. It is one from its third byte on, whatever follows.
fn ping_host(bytes: &[u8], ended: bool) -> Told<Looked> {
    let name = begins(bytes, PING_HOST).and_then(|()| {
        let rest = &bytes[PING_HOST.len()..];
        let length = usize::from(u16::from_be_bytes([byte(rest, 0)?, byte(rest, 1)?]));
        must(length + 2 <= PING_REST_BYTES_MAX)?;
        if rest.len() < 2 + length {
            return Err(Stop::More);
        }
        utf16_host(&rest[2..2 + length]).ok_or(Stop::Not)
    });
    match name {
        Ok(name) => found(Some(name)),
        Err(Stop::More) if !ended => Err(Stop::More),
        Err(Stop::More | Stop::Not) => found(None),
    }
}

/// The host of a version, a host and a port.
fn utf16_host(bytes: &[u8]) -> Option<String> {
    let mut reader = Reader(bytes);
    reader.one()?;
    let characters = reader.two()?;
    let text = reader.take(2 * characters)?;
    reader.take(4)?;
    // Names of hosts are ASCII: every other byte is zero.
    let ascii: Option<Vec<u8>> = text
        .chunks_exact(2)
        .map(|pair| (pair[0] == 0).then_some(pair[1]))
        .collect();
    host::name_or_address(&ascii?)
}

fn found(minecraft_host: Option<String>) -> Told<Looked> {
    Ok(Looked::Found(First {
        minecraft_host,
        ..First::of(Protocol::Minecraft)
    }))
}
