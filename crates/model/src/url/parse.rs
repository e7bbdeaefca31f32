//! Reading endpoint URLs: each rule has its code, and its message proposes what would be right.
//!
//! Must never: repeat a password that someone put into a URL, or panic on any text.

use std::net::Ipv6Addr;

use super::binding::{random, settle};
use super::host::{EXAMPLE_PORT, read_host, read_port};
use super::{EndpointUrl, UrlRequest, quoted, refuse};
use crate::defaults::URL_BYTES_MAX;
use crate::endpoint::Binding;
use crate::errors::{Code, Error};

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
    let binding = settle(&host, port, binding)?;
    let request = match (binding, port) {
        (_, Some(port)) => UrlRequest::Exact(EndpointUrl::new(&host.name(), port)),
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
            listed(&parts)
        ),
    )
}

/// `a`, `a and b`, `a, b and c`.
fn listed(parts: &[&str]) -> String {
    match parts {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
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
