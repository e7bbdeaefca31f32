//! HTTP CONNECT (RFC 9110, section 9.3.6).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis_model::Secret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::defaults::HTTP_CONNECT_ANSWER_BYTES_MAX;

/// What ends an answer's head.
const END: &[u8] = b"\r\n\r\n";

/// Asks the proxy for a tunnel. Not a byte behind its answer's head is taken; what went wrong comes
/// back as a text without secrets.
pub(super) async fn connect(
    mut stream: TcpStream,
    server: &str,
    login: Option<&(String, Secret)>,
) -> Result<TcpStream, String> {
    let authorization = login.map_or_else(String::new, |(user, password)| {
        let both = STANDARD.encode(format!("{user}:{}", password.expose()));
        format!("Proxy-Authorization: Basic {both}\r\n")
    });
    let request = format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n{authorization}\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(|error| error.to_string())?;
    let head = head(&mut stream).await?;
    match status(&head) {
        Some(200..=299) => Ok(stream),
        Some(407) => Err("it wants a user and password, or others than these".to_owned()),
        Some(status) => Err(format!("it answered with status {status}")),
        None => Err("it does not speak HTTP".to_owned()),
    }
}

/// Reads to the empty line. What is peeked at is taken only up to there.
async fn head(stream: &mut TcpStream) -> Result<Vec<u8>, String> {
    let mut head = Vec::new();
    let mut ahead = [0; 1024];
    while head.len() < HTTP_CONNECT_ANSWER_BYTES_MAX {
        let seen = stream
            .peek(&mut ahead)
            .await
            .map_err(|error| error.to_string())?;
        if seen == 0 {
            return Err("it closed the connection".to_owned());
        }
        let start = head.len();
        head.extend_from_slice(&ahead[..seen]);
        let from = start.saturating_sub(END.len() - 1);
        let end = head[from..]
            .windows(END.len())
            .position(|four| four == END)
            .map(|at| from + at + END.len());
        let take = end.unwrap_or(head.len()) - start;
        stream
            .read_exact(&mut ahead[..take])
            .await
            .map_err(|error| error.to_string())?;
        if let Some(end) = end {
            head.truncate(end);
            return Ok(head);
        }
    }
    Err("its answer is too long".to_owned())
}

/// The number in `HTTP/1.1 200 Connection established`.
pub(super) fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    line.strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()
}
