//! Socket options, and [`Conn`]: a connected socket whose death is noticed even while nobody reads.
//!
//! Must never: block, or hold bytes.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut, Read as _};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::defaults::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES};
use crate::relay::RelayIo;

/// Sets what every TCP connection of ours has: no delay, keep-alive, and urgent bytes in their place
/// among the others (the kernel would set them apart, where nobody reads). Accepted connections have
/// it from their listener ([`crate::listen::listen`]) and need no call.
///
/// # Errors
/// The system's, when the socket is dead already.
pub fn configure(stream: &TcpStream) -> io::Result<()> {
    configure_socket(&SockRef::from(stream))
}

pub(crate) fn configure_socket(socket: &socket2::Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_out_of_band_inline(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)
}

/// Makes the socket's drop a reset: the peer sees RST, and unsent bytes are thrown away.
pub fn reset_on_drop(stream: &TcpStream) {
    linger_zero(&SockRef::from(stream));
}

fn linger_zero(socket: &socket2::Socket) {
    // Fails only on a socket that is dead already, and then there is nobody to tell.
    if let Err(error) = socket.set_linger(Some(std::time::Duration::ZERO)) {
        tracing::trace!(%error, "linger not set");
    }
}

/// What [`Conn`] needs of a socket: everything by shared reference, so that its death can be awaited
/// beside reads and writes.
pub trait Socket: AsFd + Send + Sync + Unpin + Sized + 'static + sealed::Sealed {
    /// Waits until a read may bring something.
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Waits until a write may take something.
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Runs an operation; `WouldBlock` from it clears the readiness that was seen before it.
    fn try_io<R>(
        &self,
        interest: Interest,
        operation: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R>;
    /// Waits until the socket has an error.
    fn broken(&self) -> impl Future<Output = ()> + Send + Sync + '_;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for tokio::net::TcpStream {}
    impl Sealed for tokio::net::UnixStream {}
}

macro_rules! socket {
    ($type:ty) => {
        impl Socket for $type {
            fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                <$type>::poll_read_ready(self, cx)
            }
            fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                <$type>::poll_write_ready(self, cx)
            }
            fn try_io<R>(
                &self,
                interest: Interest,
                operation: impl FnMut() -> io::Result<R>,
            ) -> io::Result<R> {
                <$type>::try_io(self, interest, operation)
            }
            async fn broken(&self) {
                // An error here is the runtime's end; the caller asks the socket itself either way.
                drop(self.ready(Interest::ERROR).await);
            }
        }
    };
}
socket!(TcpStream);
socket!(UnixStream);

type Watch = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// A connected socket, ready for the relay.
pub struct Conn<S> {
    io: Arc<S>,
    /// Waits for the socket's error. Made when someone asks while reads are paused: most never do.
    watch: Option<Watch>,
}

/// A TCP connection.
pub type TcpConn = Conn<TcpStream>;
/// A connection over a Unix socket. It knows no reset: a reset closes it.
pub type UnixConn = Conn<UnixStream>;

impl<S: Socket> Conn<S> {
    /// Takes a connected socket.
    pub fn new(io: S) -> Self {
        Self {
            io: Arc::new(io),
            watch: None,
        }
    }

    /// The socket.
    pub fn socket(&self) -> &S {
        &self.io
    }

    /// Makes the drop a reset, for who holds no `&mut`.
    pub fn reset_on_drop(&self) {
        linger_zero(&SockRef::from(&*self.io));
    }

    /// `space` is how much a read takes unless the kernel has no more; 0 when that is not known.
    fn read(&self, cx: &mut Context<'_>, buf: &mut [u8], space: usize) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_read_ready(cx))?;
            let read = transfer(&*self.io, Interest::READABLE, space, |socket| {
                (&mut &*socket).read(buf)
            });
            if let Some(result) = read {
                return Poll::Ready(result);
            }
        }
    }

    /// A read from a peer that sends nothing urgent (it speaks TLS): a short one has taken everything.
    pub(crate) fn poll_read_plain(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let space = buf.len();
        self.read(cx, buf, space)
    }

    /// The same into two buffers with one call.
    pub(crate) fn poll_read_two(
        &self,
        cx: &mut Context<'_>,
        first: &mut [u8],
        second: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let space = first.len() + second.len();
        let mut bufs = [IoSliceMut::new(first), IoSliceMut::new(second)];
        loop {
            ready!(self.io.poll_read_ready(cx))?;
            let read = transfer(&*self.io, Interest::READABLE, space, |socket| {
                (&mut &*socket).read_vectored(&mut bufs)
            });
            if let Some(result) = read {
                return Poll::Ready(result);
            }
        }
    }

    fn write(
        &self,
        cx: &mut Context<'_>,
        offered: usize,
        mut send: impl FnMut(&socket2::Socket) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_write_ready(cx))?;
            if let Some(result) = transfer(&*self.io, Interest::WRITABLE, offered, &mut send) {
                return Poll::Ready(result);
            }
        }
    }
}

/// One system call. A short transfer means that the kernel has no more data or space now; telling
/// the runtime so saves the call that would only say `WouldBlock`. (The readiness that is cleared is
/// the one seen before the call, so that an event in between is not lost.) `None`: would block.
fn transfer<S: Socket>(
    io: &S,
    interest: Interest,
    space: usize,
    mut call: impl FnMut(&socket2::Socket) -> io::Result<usize>,
) -> Option<io::Result<usize>> {
    let mut short = None;
    let result = io.try_io(interest, || {
        let moved = call(&SockRef::from(io))?;
        if moved > 0 && moved < space {
            short = Some(moved);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(moved)
    });
    match (short, result) {
        (Some(moved), _) => Some(Ok(moved)),
        (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => None,
        (None, Err(error)) if error.kind() == io::ErrorKind::Interrupted => None,
        (None, result) => Some(result),
    }
}

impl TcpConn {
    /// The peer's address.
    ///
    /// # Errors
    /// The system's, when the connection is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.peer_addr()
    }

    /// Our address of the connection.
    ///
    /// # Errors
    /// The system's, when the connection is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }
}

impl<S: Socket> From<S> for Conn<S> {
    fn from(io: S) -> Self {
        Self::new(io)
    }
}

impl<S: Socket> AsFd for Conn<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl<S: fmt::Debug> fmt::Debug for Conn<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Conn").field(&self.io).finish()
    }
}

impl<S: Socket> AsyncRead for Conn<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let space = buf.initialize_unfilled();
        if space.is_empty() {
            return Poll::Ready(Ok(()));
        }
        // A read stops in front of an urgent byte, and nothing would tell of what lies behind.
        let read = ready!(self.read(cx, space, 0))?;
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl<S: Socket> AsyncWrite for Conn<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, buf.len(), |socket| {
            socket.send_with_flags(buf, libc::MSG_NOSIGNAL)
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let offered = bufs.iter().map(|buf| buf.len()).sum();
        self.write(cx, offered, |socket| {
            socket.send_vectored_with_flags(bufs, libc::MSG_NOSIGNAL)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.io).shutdown(std::net::Shutdown::Write))
    }
}

impl<S: Socket> RelayIo for Conn<S> {
    fn reset(&mut self) {
        self.reset_on_drop();
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let io = &self.io;
        let watch = self.watch.get_or_insert_with(|| {
            let io = Arc::clone(io);
            Box::pin(async move { io.broken().await })
        });
        ready!(watch.as_mut().poll(cx));
        self.watch = None;
        let error = SockRef::from(&*self.io).take_error().ok().flatten();
        Poll::Ready(error.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()))
    }
}
