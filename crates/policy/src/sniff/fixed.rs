//! Protocols that a few fixed bytes tell: SSH, SQL Server, RDP and the preface of HTTP/2.

use super::bytes::{Told, begins, byte, must};
use super::{First, Looked, Protocol};

/// What an HTTP/2 client says that knows the server speaks it, RFC 9113.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// TDS: the type of a pre-login packet.
const PRELOGIN: u8 = 0x12;
/// TDS: the shortest pre-login packet, of the header (8), the option VERSION (5), the end of the options (1) and a
/// version (6).
const PRELOGIN_BYTES_MIN: u16 = 20;
/// TDS: the longest packet of any kind.
const PRELOGIN_BYTES_MAX: u16 = 32_767;
/// X.224: a connection request.
const CONNECTION_REQUEST: u8 = 0xe0;
/// The shortest TPKT with a connection request: 4 bytes of its own, and 7.
const RDP_BYTES_MIN: u16 = 11;
/// The longest: 4 bytes of its own, the length of the request, and that.
const RDP_BYTES_MAX: u16 = 4 + 1 + 254;

/// SSH: the client's identification, RFC 4253.
pub(super) fn ssh(bytes: &[u8], _ended: bool) -> Told<Looked> {
    begins(bytes, b"SSH-")?;
    Ok(Looked::Found(First::of(Protocol::Ssh)))
}

/// HTTP/2 without an upgrade from HTTP/1.1. Its hosts are compressed, and not read.
pub(super) fn http2(bytes: &[u8], _ended: bool) -> Told<Looked> {
    begins(bytes, PREFACE)?;
    Ok(Looked::Found(First::of(Protocol::Http)))
}

/// SQL Server: one packet of pre-login options, whose first is the version (MS-TDS 2.2.6.5).
pub(super) fn mssql(bytes: &[u8], _ended: bool) -> Told<Looked> {
    must(byte(bytes, 0)? == PRELOGIN)?;
    // "End of message". A pre-login never needs a second packet.
    must(byte(bytes, 1)? == 1)?;
    let length = u16::from_be_bytes([byte(bytes, 2)?, byte(bytes, 3)?]);
    must((PRELOGIN_BYTES_MIN..=PRELOGIN_BYTES_MAX).contains(&length))?;
    must(byte(bytes, 8)? == 0)?;
    Ok(Looked::Found(First::of(Protocol::Mssql)))
}

/// RDP: a connection request of X.224 in a TPKT (MS-RDPBCGR 2.2.1.1).
pub(super) fn rdp(bytes: &[u8], _ended: bool) -> Told<Looked> {
    begins(bytes, &[3, 0])?;
    must(byte(bytes, 2)? <= (RDP_BYTES_MAX >> 8) as u8)?;
    let length = u16::from_be_bytes([byte(bytes, 2)?, byte(bytes, 3)?]);
    must((RDP_BYTES_MIN..=RDP_BYTES_MAX).contains(&length))?;
    must(u16::from(byte(bytes, 4)?) + 5 == length)?;
    must(byte(bytes, 5)? == CONNECTION_REQUEST)?;
    // The destination's reference, and class 0.
    must(byte(bytes, 6)? == 0)?;
    must(byte(bytes, 7)? == 0)?;
    must(byte(bytes, 10)? == 0)?;
    // Industrial controllers begin alike, but name the ends of the transport in X.224's own parameters.
    if length > RDP_BYTES_MIN {
        must(!matches!(byte(bytes, 11)?, 0xc0..=0xc2))?;
    }
    Ok(Looked::Found(First::of(Protocol::Rdp)))
}
