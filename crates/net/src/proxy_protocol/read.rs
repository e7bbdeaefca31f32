//! Taking a header's bytes from a socket, exactly.

use std::io;

use portcullis_model::Error;
use tokio::net::TcpStream;

use super::encode::V2_SIGNATURE;
use super::invalid;
use crate::defaults::{PROXY_HEADER_BYTES_MAX, PROXY_V1_BYTES_MAX};

/// Reads one header. The first byte says which form it is; v2 says its length, and v1 ends with its
/// line, which is looked for before it is taken.
pub(super) async fn header(stream: &TcpStream) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(64);
    take(stream, &mut bytes, 1).await?;
    if bytes[0] == V2_SIGNATURE[0] {
        take(stream, &mut bytes, 15).await?;
        let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
        if !bytes.starts_with(&V2_SIGNATURE) {
            return Err(invalid("it starts with neither form's signature"));
        }
        if 16 + length > PROXY_HEADER_BYTES_MAX {
            return Err(invalid(format_args!(
                "it is longer than {PROXY_HEADER_BYTES_MAX} bytes"
            )));
        }
        take(stream, &mut bytes, length).await?;
        return Ok(bytes);
    }
    if bytes[0] != b'P' {
        return Err(invalid("it starts with neither form's signature"));
    }
    line(stream, &mut bytes).await?;
    Ok(bytes)
}

/// Reads to the end of the line.
async fn line(stream: &TcpStream, bytes: &mut Vec<u8>) -> Result<(), Error> {
    let mut ahead = [0; PROXY_V1_BYTES_MAX];
    while bytes.len() < PROXY_V1_BYTES_MAX {
        let room = PROXY_V1_BYTES_MAX - bytes.len();
        let seen = stream.peek(&mut ahead[..room]).await.map_err(invalid)?;
        if seen == 0 {
            return Err(invalid("the connection ended inside it"));
        }
        // Whatever stands before the line's end is the header's, so it may be taken at once.
        let end = ahead[..seen].iter().position(|byte| *byte == b'\n');
        take(stream, bytes, end.map_or(seen, |at| at + 1)).await?;
        if end.is_some() {
            return Ok(());
        }
    }
    Err(invalid(format_args!(
        "its line is longer than {PROXY_V1_BYTES_MAX} bytes"
    )))
}

/// Reads exactly `count` more bytes.
async fn take(stream: &TcpStream, bytes: &mut Vec<u8>, count: usize) -> Result<(), Error> {
    let mut at = bytes.len();
    bytes.resize(at + count, 0);
    while at < bytes.len() {
        stream.readable().await.map_err(invalid)?;
        match stream.try_read(&mut bytes[at..]) {
            Ok(0) => return Err(invalid("the connection ended inside it")),
            Ok(n) => at += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(invalid(error)),
        }
    }
    Ok(())
}
