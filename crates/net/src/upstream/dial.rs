//! Dialling an upstream: every address in its order, under the caller's one deadline.
//!
//! Must never: go on past the deadline, or hide which step failed.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;
use std::{fs, io};

use portcullis_model::{Code, Error};
use rustls::pki_types::ServerName;
use socket2::{Domain, Protocol, Type};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::{Target, Upstream, UpstreamStream, UpstreamTls};
use crate::defaults::ADDRESS_TIMEOUT_MIN;
use crate::resolve::Resolver;
use crate::socket::{TcpConn, UnixConn, configure_first, reset_on_drop};
use crate::tls::{Roots, Wire, upstream_config};
use crate::wheel::timeout_at;

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
                .map(UpstreamStream::tcp),
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
    if let Target::HostPort { host, port } = target
        && let Ok(ip) = host.parse::<IpAddr>()
    {
        return Ok(vec![SocketAddr::new(ip, *port)]);
    }
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
        Some(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
        Some(Ok(_)) => Err(Error::new(
            Code::UpstreamUnresolved,
            format!("the upstream {target} has no address"),
        )),
        Some(Err(error)) => Err(Error::new(
            Code::UpstreamUnresolved,
            format!("the upstream {target}: {}", error.message),
        )),
        None => {
            let text = format!("the upstream {target}: its name could not be resolved in time");
            Err(Error::new(Code::UpstreamUnresolved, text))
        }
    }
}

async fn dial_tcp(addr: SocketAddr, until: Instant, header: &[u8]) -> Result<TcpConn, Error> {
    let connect = async {
        let mut dialling = Dialling(None);
        let stream = connect(addr, &mut dialling).await?;
        if may_be_its_own_peer(addr) && is_its_own_peer(stream, addr)? {
            // Its reset gives the port back to the service at once.
            return Err(io::Error::from_raw_os_error(libc::ECONNREFUSED));
        }
        stream.write_all(header).await?;
        dialling.done()
    };
    finish(addr, timeout_at(until, connect).await).map(TcpConn::new_dialled)
}

/// A connection that the upstream may have accepted already. Given up before it is done, it is reset:
/// the upstream must not take it for an empty session that ended cleanly.
struct Dialling(Option<TcpStream>);

impl Dialling {
    fn done(mut self) -> io::Result<TcpStream> {
        self.0.take().ok_or(io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        if let Some(stream) = &self.0 {
            reset_on_drop(stream);
        }
    }
}

/// As `TcpStream::connect`, with our options in place before the first packet and two system calls
/// less. It stays in `dialling`.
async fn connect(addr: SocketAddr, dialling: &mut Dialling) -> io::Result<&mut TcpStream> {
    let socket = socket2::Socket::new(
        Domain::for_address(addr),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    configure_first(&socket)?;
    match socket.connect(&addr.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let stream = dialling.0.insert(TcpStream::from_std(socket.into())?);
    let ready = stream.ready(Interest::WRITABLE | Interest::ERROR).await?;
    // A connect that failed has an error pending; one that did not needs no question about it.
    if (ready.is_error() || ready.is_write_closed())
        && let Some(error) = stream.take_error()?
    {
        return Err(error);
    }
    Ok(stream)
}

/// Whether a connection to this address could get the address's port for its own: the kernel gives out
/// ports of one range. Read once: who changes it under a running process loses a corner case.
fn may_be_its_own_peer(addr: SocketAddr) -> bool {
    static PORTS: OnceLock<RangeInclusive<u16>> = OnceLock::new();
    let ports = PORTS.get_or_init(|| {
        fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
            .ok()
            .and_then(|text| parse_ports(&text))
            .unwrap_or(0..=u16::MAX)
    });
    ports.contains(&addr.port())
}

fn parse_ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.trim().split_once(char::is_whitespace)?;
    Some(first.parse().ok()?..=last.trim().parse().ok()?)
}

/// Nobody listens, and the kernel gave the connection the very port that it dials, which connects it to
/// itself: whoever keeps dialling a local service that is down gets there.
fn is_its_own_peer(stream: &TcpStream, dialled: SocketAddr) -> io::Result<bool> {
    Ok(stream.local_addr()? == dialled)
}

async fn dial_unix(path: &Path, until: Instant, header: &[u8]) -> Result<UpstreamStream, Error> {
    let connect = async {
        let mut stream = UnixStream::connect(path).await?;
        stream.write_all(header).await?;
        Ok(stream)
    };
    let stream = finish(path.display(), timeout_at(until, connect).await)?;
    Ok(UpstreamStream::unix(UnixConn::new(stream)))
}

async fn dial_tls(
    addr: SocketAddr,
    target: &Target,
    tls: &UpstreamTls,
    until: Instant,
    header: &[u8],
) -> Result<UpstreamStream, Error> {
    let conn = dial_tcp(addr, until, header).await?;
    let failed = |why: &dyn Display| {
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
        Some(Ok(stream)) => Ok(UpstreamStream::tls(stream)),
        Some(Err(error)) => Err(failed(&error)),
        None => Err(failed(&"it did not answer in time")),
    }
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

/// `None` is out of time.
fn finish<T>(peer: impl Display, result: Option<io::Result<T>>) -> Result<T, Error> {
    match result {
        Some(Ok(stream)) => Ok(stream),
        Some(Err(error)) => Err(explain(peer, &error)),
        None => Err(Error::new(
            Code::UpstreamTimeout,
            format!("the upstream {peer} did not answer in time"),
        )),
    }
}

fn explain(peer: impl Display, error: &io::Error) -> Error {
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
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::relay::RelayIo as _;

    #[tokio::test]
    async fn a_connection_to_itself_is_told_apart() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let own = socket.local_addr().unwrap();
        assert!(is_its_own_peer(&socket.connect(own).await.unwrap(), own).unwrap());
        assert!(may_be_its_own_peer(own), "the kernel gave the port out");
        let (near, far) = crate::testing::tcp_pair().await;
        for stream in [near, far] {
            let dialled = stream.peer_addr().unwrap();
            assert!(!is_its_own_peer(&stream, dialled).unwrap());
        }
    }

    #[test]
    fn the_kernels_ports_are_read() {
        assert_eq!(parse_ports("32768\t60999\n"), Some(32768..=60999));
        assert_eq!(parse_ports(""), None);
    }

    #[tokio::test]
    async fn a_dialled_connection_has_its_options_and_the_rest_when_it_lasts() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let until = Instant::now() + crate::testing::SOON;
        let mut conn = dial_tcp(addr, until, b"header").await.unwrap();
        let socket = socket2::Socket::from(conn.as_fd().try_clone_to_owned().unwrap());
        assert!(socket.tcp_nodelay().unwrap() && socket.out_of_band_inline().unwrap());
        assert!(!socket.keepalive().unwrap());
        conn.settle();
        assert!(socket.keepalive().unwrap());
    }

    #[tokio::test]
    async fn a_refused_connection_says_so() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = closed.local_addr().unwrap();
        drop(closed);
        let mut dialling = Dialling(None);
        let error = connect(addr, &mut dialling).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
    }

    /// On loopback the upstream has the connection before the dial is polled again.
    #[tokio::test]
    async fn a_dial_that_is_given_up_resets_what_the_upstream_accepted() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut dial = Box::pin(dial_tcp(addr, Instant::now() + crate::testing::SOON, b""));
        assert!(futures_util::poll!(&mut dial).is_pending());
        drop(dial);
        let (mut accepted, _) = listener.accept().await.unwrap();
        let error = tokio::io::AsyncReadExt::read(&mut accepted, &mut [0]).await;
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
