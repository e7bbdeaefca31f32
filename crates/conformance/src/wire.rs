//! What the cases do with one socket, each with a deadline: send a pattern, fill a path until nobody
//! takes more, receive and check, reset, wait for a broken connection.

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::pattern::Pattern;
use crate::verdict::{Stop, fail, size};

/// Bytes of one read or write.
const CHUNK: usize = 64 << 10;

/// What stands behind the last byte that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// FIN: the sender said that this is all.
    Clean,
    /// RST.
    Reset,
    /// The connection failed otherwise.
    Broken(io::ErrorKind),
    /// Nothing came for so long.
    Silent(Duration),
    /// A byte that does not belong there; its offset.
    Wrong(u64),
    /// Nothing was looked for: all that was asked for came.
    Open,
}

impl From<io::ErrorKind> for End {
    fn from(kind: io::ErrorKind) -> Self {
        match kind {
            // The kernel names a reset of a connection that had ended in one direction EPIPE.
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            kind => Self::Broken(kind),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean => write!(f, "a clean end"),
            Self::Reset => write!(f, "a reset"),
            Self::Broken(kind) => write!(f, "the error `{kind}`"),
            Self::Silent(time) => write!(f, "{time:?} of silence"),
            Self::Wrong(at) => write!(f, "a byte at {at} that does not belong there"),
            Self::Open => write!(f, "no end"),
        }
    }
}

/// What was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    /// Bytes that were right.
    pub(crate) bytes: u64,
    /// What came after them.
    pub(crate) end: End,
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {}", size(self.bytes), self.end)
    }
}

impl Received {
    /// All of it and a clean end, or the case fails. `who` received `what`.
    pub(crate) fn whole(self, bytes: u64, who: &str, what: &str) -> Result<(), Stop> {
        self.exactly(bytes, End::Clean, who, what)
    }

    /// Just that, or the case fails.
    pub(crate) fn exactly(self, bytes: u64, end: End, who: &str, what: &str) -> Result<(), Stop> {
        if (self.bytes, self.end) == (bytes, end) {
            return Ok(());
        }
        fail(format!(
            "{who} expected {} ({what}) and {end}; it saw {self}",
            size(bytes)
        ))
    }

    /// At most `sent` right bytes and then a reset, or the case fails.
    pub(crate) fn cut(self, sent: u64, who: &str) -> Result<(), Stop> {
        if self.bytes <= sent && self.end == End::Reset {
            return Ok(());
        }
        fail(format!(
            "{who} expected a part of {} and a reset; it saw {self}",
            size(sent)
        ))
    }
}

/// Writes all of `bytes`.
pub(crate) async fn write(stream: &TcpStream, bytes: &[u8], patience: Duration) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        timeout(patience, stream.writable())
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        match stream.try_write(rest) {
            Ok(n) => rest = &rest[n..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads what is there into `buffer`; 0 is a clean end.
pub(crate) async fn read(
    stream: &TcpStream,
    buffer: &mut [u8],
    patience: Duration,
) -> Result<usize, End> {
    loop {
        match timeout(patience, stream.readable()).await {
            Err(_) => return Err(End::Silent(patience)),
            Ok(Err(error)) => return Err(error.kind().into()),
            Ok(Ok(())) => {}
        }
        match stream.try_read(buffer) {
            Ok(n) => return Ok(n),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.kind().into()),
        }
    }
}

/// Sends `len` bytes of the pattern from `from` on.
pub(crate) async fn send(
    stream: &TcpStream,
    pattern: Pattern,
    from: u64,
    len: u64,
    patience: Duration,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut at = from;
    while at < from + len {
        let n = chunk(from + len - at);
        pattern.fill(at, &mut buffer[..n]);
        write(stream, &buffer[..n], patience).await?;
        at += n as u64;
    }
    Ok(())
}

/// Sends the pattern until nobody has taken a byte for `quiet`, or `max` bytes; how many were taken.
pub(crate) async fn fill(
    stream: &TcpStream,
    pattern: Pattern,
    max: u64,
    quiet: Duration,
) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut sent = 0;
    while sent < max {
        let n = chunk(max - sent);
        pattern.fill(sent, &mut buffer[..n]);
        match timeout(quiet, stream.writable()).await {
            Err(_) => break,
            Ok(ready) => ready?,
        }
        match stream.try_write(&buffer[..n]) {
            Ok(n) => sent += n as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

/// Receives the pattern from its beginning until something else comes.
pub(crate) async fn receive(stream: &TcpStream, pattern: Pattern, patience: Duration) -> Received {
    receive_part(stream, pattern, 0, u64::MAX, patience).await
}

/// Receives up to `len` bytes of the pattern from `from` on; after them it looks for nothing.
pub(crate) async fn receive_part(
    stream: &TcpStream,
    pattern: Pattern,
    from: u64,
    len: u64,
    patience: Duration,
) -> Received {
    let mut buffer = vec![0; CHUNK];
    let mut bytes = 0;
    while bytes < len {
        let n = chunk(len - bytes);
        match read(stream, &mut buffer[..n], patience).await {
            Ok(0) => {
                return Received {
                    bytes,
                    end: End::Clean,
                };
            }
            Err(end) => return Received { bytes, end },
            Ok(n) => {
                if let Some(at) = pattern.differs_at(from + bytes, &buffer[..n]) {
                    let end = End::Wrong(at);
                    return Received {
                        bytes: at - from,
                        end,
                    };
                }
                bytes += n as u64;
            }
        }
    }
    Received {
        bytes,
        end: End::Open,
    }
}

/// Receives whatever comes, up to its end.
pub(crate) async fn drain(stream: &TcpStream, patience: Duration) -> Received {
    let mut buffer = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        match read(stream, &mut buffer, patience).await {
            Ok(0) => {
                return Received {
                    bytes,
                    end: End::Clean,
                };
            }
            Err(end) => return Received { bytes, end },
            Ok(n) => bytes += n as u64,
        }
    }
}

/// Ends this side's bytes: FIN.
pub(crate) fn finish(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).shutdown(Shutdown::Write)
}

/// Ends the connection with RST, throwing away what was not sent.
pub(crate) fn reset(stream: TcpStream) -> io::Result<()> {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))
}

/// Whether the connection breaks within `patience`, found without reading or writing.
pub(crate) async fn breaks(stream: &TcpStream, patience: Duration) -> bool {
    let broken = async {
        loop {
            match stream.ready(Interest::ERROR).await {
                Ok(ready) if !ready.is_error() => {}
                _ => return,
            }
        }
    };
    timeout(patience, broken).await.is_ok()
}

/// The connection breaks within `patience`, or the case fails with what it saw instead.
pub(crate) async fn must_break(
    stream: &TcpStream,
    patience: Duration,
    who: &str,
    cause: &str,
) -> Result<(), Stop> {
    if breaks(stream, patience).await {
        return Ok(());
    }
    let then = drain(stream, patience.min(Duration::from_secs(1))).await;
    fail(format!(
        "{who} expected a reset ({cause}); nothing came for {patience:?}, and reading then gave {then}"
    ))
}

/// The step failed with an error of the socket.
pub(crate) fn failed<'a>(step: &'a str) -> impl Fn(io::Error) -> Stop + 'a {
    move |error| match error.kind() {
        io::ErrorKind::TimedOut => Stop::Fail(format!(
            "{step} should have worked; no byte was taken in time"
        )),
        kind => Stop::Fail(format!("{step} should have worked; it met `{kind}`")),
    }
}

fn chunk(left: u64) -> usize {
    usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_say_what_was_expected_and_what_was_seen() {
        let received = Received {
            bytes: 10,
            end: End::Clean,
        };
        assert_eq!(received.whole(10, "the client", "the reply"), Ok(()));
        let sentence = received
            .whole(1 << 10, "the client", "the reply")
            .map_err(|stop| stop.to_string());
        assert_eq!(
            sentence,
            Err("the client expected 1 KiB (the reply) and a clean end; it saw 10 B and a clean end".to_owned())
        );
    }

    #[test]
    fn a_cut_stream_is_a_prefix_and_a_reset() {
        let reset = |bytes| Received {
            bytes,
            end: End::Reset,
        };
        assert!(reset(5).cut(5, "x").is_ok());
        assert!(reset(6).cut(5, "x").is_err(), "more than was sent");
        let clean = Received {
            bytes: 5,
            end: End::Clean,
        };
        assert!(clean.cut(5, "x").is_err(), "a cut stream looks complete");
    }
}
