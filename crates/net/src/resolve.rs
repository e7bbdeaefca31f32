//! Names to addresses: the system's name servers and `/etc/hosts`, TTLs honoured.
//!
//! Must never: keep an answer longer than its TTL.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::rdata::SRV;
use portcullis_model::{Code, Error};
use rand::RngExt as _;

use crate::defaults::{
    RESOLVER_CACHE_ENTRIES, RESOLVER_NEGATIVE_TTL_MAX, RESOLVER_TIMEOUT, RESOLVER_TTL_MAX,
    SRV_TARGETS_MAX, UPSTREAM_ADDRESSES_MAX,
};

/// A resolver with its cache. Cheap to clone.
#[derive(Clone)]
pub struct Resolver(TokioResolver);

impl Resolver {
    /// With the system's configuration. Without one (no `/etc/resolv.conf`), only literal addresses
    /// and `/etc/hosts` resolve. Call it within the runtime.
    ///
    /// # Errors
    /// `PTC_INTERNAL` when the resolver cannot be built at all.
    pub fn system() -> Result<Self, Error> {
        let (config, options) = match hickory_resolver::system_conf::read_system_conf() {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "no usable /etc/resolv.conf; only /etc/hosts and addresses resolve");
                (ResolverConfig::default(), ResolverOpts::default())
            }
        };
        Self::build(config, options)
    }

    /// With one name server, for tests and for networks of one's own.
    ///
    /// # Errors
    /// `PTC_INTERNAL` when the resolver cannot be built at all.
    pub fn with_server(server: SocketAddr) -> Result<Self, Error> {
        Self::with_servers(&[server])
    }

    /// With these name servers instead of the system's.
    ///
    /// # Errors
    /// `PTC_INTERNAL` when the resolver cannot be built at all.
    pub fn with_servers(servers: &[SocketAddr]) -> Result<Self, Error> {
        let name_server = |server: &SocketAddr| {
            let mut name_server = NameServerConfig::udp_and_tcp(server.ip());
            for connection in &mut name_server.connections {
                connection.port = server.port();
            }
            name_server
        };
        Self::build(
            ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(name_server).collect()),
            ResolverOpts::default(),
        )
    }

    fn build(config: ResolverConfig, mut options: ResolverOpts) -> Result<Self, Error> {
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.cache_size = RESOLVER_CACHE_ENTRIES;
        options.positive_max_ttl = Some(RESOLVER_TTL_MAX);
        options.negative_max_ttl = Some(RESOLVER_NEGATIVE_TTL_MAX);
        options.timeout = RESOLVER_TIMEOUT;
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder
            .with_options(options)
            .build()
            .map(Self)
            .map_err(Error::internal)
    }

    /// The addresses of a host: a literal, `localhost`, or A and AAAA records, IPv4 first.
    ///
    /// # Errors
    /// `PTC_DNS_FAILED`.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Error> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![ip]);
        }
        if host.eq_ignore_ascii_case("localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let found = self
            .0
            .lookup_ip(host)
            .await
            .map_err(|error| failed(host, &error))?;
        let mut addresses: Vec<IpAddr> = found.iter().collect();
        addresses.sort_by_key(IpAddr::is_ipv6); // stable: the server's order within a family stays
        addresses.truncate(UPSTREAM_ADDRESSES_MAX);
        Ok(addresses)
    }

    /// The addresses and ports behind an SRV name, by priority, and by weight at random.
    ///
    /// # Errors
    /// `PTC_DNS_FAILED`.
    pub async fn service(&self, name: &str) -> Result<Vec<SocketAddr>, Error> {
        let found = self
            .0
            .srv_lookup(name)
            .await
            .map_err(|error| failed(name, &error))?;
        let records = found
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(srv) => Some(srv.clone()),
                _ => None,
            });
        let mut records: Vec<SRV> = records.collect();
        order(&mut records, |below| rand::rng().random_range(0..below));
        let mut addresses = Vec::new();
        let mut failure = None;
        for record in records.iter().take(SRV_TARGETS_MAX) {
            match self.addresses(&record.target.to_utf8()).await {
                Ok(ips) => {
                    addresses.extend(ips.into_iter().map(|ip| SocketAddr::new(ip, record.port)))
                }
                Err(error) => failure = Some(error),
            }
        }
        addresses.truncate(UPSTREAM_ADDRESSES_MAX);
        match (addresses.is_empty(), failure) {
            (false, _) => Ok(addresses),
            (true, Some(error)) => Err(error),
            (true, None) => Err(Error::new(
                Code::DnsFailed,
                format!("`{name}` has no SRV records"),
            )),
        }
    }
}

fn failed(name: &str, error: &hickory_resolver::net::NetError) -> Error {
    let text = if error.is_no_records_found() || error.is_nx_domain() {
        format!("the name `{name}` does not resolve")
    } else {
        format!("resolving `{name}` failed: {error}")
    };
    Error::new(Code::DnsFailed, text)
}

/// RFC 2782: ascending priority; within one, drawn by weight without putting back.
fn order(records: &mut [SRV], mut random: impl FnMut(u32) -> u32) {
    records.sort_by_key(|record| (record.priority, record.weight));
    for at in 0..records.len() {
        let same = records[at..]
            .iter()
            .take_while(|record| record.priority == records[at].priority);
        let weights: Vec<u32> = same.map(|record| u32::from(record.weight)).collect();
        let total: u32 = weights.iter().sum();
        let mut drawn = random(total + 1);
        let chosen = weights.iter().position(|weight| {
            let hit = drawn <= *weight;
            drawn = drawn.saturating_sub(*weight);
            hit
        });
        records[at..=at + chosen.unwrap_or(0)].rotate_right(1);
    }
}

#[cfg(test)]
pub(crate) mod tests;
