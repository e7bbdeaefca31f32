//! What each binding asks of a host.

use super::host::Host;
use super::{INTERNAL_SUFFIX, UrlRequest, refuse};
use crate::defaults::INTERNAL_LABELS_MAX;
use crate::endpoint::Binding;
use crate::errors::{Code, Error};

/// A port for the examples in messages, one that people know.
pub(super) const EXAMPLE_PORT: u16 = 5432;

/// A URL without host and port.
pub(super) fn random(binding: Option<Binding>) -> Result<(Binding, UrlRequest), Error> {
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
pub(super) fn settle(
    host: &Host,
    port: Option<u16>,
    wish: Option<Binding>,
) -> Result<Binding, Error> {
    let name = host.name();
    let port = port.unwrap_or(EXAMPLE_PORT);
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
