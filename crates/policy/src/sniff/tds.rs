//! SQL Server (TDS): the pre-login of a client, and TLS that lies in packets of that type.

use super::bytes::{Stop, Told, byte, must};
use super::{First, Looked, Protocol, tls};

/// The type of a pre-login packet; TLS behind the pre-login lies in packets of the same type.
const PRELOGIN: u8 = 0x12;
/// The status "end of message". A pre-login never needs a second packet.
const END_OF_MESSAGE: u8 = 1;
/// A packet's header.
const HEADER_BYTES: usize = 8;
/// The shortest packet that is looked into: the header (8), the option VERSION (5), the end of the options (1) and a
/// version (6). Packets with TLS in them are longer still.
const PACKET_BYTES_MIN: u16 = 20;
/// The longest packet of any kind.
const PACKET_BYTES_MAX: u16 = 32_767;
/// Most packets of one ClientHello. Clients send packets of 4,096 bytes, so the first usually holds all of it.
const PACKETS_MAX: usize = 16;
/// Most bytes of them that are looked into: they are copied each time.
const WITHIN_BYTES_MAX: usize = 16 * 1024;
/// The first byte of a record of TLS with a handshake in it.
const HANDSHAKE: u8 = 0x16;
/// The first option of a pre-login: VERSION.
const VERSION: u8 = 0;

/// One packet of pre-login options, whose first is the version (MS-TDS 2.2.6.5), or TLS in such packets (2.2.6.5,
/// "PRELOGIN TLS").
pub(super) fn look(bytes: &[u8], ended: bool) -> Told<Looked> {
    packet(bytes)?;
    match byte(bytes, HEADER_BYTES)? {
        VERSION => {
            must(byte(bytes, 1)? == END_OF_MESSAGE)?;
            Ok(Looked::Found(First::of(Protocol::Mssql)))
        }
        HANDSHAKE => within(bytes, ended),
        _ => Err(Stop::Not),
    }
}

/// The length of the packet that begins here, with its header.
fn packet(bytes: &[u8]) -> Told<usize> {
    must(byte(bytes, 0)? == PRELOGIN)?;
    must(byte(bytes, 1)? <= END_OF_MESSAGE)?;
    let length = u16::from_be_bytes([byte(bytes, 2)?, byte(bytes, 3)?]);
    must((PACKET_BYTES_MIN..=PACKET_BYTES_MAX).contains(&length))?;
    Ok(usize::from(length))
}

/// The ClientHello in the packets that begin here.
fn within(bytes: &[u8], ended: bool) -> Told<Looked> {
    let mut inner = Vec::new();
    let mut rest = bytes;
    // Too much came, or a packet follows that is none: then what is there is all of it.
    let mut over = false;
    for left in (0..PACKETS_MAX).rev() {
        let length = match packet(rest) {
            Ok(length) => length,
            Err(Stop::More) => break,
            Err(Stop::Not) => {
                over = true;
                break;
            }
        };
        let content = rest.get(HEADER_BYTES..length.min(rest.len()));
        inner.extend_from_slice(content.unwrap_or_default());
        let Some(behind) = rest.get(length..) else {
            break;
        };
        // A ClientHello that is whole needs no packet behind it.
        if tls::look(&inner, false) != Err(Stop::More) {
            break;
        }
        over = left == 0 || inner.len() > WITHIN_BYTES_MAX;
        if over {
            break;
        }
        rest = behind;
    }
    let Looked::Found(first) = tls::look(&inner, ended || over)? else {
        return Err(Stop::Not);
    };
    Ok(Looked::Found(First {
        protocol: Protocol::Mssql,
        ..first
    }))
}
