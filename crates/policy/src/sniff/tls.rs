//! TLS: the ClientHello, which may lie in several records, with the names in it.

use std::borrow::Cow;

use super::bytes::{Reader, Stop, Told, byte, must};
use super::{First, Looked, Protocol, host};

/// Longest content of a record, RFC 8446.
const RECORD_BYTES_MAX: usize = 16 * 1024;
/// Longest ClientHello, with the 4 bytes of its header.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Most records of a ClientHello. The smallest that OpenSSL cuts are 512 bytes; walking along 1,024 headers takes
/// microseconds.
pub(super) const RECORDS_MAX: usize = 1024;
/// Most protocols of ALPN that are kept.
const ALPN_MAX: usize = 64;
/// The header of a record.
const RECORD_HEADER_BYTES: usize = 5;
/// The header of a handshake message.
const MESSAGE_HEADER_BYTES: usize = 4;
/// A record's type.
const HANDSHAKE: u8 = 0x16;
/// A handshake message's type.
const CLIENT_HELLO: u8 = 1;
/// Types of extensions, RFC 6066 and 7301.
pub(super) const SERVER_NAME: usize = 0;
pub(super) const ALPN: usize = 16;

/// What begins a ClientHello is TLS. Names are read from one that is whole and valid; one that is too long or broken
/// has none.
pub(super) fn look(bytes: &[u8], ended: bool) -> Told<Looked> {
    record(bytes)?;
    must(byte(bytes, RECORD_HEADER_BYTES)? == CLIENT_HELLO)?;
    match whole(bytes) {
        Ok(length) => Ok(Looked::Found(
            names(&joined(bytes, length)).map_or_else(plain, named),
        )),
        Err(Stop::More) if !ended => Err(Stop::More),
        Err(Stop::More | Stop::Not) => Ok(Looked::Found(plain())),
    }
}

fn plain() -> First {
    First::of(Protocol::Tls)
}

/// Protocols that begin with TLS at once say by ALPN which they are: PostgreSQL from 17 on, SQL Server from TDS 8.0
/// on. The first one that the client offers counts.
fn named(mut first: First) -> First {
    let known = |name: &String| match name.as_str() {
        "postgresql" => Some(Protocol::Postgres),
        "tds/8.0" => Some(Protocol::Mssql),
        _ => None,
    };
    if let Some(protocol) = first.alpn.iter().find_map(known) {
        first.protocol = protocol;
    }
    first
}

/// The ClientHello that the bytes begin with, without its header, if it is whole.
pub(super) fn message(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    let length = whole(bytes).ok()?;
    (byte(bytes, RECORD_HEADER_BYTES) == Ok(CLIENT_HELLO)).then(|| joined(bytes, length))
}

/// The content's length of the record that begins here. Records without content are not allowed in a handshake.
fn record(bytes: &[u8]) -> Told<usize> {
    must(byte(bytes, 0)? == HANDSHAKE)?;
    must(byte(bytes, 1)? == 3)?;
    must(byte(bytes, 2)? <= 4)?;
    let high = byte(bytes, 3)?;
    must(usize::from(high) <= RECORD_BYTES_MAX >> 8)?;
    let length = usize::from(u16::from_be_bytes([high, byte(bytes, 4)?]));
    must((1..=RECORD_BYTES_MAX).contains(&length))?;
    Ok(length)
}

/// The length of the message, with its header, if all of it is there.
fn whole(bytes: &[u8]) -> Told<usize> {
    let mut header = [0; MESSAGE_HEADER_BYTES];
    let mut there = 0;
    let mut rest = bytes;
    for _ in 0..RECORDS_MAX {
        let length = record(rest)?;
        rest = &rest[RECORD_HEADER_BYTES..];
        let content = &rest[..length.min(rest.len())];
        for (to, from) in header.iter_mut().skip(there).zip(content) {
            *to = *from;
        }
        there += content.len();
        if there >= MESSAGE_HEADER_BYTES {
            let [_, high, middle, low] = header.map(usize::from);
            let message = MESSAGE_HEADER_BYTES + (high << 16 | middle << 8 | low);
            must(message <= MESSAGE_BYTES_MAX)?;
            if there >= message {
                return Ok(message);
            }
        }
        rest = rest.get(length..).ok_or(Stop::More)?;
    }
    Err(Stop::Not)
}

/// The message, which is known to be whole, without its header.
fn joined(bytes: &[u8], length: usize) -> Cow<'_, [u8]> {
    let first = &bytes[RECORD_HEADER_BYTES..];
    let content = record(bytes).unwrap_or_default();
    if content >= length {
        return Cow::Borrowed(&first[MESSAGE_HEADER_BYTES..length]);
    }
    let mut message = Vec::with_capacity(length);
    let mut rest = bytes;
    while message.len() < length {
        let Ok(content) = record(rest) else {
            break;
        };
        rest = &rest[RECORD_HEADER_BYTES..];
        let there = content.min(rest.len()).min(length - message.len());
        message.extend_from_slice(&rest[..there]);
        rest = &rest[content.min(rest.len())..];
    }
    message.drain(..MESSAGE_HEADER_BYTES.min(message.len()));
    Cow::Owned(message)
}

/// Reads the whole ClientHello. `None`: it is broken.
fn names(hello: &[u8]) -> Option<First> {
    let mut found = plain();
    let mut reader = Reader(hello);
    let version = reader.two()?;
    reader.take(32)?;
    let session = reader.short()?;
    let suites = reader.long()?;
    let compressions = reader.short()?;
    let is_valid = version >> 8 == 3
        && session.len() <= 32
        && !suites.is_empty()
        && suites.len() % 2 == 0
        && !compressions.is_empty();
    if !is_valid {
        return None;
    }
    if reader.is_empty() {
        return Some(found);
    }
    let mut extensions = Reader(reader.long()?);
    if !reader.is_empty() {
        return None;
    }
    let (mut server_names, mut protocols) = (0, 0);
    while !extensions.is_empty() {
        let kind = extensions.two()?;
        let content = extensions.long()?;
        match kind {
            SERVER_NAME => {
                server_names += 1;
                found.sni = server_name(content);
            }
            ALPN => {
                protocols += 1;
                found.alpn = alpn(content)?;
            }
            _ => {}
        }
    }
    // Of two extensions of one type, another reader may believe the other.
    (server_names <= 1 && protocols <= 1).then_some(found)
}

/// The name, if it is exactly one and a host's.
fn server_name(content: &[u8]) -> Option<String> {
    let mut reader = Reader(content);
    let mut list = Reader(reader.long()?);
    let kind = list.one()?;
    let name = list.long()?;
    (kind == 0 && list.is_empty() && reader.is_empty()).then_some(())?;
    host::name_only(name)
}

/// Printable names: clients offer some that are noise, so that servers don't trip over unknown ones (RFC 8701).
fn alpn(content: &[u8]) -> Option<Vec<String>> {
    let mut reader = Reader(content);
    let mut list = Reader(reader.long()?);
    let mut found = Vec::new();
    while !list.is_empty() {
        let name = list.short()?;
        let is_printable = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
        if is_printable && found.len() < ALPN_MAX {
            found.extend(std::str::from_utf8(name).ok().map(str::to_owned));
        }
    }
    reader.is_empty().then_some(found)
}
