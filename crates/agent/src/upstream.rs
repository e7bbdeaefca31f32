//! Upstreams as users write them.

use portcullis_model::Error;
use portcullis_net::upstream::Upstream;

/// Reads a port, `host:port`, `tcp://host:port`, `tls://host:port` or `unix:/path`.
///
/// # Errors
/// `PTC_UPSTREAM_INVALID`.
pub(crate) fn parse(text: &str) -> Result<Upstream, Error> {
    text.trim().parse()
}
