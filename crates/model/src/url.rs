//! Endpoint URLs: what a user may ask for ([`UrlRequest`]) and the canonical form that an endpoint
//! has ([`EndpointUrl`]). Rules and codes follow ngrok's, see `docs/endpoints.md`.
//!
//! Must never: resolve a name or know which addresses exist.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::defaults::QUOTE_CHARS_MAX;
use crate::errors::{Code, Error};

mod binding;
mod host;
mod parse;
#[cfg(test)]
mod tests;

pub(crate) use host::{Host, read_host, read_port};
pub use parse::parse;

/// What the names of internal endpoints end in.
pub const INTERNAL_SUFFIX: &str = ".internal";

/// The port of a `tls://` URL that names none.
pub const TLS_PORT: u16 = 443;

/// `host:port`, with brackets around an IPv6 address.
pub fn hostport(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// What an endpoint's clients speak, as far as it decides how they are routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Scheme {
    /// Anything: routed by address and port.
    #[default]
    Tcp,
    /// TLS: routed by the name that the client asks for, on one port for all.
    Tls,
}

impl Scheme {
    /// As URLs have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A complete endpoint URL, `tcp://host:port` or `tls://name:port`, host in lower case. An IPv6 address stands in
/// brackets in the text, and without them in [`EndpointUrl::host`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EndpointUrl {
    scheme: Scheme,
    host: String,
    port: u16,
}

/// What a user asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UrlRequest {
    /// `tcp://` or nothing: any host and port (public only).
    Random,
    /// `tcp://host`: the port is to be inferred from the account's addresses (public only).
    Host(String),
    /// `tls://`: any name that the server has for it (public only).
    RandomTls,
    /// `tls://name`: at the port on which the server routes TLS by name (public only).
    TlsName(String),
    /// `tcp://host:port`, or `tls://name:port`.
    Exact(EndpointUrl),
}

impl EndpointUrl {
    /// A `tcp://` URL from parts that were checked; the host is put in lower case, an IPv6 address in its
    /// shortest form without brackets.
    pub fn new(host: &str, port: u16) -> Self {
        Self::with_scheme(Scheme::Tcp, host, port)
    }

    /// The same for any scheme.
    pub fn with_scheme(scheme: Scheme, host: &str, port: u16) -> Self {
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host);
        let host = match bare.parse::<Ipv6Addr>() {
            Ok(ip) => ip.to_string(),
            Err(_) => bare.to_ascii_lowercase(),
        };
        Self { scheme, host, port }
    }

    /// Lower-case host name, or an IP address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port, 1 to 65535.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, with brackets around an IPv6 address.
    pub fn hostport(&self) -> String {
        hostport(&self.host, self.port)
    }

    /// Whether the host is an internal name.
    pub fn is_internal(&self) -> bool {
        self.host.ends_with(INTERNAL_SUFFIX)
    }

    /// Whether the first label is `*`.
    pub fn is_wildcard(&self) -> bool {
        self.host.starts_with("*.")
    }

    /// The wildcard URLs that cover this one, the most specific first: `a.b.internal` is covered by
    /// `*.b.internal`, then by `*.internal`. A URL that is itself a wildcard starts with the next
    /// wider one. Public `tcp://` URLs have none.
    pub fn wildcards(&self) -> impl Iterator<Item = Self> + '_ {
        let rest = if self.is_internal() || self.scheme == Scheme::Tls {
            self.host.as_str()
        } else {
            ""
        };
        rest.match_indices('.')
            .map(|(at, _)| Self {
                scheme: self.scheme,
                host: format!("*{}", &rest[at..]),
                port: self.port,
            })
            .filter(move |url| url.host != self.host)
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.hostport())
    }
}

impl FromStr for EndpointUrl {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        match parse(text, None)?.1 {
            UrlRequest::Exact(url) => Ok(url),
            UrlRequest::TlsName(name) => Ok(Self::with_scheme(Scheme::Tls, &name, TLS_PORT)),
            UrlRequest::RandomTls => Err(Error::new(
                Code::UrlHostInvalid,
                "`tls://` names no host, and one is needed here; write `tls://name.example.com`",
            )),
            UrlRequest::Random => Err(Error::new(
                Code::UrlPortMissing,
                "`tcp://` names neither host nor port, and both are needed here; write `tcp://host:port`",
            )),
            UrlRequest::Host(host) => Err(Error::new(
                Code::UrlPortMissing,
                format!(
                    "`tcp://{host}` has no port, and one is needed here; write `tcp://{host}:20001` with the port you mean"
                ),
            )),
        }
    }
}

impl TryFrom<String> for EndpointUrl {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<EndpointUrl> for String {
    fn from(url: EndpointUrl) -> Self {
        url.to_string()
    }
}

fn refuse<T>(code: Code, message: String) -> Result<T, Error> {
    Err(Error::new(code, message))
}

/// The user's text for a message: without user info, at most a line of it, nothing that moves a cursor.
fn quoted(text: &str) -> String {
    let shown = match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => {
            format!("{}…{}", &text[..scheme + 3], &text[at..])
        }
        (None, Some(at)) => format!("…{}", &text[at..]),
        _ => text.to_owned(),
    };
    let clean: String = shown
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    match clean.char_indices().nth(QUOTE_CHARS_MAX) {
        Some((cut, _)) => format!("{}…", &clean[..cut]),
        None => clean,
    }
}
