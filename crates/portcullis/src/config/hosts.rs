//! The parts of the configuration that say which addresses exist: shared hosts, their port ranges,
//! and pools of dedicated IPs.
//!
//! Must never: resolve a name.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use portcullis_store::settings::PortRanges;
use serde::Serialize;

use super::reader::Section;

/// Ports from the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub(crate) struct PortRange {
    /// The lowest.
    pub(crate) first: u16,
    /// The highest.
    pub(crate) last: u16,
}

impl PortRange {
    /// How many ports there are.
    pub(crate) fn len(self) -> usize {
        usize::from(self.last - self.first) + 1
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        range.to_string()
    }
}

impl FromStr for PortRange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |part: &str| match part.trim().parse::<u16>() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(format!(
                "`{}` is not a port from 1 to 65535",
                part.trim().chars().take(40).collect::<String>()
            )),
        };
        let range = Self {
            first: port(first)?,
            last: port(last)?,
        };
        if range.first > range.last {
            return Err(format!(
                "the range starts at {} and ends before it, at {}",
                range.first, range.last
            ));
        }
        Ok(range)
    }
}

/// A shared hostname and its ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct HostConfig {
    /// The hostname.
    pub(crate) host: String,
    /// Its region; the server's own by default.
    pub(crate) region: Option<String>,
    /// Ports of random addresses.
    pub(crate) ports: PortRanges,
    /// Ports that may be chosen.
    pub(crate) choose: PortRanges,
    /// Accounts (ids or names) that may use it; empty: all.
    pub(crate) accounts: Vec<String>,
    /// IPs that its ports listen on; empty: all that no pool has.
    pub(crate) bind: Vec<IpAddr>,
}

/// One dedicated IP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PoolIp {
    /// The address that clients use.
    pub(crate) public: IpAddr,
    /// The address that this server binds; the public one by default.
    pub(crate) bind: IpAddr,
}

/// A pool of dedicated IPs for addresses of kind `host`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct IpPool {
    /// Its name.
    pub(crate) name: String,
    /// Its region; the server's own by default.
    pub(crate) region: Option<String>,
    /// Its IPs.
    pub(crate) ips: Vec<PoolIp>,
    /// How hostnames are made, with `{n}` or `{ip}` in it.
    pub(crate) host_pattern: Option<String>,
    /// Accounts that may draw from it; empty: all.
    pub(crate) accounts: Vec<String>,
}

/// Reads `hosts:`.
pub(crate) fn hosts(top: &mut Section, ports: &PortRanges, choose: &PortRanges) -> Vec<HostConfig> {
    let mut hosts: Vec<HostConfig> = Vec::new();
    for mut section in top.sections("hosts") {
        let host = hostname(&mut section, "host");
        let region = section.text("region");
        let ports = section.parsed("ports").unwrap_or_else(|| ports.clone());
        let choose = section.parsed("choose").unwrap_or_else(|| choose.clone());
        let accounts = section.parsed_list("accounts");
        let bind = section.parsed_list("bind");
        match host {
            Some(host) if hosts.iter().any(|other| other.host == host) => {
                section.problem("host", format!("`{host}` stands twice"))
            }
            Some(host) => hosts.push(HostConfig {
                host,
                region,
                ports,
                choose,
                accounts,
                bind,
            }),
            None if section.has("host") => {}
            None => section.problem_here("`host` is required"),
        }
        section.finish();
    }
    hosts
}

/// Reads `ip_pools:`.
pub(crate) fn ip_pools(top: &mut Section) -> Vec<IpPool> {
    let mut pools: Vec<IpPool> = Vec::new();
    for mut section in top.sections("ip_pools") {
        let name = section.text("name");
        let region = section.text("region");
        let ips = pool_ips(&mut section);
        let host_pattern = section.text("host_pattern");
        if host_pattern
            .as_ref()
            .is_some_and(|pattern| !pattern.contains("{n}") && !pattern.contains("{ip}"))
        {
            section.problem(
                "host_pattern",
                "needs `{n}` or `{ip}` in it, such as `h{n}.tcp.example.com`",
            );
        }
        let accounts = section.parsed_list("accounts");
        if ips.is_empty() {
            section.problem_here("at least one IP is required in `ips`");
        }
        match name {
            Some(name) if pools.iter().any(|other| other.name == name) => {
                section.problem("name", format!("`{name}` stands twice"))
            }
            Some(name) => pools.push(IpPool {
                name,
                region,
                ips,
                host_pattern,
                accounts,
            }),
            None => section.problem_here("`name` is required"),
        }
        section.finish();
    }
    pools
}

fn pool_ips(pool: &mut Section) -> Vec<PoolIp> {
    let mut ips = Vec::new();
    for mut section in pool.sections("ips") {
        let public = section.parsed::<IpAddr>("public");
        let bind = section.parsed::<IpAddr>("bind");
        match public.or(bind) {
            Some(public) => ips.push(PoolIp {
                public,
                bind: bind.unwrap_or(public),
            }),
            None => section.problem_here("`public` is required"),
        }
        section.finish();
    }
    ips
}

/// A hostname or IP, in lower case.
pub(crate) fn hostname(section: &mut Section, key: &'static str) -> Option<String> {
    let text = section.text(key)?;
    match check_hostname(&text) {
        Ok(host) => Some(host),
        Err(cause) => {
            section.problem(key, cause);
            None
        }
    }
}

/// Checks a hostname or IP and puts it in lower case.
pub(crate) fn check_hostname(text: &str) -> Result<String, String> {
    let host = text.trim().trim_end_matches('.').to_ascii_lowercase();
    let shown: String = host.chars().take(80).collect();
    if host.parse::<IpAddr>().is_ok() {
        return Ok(host);
    }
    if host.contains("://") {
        return Err(format!("`{shown}` is a URL; give the host alone"));
    }
    if host.contains(':') {
        return Err(format!("`{shown}` has a port; give the host alone"));
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if host.is_empty() || host.len() > 253 || !host.split('.').all(label) {
        return Err(format!("`{shown}` is not a host name"));
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges_read_and_refuse() {
        assert_eq!("20000-29999".parse::<PortRange>().unwrap().len(), 10_000);
        assert_eq!(
            "22".parse::<PortRange>().unwrap(),
            PortRange {
                first: 22,
                last: 22
            }
        );
        for bad in ["", "0", "5-4", "1-65536", "a-b", "1-2-3"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hostnames_are_checked() {
        assert_eq!(
            check_hostname("Edge.Example.com.").as_deref(),
            Ok("edge.example.com")
        );
        assert_eq!(check_hostname("::1").as_deref(), Ok("::1"));
        for bad in ["", "a b", "https://x", "x:1", "-a.b", "a..b"] {
            assert!(check_hostname(bad).is_err(), "{bad}");
        }
    }
}
