//! Reading endpoint URLs: each rule has its code, and its message proposes what would be right.
//!
//! Must never: repeat a password that someone put into a URL, or panic on any text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{EndpointUrl, INTERNAL_SUFFIX, UrlRequest};
use crate::defaults::{
    HOST_CHARS_MAX, INTERNAL_LABELS_MAX, LABEL_CHARS_MAX, QUOTE_CHARS_MAX, URL_BYTES_MAX,
};
use crate::endpoint::Binding;
use crate::errors::{Code, Error};

/// A port for the examples in messages, from the middle of what servers hand out.
const EXAMPLE_PORT: u16 = 20001;

/// Reads an endpoint URL and settles its binding: the one given, else `internal` for a host that
/// ends in `.internal`, else `public`. An empty text is `tcp://`; `host:port` without a scheme is
/// taken for `tcp://host:port`.
///
/// # Errors
/// One code per rule (`PTC_URL_…`); the message says what is wrong and proposes the right form.
pub fn parse(text: &str, binding: Option<Binding>) -> Result<(Binding, UrlRequest), Error> {
    let text = text.trim();
    let authority = read_authority(text)?;
    if authority.is_empty() {
        return random(binding);
    }
    let (host, port) = split_port(text, authority)?;
    let host = read_host(host)?;
    let port = port
        .map(|port| read_port(port, &host.proposal()))
        .transpose()?;
    let binding = settle_binding(&host, port, binding)?;
    let request = match (binding, port) {
        (_, Some(port)) => UrlRequest::Exact(EndpointUrl {
            host: host.name(),
            port,
        }),
        (Binding::Public, None) => UrlRequest::Host(host.name()),
        (Binding::Internal | Binding::Kubernetes, None) => {
            let host = host.proposal();
            return refuse(
                Code::UrlPortMissing,
                format!(
                    "`tcp://{host}` has no port, which an endpoint of the binding {binding} needs; write `tcp://{host}:5432` with the port you mean"
                ),
            );
        }
    };
    Ok((binding, request))
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
    fn proposal(&self) -> String {
        match self {
            Self::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
            Self::Ip(IpAddr::V4(_)) | Self::Name(_) => self.name(),
        }
    }
}

fn refuse<T>(code: Code, message: String) -> Result<T, Error> {
    Err(Error::new(code, message))
}

/// The user's text for a message: without user info, at most a line of it, nothing that moves a cursor.
fn quoted(text: &str) -> String {
    let shown = match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => {
            format!("{}…{}", &text[..scheme + 3], &text[at..])
        }
        (None, Some(at)) => format!("…{}", &text[at..]),
        _ => text.to_owned(),
    };
    let clean: String = shown
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    match clean.char_indices().nth(QUOTE_CHARS_MAX) {
        Some((cut, _)) => format!("{}…", &clean[..cut]),
        None => clean,
    }
}

/// Takes off the scheme, and refuses every part but host and port.
fn read_authority(text: &str) -> Result<&str, Error> {
    if text.is_empty() {
        return Ok("");
    }
    if text.len() > URL_BYTES_MAX {
        return refuse(
            Code::UrlMalformed,
            format!(
                "the URL is {} bytes long; at most {URL_BYTES_MAX} are read",
                text.len()
            ),
        );
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return refuse(
            Code::UrlMalformed,
            format!(
                "`{}` has a space or control character in it; leave it out",
                quoted(text)
            ),
        );
    }
    if text.contains('\\') {
        return refuse(
            Code::UrlMalformed,
            format!(
                "`{}` has a backslash in it; write `tcp://host:port`",
                quoted(text)
            ),
        );
    }
    let rest = read_scheme(text)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let bare = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    if authority.len() == bare.len() && !tail.is_empty() && tail.bytes().all(|b| b == b'/') {
        return refuse(
            Code::UrlTrailingSlash,
            format!(
                "`{}` ends in a slash; write `tcp://{authority}`",
                quoted(text)
            ),
        );
    }
    let parts = extra_parts(authority.len() != bare.len(), tail);
    if parts.is_empty() {
        return Ok(authority);
    }
    refuse(
        Code::UrlPartNotAllowed,
        format!(
            "`{}` has {}, which an endpoint URL cannot have; write `tcp://{bare}`",
            quoted(text),
            parts.join(" and ")
        ),
    )
}

/// What of a URL stands beside host and port.
fn extra_parts(user: bool, tail: &str) -> Vec<&'static str> {
    let (before_fragment, fragment) = tail
        .split_once('#')
        .map_or((tail, false), |(before, _)| (before, true));
    let (path, query) = before_fragment
        .split_once('?')
        .map_or((before_fragment, false), |(path, _)| (path, true));
    let found = [
        (user, "user info"),
        (!path.is_empty(), "a path"),
        (query, "a query"),
        (fragment, "a fragment"),
    ];
    found
        .into_iter()
        .filter_map(|(present, what)| present.then_some(what))
        .collect()
}

fn read_scheme(text: &str) -> Result<&str, Error> {
    let Some((scheme, rest)) = text.split_once("://") else {
        let lower = text.to_ascii_lowercase();
        if lower == "tcp" || lower.starts_with("tcp:") || lower.starts_with("tcp/") {
            let rest = text["tcp".len()..].trim_start_matches([':', '/']);
            return refuse(
                Code::UrlMalformed,
                format!(
                    "`{}` lacks the `://` behind its scheme; write `tcp://{}`",
                    quoted(text),
                    quoted(rest)
                ),
            );
        }
        return Ok(text);
    };
    if scheme.eq_ignore_ascii_case("tcp") {
        return Ok(rest);
    }
    let scheme = scheme.to_ascii_lowercase();
    let proposal = rest
        .split(['/', '?', '#'])
        .next()
        .unwrap_or("")
        .rsplit('@')
        .next()
        .unwrap_or("");
    let advice = match scheme.as_str() {
        "" => "the scheme before `://` is empty",
        "tls" => "TLS endpoints do not exist yet, and a tcp endpoint passes TLS through untouched",
        "http" | "https" => "only TCP is served, and a tcp endpoint passes HTTP through untouched",
        "udp" => "only TCP is served",
        _ => "tcp is the only scheme",
    };
    refuse(
        Code::UrlScheme,
        format!(
            "`{}`: {advice}; write `tcp://{}`",
            quoted(text),
            quoted(proposal)
        ),
    )
}

/// Parts `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split_port<'a>(text: &str, authority: &'a str) -> Result<(&'a str, Option<&'a str>), Error> {
    if authority.starts_with('[') {
        let Some(end) = authority.find(']') else {
            return refuse(
                Code::UrlMalformed,
                format!("`{}` lacks the `]` behind the IPv6 address", quoted(text)),
            );
        };
        let (host, tail) = authority.split_at(end + 1);
        return match tail.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if tail.is_empty() => Ok((host, None)),
            None => refuse(
                Code::UrlMalformed,
                format!(
                    "`{}` has something other than `:port` behind the `]`",
                    quoted(text)
                ),
            ),
        };
    }
    let Some((host, port)) = authority.rsplit_once(':') else {
        return Ok((authority, None));
    };
    if host.contains(':') {
        return Err(too_many_colons(text, authority, host, port));
    }
    if host.is_empty() {
        return refuse(
            Code::UrlHostInvalid,
            format!(
                "`{}` has a port but no host; write `tcp://host:{}`, or `tcp://` for a random address",
                quoted(text),
                quoted(port)
            ),
        );
    }
    Ok((host, Some(port)))
}

fn too_many_colons(text: &str, authority: &str, host: &str, port: &str) -> Error {
    let proposal = if authority.parse::<Ipv6Addr>().is_ok() {
        format!(
            "an IPv6 address stands in brackets; write `tcp://[{authority}]:{EXAMPLE_PORT}` with the port you mean"
        )
    } else if host.parse::<Ipv6Addr>().is_ok() {
        format!("an IPv6 address stands in brackets; write `tcp://[{host}]:{port}`")
    } else {
        "only one `:` may stand behind the host, before the port".to_owned()
    };
    Error::new(
        Code::UrlMalformed,
        format!("`{}`: {proposal}", quoted(text)),
    )
}

/// Reads a port from 1 to 65535; `host` is for the proposal.
pub(crate) fn read_port(port: &str, host: &str) -> Result<u16, Error> {
    if port.is_empty() {
        return refuse(
            Code::UrlPortMissing,
            format!(
                "`tcp://{host}:` has no port behind the colon; write `tcp://{host}:{EXAMPLE_PORT}` with the port you mean"
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
            "an endpoint has one port; make one endpoint per port"
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
            format!("host `{}`: {fault}", quoted(text)),
        ),
    }
}

fn read_ipv6(inner: &str) -> Result<Host, Error> {
    let fault = match inner.parse::<Ipv6Addr>() {
        Ok(ip) => match ip.to_ipv4_mapped() {
            None => return usable_ip(IpAddr::V6(ip)).map(Host::Ip),
            Some(v4) => format!("is an IPv4 address in IPv6 clothes; write `{v4}`"),
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

fn random(binding: Option<Binding>) -> Result<(Binding, UrlRequest), Error> {
    match binding {
        None | Some(Binding::Public) => Ok((Binding::Public, UrlRequest::Random)),
        Some(Binding::Internal) => refuse(
            Code::UrlInternalRandom,
            "an internal endpoint needs a name and a port of its own; write `tcp://name.internal:5432`".to_owned(),
        ),
        Some(Binding::Kubernetes) => refuse(
            Code::UrlKubernetesHost,
            "a kubernetes endpoint needs a service, a namespace and a port; write `tcp://service.namespace:5432`".to_owned(),
        ),
    }
}

/// The binding, once host and wish agree.
fn settle_binding(host: &Host, port: Option<u16>, wish: Option<Binding>) -> Result<Binding, Error> {
    let name = host.name();
    let port = port.unwrap_or(5432);
    let internal = name.ends_with(INTERNAL_SUFFIX) || name == &INTERNAL_SUFFIX[1..];
    let binding = wish.unwrap_or(if internal {
        Binding::Internal
    } else {
        Binding::Public
    });
    let shown = host.proposal();
    match binding {
        Binding::Public if internal => refuse(
            Code::UrlInternalSuffix,
            format!(
                "`{shown}` is an internal name, which the binding public cannot have; use the binding internal, or another host"
            ),
        ),
        Binding::Public if name.contains('*') => refuse(
            Code::UrlWildcard,
            format!(
                "`{shown}` has a wildcard, and a public address has none; name the host in full, or write `tcp://` for a random address"
            ),
        ),
        Binding::Public => Ok(binding),
        Binding::Internal => check_internal(host, &name, port, internal).map(|()| binding),
        Binding::Kubernetes => check_kubernetes(host, &name, port, internal).map(|()| binding),
    }
}

fn check_internal(host: &Host, name: &str, port: u16, suffixed: bool) -> Result<(), Error> {
    let labels = name.split('.').count();
    if name == &INTERNAL_SUFFIX[1..] {
        return refuse(
            Code::UrlInternalSuffix,
            format!("`internal` alone is no name; write `tcp://name.internal:{port}`"),
        );
    }
    if !suffixed {
        let proposal = match host {
            Host::Name(name) if labels < INTERNAL_LABELS_MAX && !name.contains('*') => {
                format!("{name}.internal")
            }
            Host::Name(_) | Host::Ip(_) => "name.internal".to_owned(),
        };
        return refuse(
            Code::UrlInternalSuffix,
            format!(
                "`{}` does not end in `.internal`, as the host of an internal endpoint does; write `tcp://{proposal}:{port}`",
                host.proposal()
            ),
        );
    }
    if labels > INTERNAL_LABELS_MAX {
        return refuse(
            Code::UrlHostLabels,
            format!(
                "`{name}` has {labels} labels; an internal name has at most {INTERNAL_LABELS_MAX}, `internal` included"
            ),
        );
    }
    let behind_first = name.strip_prefix("*.").unwrap_or(name);
    if behind_first.contains('*') {
        return refuse(
            Code::UrlWildcard,
            format!(
                "`{name}`: a wildcard can only be the whole first label, as in `*.{}`",
                wildcard_rest(name)
            ),
        );
    }
    Ok(())
}

/// What of a name may stand behind `*.`: the labels behind the last one that has a `*`.
fn wildcard_rest(name: &str) -> &str {
    let behind = name.rfind('*').map_or(name, |at| &name[at + 1..]);
    behind.split_once('.').map_or("internal", |(_, rest)| rest)
}

fn check_kubernetes(host: &Host, name: &str, port: u16, internal: bool) -> Result<(), Error> {
    if name.contains('*') {
        return refuse(
            Code::UrlWildcard,
            format!(
                "`{name}` has a wildcard, which a kubernetes endpoint cannot have; write `tcp://service.namespace:{port}`"
            ),
        );
    }
    let labels: Vec<&str> = name.split('.').collect();
    let two = labels.len() == 2 && matches!(host, Host::Name(_));
    if two && internal {
        return refuse(
            Code::UrlInternalSuffix,
            format!(
                "`{name}` is an internal name, which the binding kubernetes cannot have; use the binding internal, or another namespace"
            ),
        );
    }
    if two {
        return Ok(());
    }
    let proposal = match (host, labels.as_slice()) {
        (Host::Ip(_), _) => "service.namespace".to_owned(),
        (Host::Name(_), [service]) => format!("{service}.default"),
        (Host::Name(_), [service, namespace, ..]) => format!("{service}.{namespace}"),
        (Host::Name(_), []) => "service.namespace".to_owned(),
    };
    refuse(
        Code::UrlKubernetesHost,
        format!(
            "`{}` is not a service and its namespace, as the host of a kubernetes endpoint is; write `tcp://{proposal}:{port}`",
            host.proposal()
        ),
    )
}
