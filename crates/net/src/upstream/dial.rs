//! Dialling an upstream: every address in its order, under the caller's one deadline.
//!
//! Must never: go on past the deadline, or hide which step failed.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use portcullis_model::{Code, Error};
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Target, Upstream, UpstreamStream, UpstreamTls};
use crate::defaults::ADDRESS_TIMEOUT_MIN;
use crate::resolve::Resolver;
use crate::socket::{TcpConn, UnixConn, configure, reset_on_drop};
use crate::tls::{Roots, Wire, upstream_config};

/// Connects to an upstream by the deadline: every address in its order, each with a fair share of
/// the time that is left. `proxy_header` is written first, before TLS.
///
/// # Errors
/// `PTC_UPSTREAM_REFUSED`, `…_TIMEOUT`, `…_UNRESOLVED`, `…_TLS` or `…_UNREACHABLE` of the address
/// that came furthest; `PTC_FILE_LIMIT` when no descriptor is left.
pub async fn dial(
    upstream: &Upstream,
    resolver: &Resolver,
    deadline: Instant,
    proxy_header: Option<&[u8]>,
) -> Result<UpstreamStream, Error> {
    let header = proxy_header.unwrap_or_default();
    let (target, tls) = match upstream {
        Upstream::Unix(path) => return dial_unix(path, deadline, header).await,
        Upstream::Tcp(target) => (target, None),
        Upstream::Tls(target, tls) => (target, Some(tls)),
    };
    let addresses = resolve(target, resolver, deadline).await?;
    let mut furthest = Error::of(Code::UpstreamUnresolved);
    for (tried, addr) in addresses.iter().enumerate() {
        let until = share(deadline, addresses.len() - tried);
        let result = match tls {
            None => dial_tcp(*addr, until, header)
                .await
                .map(|conn| UpstreamStream::tcp(conn, addr.to_string())),
            Some(tls) => dial_tls(*addr, target, tls, until, header).await,
        };
        match result {
            Ok(stream) => return Ok(stream),
            // Another address would need a descriptor as well.
            Err(error) if error.code == Code::FileLimit => return Err(error),
            Err(error) if progress(error.code) > progress(furthest.code) => furthest = error,
            Err(_) => {}
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    Err(furthest)
}

/// How far an attempt came: with `localhost`, a refusal on `::1` must not hide what went wrong on
/// 127.0.0.1.
fn progress(code: Code) -> u8 {
    match code {
        Code::UpstreamUnresolved => 0,
        Code::UpstreamUnreachable => 1,
        Code::UpstreamRefused => 2,
        Code::UpstreamTimeout => 3,
        _ => 4, // TLS
    }
}

/// The time until which the next of so many addresses may be tried.
fn share(deadline: Instant, addresses_left: usize) -> Instant {
    let now = Instant::now();
    let left = deadline.saturating_duration_since(now);
    let parts = u32::try_from(addresses_left.max(1)).unwrap_or(u32::MAX);
    let share: Duration = (left / parts).max(ADDRESS_TIMEOUT_MIN).min(left);
    now + share
}

async fn resolve(
    target: &Target,
    resolver: &Resolver,
    deadline: Instant,
) -> Result<Vec<SocketAddr>, Error> {
    let lookup = async {
        match target {
            Target::Service(name) => resolver.service(name).await,
            Target::HostPort { host, port } => {
                let ips = resolver.addresses(host).await?;
                Ok(ips
                    .into_iter()
                    .map(|ip| SocketAddr::new(ip, *port))
                    .collect())
            }
        }
    };
    // Boxed: a lookup's state is large and short-lived.
    match timeout_at(deadline, Box::pin(lookup)).await {
        Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
        Ok(Ok(_)) => Err(Error::new(
            Code::UpstreamUnresolved,
            format!("the upstream {target} has no address"),
        )),
        Ok(Err(error)) => Err(Error::new(
            Code::UpstreamUnresolved,
            format!("the upstream {target}: {}", error.message),
        )),
        Err(_) => {
            let text = format!("the upstream {target}: its name could not be resolved in time");
            Err(Error::new(Code::UpstreamUnresolved, text))
        }
    }
}

async fn dial_tcp(addr: SocketAddr, until: Instant, header: &[u8]) -> Result<TcpConn, Error> {
    let connect = async {
        let mut stream = TcpStream::connect(addr).await?;
        if is_its_own_peer(&stream)? {
            reset_on_drop(&stream); // nor may it keep the port from the service
            return Err(io::Error::from_raw_os_error(libc::ECONNREFUSED));
        }
        configure(&stream)?;
        stream.write_all(header).await?;
        Ok(stream)
    };
    finish(&addr.to_string(), timeout_at(until, connect).await).map(TcpConn::new)
}

/// Nobody listens, and the kernel gave the connection the very port that it dials, which connects it to
/// itself: whoever keeps dialling a local service that is down gets there.
fn is_its_own_peer(stream: &TcpStream) -> io::Result<bool> {
    Ok(stream.local_addr()? == stream.peer_addr()?)
}

async fn dial_unix(path: &Path, until: Instant, header: &[u8]) -> Result<UpstreamStream, Error> {
    let peer = path.display().to_string();
    let connect = async {
        let mut stream = UnixStream::connect(path).await?;
        stream.write_all(header).await?;
        Ok(stream)
    };
    let stream = finish(&peer, timeout_at(until, connect).await)?;
    Ok(UpstreamStream::unix(UnixConn::new(stream), peer))
}

async fn dial_tls(
    addr: SocketAddr,
    target: &Target,
    tls: &UpstreamTls,
    until: Instant,
    header: &[u8],
) -> Result<UpstreamStream, Error> {
    let conn = dial_tcp(addr, until, header).await?;
    let failed = |why: &dyn std::fmt::Display| {
        Error::new(
            Code::UpstreamTls,
            format!("the TLS handshake with the upstream {target} ({addr}) failed: {why}"),
        )
    };
    let config = upstream_config(roots(tls))?;
    let name =
        server_name(target, tls).ok_or_else(|| failed(&"its host cannot be asked for in TLS"))?;
    let handshake = Box::pin(TlsConnector::from(config).connect(name, Wire::new(conn)));
    match timeout_at(until, handshake).await {
        Ok(Ok(stream)) => Ok(tls_stream(stream, addr)),
        Ok(Err(error)) => Err(failed(&error)),
        Err(_) => Err(failed(&"it did not answer in time")),
    }
}

fn tls_stream(stream: TlsStream<Wire>, addr: SocketAddr) -> UpstreamStream {
    UpstreamStream::tls(stream, addr.to_string())
}

fn roots(tls: &UpstreamTls) -> Roots<'_> {
    match &tls.ca_file {
        _ if !tls.verify => Roots::Any,
        Some(path) => Roots::File(path),
        None => Roots::System,
    }
}

/// An SRV name's certificate is for the service's domain (RFC 6125: without `_service._proto`).
fn server_name(target: &Target, tls: &UpstreamTls) -> Option<ServerName<'static>> {
    let name = match (&tls.server_name, target) {
        (Some(name), _) => name.as_str(),
        (None, Target::HostPort { host, .. }) => host.as_str(),
        (None, Target::Service(name)) => {
            name.trim_start_matches(|c| c != '.')
                .trim_start_matches('.')
                .split_once('.')?
                .1
        }
    };
    ServerName::try_from(name.trim_end_matches('.').to_owned()).ok()
}

fn finish<T>(
    peer: &str,
    result: Result<io::Result<T>, tokio::time::error::Elapsed>,
) -> Result<T, Error> {
    match result {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(explain(peer, &error)),
        Err(_) => Err(Error::new(
            Code::UpstreamTimeout,
            format!("the upstream {peer} did not answer in time"),
        )),
    }
}

fn explain(peer: &str, error: &io::Error) -> Error {
    let failed = |code, why: &str| Error::new(code, format!("the upstream {peer} {why}"));
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => failed(
            Code::FileLimit,
            "cannot be dialled: no file descriptors are left",
        ),
        Some(libc::ECONNREFUSED) => failed(Code::UpstreamRefused, "refused the connection"),
        Some(libc::ETIMEDOUT) => failed(Code::UpstreamTimeout, "did not answer"),
        Some(libc::ENOENT) => failed(Code::UpstreamUnreachable, "does not exist"),
        Some(libc::EADDRNOTAVAIL) => failed(
            Code::UpstreamUnreachable,
            "cannot be dialled: no local port is free, or there is no such address",
        ),
        _ => failed(
            Code::UpstreamUnreachable,
            &format!("cannot be reached: {error}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_to_itself_is_told_apart() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let own = socket.local_addr().unwrap();
        assert!(is_its_own_peer(&socket.connect(own).await.unwrap()).unwrap());
        let (near, far) = crate::testing::tcp_pair().await;
        assert!(!is_its_own_peer(&near).unwrap() && !is_its_own_peer(&far).unwrap());
    }
}
