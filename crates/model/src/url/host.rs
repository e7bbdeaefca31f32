//! Hosts and ports: reading one, and saying what is wrong with it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Scheme, TLS_PORT, quoted, refuse};
use crate::defaults::{HOST_CHARS_MAX, LABEL_CHARS_MAX};
use crate::errors::{Code, Error};

/// A port for the examples in messages: from the middle of what servers hand out, or the one for TLS.
pub(super) fn example_port(scheme: Scheme) -> u16 {
    match scheme {
        Scheme::Tcp => 20001,
        Scheme::Tls => TLS_PORT,
    }
}

/// A host that has the form of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// Lower-case name, perhaps with `*` as a label.
    Name(String),
    /// An address.
    Ip(IpAddr),
}

impl Host {
    /// As [`EndpointUrl::host`] has it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::Ip(ip) => ip.to_string(),
        }
    }

    /// As a URL has it: IPv6 in brackets.
    pub(super) fn proposal(&self) -> String {
        match self {
            Self::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
            Self::Ip(IpAddr::V4(_)) | Self::Name(_) => self.name(),
        }
    }
}

/// Reads a port from 1 to 65535; `scheme` and `host` are for the proposal.
pub(crate) fn read_port(port: &str, scheme: Scheme, host: &str) -> Result<u16, Error> {
    if port.is_empty() {
        return refuse(
            Code::UrlPortMissing,
            format!(
                "`{scheme}://{host}:` has no port behind the colon; write `{scheme}://{host}:{}` with the port you mean",
                example_port(scheme)
            ),
        );
    }
    if port.bytes().all(|b| b.is_ascii_digit()) {
        return match port.parse::<u16>() {
            Ok(number) if number > 0 => Ok(number),
            _ => refuse(
                Code::UrlPortRange,
                format!(
                    "port {} is out of range; ports go from 1 to 65535",
                    quoted(port)
                ),
            ),
        };
    }
    let hint = match port.split_once('-') {
        Some(("", _)) => "ports go from 1 to 65535",
        Some((from, to)) if from.parse::<u16>().is_ok() && to.parse::<u16>().is_ok() => {
            "an endpoint has one port, so make one endpoint per port"
        }
        _ => "write it in digits",
    };
    refuse(
        Code::UrlPortNotNumeric,
        format!("port `{}` is not a number; {hint}", quoted(port)),
    )
}

/// Reads a host: a name, an IPv4 address, or an IPv6 address in brackets.
pub(crate) fn read_host(text: &str) -> Result<Host, Error> {
    if let Some(inner) = text.strip_prefix('[') {
        return read_ipv6(inner.strip_suffix(']').unwrap_or(inner));
    }
    if let Ok(ip) = text.parse::<Ipv4Addr>() {
        return usable_ip(IpAddr::V4(ip)).map(Host::Ip);
    }
    let name = text.to_ascii_lowercase();
    match host_fault(&name) {
        None => Ok(Host::Name(name)),
        Some(fault) => refuse(
            Code::UrlHostInvalid,
            format!("host `{}` {fault}", quoted(text)),
        ),
    }
}

fn read_ipv6(inner: &str) -> Result<Host, Error> {
    let fault = match inner.parse::<Ipv6Addr>() {
        Ok(ip) => match ip.to_ipv4_mapped() {
            None => return usable_ip(IpAddr::V6(ip)).map(Host::Ip),
            Some(v4) => format!("is an IPv4 address written as IPv6; write `{v4}`"),
        },
        Err(_) if inner.contains('%') => "has a zone; leave out `%` and what follows".to_owned(),
        Err(_) => "is not an IPv6 address, and brackets hold nothing else".to_owned(),
    };
    refuse(
        Code::UrlHostInvalid,
        format!("host `[{}]` {fault}", quoted(inner)),
    )
}

fn usable_ip(ip: IpAddr) -> Result<IpAddr, Error> {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    if ip.is_unspecified() {
        return refuse(
            Code::UrlHostInvalid,
            format!("host `{ip}` stands for every address; name the one that clients connect to"),
        );
    }
    if ip.is_multicast() || broadcast {
        return refuse(
            Code::UrlHostInvalid,
            format!("host `{ip}` is a multicast or broadcast address, which TCP cannot use"),
        );
    }
    Ok(ip)
}

/// What is wrong with a lower-case name, if something is.
fn host_fault(name: &str) -> Option<String> {
    if name.len() > HOST_CHARS_MAX {
        return Some(format!(
            "is {} characters long; a name has at most {HOST_CHARS_MAX}",
            name.len()
        ));
    }
    if !name.is_ascii() {
        return Some("has characters beyond ASCII; write the name in its `xn--` form".to_owned());
    }
    if let Some(bare) = name.strip_suffix('.') {
        return Some(format!("ends in a dot; write `{bare}`"));
    }
    if name.bytes().all(|b| b.is_ascii_digit()) {
        return Some(format!(
            "is a number; if it is the port, write `tcp://host:{name}`"
        ));
    }
    if name
        .rsplit('.')
        .next()
        .is_some_and(|last| !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()))
    {
        return Some("looks like an IPv4 address and is not one".to_owned());
    }
    name.split('.').find_map(label_fault)
}

fn label_fault(label: &str) -> Option<String> {
    if label.is_empty() {
        return Some("has an empty label (two dots in a row, or one in front)".to_owned());
    }
    if label.len() > LABEL_CHARS_MAX {
        return Some(format!(
            "has a label of {} characters; at most {LABEL_CHARS_MAX} are possible",
            label.len()
        ));
    }
    if let Some(c) = label
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '*'))
    {
        return Some(format!(
            "has `{c}` in it; a name has letters, digits and hyphens"
        ));
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Some(format!("has a hyphen at an end of the label `{label}`"));
    }
    None
}
