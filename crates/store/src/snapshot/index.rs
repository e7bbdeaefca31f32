//! The snapshot's indexes: pools by host and port, changed with every endpoint that comes or goes.

use std::sync::Arc;

use portcullis_model::Binding;
use portcullis_model::url::Scheme;

use super::{EndpointEntry, Hosts, Pool, Snapshot};

/// The exact name, else the nearest wildcard: `a.b.internal` tries `*.b.internal`, then `*.internal`.
pub(super) fn internal<'a>(hosts: &'a Hosts, host: &str, port: u16) -> Option<&'a Arc<Pool>> {
    if let Some(pool) = hosts.get(host).and_then(|ports| ports.get(&port)) {
        return Some(pool);
    }
    let mut rest = host.strip_prefix("*.").unwrap_or(host);
    while let Some((_, parent)) = rest.split_once('.') {
        if let Some(pool) = hosts
            .get(format!("*.{parent}").as_str())
            .and_then(|ports| ports.get(&port))
        {
            return Some(pool);
        }
        rest = parent;
    }
    None
}

/// Puts an endpoint into its pool.
pub(super) fn add(snapshot: &mut Snapshot, endpoint: &Arc<EndpointEntry>) {
    change(snapshot, endpoint, |members| {
        let place = members.partition_point(|member| member.id < endpoint.id);
        members.insert(place, Arc::clone(endpoint));
    });
}

/// Takes an endpoint out of its pool.
pub(super) fn remove(snapshot: &mut Snapshot, endpoint: &Arc<EndpointEntry>) {
    change(snapshot, endpoint, |members| {
        members.retain(|member| member.id != endpoint.id)
    });
}

fn change(
    snapshot: &mut Snapshot,
    endpoint: &EndpointEntry,
    edit: impl FnOnce(&mut Vec<Arc<EndpointEntry>>),
) {
    let (public, internal) = match endpoint.url.scheme() {
        Scheme::Tcp => (&mut snapshot.public, &mut snapshot.internal),
        Scheme::Tls => (&mut snapshot.names.public, &mut snapshot.names.internal),
    };
    match endpoint.binding {
        Binding::Public => change_pool(Arc::make_mut(public), endpoint, edit),
        Binding::Internal => {
            let accounts = Arc::make_mut(internal);
            let hosts = Arc::make_mut(accounts.entry(endpoint.account.clone()).or_default());
            change_pool(hosts, endpoint, edit);
            if hosts.is_empty() {
                accounts.remove(&endpoint.account);
            }
        }
        // Only an operator makes these, and there is none yet.
        Binding::Kubernetes => {}
    }
}

fn change_pool(
    hosts: &mut Hosts,
    endpoint: &EndpointEntry,
    edit: impl FnOnce(&mut Vec<Arc<EndpointEntry>>),
) {
    let host = endpoint.url.host();
    let port = endpoint.url.port();
    let ports = Arc::make_mut(hosts.entry(host.into()).or_default());
    let mut members = ports
        .get(&port)
        .map(|pool| pool.members.clone())
        .unwrap_or_default();
    edit(&mut members);
    if members.is_empty() {
        ports.remove(&port);
    } else {
        ports.insert(
            port,
            Arc::new(Pool {
                url: endpoint.url.clone(),
                members,
            }),
        );
    }
    if ports.is_empty() {
        hosts.remove(host);
    }
}
