//! TCP addresses (`reserved_addrs`).

use std::net::IpAddr;

use portcullis_model::{AddressKind, ReservedAddr, Timestamp};
use portcullis_store::{AddressUpdate, NewAddress};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Ref, envelope};
use crate::web::Links;

/// A reserved address.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReservedAddr)]
pub(crate) struct AddressView {
    /// `ra_…`
    id: String,
    /// Where it can be read.
    uri: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    description: String,
    metadata: String,
    /// `host:port`; the host alone for kind `host`.
    addr: String,
    region: String,
    /// Always null here.
    #[schema(required)]
    endpoint_configuration: Option<Ref>,
    /// `port`: one port of a shared hostname. `host`: a hostname with an IP of its own, all ports.
    kind: &'static str,
    host: String,
    /// Null for kind `host`, which has them all.
    #[schema(required)]
    port: Option<u16>,
    /// The public IPs of kind `host`; empty for shared hostnames.
    #[schema(value_type = Vec<String>)]
    ips: Vec<IpAddr>,
    /// The DNS record that gives the address a name of one's own, with `db.example.com` as that name.
    cname: String,
    /// What to know about such a name.
    dns_hint: String,
}

envelope! {
    /// A page of reserved addresses.
    ReservedAddrList { reserved_addrs: AddressView }
}

/// An address to reserve. Without any field: a random port of a shared hostname.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReservedAddrCreate {
    /// At most 255 bytes.
    description: Option<String>,
    /// At most 4,096 bytes.
    metadata: Option<String>,
    /// Draw among the hosts of this region.
    region: Option<String>,
    /// `port` (default) or `host`.
    kind: Option<Kind>,
    /// Kind `port`: one of the shared hostnames. Kind `host`: a name of one's own.
    host: Option<String>,
    /// Kind `port` only; absent or 0: drawn at random.
    port: Option<u16>,
}

/// What an address owns.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AddressKind)]
pub(crate) enum Kind {
    /// One port of a shared hostname.
    Port,
    /// A hostname with an IP of its own.
    Host,
}

/// Changes to an address.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReservedAddrUpdate {
    /// At most 255 bytes.
    description: Option<String>,
    /// At most 4,096 bytes.
    metadata: Option<String>,
}

impl AddressView {
    pub(crate) fn new(links: &Links, record: &ReservedAddr) -> Self {
        Self {
            id: record.id.to_string(),
            uri: links.to("reserved_addrs", &record.id),
            created_at: record.created_at,
            description: record.description.clone(),
            metadata: record.metadata.clone(),
            addr: record.addr(),
            region: record.region.clone(),
            endpoint_configuration: None,
            kind: match record.kind {
                AddressKind::Port => "port",
                AddressKind::Host => "host",
            },
            host: record.host.clone(),
            port: record.port,
            ips: record.ips.clone(),
            cname: dns_record(&record.host),
            dns_hint: hint(record),
        }
    }
}

/// The record for a name of one's own. A host that is an IP takes an address record.
fn dns_record(host: &str) -> String {
    let own = "db.example.com.";
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => format!("{own} A {ip}"),
        Ok(IpAddr::V6(ip)) => format!("{own} AAAA {ip}"),
        Err(_) => format!("{own} CNAME {host}."),
    }
}

fn hint(record: &ReservedAddr) -> String {
    let host = &record.host;
    let reach =
        "Put the record in `cname` into your own zone, with your name in place of db.example.com";
    match record.port {
        Some(port) => format!(
            "{reach}, and connect to your name at port {port}. Every port of {host} then answers on that name, other \
             accounts' ports too; an address of kind `host` avoids that."
        ),
        None => format!(
            "{reach}. Every port of {host} is this account's, so nothing else answers on that name."
        ),
    }
}

impl From<ReservedAddrCreate> for NewAddress {
    fn from(create: ReservedAddrCreate) -> Self {
        Self {
            kind: create.kind.map(|kind| match kind {
                Kind::Port => AddressKind::Port,
                Kind::Host => AddressKind::Host,
            }),
            host: create.host,
            port: create.port.filter(|port| *port != 0),
            region: create.region,
            description: create.description.unwrap_or_default(),
            metadata: create.metadata.unwrap_or_default(),
        }
    }
}

impl From<ReservedAddrUpdate> for AddressUpdate {
    fn from(update: ReservedAddrUpdate) -> Self {
        Self {
            description: update.description,
            metadata: update.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ip_has_no_cname() {
        assert_eq!(
            dns_record("edge.example.net"),
            "db.example.com. CNAME edge.example.net."
        );
        assert_eq!(dns_record("192.0.2.7"), "db.example.com. A 192.0.2.7");
        assert_eq!(
            dns_record("2001:db8::1"),
            "db.example.com. AAAA 2001:db8::1"
        );
    }
}
