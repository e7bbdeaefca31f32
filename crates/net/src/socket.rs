//! [`Conn`]: a connected socket whose death is noticed even while nobody reads.
//!
//! Must never: block, or hold bytes.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::relay::{Plain, RelayIo};
use crate::sys::recv_inq;

mod options;

use options::linger_zero;
pub use options::{
    CongestionError, available_congestion, check_congestion, configure, end_on_drop, reset_on_drop,
    set_congestion, set_notsent_lowat, set_user_timeout,
};
pub(crate) use options::{configure_first, configure_later, configure_socket};

/// What [`Conn`] needs of a socket: everything by shared reference, so that its death can be awaited
/// beside reads and writes.
pub trait Socket: AsFd + Send + Sync + Unpin + Sized + 'static + sealed::Sealed {
    /// Whether reads of such a socket can tell what waits behind them.
    const TELLS: bool;

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
    ($type:ty, $tells:literal) => {
        impl Socket for $type {
            const TELLS: bool = $tells;

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
socket!(TcpStream, true);
socket!(UnixStream, false);

type Watch = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// A connected socket, ready for the relay.
pub struct Conn<S> {
    io: Io<S>,
    /// Reads tell what waits behind them, as far as is known.
    tells: bool,
    /// Its write half was shut down.
    is_shut: bool,
    /// It lacks what [`configure_later`] sets.
    is_new: bool,
}

/// A socket, and who waits for its error. An idle connection has the socket in its place: sharing it costs
/// two allocations, which only those pay whose death is asked for while nobody reads.
enum Io<S> {
    Own(S),
    Watched {
        socket: Arc<S>,
        watch: Watch,
    },
    /// On the way from the first to the second, inside of [`Io::watch`].
    Moving,
}

impl<S: Socket> Io<S> {
    /// What waits for the socket's error.
    fn watch(&mut self) -> &mut Watch {
        if let Self::Own(_) = self
            && let Self::Own(socket) = std::mem::replace(self, Self::Moving)
        {
            let socket = Arc::new(socket);
            let watch = watch(Arc::clone(&socket));
            *self = Self::Watched { socket, watch };
        }
        match self {
            Self::Watched { watch, .. } => watch,
            Self::Own(_) | Self::Moving => unreachable!("it is watched by now"),
        }
    }
}

impl<S> std::ops::Deref for Io<S> {
    type Target = S;

    fn deref(&self) -> &S {
        match self {
            Self::Own(socket) => socket,
            Self::Watched { socket, .. } => socket,
            Self::Moving => unreachable!("nobody sees it"),
        }
    }
}

fn watch<S: Socket>(socket: Arc<S>) -> Watch {
    Box::pin(async move { socket.broken().await })
}

/// A TCP connection.
pub type TcpConn = Conn<TcpStream>;
/// A connection over a Unix socket. It knows no reset: a reset closes it.
pub type UnixConn = Conn<UnixStream>;

impl<S: Socket> Conn<S> {
    /// Takes a connected socket.
    pub fn new(io: S) -> Self {
        Self {
            io: Io::Own(io),
            tells: S::TELLS,
            is_shut: false,
            is_new: false,
        }
    }

    /// Takes a socket that has had [`configure_first`] only: the rest is done when it has lasted.
    pub(crate) fn new_dialled(io: S) -> Self {
        Self {
            is_new: true,
            ..Self::new(io)
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

    /// A read that knows whether it has taken everything: without that a read stops in front of an
    /// urgent byte, and nothing would tell of what lies behind. What was not set costs one more call.
    fn read_all(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        while self.tells {
            ready!(self.io.poll_read_ready(cx))?;
            let mut taken = None;
            let result = self.io.try_io(Interest::READABLE, || {
                let (read, waiting) = recv_inq(self.io.as_fd(), buf)?;
                self.tells = waiting.is_some() || read == 0;
                if read > 0 && waiting == Some(0) {
                    taken = Some(read);
                    return Err(io::ErrorKind::WouldBlock.into()); // that is: no more for now
                }
                Ok(read)
            });
            match (taken, result) {
                (Some(read), _) => return Poll::Ready(Ok(read)),
                (None, Err(error)) if is_passing(&error) => {}
                (None, result) => return Poll::Ready(result),
            }
        }
        self.read(cx, buf, 0)
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
    pub(crate) fn read_two(
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

    /// A write that more follows at once: it may wait for that.
    pub(crate) fn poll_write_more(
        &self,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, buf.len(), |socket| {
            socket.send_with_flags(buf, libc::MSG_NOSIGNAL | libc::MSG_MORE)
        })
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
        (None, Err(error)) if is_passing(&error) => None,
        (None, result) => Some(result),
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
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
        f.debug_tuple("Conn").field(&*self.io).finish()
    }
}

impl<S: Socket> AsyncRead for Conn<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let space = buf.initialize_unfilled();
        if space.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let read = ready!(self.read_all(cx, space))?;
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

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut {
            SockRef::from(&*self.io).shutdown(std::net::Shutdown::Write)?;
            self.is_shut = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Socket> RelayIo for Conn<S> {
    fn reset(&mut self) {
        self.reset_on_drop();
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        ready!(self.io.watch().as_mut().poll(cx));
        if let Io::Watched {
            socket,
            watch: done,
        } = &mut self.io
        {
            *done = watch(Arc::clone(socket)); // for who asks again
        }
        let error = SockRef::from(&*self.io).take_error().ok().flatten();
        Poll::Ready(error.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()))
    }

    fn drop_ends(&self) -> bool {
        true
    }

    fn reads_two(&self) -> bool {
        true
    }

    fn poll_read_two(
        &mut self,
        cx: &mut Context<'_>,
        first: &mut [u8],
        second: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match second.is_empty() {
            true => self.poll_read_plain(cx, first),
            false => self.read_two(cx, first, second),
        }
    }

    fn plain(&mut self) -> Option<&mut dyn Plain> {
        Some(self)
    }

    fn settle(&mut self) {
        if !std::mem::take(&mut self.is_new) {
            return;
        }
        // Fails only on a socket that is dead, and that shows without it.
        if let Err(error) = configure_later(&SockRef::from(&*self.io)) {
            tracing::trace!(%error, "keep-alive not set");
        }
    }
}

/// No `MORE`: the last bytes of a burst must not wait for others.
const SPLICE: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

impl<S: Socket> Plain for Conn<S> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_read_ready(cx)
    }

    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.io.poll_read_ready(cx))?;
            let mut byte = [MaybeUninit::uninit()];
            let peek = transfer(&*self.io, Interest::READABLE, 0, |socket| {
                socket.peek(&mut byte)
            });
            if let Some(result) = peek {
                return Poll::Ready(result.map(drop));
            }
        }
    }

    fn splice_in(
        &mut self,
        _cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> io::Result<usize> {
        match splice(&*self.io, None, pipe, None, most, SPLICE) {
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            moved => Ok(moved?),
        }
    }

    fn poll_splice_out(
        &mut self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        // Whether a short one has filled the socket is not said: 0 asks once more.
        self.write(cx, 0, |socket| {
            Ok(splice(pipe, None, socket, None, most, SPLICE)?)
        })
    }
}
