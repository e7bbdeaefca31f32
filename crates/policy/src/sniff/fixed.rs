//! Protocols that a few fixed bytes tell: SSH, RDP and the preface of HTTP/2.

use super::bytes::{Told, begins, byte, must};
use super::{First, Looked, Protocol};

/// What an HTTP/2 client says that knows the server speaks it, RFC 9113.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
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
