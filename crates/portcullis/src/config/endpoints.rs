//! Endpoints that the server carries itself, without an agent: `endpoints:` in the configuration
//! and `--expose` on the command line. Both come out as [`DirectEndpoint`]s, one per port.
//!
//! Must never: dial an upstream.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::str::FromStr;

use portcullis_model::endpoint::{Binding, ProxyVersion};
use portcullis_model::pool::WEIGHT_MAX;
use portcullis_model::{EndpointLimits, EndpointType, HealthCheck, OnChange, PoolTerms};
use portcullis_net::upstream::Upstream;
use portcullis_policy::Policy;
use serde::Serialize;
use serde_json::Value;

use super::hosts::{PortRange, check_hostname};
use super::reader::Section;

/// Most ports that one range may open; each is a listener and a resource.
pub(crate) const RANGE_PORTS_MAX: usize = 10_000;

/// Where a direct endpoint can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum At {
    /// A port of the server's public host, or of one of its IPs; port 0 draws one.
    Port {
        /// The IP or hostname, if not the public host.
        host: Option<String>,
        /// The port.
        port: u16,
    },
    /// An endpoint URL.
    Url(String),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port { host: None, port } => write!(f, "{port}"),
            Self::Port {
                host: Some(host),
                port,
            } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Port {
                host: Some(host),
                port,
            } => write!(f, "{host}:{port}"),
            Self::Url(url) => f.write_str(url),
        }
    }
}

/// One endpoint that the edge serves by dialling its upstream itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct DirectEndpoint {
    /// For people and logs.
    pub(crate) name: String,
    /// Where it can be reached.
    pub(crate) at: At,
    /// Where it forwards to.
    pub(crate) upstream: String,
    /// Public unless said otherwise.
    pub(crate) binding: Option<Binding>,
    /// Free text.
    pub(crate) description: String,
    /// Free text.
    pub(crate) metadata: String,
    /// Whether others may share its URL.
    pub(crate) pooling_enabled: bool,
    /// PROXY protocol towards the upstream.
    pub(crate) proxy_protocol: Option<ProxyVersion>,
    /// Traffic Policy document; empty: none.
    pub(crate) traffic_policy: String,
    /// Limits that differ from the server's.
    pub(crate) limits: EndpointLimits,
    /// What becomes of open connections when the policy changes.
    pub(crate) on_change: OnChange,
    /// How it stands in its pool.
    pub(crate) pool: PoolTerms,
    /// How the server checks the upstream.
    pub(crate) health: Option<HealthCheck>,
    /// Whether a server without it must not start: someone asked for it on the command line.
    #[serde(skip)]
    pub(crate) required: bool,
}

impl DirectEndpoint {
    /// A plain endpoint that someone asked for on the command line.
    pub(crate) fn new(name: impl Into<String>, at: At, upstream: String) -> Self {
        Self {
            name: name.into(),
            at,
            upstream,
            binding: None,
            description: String::new(),
            metadata: String::new(),
            pooling_enabled: false,
            proxy_protocol: None,
            traffic_policy: String::new(),
            limits: EndpointLimits::default(),
            on_change: OnChange::default(),
            pool: PoolTerms::default(),
            health: None,
            required: true,
        }
    }
}

/// The argument of `--expose`: `[IP:]PORT=UPSTREAM` or `[IP:]FROM-TO=HOST:FROM-TO`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expose(pub(crate) Vec<DirectEndpoint>);

impl FromStr for Expose {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (left, right) = text
            .split_once('=')
            .ok_or("expected PORT=HOST:PORT, such as 20001=127.0.0.1:5432")?;
        let (host, ports) = split_listen(left.trim())?;
        let endpoints = expand(host.as_deref(), ports, right.trim())?;
        Ok(Self(
            endpoints
                .into_iter()
                .map(|(at, upstream)| DirectEndpoint::new(format!("expose {at}"), at, upstream))
                .collect(),
        ))
    }
}

/// The ports to listen on: 0 (one, drawn at random) or a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ports {
    Any,
    Range(PortRange),
}

fn ports(text: &str) -> Result<Ports, String> {
    if text == "0" {
        Ok(Ports::Any)
    } else {
        text.parse().map(Ports::Range)
    }
}

/// Takes `[IP:]PORTS` apart.
fn split_listen(text: &str) -> Result<(Option<String>, Ports), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, rest) = rest
            .split_once(']')
            .ok_or_else(|| format!("`{text}` opens a bracket and does not close it"))?;
        let ip: Ipv6Addr = ip
            .parse()
            .map_err(|_| format!("`{ip}` is not an IPv6 address"))?;
        let rest = rest
            .strip_prefix(':')
            .ok_or_else(|| format!("`{text}` has no port behind the address"))?;
        return Ok((Some(ip.to_string()), ports(rest)?));
    }
    match text.rsplit_once(':') {
        None => Ok((None, ports(text)?)),
        Some((host, _)) if host.contains(':') => {
            Err(format!("`{host}` is an IPv6 address; write it as [{host}]"))
        }
        Some(("" | "*", rest)) => Ok((None, ports(rest)?)),
        Some((host, rest)) => Ok((Some(check_hostname(host)?), ports(rest)?)),
    }
}

/// Pairs every port with its upstream.
fn expand(host: Option<&str>, listen: Ports, upstream: &str) -> Result<Vec<(At, String)>, String> {
    if upstream.is_empty() {
        return Err("no upstream behind the `=`; expected HOST:PORT".to_owned());
    }
    let at = |port| At::Port {
        host: host.map(str::to_owned),
        port,
    };
    let range = match listen {
        Ports::Any => PortRange { first: 0, last: 0 },
        Ports::Range(range) => range,
    };
    if range.len() > RANGE_PORTS_MAX {
        return Err(format!(
            "{range} has {} ports; one range may have {RANGE_PORTS_MAX}",
            range.len()
        ));
    }
    let Some((prefix, target)) = upstream_range(upstream)? else {
        if range.len() > 1 {
            return Err(format!(
                "{range} needs a range of {} ports behind the `=` too",
                range.len()
            ));
        }
        check_upstream(upstream)?;
        return Ok(vec![(at(range.first), upstream.to_owned())]);
    };
    if target.len() != range.len() {
        return Err(format!(
            "{range} has {} ports and {target} has {}; they go in pairs",
            range.len(),
            target.len()
        ));
    }
    check_upstream(&format!("{prefix}{}", target.first))?;
    Ok((range.first..=range.last)
        .zip(target.first..=target.last)
        .map(|(port, to)| (at(port), format!("{prefix}{to}")))
        .collect())
}

fn check_upstream(upstream: &str) -> Result<(), String> {
    upstream
        .parse::<Upstream>()
        .map(drop)
        .map_err(|error| error.message)
}

/// Takes `HOST:FROM-TO` apart, if it is of that form.
fn upstream_range(upstream: &str) -> Result<Option<(&str, PortRange)>, String> {
    if upstream.starts_with("unix:") {
        return Ok(None);
    }
    let split = upstream.rfind(':').map_or(0, |colon| colon + 1);
    let (prefix, ports) = upstream.split_at(split);
    let looks_like_range = ports.contains('-')
        && ports
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'-');
    if looks_like_range {
        Ok(Some((prefix, ports.parse()?)))
    } else {
        Ok(None)
    }
}

/// Reads `endpoints:`. Policy files are found relative to `base`.
pub(crate) fn endpoints(top: &mut Section, base: &Path) -> Vec<DirectEndpoint> {
    let mut endpoints = Vec::new();
    for section in top.sections("endpoints") {
        endpoints.extend(endpoint(section, base));
    }
    endpoints
}

fn endpoint(mut section: Section, base: &Path) -> Vec<DirectEndpoint> {
    let name = section.text("name");
    let places = places(&mut section);
    let upstream = section.text("upstream");
    let common = DirectEndpoint {
        name: name.clone().unwrap_or_default(),
        at: At::Url(String::new()),
        upstream: String::new(),
        binding: section.parsed("binding"),
        description: section.text("description").unwrap_or_default(),
        metadata: section.text("metadata").unwrap_or_default(),
        pooling_enabled: section.flag("pooling_enabled").unwrap_or(false),
        proxy_protocol: proxy_protocol(&mut section),
        traffic_policy: policy(&mut section, base),
        limits: limits(&mut section),
        on_change: section.parsed("on_change").unwrap_or_default(),
        pool: pool(&mut section),
        health: health(&mut section),
        required: false,
    };
    if upstream.is_none() {
        section.problem_here("`upstream` is required");
    }
    let pairs = match (places, upstream) {
        (Some(Places::Url(url)), Some(upstream)) => {
            check_upstream(&upstream).map(|()| vec![(At::Url(url), upstream)])
        }
        (Some(Places::Ports(host, ports)), Some(upstream)) => {
            expand(host.as_deref(), ports, &upstream)
        }
        (None, _) | (_, None) => Ok(Vec::new()),
    };
    let pairs = pairs.unwrap_or_else(|cause| {
        section.problem("upstream", cause);
        Vec::new()
    });
    if let (Some(check), Some((_, upstream))) = (&common.health, pairs.first())
        && let Ok(upstream) = upstream.parse::<Upstream>()
        && let Err(error) = portcullis_net::upstream::health::fits(check, &upstream)
    {
        section.problem("health", error.message);
    }
    section.finish();
    let named = |at: &At| name.clone().unwrap_or_else(|| format!("endpoint {at}"));
    pairs
        .into_iter()
        .map(|(at, upstream)| DirectEndpoint {
            name: named(&at),
            at,
            upstream,
            ..common.clone()
        })
        .collect()
}

/// `pool_strategy` and `weight`.
fn pool(section: &mut Section) -> PoolTerms {
    let terms = PoolTerms::default();
    PoolTerms {
        strategy: section.parsed("pool_strategy").unwrap_or_default(),
        weight: section
            .number("weight", 0, u64::from(WEIGHT_MAX))
            .and_then(|weight| u32::try_from(weight).ok())
            .unwrap_or(terms.weight),
    }
}

/// `health`: a word or a map.
fn health(section: &mut Section) -> Option<HealthCheck> {
    let written = section.take("health")?;
    match HealthCheck::read(&written) {
        Ok(check) => Some(check),
        Err(error) => {
            section.problem("health", format!("{} ({})", error.message, error.code));
            None
        }
    }
}

enum Places {
    Url(String),
    Ports(Option<String>, Ports),
}

/// `url`, or `port` or `ports` with an optional `host`.
fn places(section: &mut Section) -> Option<Places> {
    let url = section.text("url");
    if let Some(Err(error)) = url
        .as_deref()
        .map(|url| portcullis_model::url::parse(url, None))
    {
        section.problem("url", error.message);
    }
    let port = section.text("port");
    let range = section.text("ports");
    let host = super::hosts::hostname(section, "host");
    match (url, port, range) {
        (Some(url), None, None) => Some(Places::Url(url)),
        (None, Some(port), None) => checked_ports(section, "port", &port, host),
        (None, None, Some(range)) => checked_ports(section, "ports", &range, host),
        (None, None, None) => {
            section.problem_here("one of `url`, `port` and `ports` is required");
            None
        }
        _ => {
            section.problem_here("only one of `url`, `port` and `ports` may be given");
            None
        }
    }
}

fn checked_ports(section: &Section, key: &str, text: &str, host: Option<String>) -> Option<Places> {
    match ports(text.trim()) {
        Ok(ports) => Some(Places::Ports(host, ports)),
        Err(cause) => {
            section.problem(key, cause);
            None
        }
    }
}

fn proxy_protocol(section: &mut Section) -> Option<ProxyVersion> {
    match section.text("proxy_protocol")?.as_str() {
        "1" | "v1" => Some(ProxyVersion::V1),
        "2" | "v2" => Some(ProxyVersion::V2),
        other => {
            section.problem("proxy_protocol", format!("`{other}` is not 1 or 2"));
            None
        }
    }
}

/// The policy of `cidr_allow`, `cidr_deny` and `traffic_policy` or its file, checked.
fn policy(section: &mut Section, base: &Path) -> String {
    let (allow, deny) = (
        section.parsed_list::<String>("cidr_allow"),
        section.parsed_list::<String>("cidr_deny"),
    );
    let own = traffic_policy(section, base);
    let whole = portcullis_policy::with_cidrs(
        &allow,
        &deny,
        Some(own.as_str()).filter(|text| !text.trim().is_empty()),
    );
    let checked = whole.and_then(|text| match text.trim() {
        "" => Ok(text),
        _ => Policy::compile(&text, EndpointType::Agent).map(|_| text),
    });
    checked.unwrap_or_else(|error| {
        section.problem("traffic_policy", error.message);
        String::new()
    })
}

/// `traffic_policy` (inline, or text) or `traffic_policy_file`.
fn traffic_policy(section: &mut Section, base: &Path) -> String {
    let inline = section.take("traffic_policy");
    let file = section.file("traffic_policy_file");
    match (inline, file) {
        (Some(_), Some(_)) => {
            section.problem(
                "traffic_policy_file",
                "only one of traffic_policy and traffic_policy_file may be given",
            );
            String::new()
        }
        (Some(Value::String(text)), None) => text,
        (Some(document), None) => document.to_string(),
        (None, Some(path)) => match std::fs::read_to_string(base.join(&path)) {
            Ok(text) => text,
            Err(error) => {
                section.problem(
                    "traffic_policy_file",
                    format!("{}: {error}", path.display()),
                );
                String::new()
            }
        },
        (None, None) => String::new(),
    }
}

/// `limits:` of one endpoint.
pub(crate) fn limits(section: &mut Section) -> EndpointLimits {
    let mut below = section.section("limits");
    let mut millis = |key| {
        below
            .duration(key)
            .map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    };
    let limits = EndpointLimits {
        idle_timeout_ms: millis("idle_timeout"),
        client_idle_timeout_ms: millis("client_idle_timeout"),
        server_idle_timeout_ms: millis("server_idle_timeout"),
        half_close_timeout_ms: millis("half_close_timeout"),
        connect_timeout_ms: millis("connect_timeout"),
        max_lifetime_ms: millis("max_lifetime"),
        connections_max: below.count("connections_max"),
        connections_per_source_max: below.count("connections_per_source_max"),
    };
    below.finish();
    limits
}

/// The host part of an `IP:PORT` text, for messages about IPs that are not this machine's.
pub(crate) fn ip_of(at: &At) -> Option<IpAddr> {
    match at {
        At::Port {
            host: Some(host), ..
        } => host.parse().ok(),
        At::Port { host: None, .. } | At::Url(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let Expose(endpoints) = text
            .parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        endpoints
            .into_iter()
            .map(|endpoint| (endpoint.at.to_string(), endpoint.upstream))
            .collect()
    }

    #[test]
    fn one_port_goes_to_one_upstream() {
        for (text, at, upstream) in [
            ("20001=127.0.0.1:5432", "20001", "127.0.0.1:5432"),
            ("20001=5432", "20001", "5432"),
            ("0=db:5432", "0", "db:5432"),
            ("10.0.0.1:25=mail:25", "10.0.0.1:25", "mail:25"),
            ("[::1]:25=[::1]:26", "[::1]:25", "[::1]:26"),
            (":25=x:1", "25", "x:1"),
            ("20001=unix:/run/a-1.sock", "20001", "unix:/run/a-1.sock"),
            (
                "20001=tls://db.example.com:5432",
                "20001",
                "tls://db.example.com:5432",
            ),
            ("20001=srv:_pg._tcp.db-1", "20001", "srv:_pg._tcp.db-1"),
        ] {
            assert_eq!(
                pairs(text),
                [(at.to_owned(), upstream.to_owned())],
                "{text}"
            );
        }
    }

    #[test]
    fn ranges_go_in_pairs() {
        let expected = [
            ("7000", "db:17000"),
            ("7001", "db:17001"),
            ("7002", "db:17002"),
        ];
        let expected: Vec<(String, String)> = expected
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect();
        assert_eq!(pairs("7000-7002=db:17000-17002"), expected);
        assert_eq!(
            pairs("[::1]:70-71=80-81")[1],
            ("[::1]:71".to_owned(), "81".to_owned())
        );
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (text, part) in [
            ("20001", "expected PORT=HOST:PORT"),
            ("x=db:1", "not a port"),
            ("70000=db:1", "not a port"),
            ("20001=", "no upstream"),
            ("1-3=db:1-2", "3 ports"),
            ("1-3=db:1", "range of 3 ports"),
            ("3-1=db:1-3", "ends before"),
            ("::1:25=x:1", "write it as [::1]"),
            ("[::1]25=x:1", "no port"),
            ("1-20000=x:1-20000", "one range may have"),
        ] {
            let error = text.parse::<Expose>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
