//! Opening listeners: dual-stack, with the options that accepted connections inherit, and errors that
//! say who is in the way.
//!
//! Must never: accept.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use portcullis_model::{Code, Error};
use socket2::{Domain, Protocol, Type};
use tokio::net::TcpListener;

use crate::defaults::LISTEN_BACKLOG;
use crate::socket::configure_socket;

mod holder;

/// How to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenOptions {
    /// Length of the queue of completed handshakes.
    pub backlog: i32,
    /// Listen on `[::]` without IPv4.
    pub only_v6: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: LISTEN_BACKLOG,
            only_v6: false,
        }
    }
}

/// Listens on an address. `[::]` takes IPv4 as well, and is `0.0.0.0` where the machine has no IPv6.
/// Accepted connections have no delay and keep-alive from here.
///
/// # Errors
/// `PTC_PORT_TAKEN` (with the holder's name where it can be found), `PTC_PORT_NOT_PERMITTED`,
/// `PTC_FILE_LIMIT`, or `PTC_BIND_FAILED` with the cause.
pub fn listen(addr: SocketAddr, options: ListenOptions) -> Result<TcpListener, Error> {
    let opened = match open(addr, options) {
        Err(error)
            if no_ipv6(&error)
                && addr.ip().is_unspecified()
                && addr.is_ipv6()
                && !options.only_v6 =>
        {
            open(
                SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), addr.port()),
                options,
            )
        }
        opened => opened,
    };
    opened.map_err(|error| explain(addr, &error))
}

fn open(addr: SocketAddr, options: ListenOptions) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(
        Domain::for_address(addr),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(options.only_v6 || !addr.ip().is_unspecified())?;
    }
    configure_socket(&socket)?;
    socket.bind(&addr.into())?;
    socket.listen(options.backlog)?;
    TcpListener::from_std(socket.into())
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
    )
}

fn explain(addr: SocketAddr, error: &io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            let holder =
                holder::of_port(addr.port()).map_or_else(String::new, |name| format!(" by {name}"));
            Error::new(
                Code::PortTaken,
                format!("cannot listen on {addr}: the port is taken{holder}"),
            )
        }
        Some(libc::EACCES | libc::EPERM) => Error::new(
            Code::PortNotPermitted,
            format!(
                "cannot listen on {addr}: this process may not use port {}",
                addr.port()
            ),
        ),
        Some(libc::EMFILE | libc::ENFILE) => Error::new(
            Code::FileLimit,
            format!("cannot listen on {addr}: no file descriptors are left"),
        ),
        Some(libc::EADDRNOTAVAIL) => Error::new(
            Code::BindFailed,
            format!("cannot listen on {addr}: the machine has no such address"),
        ),
        _ => Error::new(
            Code::BindFailed,
            format!("cannot listen on {addr}: {error}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};
    use std::os::fd::AsFd as _;

    use socket2::SockRef;
    use tokio::net::TcpStream;

    use super::*;

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
    }

    #[tokio::test]
    async fn taken_port_names_its_holder() {
        let first = listen(loopback(0), ListenOptions::default()).unwrap();
        let taken = first.local_addr().unwrap();
        let error = listen(taken, ListenOptions::default()).unwrap_err();
        assert_eq!(error.code, Code::PortTaken);
        let pid = std::process::id().to_string();
        assert!(error.message.contains(&pid), "{}", error.message);
    }

    #[tokio::test]
    async fn foreign_address_is_refused_with_its_cause() {
        let error = listen("192.0.2.1:0".parse().unwrap(), ListenOptions::default()).unwrap_err();
        assert_eq!(error.code, Code::BindFailed);
        assert!(
            error.message.contains("no such address"),
            "{}",
            error.message
        );
    }

    #[tokio::test]
    async fn any_address_takes_ipv4_too() {
        let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
        let listener = listen(any, ListenOptions::default()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (accepted, _client) =
            tokio::join!(listener.accept(), TcpStream::connect(loopback(port)));
        assert_eq!(
            accepted.unwrap().1.ip().to_canonical(),
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        );
    }

    #[tokio::test]
    async fn accepted_connections_inherit_the_options() {
        let listener = listen(loopback(0), ListenOptions::default()).unwrap();
        let addr = listener.local_addr().unwrap();
        let (accepted, client) = tokio::join!(listener.accept(), TcpStream::connect(addr));
        let (stream, _) = accepted.unwrap();
        let client = client.unwrap();
        client.try_write(b"ab").unwrap();
        stream.readable().await.unwrap();
        let read = crate::sys::recv_inq(stream.as_fd(), &mut [0; 1]);
        assert_eq!(read.unwrap(), (1, Some(1)), "reads tell what waits");
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(
            socket.tcp_keepalive_retries().unwrap(),
            crate::defaults::KEEPALIVE_PROBES
        );
    }
}
