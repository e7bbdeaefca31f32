//! System calls that no crate of ours wraps safely, and all the `unsafe` of the product.
//!
//! Must never: keep a pointer beyond the call, or hold more than one call per function.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Duration;

/// `TCP_INQ` of `<linux/tcp.h>`, since Linux 4.18: option and control message have the same number.
const TCP_INQ: libc::c_int = 36;

/// Makes reads of a TCP socket tell how many bytes wait behind them ([`recv_inq`]).
///
/// # Errors
/// The system's; a kernel before 4.18 does not know it.
pub(crate) fn set_tcp_inq(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is borrowed, so open; the kernel reads `length` bytes of `on`, which lives
    // until the call returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_INQ,
            (&raw const on).cast(),
            length,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A control message with one number, as the kernel lays it out.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    value: libc::c_int,
}

/// Reads, and tells how many bytes wait behind what was read: 0 is none. At least 1 means bytes, urgent
/// ones as well, or the end. `None` where the socket does not tell.
///
/// # Errors
/// The system's, as of recv(2).
pub(crate) fn recv_inq(socket: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<(usize, Option<u32>)> {
    let mut space = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    // SAFETY: both are plain C structures of integers and pointers, for which all zeros is a value.
    let (mut message, mut control): (libc::msghdr, Control) = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut space;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    // SAFETY: the descriptor is borrowed, so open; the message names no address, one buffer (`buf`, with
    // its length) and one for control messages (`control`, with its length), and all of them outlive
    // the call.
    let result = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let read = usize::try_from(result).map_err(|_| io::Error::last_os_error())?;
    let whole = std::mem::offset_of!(Control, value) + size_of::<libc::c_int>();
    let tells = message.msg_controllen >= whole as _
        && control.header.cmsg_level == libc::IPPROTO_TCP
        && control.header.cmsg_type == TCP_INQ;
    let waiting = tells.then(|| u32::try_from(control.value).unwrap_or(1));
    Ok((read, waiting))
}

/// How the calling thread is scheduled.
fn sched_attr() -> io::Result<libc::sched_attr> {
    // SAFETY: a plain C structure of integers, for which all zeros is a value.
    let mut attr: libc::sched_attr = unsafe { std::mem::zeroed() };
    let size = u32::try_from(size_of_val(&attr)).map_err(io::Error::other)?;
    // SAFETY: thread 0 is the caller; the kernel writes at most `size` bytes to `attr`, which has as many
    // and lives until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, size, 0) };
    match result {
        0 => Ok(attr),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Asks for turns of this length for the calling thread, and changes nothing else about how it is scheduled:
/// sched(7). Of two threads that have had their share the one with the shorter turns goes first, so it is
/// woken sooner, and gives way sooner. Needs no privilege. Linux honours it since 6.12 (`slice` of EEVDF,
/// 0.1 to 100 ms) and did nothing before.
///
/// # Errors
/// The system's; nothing has changed then.
pub fn set_time_slice(slice: Duration) -> io::Result<()> {
    let mut attr = sched_attr()?;
    attr.sched_runtime = u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX);
    // SAFETY: thread 0 is the caller; the kernel reads as many bytes of `attr` as its first field says, which it
    // set itself when it filled `attr`, to no more than there are; `attr` lives until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    /// Waits until so many bytes are there, or the end.
    fn wait_for(socket: &TcpStream, bytes: usize) {
        let mut space = vec![0; bytes];
        while socket.peek(&mut space).unwrap() < bytes {}
    }

    #[test]
    fn reads_tell_what_waits() {
        let (near, mut far) = pair();
        set_tcp_inq(near.as_fd()).unwrap();
        far.write_all(b"hello").unwrap();
        wait_for(&near, 5);
        let mut buf = [0; 3];
        assert_eq!(recv_inq(near.as_fd(), &mut buf).unwrap(), (3, Some(2)));
        assert_eq!(&buf, b"hel");
        assert_eq!(recv_inq(near.as_fd(), &mut buf).unwrap(), (2, Some(0)));
        assert_eq!(&buf[..2], b"lo");
    }

    #[test]
    fn what_lies_behind_an_urgent_byte_waits_too() {
        let (near, mut far) = pair();
        set_tcp_inq(near.as_fd()).unwrap();
        let socket = socket2::SockRef::from(&near);
        socket.set_out_of_band_inline(true).unwrap();
        socket2::SockRef::from(&far)
            .send_out_of_band(b"ab!")
            .unwrap();
        far.write_all(b"cd").unwrap();
        // A peek stops in front of the urgent byte as well; two bytes are all that it shows.
        wait_for(&near, 2);
        let mut buf = [0; 16];
        let mut got = Vec::new();
        while got.len() < 5 {
            let (read, waiting) = recv_inq(near.as_fd(), &mut buf).unwrap();
            got.extend_from_slice(&buf[..read]);
            if got == b"ab" {
                assert!(waiting.unwrap() >= 1);
            }
        }
        assert_eq!(got, b"ab!cd");
    }

    #[tokio::test]
    async fn an_end_waits_like_a_byte() {
        let (near, mut far) = pair();
        set_tcp_inq(near.as_fd()).unwrap();
        far.write_all(b"x").unwrap();
        far.shutdown(std::net::Shutdown::Write).unwrap();
        near.set_nonblocking(true).unwrap();
        let near = tokio::net::TcpStream::from_std(near).unwrap();
        // FIN comes in a segment of its own.
        let readable = tokio::io::Interest::READABLE;
        while !near.ready(readable).await.unwrap().is_read_closed() {
            tokio::task::yield_now().await;
        }
        let mut buf = [0; 4];
        assert_eq!(recv_inq(near.as_fd(), &mut buf).unwrap(), (1, Some(1)));
        assert_eq!(recv_inq(near.as_fd(), &mut buf).unwrap().0, 0);
    }

    #[test]
    fn sockets_that_do_not_tell_say_so() {
        let (near, mut far) = pair();
        far.write_all(b"hello").unwrap();
        let mut buf = [0; 16];
        assert_eq!(recv_inq(near.as_fd(), &mut buf).unwrap(), (5, None));
        drop(far);
        assert_eq!(recv_inq(near.as_fd(), &mut buf).unwrap(), (0, None));
        let (unix, mut peer) = std::os::unix::net::UnixStream::pair().unwrap();
        peer.write_all(b"hi").unwrap();
        assert_eq!(recv_inq(unix.as_fd(), &mut buf).unwrap(), (2, None));
        let error = set_tcp_inq(unix.as_fd()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
    }

    #[test]
    fn errors_are_the_systems() {
        let (near, _far) = pair();
        near.set_nonblocking(true).unwrap();
        let error = recv_inq(near.as_fd(), &mut [0; 4]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_thread_keeps_its_nice_value_with_its_slice() {
        let thread = std::thread::spawn(|| {
            let before = sched_attr().unwrap();
            set_time_slice(Duration::from_micros(200)).unwrap();
            let after = sched_attr().unwrap();
            assert_eq!(
                (after.sched_policy, after.sched_nice),
                (before.sched_policy, before.sched_nice)
            );
            // Zero on a kernel that has no such slices.
            assert!(
                [0, 200_000].contains(&after.sched_runtime),
                "{}",
                after.sched_runtime
            );
        });
        thread.join().unwrap();
    }
}
