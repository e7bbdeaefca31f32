//! The listeners of the local API: a TCP port or the next free one, or a private Unix socket.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use portcullis_model::{Code, Error};
use tokio::net::{TcpListener, UnixListener};

use crate::defaults;

/// Listens on the address, or on one of the ports behind it.
pub(super) async fn tcp(wanted: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let ports = wanted.port()..=wanted.port().saturating_add(defaults::WEB_PORTS_TRIED - 1);
    for port in ports.clone() {
        let addr = SocketAddr::new(wanted.ip(), port);
        match TcpListener::bind(addr).await {
            Ok(listener) => {
                let addr = listener
                    .local_addr()
                    .map_err(|error| failed(&addr, &error))?;
                return Ok((listener, addr));
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(failed(&addr, &error)),
        }
    }
    let (first, last) = (ports.start(), ports.end());
    Err(Error::new(
        Code::PortTaken,
        format!(
            "the local API finds no free port from {first} to {last} on {}",
            wanted.ip()
        ),
    ))
}

/// Listens on a socket that only its owner may use. A file that nobody listens on is replaced.
pub(super) fn unix(path: &Path) -> Result<UnixListener, Error> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(Error::new(
            Code::PortTaken,
            format!("another process listens on {}", path.display()),
        ));
    }
    // Made under another name and private before it gets its own: nobody connects in between.
    let fresh = PathBuf::from(format!("{}.{}.new", path.display(), std::process::id()));
    let listen = || -> io::Result<UnixListener> {
        let listener = UnixListener::bind(&fresh)?;
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&fresh, path)?;
        Ok(listener)
    };
    listen().map_err(|error| failed(&path.display(), &error))
}

fn failed(place: &dyn std::fmt::Display, error: &io::Error) -> Error {
    Error::new(
        Code::BindFailed,
        format!("the local API cannot listen on {place}: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_falls_to_the_next_free_one() {
        let (first, addr) = tcp("127.0.0.1:0".parse().expect("an address"))
            .await
            .expect("a free port");
        let (_second, next) = tcp(addr).await.expect("another free port");
        assert!(next.port() > addr.port());
        drop(first);
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("api.sock");
        drop(unix(&path).expect("new"));
        let live = unix(&path).expect("stale file replaced");
        assert_eq!(
            std::fs::metadata(&path)
                .expect("there")
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
        assert_eq!(unix(&path).expect_err("taken").code, Code::PortTaken);
        drop(live);
    }
}
