//! Absolute URLs of resources, as the caller reaches this server.

use axum::http::{HeaderMap, header};

use super::peer::Peer;

/// What every `uri` starts with.
#[derive(Debug, Clone)]
pub(crate) struct Links {
    base: String,
}

impl Links {
    /// The configured base; else the request's `Host`, with the scheme of the connection or of the
    /// proxy in front of it. They shape nothing but links in the answer to the same caller.
    pub(crate) fn new(configured: Option<&str>, headers: &HeaderMap, peer: Peer) -> Self {
        if let Some(base) = configured {
            return Self {
                base: base.trim_end_matches('/').to_owned(),
            };
        }
        let text =
            |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let forwarded = text(header::HeaderName::from_static("x-forwarded-proto"));
        let scheme = match forwarded {
            Some("https") => "https",
            Some("http") => "http",
            _ if peer.tls => "https",
            _ => "http",
        };
        let host = text(header::HOST)
            .filter(|host| is_authority(host))
            .unwrap_or("localhost");
        Self {
            base: format!("{scheme}://{host}"),
        }
    }

    /// The URL of one resource.
    pub(crate) fn to(&self, collection: &str, id: impl std::fmt::Display) -> String {
        format!("{}/{collection}/{id}", self.base)
    }

    /// The URL of a path with its query.
    pub(crate) fn path(&self, path: &str, query: &str) -> String {
        if query.is_empty() {
            format!("{}{path}", self.base)
        } else {
            format!("{}{path}?{query}", self.base)
        }
    }
}

/// Whether a `Host` header holds nothing but a host and port.
fn is_authority(text: &str) -> bool {
    let allowed =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    !text.is_empty() && text.len() <= 300 && text.bytes().all(allowed)
}
