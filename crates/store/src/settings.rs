//! What the registry needs to know of the server's configuration: hosts, pools of IPs, plans.
//!
//! Owns: the checks that these make sense together. Must never: read files or the environment.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_model::{Account, Code, Error, Plan};
use serde::{Deserialize, Serialize};

use crate::defaults;
use crate::sealer::Sealer;

mod tls;

#[cfg(test)]
pub(crate) use tls::overlap;
pub use tls::{TlsHost, TlsSettings};

/// Settings of one node's registry.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This node, unique in the cluster and stable across restarts.
    pub node: String,
    /// This node's region.
    pub region: String,
    /// Hosts whose ports are shared out among accounts. The first is the default.
    pub hosts: Vec<SharedHost>,
    /// Pools of IPs for `host` addresses.
    pub ip_pools: Vec<IpPool>,
    /// Plans by name; `default` is added when it is absent, and allows all.
    pub plans: BTreeMap<String, Plan>,
    /// Endpoints that are routed by the name in clients' TLS.
    pub tls: TlsSettings,
    /// How long a released address rests.
    pub address_rest: Duration,
    /// Endpoints of one session.
    pub session_endpoints_max: u32,
    /// The node's lease.
    pub lease_ttl: Duration,
    /// Seals the values of secrets; without one there can be none.
    pub sealer: Option<Arc<dyn Sealer>>,
}

impl Settings {
    /// Settings of a node with one shared host and the default range of ports.
    pub fn new(
        node: impl Into<String>,
        region: impl Into<String>,
        host: impl Into<String>,
    ) -> Self {
        let region = region.into();
        Self {
            node: node.into(),
            hosts: vec![SharedHost::new(host, region.clone())],
            region,
            ip_pools: Vec::new(),
            plans: BTreeMap::new(),
            tls: TlsSettings::default(),
            address_rest: defaults::ADDRESS_REST,
            session_endpoints_max: defaults::SESSION_ENDPOINTS_MAX,
            lease_ttl: defaults::NODE_LEASE_TTL,
            sealer: None,
        }
    }

    /// The plan of an account; an account whose plan is gone gets `default`.
    pub fn plan(&self, account: &Account) -> &Plan {
        static ALL_ALLOWED: std::sync::LazyLock<Plan> = std::sync::LazyLock::new(Plan::default);
        self.plans
            .get(&account.plan)
            .or_else(|| self.plans.get("default"))
            .unwrap_or(&ALL_ALLOWED)
    }

    /// The shared host of that name, if there is one.
    pub fn shared_host(&self, host: &str) -> Option<&SharedHost> {
        self.hosts
            .iter()
            .find(|shared| shared.host.eq_ignore_ascii_case(host))
    }

    /// The pool and entry of a public IP.
    pub fn pool_ip(&self, public: IpAddr) -> Option<(&IpPool, &PoolIp)> {
        self.ip_pools.iter().find_map(|pool| {
            pool.ips
                .iter()
                .find(|ip| ip.public == public)
                .map(|ip| (pool, ip))
        })
    }

    /// Puts names in lower case, adds the plan `default`, and checks the whole.
    ///
    /// # Errors
    /// `PTC_CONFIG_INVALID` with every problem and its path.
    pub fn checked(mut self) -> Result<Self, Error> {
        let mut problems = Vec::new();
        self.plans.entry("default".to_owned()).or_default();
        for (index, host) in self.hosts.iter_mut().enumerate() {
            host.host.make_ascii_lowercase();
            // URLs carry IPv6 addresses in their shortest form.
            if let Ok(ip) = host.host.parse::<IpAddr>() {
                host.host = ip.to_string();
            }
            if host.host.is_empty() {
                problems.push(format!("hosts[{index}].host: is empty"));
            }
        }
        for (index, pool) in self.ip_pools.iter().enumerate() {
            check_pool(index, pool, &mut problems);
        }
        self.tls.check(&mut problems);
        check_duplicates(&self, &mut problems);
        if self.node.is_empty() || self.node.contains('/') {
            problems.push("node_id: must be a non-empty name without `/`".to_owned());
        }
        if problems.is_empty() {
            Ok(self)
        } else {
            Err(Error::new(Code::ConfigInvalid, problems.join("; ")))
        }
    }
}

fn check_pool(index: usize, pool: &IpPool, problems: &mut Vec<String>) {
    let at = format!("ip_pools[{index}]");
    if pool.name.is_empty() {
        problems.push(format!("{at}.name: is empty"));
    }
    if let Some(pattern) = &pool.host_pattern
        && !pattern.contains("{ip}")
        && !pattern.contains("{n}")
        && pool.ips.len() > 1
    {
        problems.push(format!(
            "{at}.host_pattern: needs `{{ip}}` or `{{n}}`, for the pool has several IPs"
        ));
    }
}

fn check_duplicates(settings: &Settings, problems: &mut Vec<String>) {
    let mut hosts = std::collections::BTreeSet::new();
    for (index, host) in settings.hosts.iter().enumerate() {
        if !hosts.insert(&host.host) {
            problems.push(format!("hosts[{index}].host: `{}` stands twice", host.host));
        }
    }
    let mut publics = std::collections::BTreeSet::new();
    for (index, pool) in settings.ip_pools.iter().enumerate() {
        for ip in &pool.ips {
            if !publics.insert(ip.public) {
                problems.push(format!("ip_pools[{index}].ips: {} stands twice", ip.public));
            }
        }
    }
}

/// A hostname whose ports are shared out, one port to one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedHost {
    /// The name, lower case.
    pub host: String,
    /// Its region.
    pub region: String,
    /// Random draws come from here; empty: no draws, only chosen ports.
    pub ports: PortRanges,
    /// Ports that a user may choose.
    pub choose: PortRanges,
    /// Accounts (ids or names) that may use it; empty: all.
    pub accounts: Vec<String>,
    /// IPs that this host's ports listen on; empty: all that no pool has. Hosts with the same IPs
    /// share their ports: one port is one listener, whatever name a client used.
    pub bind: Vec<IpAddr>,
}

impl SharedHost {
    /// A host with the default ranges.
    pub fn new(host: impl Into<String>, region: impl Into<String>) -> Self {
        Self {
            host: host.into().to_ascii_lowercase(),
            region: region.into(),
            ports: PortRanges(vec![PortRange {
                first: defaults::PUBLIC_PORT_FIRST,
                last: defaults::PUBLIC_PORT_LAST,
            }]),
            choose: PortRanges(vec![PortRange {
                first: 1,
                last: u16::MAX,
            }]),
            accounts: Vec::new(),
            bind: Vec::new(),
        }
    }

    /// The hosts `1.tcp.BASE` to `COUNT.tcp.BASE`, or `N.tcp.REGION.BASE` where a region is part of
    /// the name.
    pub fn numbered(base: &str, region: &str, region_in_name: bool, count: u32) -> Vec<Self> {
        let suffix = if region_in_name {
            format!("tcp.{region}.{base}")
        } else {
            format!("tcp.{base}")
        };
        (1..=count)
            .map(|n| Self::new(format!("{n}.{suffix}"), region))
            .collect()
    }

    /// Whether a connection to one of the two may arrive at the same listener as one to the other. A
    /// host without IPs of its own answers on all, so it shares with every other.
    pub fn shares_ips_with(&self, other: &Self) -> bool {
        self.bind.is_empty()
            || other.bind.is_empty()
            || self.bind.iter().any(|ip| other.bind.contains(ip))
    }

    /// Whether an account may have addresses here.
    pub fn admits(&self, account: &Account) -> bool {
        admits(&self.accounts, account)
    }
}

/// A pool of IPs, each of which can become one `host` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpPool {
    /// Name, for messages.
    pub name: String,
    /// Its region.
    pub region: String,
    /// The IPs.
    pub ips: Vec<PoolIp>,
    /// Host name of a new address: `{ip}` is the IP with dashes, `{n}` its place in the pool from 1.
    /// Without a pattern the IP itself is the host.
    pub host_pattern: Option<String>,
    /// Accounts (ids or names) that may use it; empty: all.
    pub accounts: Vec<String>,
}

impl IpPool {
    /// Whether an account may have addresses here.
    pub fn admits(&self, account: &Account) -> bool {
        admits(&self.accounts, account)
    }

    /// The host name that the pattern gives the IP at `index`.
    pub fn host_of(&self, index: usize) -> Option<String> {
        let public = self.ips.get(index)?.public;
        Some(match &self.host_pattern {
            None => public.to_string(),
            Some(pattern) => pattern
                .replace("{ip}", &public.to_string().replace(['.', ':'], "-"))
                .replace("{n}", &(index + 1).to_string())
                .to_ascii_lowercase(),
        })
    }
}

fn admits(accounts: &[String], account: &Account) -> bool {
    accounts.is_empty()
        || accounts
            .iter()
            .any(|entry| entry == account.id.as_str() || *entry == account.name)
}

/// One IP of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolIp {
    /// What clients connect to.
    pub public: IpAddr,
    /// What this node listens on for it; the same unless there is a NAT between.
    pub bind: IpAddr,
}

/// Ports from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

/// Several ranges of ports: `20000-29999,31000`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortRanges(pub Vec<PortRange>);

impl PortRanges {
    /// Whether a port is in one of them.
    pub fn contains(&self, port: u16) -> bool {
        self.0
            .iter()
            .any(|range| (range.first..=range.last).contains(&port))
    }

    /// How many ports there are; overlaps count twice.
    pub fn count(&self) -> u32 {
        self.0
            .iter()
            .map(|range| u32::from(range.last - range.first) + 1)
            .sum()
    }

    /// The port at a place from 0 to `count() - 1`.
    pub fn nth(&self, mut place: u32) -> Option<u16> {
        for range in &self.0 {
            let size = u32::from(range.last - range.first) + 1;
            if place < size {
                return u16::try_from(u32::from(range.first) + place).ok();
            }
            place -= size;
        }
        None
    }
}

impl fmt::Display for PortRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if range.first == range.last {
                write!(f, "{comma}{}", range.first)?;
            } else {
                write!(f, "{comma}{}-{}", range.first, range.last)?;
            }
        }
        Ok(())
    }
}

/// A text that is not ranges of ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a list of ports; write it as `20000-29999,31000`, each from 1 to 65535")]
pub struct PortRangesError(String);

impl FromStr for PortRanges {
    type Err = PortRangesError;
    fn from_str(text: &str) -> Result<Self, PortRangesError> {
        let refuse = || PortRangesError(text.chars().take(80).collect());
        let mut ranges = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: u16 = first.trim().parse().map_err(|_| refuse())?;
            let last: u16 = last.trim().parse().map_err(|_| refuse())?;
            if first == 0 || last < first {
                return Err(refuse());
            }
            ranges.push(PortRange { first, last });
        }
        Ok(Self(ranges))
    }
}

impl Serialize for PortRanges {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PortRanges {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Port(u16),
            Text(String),
        }
        let text = match Raw::deserialize(deserializer)? {
            Raw::Port(port) => port.to_string(),
            Raw::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges_round_trip_and_count() {
        let ranges: PortRanges = "20000-20009, 31000".parse().expect("valid");
        assert_eq!(ranges.to_string(), "20000-20009,31000");
        assert_eq!(ranges.count(), 11);
        assert_eq!(ranges.nth(10), Some(31000));
        assert_eq!(ranges.nth(11), None);
        assert!(ranges.contains(20009) && !ranges.contains(20010));
        for bad in ["", "0", "9-8", "1-70000", "x"] {
            assert!(bad.parse::<PortRanges>().is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_name_pool_ips() {
        let ip = PoolIp {
            public: "203.0.113.7".parse().expect("ip"),
            bind: "10.0.0.7".parse().expect("ip"),
        };
        let mut pool = IpPool {
            name: "a".into(),
            region: "eu".into(),
            ips: vec![ip],
            host_pattern: Some("ip-{ip}.Example.com".into()),
            accounts: Vec::new(),
        };
        assert_eq!(
            pool.host_of(0).as_deref(),
            Some("ip-203-0-113-7.example.com")
        );
        pool.host_pattern = None;
        assert_eq!(pool.host_of(0).as_deref(), Some("203.0.113.7"));
    }

    #[test]
    fn a_host_may_be_an_ip_in_any_spelling() {
        let settings = Settings::new("node-1", "eu", "2001:DB8:0::1")
            .checked()
            .expect("fine");
        assert!(settings.shared_host("2001:db8::1").is_some());
    }

    #[test]
    fn bad_settings_name_every_problem() {
        let mut settings = Settings::new("", "eu", "edge.example.com");
        settings
            .hosts
            .push(SharedHost::new("Edge.example.com", "eu"));
        let error = settings.checked().expect_err("two problems");
        assert_eq!(error.code, Code::ConfigInvalid);
        assert!(
            error.message.contains("hosts[1].host") && error.message.contains("node_id"),
            "{error}"
        );
    }
}
