//! Options of TCP sockets.
//!
//! Must never: fail on what an older kernel lacks and a connection can do without.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::defaults::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES};
use crate::sys::set_tcp_inq;

/// Sets what every TCP connection of ours has: no delay, keep-alive, urgent bytes in their place among
/// the others (the kernel would set them apart, where nobody reads), and reads that tell what waits
/// behind them. Accepted connections have it from their listener ([`crate::listen::listen`]) and need
/// no call.
///
/// # Errors
/// The system's, when the socket is dead already.
pub fn configure(stream: &TcpStream) -> io::Result<()> {
    configure_socket(&SockRef::from(stream))
}

pub(crate) fn configure_socket(socket: &socket2::Socket) -> io::Result<()> {
    configure_first(socket)?;
    configure_later(socket)
}

/// What a connection needs from its first byte on.
pub(crate) fn configure_first(socket: &socket2::Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_out_of_band_inline(true)?;
    // A kernel that does not know it costs a system call per burst, and nothing else.
    set_tcp_inq(socket.as_fd()).or_else(|error| match error.raw_os_error() {
        Some(libc::ENOPROTOOPT) => Ok(()),
        _ => Err(error),
    })
}

/// What only a connection that lasts needs: four system calls that a short one goes without.
pub(crate) fn configure_later(socket: &socket2::Socket) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)
}

/// Bytes that a socket may hold unsent before it says that it takes no more (`TCP_NOTSENT_LOWAT`); what
/// is in flight does not count, so the rate stays. For connections that many share: little then stands
/// in front of what is urgent. Set on a listener it is inherited.
///
/// # Errors
/// The system's.
pub fn set_notsent_lowat(socket: impl AsFd, bytes: u32) -> io::Result<()> {
    SockRef::from(&socket).set_tcp_notsent_lowat(bytes)
}

/// How long sent bytes may stay without an answer before the connection counts as dead
/// (`TCP_USER_TIMEOUT`, in milliseconds; keep-alive obeys it too). Set on a listener it is inherited.
///
/// # Errors
/// The system's.
pub fn set_user_timeout(socket: impl AsFd, timeout: Duration) -> io::Result<()> {
    SockRef::from(&socket).set_tcp_user_timeout(Some(timeout))
}

/// Why a congestion control cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CongestionError {
    /// The kernel has no such algorithm, or its module is not loaded.
    #[error("congestion control {name:?} is not available; this kernel has: {available}")]
    Unavailable {
        /// What was asked for.
        name: String,
        /// What there is, separated by spaces.
        available: String,
    },
    /// Only privileged processes may use it.
    #[error(
        "congestion control {name:?} is not permitted; net.ipv4.tcp_allowed_congestion_control \
         lists those that are"
    )]
    NotPermitted {
        /// What was asked for.
        name: String,
    },
    /// The system refused otherwise.
    #[error("congestion control {name:?} cannot be set")]
    Refused {
        /// What was asked for.
        name: String,
        /// Why.
        source: io::Error,
    },
}

/// The congestion controls that the kernel has, separated by spaces: ip(7),
/// `net.ipv4.tcp_available_congestion_control`. Empty where it does not say.
pub fn available_congestion() -> String {
    std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// Whether the kernel has a congestion control: for checking a configuration.
///
/// # Errors
/// That it has not, with those that it has.
pub fn check_congestion(name: &str) -> Result<(), CongestionError> {
    let available = available_congestion();
    if available.is_empty() || available.split_whitespace().any(|known| known == name) {
        return Ok(());
    }
    Err(CongestionError::Unavailable {
        name: name.to_owned(),
        available,
    })
}

/// Sets a TCP socket's congestion control. Set on a listener it is inherited.
///
/// # Errors
/// Why the kernel does not take it.
pub fn set_congestion(socket: impl AsFd, name: &str) -> Result<(), CongestionError> {
    let Err(source) = SockRef::from(&socket).set_tcp_congestion(name.as_bytes()) else {
        return Ok(());
    };
    let name = name.to_owned();
    Err(match source.raw_os_error() {
        Some(libc::ENOENT) => CongestionError::Unavailable {
            name,
            available: available_congestion(),
        },
        Some(libc::EPERM) => CongestionError::NotPermitted { name },
        _ => CongestionError::Refused { name, source },
    })
}

/// Makes the socket's drop a reset: the peer sees RST, and unsent bytes are thrown away.
pub fn reset_on_drop(stream: &TcpStream) {
    linger_zero(&SockRef::from(stream));
}

/// Takes [`reset_on_drop`] back: the drop ends the connection as usual.
pub fn end_on_drop(stream: &TcpStream) {
    // As below.
    if let Err(error) = SockRef::from(stream).set_linger(None) {
        tracing::trace!(%error, "linger not unset");
    }
}

pub(super) fn linger_zero(socket: &socket2::Socket) {
    // Fails only on a socket that is dead already, and then there is nobody to tell.
    if let Err(error) = socket.set_linger(Some(Duration::ZERO)) {
        tracing::trace!(%error, "linger not set");
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn options_of_a_listener_are_inherited() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        set_notsent_lowat(&listener, 16 * 1024).unwrap();
        set_user_timeout(&listener, Duration::from_secs(30)).unwrap();
        set_congestion(&listener, "reno").unwrap();
        let addr = listener.local_addr().unwrap();
        let (accepted, _client) = tokio::join!(listener.accept(), TcpStream::connect(addr));
        let stream = accepted.unwrap().0;
        let socket = SockRef::from(&stream);
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), 16 * 1024);
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(Duration::from_secs(30))
        );
        let congestion = socket.tcp_congestion().unwrap();
        assert_eq!(
            congestion.split(|byte| *byte == 0).next(),
            Some(&b"reno"[..])
        );
    }

    #[tokio::test]
    async fn an_unknown_congestion_control_is_named_with_what_there_is() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        for error in [
            set_congestion(&socket, "warp").unwrap_err(),
            check_congestion("warp").unwrap_err(),
        ] {
            assert!(matches!(error, CongestionError::Unavailable { .. }));
            let text = error.to_string();
            assert!(text.contains("\"warp\"") && text.contains("reno"), "{text}");
        }
        check_congestion("reno").unwrap();
        // Longer than the kernel's names (TCP_CA_NAME_MAX, 16).
        let error = set_congestion(&socket, &"x".repeat(100)).unwrap_err();
        assert!(
            matches!(error, CongestionError::Unavailable { .. }),
            "{error}"
        );
    }
}
