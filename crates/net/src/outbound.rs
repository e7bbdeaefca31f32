//! The agent's way out: directly, or through an HTTP (CONNECT) or SOCKS5 proxy.
//!
//! Must never: print a proxy's password.

use std::fmt;
use std::io;
use std::str::FromStr;

use portcullis_model::{Code, Error, Secret};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_socks::tcp::Socks5Stream;

use crate::defaults::ADDRESS_TIMEOUT_MIN;
use crate::socket::configure;

mod http;

/// A proxy, as `http://[user:password@]host:port` or `socks5://[user:password@]host:port`. User and
/// password are percent-decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    /// What it speaks.
    pub kind: ProxyKind,
    /// `host:port`.
    pub address: String,
    /// User and password.
    pub login: Option<(String, Secret)>,
}

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP CONNECT.
    Http,
    /// SOCKS5; the proxy resolves names.
    Socks5,
}

impl FromStr for ProxyUrl {
    type Err = Error;

    /// The text itself never appears in an error: it may hold a password.
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |why: &str| {
            Error::new(
                Code::ConfigInvalid,
                format!("the proxy's URL cannot be used: {why}"),
            )
        };
        let (scheme, rest) = text
            .trim()
            .split_once("://")
            .ok_or_else(|| invalid("write it as `http://host:port` or `socks5://host:port`"))?;
        let kind = match scheme {
            "http" => ProxyKind::Http,
            "socks5" | "socks5h" => ProxyKind::Socks5,
            "https" => {
                return Err(invalid(
                    "TLS towards the proxy is not supported; use `http://`",
                ));
            }
            _ => return Err(invalid("its scheme is http or socks5")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, address) = match rest.rsplit_once('@') {
            Some((login, address)) => (Some(login), address),
            None => (None, rest),
        };
        let login = login.map(parse_login).transpose().map_err(invalid)?;
        let address =
            with_port(address, kind).ok_or_else(|| invalid("it has no host, or no proper port"))?;
        Ok(Self {
            kind,
            address,
            login,
        })
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            ProxyKind::Http => "http",
            ProxyKind::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{}", self.address)
    }
}

fn parse_login(text: &str) -> Result<(String, Secret), &'static str> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    Ok((
        percent_decoded(user)?,
        Secret::new(percent_decoded(password)?),
    ))
}

fn percent_decoded(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "a `%` in user or password is not followed by two hexadecimal digits";
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part
            .get(..2)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .ok_or(WRONG)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| WRONG)?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).map_err(|_| "user or password is not UTF-8")
}

/// The address with its port, which the kind gives when the text does not.
fn with_port(text: &str, kind: ProxyKind) -> Option<String> {
    let default = match kind {
        ProxyKind::Http => 80,
        ProxyKind::Socks5 => 1080,
    };
    let whole = if split_host_port(text).is_some() {
        text.to_owned()
    } else {
        format!("{text}:{default}")
    };
    split_host_port(&whole).is_some().then_some(whole)
}

/// `host:port` or `[v6]:port`.
fn split_host_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = bare.or_else(|| (!host.contains(':')).then_some(host))?;
    (!host.is_empty() && !host.contains(['/', '@', ' ', '[', ']'])).then_some((host, port))
}

/// Connects to `server` (`host:port`) by the deadline.
///
/// # Errors
/// `PTC_DNS_FAILED`, `PTC_SERVER_UNREACHABLE`, `PTC_PROXY_CONNECT_FAILED`.
pub async fn connect(
    server: &str,
    proxy: Option<&ProxyUrl>,
    deadline: Instant,
) -> Result<TcpStream, Error> {
    let (host, port) = split_host_port(server).ok_or_else(|| {
        Error::new(
            Code::ServerUnreachable,
            format!("`{server}` is not a server; write it as `host:port`"),
        )
    })?;
    let Some(proxy) = proxy else {
        return direct(host, port, deadline).await.map_err(|(code, why)| {
            Error::new(code, format!("cannot reach the server {server}: {why}"))
        });
    };
    let failed = |why: &dyn fmt::Display| {
        Error::new(
            Code::ProxyConnectFailed,
            format!("cannot reach the server {server} through the proxy {proxy}: {why}"),
        )
    };
    let (proxy_host, proxy_port) = split_host_port(&proxy.address)
        .ok_or_else(|| failed(&"the proxy's address has no port"))?;
    let stream = direct(proxy_host, proxy_port, deadline)
        .await
        .map_err(|(_, why)| failed(&why))?;
    let through = async {
        match proxy.kind {
            ProxyKind::Http => http::connect(stream, server, proxy.login.as_ref()).await,
            ProxyKind::Socks5 => socks5(stream, (host, port), proxy).await,
        }
    };
    match timeout_at(deadline, Box::pin(through)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(why)) => Err(failed(&why)),
        Err(_) => Err(failed(&"it did not answer in time")),
    }
}

/// Every address of a host in turn, each with a share of the time.
async fn direct(host: &str, port: u16, deadline: Instant) -> Result<TcpStream, (Code, String)> {
    let lookup = timeout_at(deadline, lookup_host((host, port))).await;
    let addresses: Vec<_> = match lookup {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => {
            return Err((
                Code::DnsFailed,
                format!("the name `{host}` does not resolve ({error})"),
            ));
        }
        Err(_) => {
            return Err((
                Code::DnsFailed,
                format!("the name `{host}` could not be resolved in time"),
            ));
        }
    };
    let mut last = (Code::DnsFailed, format!("the name `{host}` has no address"));
    for (tried, addr) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let parts = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let until = Instant::now() + (left / parts).max(ADDRESS_TIMEOUT_MIN).min(left);
        let connected = timeout_at(until, TcpStream::connect(addr)).await;
        let why = match connected
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))
            .and_then(|result| result)
        {
            Ok(stream) => match configure(&stream) {
                Ok(()) => return Ok(stream),
                Err(error) => error,
            },
            Err(error) => error,
        };
        last = (Code::ServerUnreachable, format!("{addr}: {why}"));
    }
    Err(last)
}

async fn socks5(
    stream: TcpStream,
    target: (&str, u16),
    proxy: &ProxyUrl,
) -> Result<TcpStream, String> {
    let connected = match &proxy.login {
        None => Socks5Stream::connect_with_socket(stream, target).await,
        Some((user, password)) => {
            Socks5Stream::connect_with_password_and_socket(stream, target, user, password.expose())
                .await
        }
    };
    connected
        .map(Socks5Stream::into_inner)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
