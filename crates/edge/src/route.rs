//! Routing: which endpoint a connection is for, and which member of a pool gets it.
//!
//! Must never: wait or lock for long; everything comes from an immutable snapshot.

use std::net::SocketAddr;
use std::sync::Arc;

use portcullis_model::EndpointId;
use portcullis_model::endpoint::Holder;
use portcullis_store::{EndpointEntry, Pool, Snapshot};
use portcullis_telemetry::{CloseReason, Ended};
use rand::RngExt as _;
use tokio::time::Instant;

use crate::defaults::{MEMBER_REST, MEMBERS_TRIED_MAX};
use crate::node::Node;

/// Members whose open failed for this connection, and with what.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    failed: Vec<EndpointId>,
    last: Option<Ended>,
}

impl Tries {
    /// Notes a failed open, so that the next member is routed.
    ///
    /// # Errors
    /// The failure itself, when nothing else may be tried.
    pub(crate) fn failed(&mut self, member: &EndpointId, ended: Ended) -> Result<(), Ended> {
        self.failed.push(member.clone());
        if !ended.reason.retryable() || self.failed.len() >= MEMBERS_TRIED_MAX {
            return Err(ended);
        }
        self.last = Some(ended);
        Ok(())
    }

    /// When an open that begins now must be done: at the deadline, or after its share of the time that is
    /// left when others could still be tried.
    pub(crate) fn deadline(&self, within: Instant, others: bool) -> Instant {
        let now = Instant::now();
        let left =
            u32::try_from(MEMBERS_TRIED_MAX.saturating_sub(self.failed.len()).max(1)).unwrap_or(1);
        if others {
            now + within.saturating_duration_since(now) / left
        } else {
            within
        }
    }

    /// What to end with when there is nobody left: the last failure, else this.
    pub(crate) fn or_last(&self, otherwise: impl Into<Ended>) -> Ended {
        self.last.clone().unwrap_or_else(|| otherwise.into())
    }
}

/// A member that was chosen.
pub(crate) struct Routed {
    /// The member.
    pub(crate) endpoint: Arc<EndpointEntry>,
    /// Whether others could be chosen in its place.
    pub(crate) others: bool,
}

/// The endpoint that a connection accepted at `listener` reaches.
///
/// # Errors
/// `no_endpoint`, or the last failure when every member was tried.
pub(crate) fn entry(
    node: &Node,
    snapshot: &Snapshot,
    listener: SocketAddr,
    tries: &Tries,
) -> Result<Routed, Ended> {
    let pool = snapshot
        .listener(listener.ip(), listener.port())
        .ok_or(CloseReason::NoEndpoint)?;
    member(node, pool, tries).ok_or_else(|| tries.or_last(CloseReason::NoEndpoint))
}

/// A member of the pool, at random: of those that live and whose last open worked, else of those that
/// live, else of the others, none of which was tried.
pub(crate) fn member(node: &Node, pool: &Pool, tries: &Tries) -> Option<Routed> {
    let rank = |endpoint: &EndpointEntry| {
        if tries.failed.contains(&endpoint.id) {
            None
        } else if !lives(node, endpoint) {
            Some(Rank::Gone)
        } else if node.status.rests(&endpoint.id, MEMBER_REST) {
            Some(Rank::Rests)
        } else {
            Some(Rank::Well)
        }
    };
    // One alone is it, however it fares; most pools are that small.
    if let [only] = pool.members.as_slice() {
        return rank(only).map(|_| Routed {
            endpoint: Arc::clone(only),
            others: false,
        });
    }
    let ranks: Vec<_> = pool.members.iter().map(|endpoint| rank(endpoint)).collect();
    let chosen = choose(&ranks, |count| rand::rng().random_range(0..count))?;
    let others = ranks.iter().flatten().count() > 1;
    pool.members.get(chosen).map(|endpoint| Routed {
        endpoint: Arc::clone(endpoint),
        others,
    })
}

/// Whether the endpoint can be opened from here: its policy decides, the edge dials, or its session is
/// connected to this node.
fn lives(node: &Node, endpoint: &EndpointEntry) -> bool {
    match &endpoint.holder {
        Some(Holder::Session { session, .. }) => node.sessions.serves(session),
        Some(Holder::Direct { .. }) | None => true,
    }
}

/// How promising a member is, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Well,
    Rests,
    Gone,
}

/// One of the best, by a draw below their count.
fn choose(ranks: &[Option<Rank>], draw: impl FnOnce(usize) -> usize) -> Option<usize> {
    let best = ranks.iter().flatten().min().copied();
    let best: Vec<usize> = best
        .map(|best| {
            (0..ranks.len())
                .filter(|at| ranks[*at] == Some(best))
                .collect()
        })
        .unwrap_or_default();
    match best.len() {
        0 => None,
        1 => best.first().copied(),
        count => best.get(draw(count)).copied(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_best_rank_wins_and_the_draw_is_among_equals() {
        let ranks = [
            Some(Rank::Gone),
            Some(Rank::Well),
            None,
            Some(Rank::Rests),
            Some(Rank::Well),
        ];
        assert_eq!(choose(&ranks, |count| count - 1), Some(4));
        assert_eq!(choose(&ranks, |_| 0), Some(1));
        assert_eq!(choose(&[None, Some(Rank::Gone)], |_| 0), Some(1));
        assert_eq!(choose(&[None, None], |_| 0), None);
        assert_eq!(choose(&[], |_| 0), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_gets_its_share_of_the_time_while_others_could_be_tried() {
        let within = Instant::now() + Duration::from_secs(9);
        let mut tries = Tries::default();
        assert_eq!(tries.deadline(within, false), within);
        assert_eq!(
            tries.deadline(within, true),
            Instant::now() + Duration::from_secs(3)
        );
        let refused = Ended::from(CloseReason::UpstreamRefused);
        assert_eq!(
            tries.failed(&EndpointId::new(1_700_000_000, [1; 16]), refused),
            Ok(())
        );
        assert_eq!(
            tries.deadline(within, true),
            Instant::now() + Duration::from_millis(4_500)
        );
    }

    #[test]
    fn at_most_three_members_are_tried_and_an_unknown_verdict_ends_at_once() {
        let member = |seed| EndpointId::new(1_700_000_000, [seed; 16]);
        let refused = || Ended::from(CloseReason::UpstreamRefused);
        let mut tries = Tries::default();
        assert_eq!(tries.failed(&member(1), refused()), Ok(()));
        assert_eq!(
            tries.or_last(CloseReason::NoEndpoint).reason,
            CloseReason::UpstreamRefused
        );
        assert_eq!(tries.failed(&member(2), refused()), Ok(()));
        assert_eq!(tries.failed(&member(3), refused()), Err(refused()));
        let unknown = Ended::from(CloseReason::AgentLostUnknown);
        assert_eq!(
            Tries::default().failed(&member(1), unknown.clone()),
            Err(unknown)
        );
    }
}
