//! One client's connection in the hand of a program.
//!
//! Must never: let a channel go before its bytes are told apart from the next client's.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use portcullis_model::EndpointId;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// A connection of a [`crate::Listener`]: `AsyncRead` and `AsyncWrite`, each direction ends by itself.
#[derive(Debug)]
pub struct Conn {
    stream: DuplexStream,
    peer: SocketAddr,
    server: SocketAddr,
    endpoint: EndpointId,
    id: String,
}

impl Conn {
    /// The client's address.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// The public address that the client connected to.
    pub fn server_addr(&self) -> SocketAddr {
        self.server
    }

    /// The endpoint it came through.
    pub fn endpoint_id(&self) -> &EndpointId {
        &self.endpoint
    }

    /// The connection's id in the server's log, metrics and events.
    pub fn connection_id(&self) -> &str {
        &self.id
    }
}

impl AsyncRead for Conn {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
