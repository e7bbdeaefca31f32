//! The client's side of a connection: the tunnel's stream, or TLS over it that the agent terminates.
//!
//! Must never: hand on bytes of a client whose handshake failed.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use portcullis_model::{Code, Error};
use portcullis_net::channel::{AbortHandle, TunnelStream};
use portcullis_net::defaults::TLS_END_TIMEOUT;
use portcullis_net::relay::{Plain, RelayIo};
use portcullis_net::tls::{Handshake, TlsServer, terminate};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, timeout_at};

use crate::defaults;
use crate::termination::Terminating;

/// What the client says and is told.
pub(crate) enum Client {
    /// As it comes through the tunnel.
    Plain(TunnelStream),
    /// In the clear, behind TLS.
    Tls(TlsServer<TunnelStream>),
}

impl Client {
    /// The tunnel's stream, to be settled. `whole`: both directions came to their end.
    pub(crate) async fn into_stream(self, whole: bool) -> TunnelStream {
        match self {
            Self::Plain(stream) => stream,
            // The edge calls it whole when it has seen the client's own end, which may be a moment away.
            Self::Tls(tls) if whole => tls.into_ended(Instant::now() + TLS_END_TIMEOUT).await,
            Self::Tls(tls) => tls.into_inner(),
        }
    }

    /// Like [`RelayIo::reset`], and tells the edge why.
    pub(crate) fn reset_with(&mut self, why: &Error) {
        self.stream_mut().reset_with(why);
    }

    /// Ends it from elsewhere.
    pub(crate) fn abort_handle(&self) -> AbortHandle {
        match self {
            Self::Plain(stream) => stream.abort_handle(),
            Self::Tls(tls) => tls.get_ref().abort_handle(),
        }
    }

    fn stream_mut(&mut self) -> &mut TunnelStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => tls.get_mut(),
        }
    }
}

/// A client that could not be spoken TLS with: its stream, which has been told to reset, and why.
pub(crate) struct Insecure {
    pub(crate) stream: Option<TunnelStream>,
    pub(crate) error: Error,
}

/// Terminates the client's TLS. `first` is what it said before there was a stream.
pub(crate) async fn secure(
    mut stream: TunnelStream,
    first: Bytes,
    with: &Terminating,
) -> Result<(Client, Handshake), Insecure> {
    let deadline = Instant::now() + defaults::CLIENT_TLS_TIMEOUT;
    let mut ahead = first.to_vec();
    let asked = async {
        timeout_at(deadline, answer_postgres(&mut stream, &mut ahead))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    };
    let error = match (asked.await, with.current()) {
        (Ok(()), Ok(terminator)) => match terminate(stream, ahead, &terminator, deadline).await {
            Ok((tls, handshake)) => return Ok((Client::Tls(tls), handshake)),
            Err(refused) => {
                return Err(insecure(refused.io, refused.error));
            }
        },
        (Ok(()), Err(error)) => error,
        (Err(error), _) => {
            let text = "the TLS handshake with the client failed: it did not begin one";
            Error::new(Code::TlsHandshake, text).with_internal(error)
        }
    };
    Err(insecure(Some(stream), error))
}

fn insecure(mut stream: Option<TunnelStream>, error: Error) -> Insecure {
    if let Some(stream) = &mut stream {
        stream.reset_with(&error);
    }
    Insecure { stream, error }
}

/// Length and code of PostgreSQL's SSLRequest.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// Length and code of its GSSENCRequest.
const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

/// A PostgreSQL client asks before it speaks TLS, and perhaps for another encryption before that. No TLS record
/// begins with a zero, so that only it is waited for longer than for a byte.
async fn answer_postgres<IO: AsyncRead + AsyncWrite + Unpin>(
    io: &mut IO,
    ahead: &mut Vec<u8>,
) -> io::Result<()> {
    // Twice GSSENCRequest is no client that means well; its third is no TLS record.
    for _ in 0..2 {
        while ahead.is_empty() || (ahead[0] == 0 && ahead.len() < SSL_REQUEST.len()) {
            let mut some = [0; 1024];
            match io.read(&mut some).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => ahead.extend_from_slice(&some[..read]),
            }
        }
        let answer: &[u8; 1] = match ahead.get(..SSL_REQUEST.len()) {
            Some(request) if request == SSL_REQUEST => b"S",
            Some(request) if request == GSSENC_REQUEST => b"N",
            _ => return Ok(()),
        };
        ahead.drain(..SSL_REQUEST.len());
        io.write_all(answer).await?;
        io.flush().await?;
        if answer == b"S" {
            return Ok(());
        }
    }
    Ok(())
}

/// Runs the same on whatever is inside.
macro_rules! each {
    ($self:ident, $io:ident => $call:expr) => {
        match $self.get_mut() {
            Client::Plain($io) => $call,
            Client::Tls($io) => $call,
        }
    };
}

impl AsyncRead for Client {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Client {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => Pin::new(io).poll_shutdown(cx))
    }
}

impl RelayIo for Client {
    fn reset(&mut self) {
        self.stream_mut().reset();
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match self {
            Self::Plain(stream) => stream.poll_broken(cx),
            Self::Tls(tls) => tls.poll_broken(cx),
        }
    }

    fn plain(&mut self) -> Option<&mut dyn Plain> {
        match self {
            Self::Plain(stream) => stream.plain(),
            Self::Tls(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn asked(parts: &[&[u8]], ahead: &[u8]) -> (io::Result<()>, Vec<u8>, Vec<u8>) {
        let (mut near, mut far) = tokio::io::duplex(64);
        let mut ahead = ahead.to_vec();
        let say = async {
            for part in parts {
                far.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
            far.shutdown().await.unwrap();
        };
        let (result, ()) = tokio::join!(answer_postgres(&mut near, &mut ahead), say);
        drop(near);
        let mut answers = Vec::new();
        far.read_to_end(&mut answers).await.unwrap();
        (result, ahead, answers)
    }

    #[tokio::test]
    async fn postgres_is_answered_at_every_split() {
        let whole = [&GSSENC_REQUEST[..], &SSL_REQUEST, b"\x16\x03\x01"].concat();
        for split in 0..=whole.len() {
            let (before, behind) = whole.split_at(split);
            let (result, mut ahead, answers) = asked(&[behind], before).await;
            result.unwrap();
            assert_eq!(answers, b"NS");
            ahead.truncate(3);
            assert!(b"\x16\x03\x01".starts_with(&ahead));
        }
    }

    #[tokio::test]
    async fn what_is_not_postgres_is_left_alone() {
        for said in [
            &b"\x16\x03\x01"[..],
            b"GET /",
            b"\0\0\0\x10\x04\xd2\x16\x2e123",
        ] {
            let (result, ahead, answers) = asked(&[], said).await;
            result.unwrap();
            assert_eq!((ahead.as_slice(), answers.len()), (said, 0));
        }
        let (result, _, _) = asked(&[b"\0\0"], b"").await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
