//! `portcullis tls`: one service, one name that clients ask for in their TLS.
//!
//! Must never: do other than `tcp` with the same flags.

use portcullis_model::url::Scheme;

use super::tcp;
use crate::failure::Failure;

/// What the help ends with.
pub(crate) const EXAMPLES: &str = "Examples:
  portcullis tls 443                                   a random name for localhost:443
  portcullis tls web.lan:443 --url tls://app.edge.example.com
  portcullis tls 443 --url 'tls://*.app.edge.example.com'
  portcullis tls 8443 --url tls://app.internal         for other endpoints of the account only";

/// Runs it until a signal comes.
///
/// # Errors
/// Why the endpoint could not be had, or why the agent ended.
pub(crate) fn run(args: tcp::Args) -> Result<(), Failure> {
    tcp::serve(args, Scheme::Tls)
}
