//! TCP addresses (API: `reserved_addrs`): what a public endpoint's URL may name.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::url::hostport;
use crate::{AccountId, AddrId, Timestamp};

/// What an address owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressKind {
    /// One port on a shared hostname.
    Port,
    /// A hostname with an IP of its own, every port of which is the owner's.
    Host,
}

impl std::fmt::Display for AddressKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Port => "port",
            Self::Host => "host",
        })
    }
}

/// A reserved address. It belongs to its account until it is deleted, and rests for a while after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservedAddr {
    /// `ra_…`
    pub id: AddrId,
    /// The owner.
    pub account: AccountId,
    /// One port of a shared host, or a whole host.
    pub kind: AddressKind,
    /// The hostname, lower case.
    pub host: String,
    /// The port; `None` for kind `host`, which has them all.
    pub port: Option<u16>,
    /// The region of the host.
    pub region: String,
    /// Public addresses of the host, for kind `host`; empty for shared hostnames.
    #[serde(default)]
    pub ips: Vec<IpAddr>,
    /// At most 255 bytes.
    #[serde(default)]
    pub description: String,
    /// At most 4,096 bytes.
    #[serde(default)]
    pub metadata: String,
    /// When it was made.
    pub created_at: Timestamp,
}

impl ReservedAddr {
    /// The API's `addr`: `host:port`, or the host alone for kind `host`.
    pub fn addr(&self) -> String {
        match self.port {
            Some(port) => hostport(&self.host, port),
            None => self.host.clone(),
        }
    }

    /// Whether an endpoint at `host:port` stands on this address. `host` is compared in lower case.
    pub fn covers(&self, host: &str, port: u16) -> bool {
        self.host.eq_ignore_ascii_case(host) && self.port.is_none_or(|own| own == port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(kind: AddressKind, host: &str, port: Option<u16>) -> ReservedAddr {
        ReservedAddr {
            id: AddrId::new(1_700_000_000, [1; 16]),
            account: AccountId::new(1_700_000_000, [2; 16]),
            kind,
            host: host.to_owned(),
            port,
            region: "us".to_owned(),
            ips: Vec::new(),
            description: String::new(),
            metadata: String::new(),
            created_at: Timestamp::from_unix_millis(0),
        }
    }

    #[test]
    fn a_port_address_covers_its_port_and_a_host_address_all() {
        let port = address(AddressKind::Port, "1.tcp.example.com", Some(20001));
        assert!(port.covers("1.TCP.example.com", 20001));
        assert!(
            !port.covers("1.tcp.example.com", 20002) && !port.covers("2.tcp.example.com", 20001)
        );
        let host = address(AddressKind::Host, "db.example.com", None);
        assert!(host.covers("db.example.com", 1) && host.covers("db.example.com", u16::MAX));
        assert!(!host.covers("x.db.example.com", 1));
    }

    #[test]
    fn addr_is_host_and_port_as_an_endpoint_url_has_them() {
        assert_eq!(
            address(AddressKind::Port, "1.tcp.example.com", Some(20001)).addr(),
            "1.tcp.example.com:20001"
        );
        assert_eq!(
            address(AddressKind::Port, "2001:db8::1", Some(20001)).addr(),
            "[2001:db8::1]:20001"
        );
        assert_eq!(
            address(AddressKind::Host, "db.example.com", None).addr(),
            "db.example.com"
        );
        assert_eq!(
            serde_json::to_string(&AddressKind::Host).expect("a word"),
            format!("\"{}\"", AddressKind::Host)
        );
    }
}
