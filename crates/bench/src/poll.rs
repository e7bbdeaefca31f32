//! The bare parts: epoll with a deadline, and connections that are begun without waiting.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, recv, send, socket,
};

/// Events taken from the kernel at once.
const EVENTS: usize = 512;

/// What happened: the number of a registration, and how it is ready.
pub(crate) type Events = Vec<(usize, EpollFlags)>;

/// An epoll instance; each registration carries a number of the caller's.
pub(crate) struct Poll(Epoll);

impl Poll {
    pub(crate) fn new() -> nix::Result<Self> {
        Ok(Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    pub(crate) fn add(&self, fd: impl AsFd, flags: EpollFlags, number: usize) -> nix::Result<()> {
        self.0.add(fd, EpollEvent::new(flags, number as u64))
    }

    pub(crate) fn change(
        &self,
        fd: impl AsFd,
        flags: EpollFlags,
        number: usize,
    ) -> nix::Result<()> {
        let mut event = EpollEvent::new(flags, number as u64);
        self.0.modify(fd, &mut event)
    }

    pub(crate) fn remove(&self, fd: impl AsFd) -> nix::Result<()> {
        self.0.delete(fd)
    }

    /// Waits for events, at most until `deadline`; `ready` holds nothing else afterwards.
    pub(crate) fn wait(&self, ready: &mut Events, deadline: Instant) -> nix::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up: a deadline half a millisecond away must not spin.
        let millis = u16::try_from(left.as_micros().div_ceil(1_000)).unwrap_or(u16::MAX);
        let mut events = [EpollEvent::empty(); EVENTS];
        let count = match self.0.wait(&mut events, EpollTimeout::from(millis)) {
            Err(Errno::EINTR) => 0,
            other => other?,
        };
        ready.clear();
        ready.extend(
            events[..count]
                .iter()
                .map(|event| (event.data() as usize, event.events())),
        );
        Ok(())
    }
}

/// Begins a connection. On loopback the handshake is often over when this returns.
pub(crate) fn begin(to: SocketAddr) -> nix::Result<TcpStream> {
    let family = if to.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family, SockType::Stream, flags, None)?;
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(TcpStream::from(fd)),
        Err(error) => Err(error),
    }
}

/// What a call that would not wait gave: `None` when it would have had to.
pub(crate) type Now<T> = nix::Result<Option<T>>;

fn now<T>(result: nix::Result<T>) -> Now<T> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes what fits.
pub(crate) fn write(stream: &TcpStream, bytes: &[u8]) -> Now<usize> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    now(send(stream.as_raw_fd(), bytes, flags))
}

/// Reads what is there; zero is the end.
pub(crate) fn read(stream: &TcpStream, buffer: &mut [u8]) -> Now<usize> {
    now(recv(stream.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT))
}

/// Discards what is there, at most `buffer`'s length, without copying it; `buffer` stays as it is.
pub(crate) fn discard(stream: &TcpStream, buffer: &mut [u8]) -> Now<usize> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
    now(recv(stream.as_raw_fd(), buffer, flags))
}
