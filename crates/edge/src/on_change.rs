//! Live changes: what becomes of an endpoint's open connections when what decides about them changes, as its
//! `on_change` says. `keep`: nothing. `reevaluate`: each is decided again, and closed with the reason that it
//! would be refused with. `drain`: all are closed, spread over the drain time.
//!
//! Owns: which changes count ([`Basis`]). Must never: close a connection that the change does not concern,
//! because its endpoint went (that is the holder's to end), or because something is not known any more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use portcullis_model::id::{IpPolicyId, IpRestrictionId};
use portcullis_model::{AccountId, Endpoint, EndpointId, OnChange, RestrictionKind, Timestamp};
use portcullis_net::task;
use portcullis_policy::Policy;
use portcullis_policy::world::IpSets;
use portcullis_store::{EndpointEntry, Snapshot};
use portcullis_telemetry::{CloseReason, LiveConnection};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::defaults::{FORWARD_HOPS_MAX, REEVALUATE_AGAIN, REEVALUATED_AT_ONCE};
use crate::node::Node;
use crate::pool;

mod again;

/// Follows the snapshots until the node drains.
pub(crate) async fn run(node: Arc<Node>, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    let mut before = Arc::clone(&snapshots.borrow_and_update());
    let mut owed: Option<(Instant, BTreeSet<EndpointId>)> = None;
    let mut drained: HashMap<EndpointId, Timestamp> = HashMap::new();
    loop {
        let at = owed.as_ref().map(|(at, _)| *at);
        tokio::select! {
            biased;
            () = node.draining.cancelled() => return,
            changed = snapshots.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(at.unwrap_or_else(Instant::now)), if at.is_some() => {
                if let Some((_, endpoints)) = owed.take() {
                    reevaluate(&node, &before, &endpoints).await;
                }
                continue;
            }
        }
        let now = Arc::clone(&snapshots.borrow_and_update());
        pool::tell_disagreement(&before, &now);
        let changed = changed(&before, &now);
        drained.retain(|id, _| now.endpoint_by_id(id).is_some());
        for endpoint in &changed.drain {
            let moment = Timestamp::from(jiff::Timestamp::now());
            let since = drained.insert(endpoint.clone(), moment);
            drain(&node, endpoint, since);
        }
        if !changed.reevaluate.is_empty() {
            reevaluate(&node, &now, &changed.reevaluate).await;
            let (_, again) =
                owed.get_or_insert_with(|| (Instant::now() + REEVALUATE_AGAIN, BTreeSet::new()));
            again.extend(changed.reevaluate);
        }
        before = now;
    }
}

/// Endpoints of which something changed, by what is to be done.
#[derive(Debug, Default)]
struct Changed {
    reevaluate: BTreeSet<EndpointId>,
    drain: BTreeSet<EndpointId>,
}

fn changed(before: &Snapshot, now: &Snapshot) -> Changed {
    let mut changed = Changed::default();
    for endpoint in now.all_endpoints() {
        let to = match endpoint.on_change {
            OnChange::Keep => continue,
            OnChange::Reevaluate => &mut changed.reevaluate,
            OnChange::Drain => &mut changed.drain,
        };
        let Some(old) = before.endpoint_by_id(&endpoint.id) else {
            continue; // a new one has no connections
        };
        let (then, basis) = (Basis::of(before, old), Basis::of(now, endpoint));
        let restricted =
            endpoint.on_change == OnChange::Reevaluate && then.restrictions != basis.restrictions;
        if restricted || then.differs(&basis) {
            to.insert(endpoint.id.clone());
        }
    }
    changed
}

/// What an endpoint's policy decides by: its text, the IP policies and secrets that it uses, and the policies
/// of the internal endpoints that it forwards to, with what those use.
#[derive(Default)]
struct Basis {
    own: String,
    /// By the URL of the target: the texts of its members.
    targets: BTreeMap<String, BTreeSet<String>>,
    ip: BTreeMap<IpPolicyId, Option<Arc<IpSets>>>,
    secrets: BTreeMap<(String, String), Option<Arc<str>>>,
    /// The account's IP restrictions of endpoints that are enforced. They are no part of the policy: nothing is
    /// drained because of them.
    restrictions: BTreeMap<IpRestrictionId, Vec<Option<Arc<IpSets>>>>,
}

impl Basis {
    fn of(snapshot: &Snapshot, endpoint: &EndpointEntry) -> Self {
        let mut basis = Self {
            own: endpoint.traffic_policy.clone(),
            ..Self::default()
        };
        basis.restrict(snapshot, &endpoint.account);
        if let Ok(Some(policy)) = endpoint.policy() {
            basis.take(snapshot, endpoint, policy, 0);
        }
        basis
    }

    fn restrict(&mut self, snapshot: &Snapshot, account: &AccountId) {
        let enforced = snapshot
            .ip_restrictions(account)
            .filter(|it| it.enforced && it.kind == RestrictionKind::Endpoints);
        for restriction in enforced {
            let policies = restriction.policies.iter();
            let sets = policies.map(|id| snapshot.ip_sets(account, id)).collect();
            self.restrictions.insert(restriction.id.clone(), sets);
        }
    }

    fn take(&mut self, snapshot: &Snapshot, endpoint: &Endpoint, policy: &Policy, hops: u32) {
        let (account, uses) = (&endpoint.account, policy.uses());
        for id in &uses.ip_policies {
            self.ip
                .entry(id.clone())
                .or_insert_with(|| snapshot.ip_sets(account, id));
        }
        for (vault, name) in &uses.secrets {
            self.secrets
                .entry((vault.clone(), name.clone()))
                .or_insert_with(|| snapshot.secret(account, vault, name));
        }
        for url in &uses.targets {
            let text = url.to_string();
            if hops >= FORWARD_HOPS_MAX || self.targets.contains_key(&text) {
                continue;
            }
            let Some(pool) = snapshot.internal_at(account, url) else {
                continue;
            };
            let texts = pool
                .members
                .iter()
                .map(|member| member.traffic_policy.clone());
            self.targets.insert(text, texts.collect());
            for member in &pool.members {
                if let Ok(Some(policy)) = member.policy() {
                    self.take(snapshot, member, policy, hops + 1);
                }
            }
        }
    }

    /// Whether connections may be decided otherwise now. A target that comes or goes changes nothing for those
    /// that are open.
    fn differs(&self, now: &Self) -> bool {
        let another = |before: &Option<Arc<IpSets>>, now: &Option<Arc<IpSets>>| match (before, now)
        {
            (Some(before), Some(now)) => !Arc::ptr_eq(before, now) && before != now,
            (None, None) => false,
            _ => true,
        };
        let ip = |(id, sets): (&IpPolicyId, &Option<Arc<IpSets>>)| {
            self.ip.get(id).is_some_and(|before| another(before, sets))
        };
        let new_text = |(url, texts): (&String, &BTreeSet<String>)| {
            let before = self.targets.get(url);
            before.is_some_and(|before| !texts.is_subset(before))
        };
        self.own != now.own
            || now.targets.iter().any(new_text)
            || now.ip.iter().any(ip)
            || now
                .secrets
                .iter()
                .any(|(name, value)| self.secrets.get(name).is_some_and(|before| before != value))
    }
}

/// Decides the connections of these endpoints again.
async fn reevaluate(node: &Arc<Node>, snapshot: &Arc<Snapshot>, endpoints: &BTreeSet<EndpointId>) {
    let connections = node
        .records
        .live()
        .routed(|endpoint| endpoints.contains(&endpoint.id));
    let (mut kept, mut closed) = (0, 0);
    for some in connections.chunks(REEVALUATED_AT_ONCE) {
        for connection in some {
            match again::verdict(node, snapshot, connection, endpoints) {
                None => kept += 1,
                Some(ended) => {
                    connection.end(ended);
                    closed += 1;
                }
            }
        }
        tokio::task::yield_now().await;
    }
    node.records.metrics().reevaluated(kept, closed);
    if closed > 0 {
        tracing::info!(
            kept,
            closed,
            "a policy changed: open connections were decided again"
        );
    }
}

/// Ends the connections of an endpoint one by one over the drain time. Those from before `since` are in an
/// earlier drain.
fn drain(node: &Arc<Node>, endpoint: &EndpointId, since: Option<Timestamp>) {
    let mut connections = node.records.live().routed(|of| of.id == *endpoint);
    connections.retain(|connection| since.is_none_or(|since| connection.opened_at() >= since));
    if connections.is_empty() {
        return;
    }
    let (count, within) = (connections.len(), node.config.limits.drain_timeout);
    tracing::info!(%endpoint, count, ?within, "a policy changed: open connections are drained");
    let stopped = node.draining.clone();
    drop(task::spawn("drain endpoint", async move {
        let ending = spread(connections, within);
        tokio::select! {
            biased;
            () = stopped.cancelled() => {} // the node's own drain has them
            () = ending => {}
        }
    }));
}

/// The first at once, the last when the time is over.
async fn spread(connections: Vec<LiveConnection>, within: Duration) {
    let steps = u32::try_from(connections.len().saturating_sub(1).max(1)).unwrap_or(u32::MAX);
    let begun = Instant::now();
    for (turn, connection) in (0_u32..).zip(connections) {
        let due = within.mul_f64(f64::from(turn) / f64::from(steps));
        tokio::time::sleep_until(begun + due).await;
        connection.end(CloseReason::PolicyDrained);
    }
}
