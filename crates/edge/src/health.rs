//! Health of upstreams, as this node learns of it: its own checks of those that it dials itself, what agents
//! tell of theirs, and opens that failed. All of it goes onto the board, the metrics and the log here.
//!
//! Must never: choose; routing reads the board.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use portcullis_model::endpoint::Holder;
use portcullis_model::health::Health;
use portcullis_model::{EndpointId, Error, HealthCheck, SessionId, Timestamp};
use portcullis_net::task;
use portcullis_net::upstream::{Upstream, health};
use portcullis_proto::message::HealthReport;
use portcullis_store::{EndpointEntry, Snapshot};
use rand::Rng as _;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::defaults::PROBES_AT_ONCE_MAX;
use crate::node::Node;

/// An endpoint that this node checks, and what it was told to check. Dropped, the checks end.
struct Watched {
    upstream: String,
    check: HealthCheck,
    _stop: DropGuard,
}

/// Checks the upstreams of this node's own endpoints until the node drains.
pub(crate) async fn run(node: Arc<Node>, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    let places = Arc::new(Semaphore::new(PROBES_AT_ONCE_MAX));
    let mut watched: HashMap<EndpointId, Watched> = HashMap::new();
    loop {
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        watched.retain(|id, before| {
            let wanted = snapshot.endpoint_by_id(id).and_then(|now| checked(now));
            wanted.is_some_and(|(upstream, check)| {
                *upstream == *before.upstream && *check == before.check
            })
        });
        for endpoint in snapshot.all_endpoints() {
            if let Some((upstream, check)) = checked(endpoint)
                && !watched.contains_key(&endpoint.id)
            {
                let begun = begin(&node, endpoint, upstream, check, &places);
                watched.insert(endpoint.id.clone(), begun);
            }
        }
        drop(snapshot);
        tokio::select! {
            biased;
            () = node.draining.cancelled() => return,
            changed = snapshots.changed() => if changed.is_err() { return },
        }
    }
}

/// What this node is to check of an endpoint.
fn checked(endpoint: &EndpointEntry) -> Option<(&str, &HealthCheck)> {
    match (&endpoint.holder, &endpoint.health) {
        (Some(Holder::Direct { upstream }), Some(check)) => Some((upstream, check)),
        _ => None,
    }
}

fn begin(
    node: &Arc<Node>,
    endpoint: &Arc<EndpointEntry>,
    upstream: &str,
    check: &HealthCheck,
    places: &Arc<Semaphore>,
) -> Watched {
    let stop = CancellationToken::new();
    let watched = Watched {
        upstream: upstream.to_owned(),
        check: check.clone(),
        _stop: stop.clone().drop_guard(),
    };
    // The registry took it only as one that can be read.
    let Ok(to) = upstream.parse::<Upstream>() else {
        return watched;
    };
    let (node, endpoint) = (Arc::clone(node), Arc::clone(endpoint));
    let (check, places) = (check.clone(), Arc::clone(places));
    drop(task::spawn("health check", async move {
        let seed = rand::rng().next_u64();
        let told = |health: &Health, _: bool| {
            node.records
                .metrics()
                .upstream_checked(health.failures == 0);
            note(&node, &endpoint, health.clone());
        };
        let of = || Some((to.clone(), endpoint.proxy_protocol));
        let watching = health::watch(&check, of, &node.resolver, &places, seed, told);
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = watching => {}
        }
    }));
    watched
}

/// Takes what an agent tells of one of its endpoints. Of another's it says nothing.
pub(crate) fn reported(node: &Node, session: &SessionId, report: HealthReport) {
    let snapshot = node.registry.snapshot();
    let endpoint = snapshot.endpoint_by_id(&report.endpoint_id);
    let Some(endpoint) = endpoint.filter(|endpoint| endpoint.session() == Some(session)) else {
        tracing::debug!(%session, endpoint = %report.endpoint_id, "health of an endpoint that the session does not have");
        return;
    };
    let now = Timestamp::from(jiff::Timestamp::now());
    let age = i64::try_from(report.age_ms).unwrap_or(i64::MAX);
    let health = Health {
        healthy: report.healthy,
        reason: report.error(),
        since: Timestamp::from_unix_millis(now.unix_millis().saturating_sub(age)),
        checked_at: now,
        failures: report.failures,
    };
    note(node, endpoint, health);
}

/// Puts what a check came to onto the board, and tells of a turn.
fn note(node: &Node, endpoint: &EndpointEntry, health: Health) {
    let (healthy, reason) = (health.healthy, health.reason.clone());
    if !node.status.checked(&endpoint.id, health) {
        return;
    }
    node.records.metrics().upstream_turned(healthy);
    count(node);
    let (id, url, upstream) = (&endpoint.id, &endpoint.url, &endpoint.upstream_url);
    match (healthy, reason) {
        (true, _) => tracing::info!(endpoint = %id, %url, upstream, "upstream is healthy"),
        (false, Some(error)) => {
            tracing::warn!(endpoint = %id, %url, upstream, %error, "upstream is unhealthy");
        }
        (false, None) => tracing::warn!(endpoint = %id, %url, upstream, "upstream is unhealthy"),
    }
}

/// Brings the gauge up to what the board says.
pub(crate) fn count(node: &Node) {
    let unhealthy = i64::try_from(node.status.count_unhealthy()).unwrap_or(i64::MAX);
    node.records.metrics().upstreams_unhealthy.set(unhealthy);
}

/// An open failed, and it was not this node's fault.
pub(crate) fn open_failed(node: &Node, endpoint: &EndpointEntry, error: &Error) {
    let Some(rest) = node.status.failed(&endpoint.id, error) else {
        return;
    };
    if endpoint.pooling_enabled {
        node.records.metrics().upstream_ejections.inc();
        ejected(endpoint, rest, error);
    }
}

fn ejected(endpoint: &EndpointEntry, rest: Duration, error: &Error) {
    tracing::info!(endpoint = %endpoint.id, url = %endpoint.url, ?rest, %error, "other members of the pool go first for a while");
}
