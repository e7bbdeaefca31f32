//! What each binding asks of a host.

use super::host::Host;
use super::{INTERNAL_SUFFIX, Scheme, TLS_PORT, UrlRequest, refuse};
use crate::defaults::INTERNAL_LABELS_MAX;
use crate::endpoint::Binding;
use crate::errors::{Code, Error};

/// A port for the examples in messages, one that people know.
pub(super) fn example_port(scheme: Scheme) -> u16 {
    match scheme {
        Scheme::Tcp => 5432,
        Scheme::Tls => TLS_PORT,
    }
}

/// A URL without host and port.
pub(super) fn random(
    scheme: Scheme,
    binding: Option<Binding>,
) -> Result<(Binding, UrlRequest), Error> {
    let port = example_port(scheme);
    match (binding, scheme) {
        (None | Some(Binding::Public), Scheme::Tcp) => Ok((Binding::Public, UrlRequest::Random)),
        (None | Some(Binding::Public), Scheme::Tls) => Ok((Binding::Public, UrlRequest::RandomTls)),
        (Some(Binding::Internal), _) => refuse(
            Code::UrlInternalRandom,
            format!(
                "an internal endpoint needs a name and a port of its own; write `{scheme}://name.internal:{port}`"
            ),
        ),
        (Some(Binding::Kubernetes), _) => refuse(
            Code::UrlKubernetesHost,
            format!(
                "a kubernetes endpoint needs a service, a namespace and a port; write `{scheme}://service.namespace:{port}`"
            ),
        ),
    }
}

/// The binding, once host and wish agree.
pub(super) fn settle(
    scheme: Scheme,
    host: &Host,
    port: Option<u16>,
    wish: Option<Binding>,
) -> Result<Binding, Error> {
    let name = host.name();
    let port = port.unwrap_or(example_port(scheme));
    let internal = name.ends_with(INTERNAL_SUFFIX) || name == INTERNAL_SUFFIX[1..];
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
        Binding::Public if scheme == Scheme::Tls => check_tls(host, &name).map(|()| binding),
        Binding::Public if name.contains('*') => refuse(
            Code::UrlWildcard,
            format!(
                "`{shown}` has a wildcard, and a public address has none; name the host in full, or write `tcp://` for a random address"
            ),
        ),
        Binding::Public => Ok(binding),
        Binding::Internal => {
            check_internal((scheme, port), host, &name, internal).map(|()| binding)
        }
        Binding::Kubernetes => {
            check_kubernetes((scheme, port), host, &name, internal).map(|()| binding)
        }
    }
}

/// A public TLS endpoint is reached by the name that clients ask for, which is never an address.
fn check_tls(host: &Host, name: &str) -> Result<(), Error> {
    match host {
        Host::Ip(_) => refuse(
            Code::UrlHostInvalid,
            format!(
                "`{}` is an address, and clients ask for a TLS endpoint by its name; write `tls://name.example.com`, or `tls://` for a random name",
                host.proposal()
            ),
        ),
        Host::Name(_) => check_wildcard(name, "example.com"),
    }
}

/// A wildcard can only be the whole first label, with a name behind it.
fn check_wildcard(name: &str, otherwise: &str) -> Result<(), Error> {
    let behind_first = name.strip_prefix("*.").unwrap_or(name);
    if !behind_first.contains('*') {
        return Ok(());
    }
    refuse(
        Code::UrlWildcard,
        format!(
            "`{name}`: a wildcard can only be the whole first label, as in `*.{}`",
            wildcard_rest(name, otherwise)
        ),
    )
}

fn check_internal(
    (scheme, port): (Scheme, u16),
    host: &Host,
    name: &str,
    suffixed: bool,
) -> Result<(), Error> {
    let labels = name.split('.').count();
    if name == &INTERNAL_SUFFIX[1..] {
        return refuse(
            Code::UrlInternalSuffix,
            format!("`internal` alone is no name; write `{scheme}://name.internal:{port}`"),
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
                "`{}` does not end in `.internal`, as the host of an internal endpoint does; write `{scheme}://{proposal}:{port}`",
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
    check_wildcard(name, "internal")
}

/// What of a name may stand behind `*.`: the labels behind the last one that has a `*`.
fn wildcard_rest<'a>(name: &'a str, otherwise: &'a str) -> &'a str {
    let behind = name.rfind('*').map_or(name, |at| &name[at + 1..]);
    behind.split_once('.').map_or(otherwise, |(_, rest)| rest)
}

fn check_kubernetes(
    (scheme, port): (Scheme, u16),
    host: &Host,
    name: &str,
    internal: bool,
) -> Result<(), Error> {
    if name.contains('*') {
        return refuse(
            Code::UrlWildcard,
            format!(
                "`{name}` has a wildcard, which a kubernetes endpoint cannot have; write `{scheme}://service.namespace:{port}`"
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
            "`{}` is not a service and its namespace, as the host of a kubernetes endpoint is; write `{scheme}://{proposal}:{port}`",
            host.proposal()
        ),
    )
}
