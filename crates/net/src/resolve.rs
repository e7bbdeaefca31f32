//! Names to addresses: the system's name servers and `/etc/hosts`, TTLs honoured.
//!
//! Must never: keep an answer longer than its TTL.

use std::net::{IpAddr, SocketAddr};

use portcullis_model::Error;

/// A resolver with its cache. Cheap to clone.
#[derive(Clone)]
pub struct Resolver(());

impl Resolver {
    /// With the system's configuration. Without one (no `/etc/resolv.conf`), only literal addresses
    /// and `/etc/hosts` resolve.
    pub fn system() -> Self {
        Self(())
    }

    /// With one name server, for tests and for networks of one's own.
    pub fn with_server(server: SocketAddr) -> Self {
        let _ = server;
        Self(())
    }

    /// The addresses of a host: a literal, `localhost`, or A and AAAA records.
    ///
    /// # Errors
    /// `PTC_DNS_FAILED`.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Error> {
        Err(Error::internal(host))
    }

    /// The addresses and ports behind an SRV name, by priority, and by weight at random.
    ///
    /// # Errors
    /// `PTC_DNS_FAILED`.
    pub async fn service(&self, name: &str) -> Result<Vec<SocketAddr>, Error> {
        Err(Error::internal(name))
    }
}
