//! Routing: which endpoint a connection is for, and which member of a pool gets it.
//!
//! Must never: wait or lock for long; everything comes from an immutable snapshot.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portcullis_model::EndpointId;
use portcullis_store::{EndpointEntry, Pool, Snapshot};
use portcullis_telemetry::{CloseReason, Ended};
use tokio::time::Instant;

use crate::defaults::MEMBERS_TRIED_MAX;
use crate::node::Node;
use crate::pool;

/// Members whose open failed for this connection, and with what.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    failed: Vec<EndpointId>,
    last: Option<Ended>,
    client: Option<IpAddr>,
    /// Members whose turn it was for this connection: decided afresh it takes no other turn.
    turns: Mutex<Vec<EndpointId>>,
}

impl Tries {
    /// Those of a client, for strategies that choose by its address.
    pub(crate) fn of(client: IpAddr) -> Self {
        Self {
            client: Some(client),
            ..Self::default()
        }
    }

    /// The client's address; that of nobody where it is not known.
    pub(crate) fn client(&self) -> IpAddr {
        self.client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// Whether this member was tried.
    pub(crate) fn was_tried(&self, member: &EndpointId) -> bool {
        self.failed.contains(member)
    }

    /// Whether no member was tried yet.
    pub(crate) fn is_first(&self) -> bool {
        self.failed.is_empty()
    }

    /// Members whose turn it was for this connection.
    pub(crate) fn turns(&self) -> MutexGuard<'_, Vec<EndpointId>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

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

/// A member of the pool that was not tried, by the pool's strategy; see [`pool`].
pub(crate) fn member(node: &Node, pool: &Pool, tries: &Tries) -> Option<Routed> {
    pool::member(node, pool, tries)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

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
