//! Reading endpoint URLs: each rule has its code, and its message proposes what would be right.
//!
//! Must never: repeat a password that someone put into a URL, or panic on any text.

use std::net::Ipv6Addr;

use super::binding::{self, random, settle};
use super::host::{example_port, read_host, read_port};
use super::{EndpointUrl, INTERNAL_SUFFIX, Scheme, TLS_PORT, UrlRequest, quoted, refuse};
use crate::defaults::URL_BYTES_MAX;
use crate::endpoint::Binding;
use crate::errors::{Code, Error};

/// Reads an endpoint URL and settles its binding: the one given, else `internal` for a host that
/// ends in `.internal`, else `public`. An empty text is `tcp://`; `host:port` without a scheme is
/// taken for `tcp://host:port`. A `tls://` URL needs no port: an internal one without is at [`TLS_PORT`].
///
/// # Errors
/// One code per rule (`PTC_URL_…`); the message says what is wrong and proposes the right form.
pub fn parse(text: &str, binding: Option<Binding>) -> Result<(Binding, UrlRequest), Error> {
    let text = text.trim();
    let (scheme, authority) = read_authority(text)?;
    if authority.is_empty() {
        return random(scheme, binding);
    }
    let (host, port) = split_port(scheme, text, authority)?;
    let host = read_host(host)?;
    let port = port
        .map(|port| read_port(port, scheme, &host.proposal()))
        .transpose()?;
    let binding = settle(scheme, &host, port, binding)?;
    let name = host.name();
    let at = |port| UrlRequest::Exact(EndpointUrl::with_scheme(scheme, &name, port));
    let request = match (scheme, binding, port) {
        (_, _, Some(port)) => at(port),
        (Scheme::Tcp, Binding::Public, None) => UrlRequest::Host(name),
        (Scheme::Tls, Binding::Public, None) => UrlRequest::TlsName(name),
        (Scheme::Tls, Binding::Internal, None) => at(TLS_PORT),
        (Scheme::Tcp, Binding::Internal, None) | (_, Binding::Kubernetes, None) => {
            let host = host.proposal();
            let port = binding::example_port(scheme);
            return refuse(
                Code::UrlPortMissing,
                format!(
                    "`{scheme}://{host}` has no port, which an endpoint of the binding {binding} needs; write `{scheme}://{host}:{port}` with the port you mean"
                ),
            );
        }
    };
    Ok((binding, request))
}

/// Takes off the scheme, and refuses every part but host and port.
fn read_authority(text: &str) -> Result<(Scheme, &str), Error> {
    if text.is_empty() {
        return Ok((Scheme::Tcp, ""));
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
    let (scheme, rest) = read_scheme(text)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let bare = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    if authority.len() == bare.len() && !tail.is_empty() && tail.bytes().all(|b| b == b'/') {
        return refuse(
            Code::UrlTrailingSlash,
            format!(
                "`{}` ends in a slash; write `{scheme}://{authority}`",
                quoted(text)
            ),
        );
    }
    let parts = extra_parts(authority.len() != bare.len(), tail);
    if parts.is_empty() {
        return Ok((scheme, authority));
    }
    refuse(
        Code::UrlPartNotAllowed,
        format!(
            "`{}` has {}, which an endpoint URL cannot have; write `{scheme}://{bare}`",
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

fn read_scheme(text: &str) -> Result<(Scheme, &str), Error> {
    const KNOWN: [Scheme; 2] = [Scheme::Tcp, Scheme::Tls];
    let Some((scheme, rest)) = text.split_once("://") else {
        let lower = text.to_ascii_lowercase();
        for scheme in KNOWN {
            let behind = lower.strip_prefix(scheme.as_str());
            if behind.is_some_and(|it| it.is_empty() || it.starts_with([':', '/'])) {
                let rest = text[scheme.as_str().len()..].trim_start_matches([':', '/']);
                return refuse(
                    Code::UrlMalformed,
                    format!(
                        "`{}` lacks the `://` behind its scheme; write `{scheme}://{}`",
                        quoted(text),
                        quoted(rest)
                    ),
                );
            }
        }
        return Ok((Scheme::Tcp, text));
    };
    for known in KNOWN {
        if scheme.eq_ignore_ascii_case(known.as_str()) {
            return Ok((known, rest));
        }
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
        "http" | "https" => {
            "only TCP and TLS are served, and a tcp endpoint passes HTTP through untouched"
        }
        "udp" => "only TCP and TLS are served",
        _ => "tcp and tls are the only schemes",
    };
    let proposal = match missing_port(&scheme, proposal) {
        Some(port) => format!("`tcp://{}:{port}` with the port you mean", quoted(proposal)),
        None => format!("`tcp://{}`", quoted(proposal)),
    };
    refuse(
        Code::UrlScheme,
        format!("`{}`: {advice}; write {proposal}", quoted(text)),
    )
}

/// The port that a proposal for an internal name lacks: such an endpoint has none by itself.
fn missing_port(scheme: &str, authority: &str) -> Option<u16> {
    let name = authority.to_ascii_lowercase();
    let name = name.trim_end_matches('.');
    name.ends_with(INTERNAL_SUFFIX).then_some(match scheme {
        "http" => 80,
        "https" => 443,
        _ => binding::example_port(Scheme::Tcp),
    })
}

/// Parts `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split_port<'a>(
    scheme: Scheme,
    text: &str,
    authority: &'a str,
) -> Result<(&'a str, Option<&'a str>), Error> {
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
        return Err(too_many_colons(scheme, text, authority, (host, port)));
    }
    if host.is_empty() {
        return refuse(
            Code::UrlHostInvalid,
            format!(
                "`{}` has a port but no host; write `{scheme}://host:{}`, or `{scheme}://` for a random address",
                quoted(text),
                quoted(port)
            ),
        );
    }
    Ok((host, Some(port)))
}

fn too_many_colons(
    scheme: Scheme,
    text: &str,
    authority: &str,
    (host, port): (&str, &str),
) -> Error {
    let is_address = authority.parse::<Ipv6Addr>().is_ok() || host.parse::<Ipv6Addr>().is_ok();
    let proposal = if is_address && scheme == Scheme::Tls {
        "clients ask for a TLS endpoint by its name; write `tls://name.example.com`".to_owned()
    } else if authority.parse::<Ipv6Addr>().is_ok() {
        format!(
            "an IPv6 address stands in brackets; write `{scheme}://[{authority}]:{}` with the port you mean",
            example_port(scheme)
        )
    } else if host.parse::<Ipv6Addr>().is_ok() {
        format!("an IPv6 address stands in brackets; write `{scheme}://[{host}]:{port}`")
    } else {
        "only one `:` may stand behind the host, before the port".to_owned()
    };
    Error::new(
        Code::UrlMalformed,
        format!("`{}`: {proposal}", quoted(text)),
    )
}
