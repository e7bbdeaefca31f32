//! Minecraft, Java edition: as much of a server as a status ping and a login take, and a client for both. The
//! game's own server is not free to be passed on.
//!
//! Packets are a length, a number, and fields; numbers are of 7 bits a byte, the lowest first (wiki.vg, 763).

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::traffic::Upstream;

/// The protocol's version.
const VERSION: u32 = 763;
/// Longest packet that is read.
const PACKET_MAX: u32 = 4096;

/// A server that tells its name in its status, and lets everybody in.
pub struct Minecraft {
    /// Where it listens.
    pub upstream: Upstream,
}

impl Minecraft {
    /// Starts it.
    pub async fn start(name: &'static str) -> Self {
        let upstream = Upstream::serve(move |mut stream| async move {
            // An error is a client that went; it says so itself.
            drop(serve(&mut stream, name).await);
        })
        .await;
        Self { upstream }
    }
}

/// The status that a server tells, as a player's list shows it: JSON.
///
/// # Errors
/// Whatever the socket says, or that the answer is none.
pub async fn status(at: SocketAddr, host: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at).await?;
    stream.write_all(&handshake(host, at.port(), 1)).await?;
    stream.write_all(&packet(0, &[])).await?;
    let told = expect(&mut stream, 0).await?;
    let text = text(&mut &*told).ok_or(std::io::ErrorKind::InvalidData)?;
    let moment = 1_234_567_u64.to_be_bytes();
    stream.write_all(&packet(1, &moment)).await?;
    let pong = expect(&mut stream, 1).await?;
    if pong != moment {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    Ok(text)
}

/// Logs a player in; the name under which the server knows them.
///
/// # Errors
/// Whatever the socket says, or that the answer is none.
pub async fn login(at: SocketAddr, host: &str, player: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at).await?;
    // In one segment with what follows, as some clients send it.
    let mut said = handshake(host, at.port(), 2);
    let mut start = written(player);
    start.push(0); // without an id
    said.extend(packet(0, &start));
    stream.write_all(&said).await?;
    let success = expect(&mut stream, 2).await?;
    let mut rest = success.get(16..).unwrap_or_default();
    text(&mut rest).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

async fn serve(stream: &mut TcpStream, name: &str) -> std::io::Result<()> {
    let hello = expect(stream, 0).await?;
    let next = hello.last().copied();
    if next == Some(2) {
        let start = expect(stream, 0).await?;
        let player = text(&mut &*start).ok_or(std::io::ErrorKind::InvalidData)?;
        let mut success = vec![7; 16];
        success.extend(written(&player));
        success.push(0); // no properties
        return stream.write_all(&packet(2, &success)).await;
    }
    expect(stream, 0).await?;
    let status = format!(
        "{{\"version\":{{\"name\":\"1.20.1\",\"protocol\":{VERSION}}},\"players\":{{\"max\":20,\"online\":0}},\
         \"description\":{{\"text\":\"{name}\"}}}}"
    );
    stream.write_all(&packet(0, &written(&status))).await?;
    let ping = expect(stream, 1).await?;
    stream.write_all(&packet(1, &ping)).await
}

fn handshake(host: &str, port: u16, next: u8) -> Vec<u8> {
    let mut fields = number(VERSION);
    fields.extend(written(host));
    fields.extend(port.to_be_bytes());
    fields.push(next);
    packet(0, &fields)
}

fn packet(id: u32, fields: &[u8]) -> Vec<u8> {
    let id = number(id);
    let length = u32::try_from(id.len() + fields.len()).expect("a short packet");
    [number(length), id, fields.to_vec()].concat()
}

fn number(mut n: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while n >= 0x80 {
        bytes.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}

fn written(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("a short text");
    [number(length), text.as_bytes().to_vec()].concat()
}

/// Takes a number off the front.
fn taken(bytes: &mut &[u8]) -> Option<u32> {
    let mut n = 0;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

fn text(bytes: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(taken(bytes)?).ok()?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    String::from_utf8(text.to_vec()).ok()
}

/// The fields of the next packet, which must have this number.
async fn expect(stream: &mut TcpStream, id: u32) -> std::io::Result<Vec<u8>> {
    let mut length = Vec::new();
    loop {
        let byte = stream.read_u8().await?;
        length.push(byte);
        if byte & 0x80 == 0 {
            break;
        }
    }
    let length = taken(&mut &*length).filter(|length| *length <= PACKET_MAX);
    let length = length.ok_or(std::io::ErrorKind::InvalidData)?;
    let mut packet = vec![0; length as usize];
    stream.read_exact(&mut packet).await?;
    let mut rest = packet.as_slice();
    match taken(&mut rest) {
        Some(found) if found == id => Ok(rest.to_vec()),
        _ => Err(std::io::ErrorKind::InvalidData.into()),
    }
}
