//! Endpoint URLs: what a user may ask for ([`UrlRequest`]) and the canonical form that an endpoint
//! has ([`EndpointUrl`]). Rules and codes follow ngrok's, see `docs/endpoints.md`.
//!
//! Must never: resolve a name or know which addresses exist.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::endpoint::Binding;
use crate::errors::{Code, Error};

/// A complete endpoint URL, `tcp://host:port`, host in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EndpointUrl {
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
    /// `tcp://host:port`.
    Exact(EndpointUrl),
}

impl EndpointUrl {
    /// From parts that were checked; the host is put in lower case.
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.to_ascii_lowercase(), port }
    }

    /// Lower-case host name.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port, 1 to 65535.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`.
    pub fn hostport(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The scheme; `tcp` until TLS endpoints come.
    pub fn scheme(&self) -> &'static str {
        "tcp"
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcp://{}:{}", self.host, self.port)
    }
}

impl FromStr for EndpointUrl {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        match parse(text, None)?.1 {
            UrlRequest::Exact(url) => Ok(url),
            UrlRequest::Random | UrlRequest::Host(_) => {
                Err(Error::new(Code::UrlPortMissing, format!("`{text}` has no port; write it as `tcp://host:port`")))
            }
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

/// Reads an endpoint URL and settles its binding: the one given, else `internal` for a host that
/// ends in `.internal`, else `public`. An empty text is `tcp://`.
///
/// # Errors
/// One code per rule (`PTC_URL_…`); the message says what is wrong and proposes the right form.
pub fn parse(text: &str, binding: Option<Binding>) -> Result<(Binding, UrlRequest), Error> {
    let _ = (text, binding);
    Err(Error::of(Code::UrlMalformed))
}
