//! The client's side as the rest of the connection sees it: a bare socket, or one with something in between
//! (TLS that is terminated here, a limit of bandwidth, a look for the key of a PostgreSQL backend).
//!
//! Must never: cost a bare socket more than a branch, or hide a cut stream as an end.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use portcullis_net::relay::Plain;
use portcullis_net::tls::TlsServer;
use portcullis_net::{RelayIo, TcpConn};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::cancel::Tap;
use crate::pace::Pacer;

/// A client's connection.
pub(crate) enum ClientIo {
    /// A socket whose bytes are the client's own: what most have, and what can be spliced.
    Plain(TcpConn),
    /// Boxed: only who pays for the layers makes room for them.
    Layered(Box<Layers>),
    /// It is in a handshake, which has it; or it was lost there.
    Away,
}

/// A socket, and what lies over it.
pub(crate) struct Layers {
    carrier: Carrier,
    pacer: Option<Pacer>,
    tap: Option<Tap>,
}

/// What carries the client's bytes in the clear.
enum Carrier {
    Tcp(TcpConn),
    Tls(TlsServer<TcpConn>),
}

impl ClientIo {
    /// The socket, out of which a handshake is to make something else; `None` where there is a layer already.
    pub(crate) fn take_plain(&mut self) -> Option<TcpConn> {
        match std::mem::replace(self, Self::Away) {
            Self::Plain(conn) => Some(conn),
            other => {
                *self = other;
                None
            }
        }
    }

    /// TLS is terminated from here on.
    pub(crate) fn set_tls(&mut self, stream: TlsServer<TcpConn>) {
        *self = Self::Layered(Box::new(Layers {
            carrier: Carrier::Tls(stream),
            pacer: None,
            tap: None,
        }));
    }

    /// Bytes go no faster than this from here on.
    pub(crate) fn set_pacer(&mut self, pacer: Pacer) {
        if let Some(layers) = self.layers() {
            layers.pacer = Some(pacer);
        }
    }

    /// What is written to it is looked at until a key was found.
    pub(crate) fn set_tap(&mut self, tap: Tap) {
        if let Some(layers) = self.layers() {
            layers.tap = Some(tap);
        }
    }

    /// The layers; a bare socket gets them, and a lost one has none.
    fn layers(&mut self) -> Option<&mut Layers> {
        if let Some(conn) = self.take_plain() {
            *self = Self::Layered(Box::new(Layers {
                carrier: Carrier::Tcp(conn),
                pacer: None,
                tap: None,
            }));
        }
        match self {
            Self::Layered(layers) => Some(layers),
            Self::Plain(_) | Self::Away => None,
        }
    }
}

/// Runs the same on whatever is inside.
macro_rules! each {
    ($self:expr, $io:ident => $call:expr, $away:expr) => {
        match $self {
            ClientIo::Plain($io) => $call,
            ClientIo::Layered($io) => $call,
            ClientIo::Away => $away,
        }
    };
}

/// The same for a layer's carrier.
macro_rules! carried {
    ($carrier:expr, $io:ident => $call:expr) => {
        match $carrier {
            Carrier::Tcp($io) => $call,
            Carrier::Tls($io) => $call,
        }
    };
}

fn lost() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl AsyncRead for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), io => Pin::new(io).poll_read(cx, buf), Poll::Ready(Err(lost())))
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), io => Pin::new(io).poll_write(cx, buf), Poll::Ready(Err(lost())))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(
            self.get_mut(),
            io => Pin::new(io).poll_write_vectored(cx, bufs),
            Poll::Ready(Err(lost()))
        )
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), io => Pin::new(io).poll_flush(cx), Poll::Ready(Err(lost())))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), io => Pin::new(io).poll_shutdown(cx), Poll::Ready(Err(lost())))
    }
}

impl RelayIo for ClientIo {
    fn reset(&mut self) {
        each!(self, io => io.reset(), ());
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        each!(self, io => io.poll_broken(cx), Poll::Ready(lost()))
    }

    fn drop_ends(&self) -> bool {
        each!(self, io => io.drop_ends(), false)
    }

    fn settle(&mut self) {
        each!(self, io => io.settle(), ());
    }

    fn plain(&mut self) -> Option<&mut dyn Plain> {
        each!(self, io => io.plain(), None)
    }
}

impl AsyncRead for Layers {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { carrier, pacer, .. } = self.get_mut();
        let Some(pacer) = pacer.as_mut().filter(|pacer| pacer.up.is_limited()) else {
            return carried!(carrier, io => Pin::new(io).poll_read(cx, buf));
        };
        let most = ready!(pacer.up.poll_turn(cx)).min(buf.remaining());
        let mut part = ReadBuf::new(&mut buf.initialize_unfilled()[..most]);
        ready!(carried!(carrier, io => Pin::new(io).poll_read(cx, &mut part)))?;
        let read = part.filled().len();
        buf.advance(read);
        pacer.up.charge(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Layers {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self {
            carrier,
            pacer,
            tap,
        } = self.get_mut();
        let mut part = buf;
        let mut down = pacer.as_mut().map(|pacer| &mut pacer.down);
        if let Some(lane) = &mut down
            && lane.is_limited()
        {
            let most = ready!(lane.poll_turn(cx)).min(buf.len());
            part = &buf[..most];
        }
        let wrote = ready!(carried!(carrier, io => Pin::new(io).poll_write(cx, part)))?;
        if let Some(lane) = down {
            lane.charge(wrote);
        }
        if let Some(tap) = tap {
            tap.feed(&part[..wrote.min(part.len())]);
        }
        Poll::Ready(Ok(wrote))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        carried!(&mut self.get_mut().carrier, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        carried!(&mut self.get_mut().carrier, io => Pin::new(io).poll_shutdown(cx))
    }
}

impl RelayIo for Layers {
    fn reset(&mut self) {
        carried!(&mut self.carrier, io => io.reset());
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        carried!(&mut self.carrier, io => io.poll_broken(cx))
    }

    fn drop_ends(&self) -> bool {
        carried!(&self.carrier, io => io.drop_ends())
    }

    fn settle(&mut self) {
        carried!(&mut self.carrier, io => io.settle());
    }

    /// A tap that has seen what it wanted is no longer in the way; a limit of bandwidth always is.
    fn plain(&mut self) -> Option<&mut dyn Plain> {
        let looks = self.tap.as_ref().is_some_and(Tap::is_looking);
        match &mut self.carrier {
            _ if looks || self.pacer.is_some() => None,
            Carrier::Tcp(conn) => conn.plain(),
            Carrier::Tls(stream) => stream.plain(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use portcullis_model::EndpointId;
    use portcullis_policy::Bandwidth;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::cancel::{Cancels, Pool};
    use crate::pace::Bandwidths;

    async fn pair() -> (TcpStream, ClientIo) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("address");
        let outside = TcpStream::connect(at).await.expect("connected");
        let (inside, _) = listener.accept().await.expect("accepted");
        (outside, ClientIo::Plain(TcpConn::new(inside)))
    }

    #[tokio::test]
    async fn a_tap_is_in_the_way_of_splicing_until_it_has_seen_its_key() {
        let (mut outside, mut client) = pair().await;
        assert!(client.plain().is_some());
        let cancels = Arc::new(Cancels::default());
        let member = EndpointId::new(1_700_000_000, [1; 16]);
        client.set_tap(Tap::new(&cancels, Pool::default(), &member));
        assert!(client.plain().is_none());
        let said = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x07keysZ\0\0\0\x05I";
        for byte in said {
            client.write_all(&[*byte]).await.expect("write");
        }
        assert!(client.plain().is_some(), "and not any longer");
        let mut heard = [0; 28];
        outside.read_exact(&mut heard).await.expect("read");
        assert_eq!(&heard, said, "untouched");
        assert!(client.drop_ends());
    }

    #[tokio::test]
    async fn what_is_slowed_down_is_never_spliced_and_keeps_its_ends() {
        let (mut outside, mut client) = pair().await;
        let slow = Bandwidth {
            bucket: None,
            upload: 1_000_000,
            download: 0,
            burst: 0,
        };
        let account = portcullis_model::AccountId::new(1_700_000_000, [1; 16]);
        client.set_pacer(Bandwidths::default().pacer(&account, &[slow], 0));
        assert!(client.plain().is_none());
        let said = vec![7; 200_000];
        let says = async {
            outside.write_all(&said).await.expect("write");
            outside.shutdown().await.expect("half-close");
        };
        let mut heard = Vec::new();
        let ((), end) = tokio::join!(says, client.read_to_end(&mut heard));
        end.expect("a clean end");
        assert!(heard == said);
        client.reset();
        drop(client);
        assert!(outside.read(&mut [0]).await.is_err(), "a reset");
    }
}
