//! Admission: how many connections an endpoint, a source address and an account may have at once.
//! The node's own cap stands before the spawn, in the accept loop.
//!
//! Owns: the counts. Must never: wait, or count a connection that it refused.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use portcullis_model::{AccountId, EndpointId};
use portcullis_telemetry::CloseReason;

/// Locks that share the keys, so that connections to different places do not meet.
const SHARDS: usize = 32;

/// Something whose connections are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Endpoint(EndpointId),
    Source(EndpointId, IpAddr),
    Account(AccountId),
}

/// How many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caps {
    /// Of the endpoint.
    pub(crate) endpoint: u32,
    /// Of one source address to the endpoint.
    pub(crate) source: u32,
    /// Of the account; `None`: any number.
    pub(crate) account: Option<u32>,
}

/// The counts of a node. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Admission {
    shared: Arc<Shared>,
}

struct Shared {
    hasher: RandomState,
    shards: [Mutex<HashMap<Key, u32>>; SHARDS],
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl Shared {
    fn shard(&self, key: &Key) -> std::sync::MutexGuard<'_, HashMap<Key, u32>> {
        let index = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        self.shards[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, key: &Key, max: u32) -> bool {
        let mut shard = self.shard(key);
        let count = shard.get(key).copied().unwrap_or(0);
        if count >= max {
            return false;
        }
        shard.insert(key.clone(), count + 1);
        true
    }

    fn give_back(&self, key: &Key) {
        let mut shard = self.shard(key);
        match shard.get_mut(key) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => {
                shard.remove(key);
            }
        }
    }
}

/// What a connection holds while it lasts; dropping it gives everything back.
pub(crate) struct Admitted {
    shared: Arc<Shared>,
    held: Vec<Key>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        for key in &self.held {
            self.shared.give_back(key);
        }
    }
}

impl Admission {
    /// Counts a connection from `source` to an endpoint of `account`.
    ///
    /// # Errors
    /// The limit that is reached; nothing stays counted then.
    pub(crate) fn admit(
        &self,
        endpoint: &EndpointId,
        account: &AccountId,
        source: IpAddr,
        caps: Caps,
    ) -> Result<Admitted, CloseReason> {
        let mut admitted = Admitted {
            shared: Arc::clone(&self.shared),
            held: Vec::with_capacity(4),
        };
        let source = Key::Source(endpoint.clone(), source_of(source));
        admitted.take(source, caps.source, CloseReason::LimitSource)?;
        admitted.take(
            Key::Endpoint(endpoint.clone()),
            caps.endpoint,
            CloseReason::LimitEndpoint,
        )?;
        if let Some(max) = caps.account {
            admitted.take(
                Key::Account(account.clone()),
                max,
                CloseReason::LimitAccount,
            )?;
        }
        Ok(admitted)
    }

    /// Connections that an endpoint has now, as the entry or behind `forward-internal`.
    pub(crate) fn count_of(&self, endpoint: &EndpointId) -> u32 {
        let key = Key::Endpoint(endpoint.clone());
        self.shared.shard(&key).get(&key).copied().unwrap_or(0)
    }
}

impl Admitted {
    /// Counts the same connection for an endpoint that it was forwarded to.
    ///
    /// # Errors
    /// The endpoint's limit is reached; what was held before stays held.
    pub(crate) fn pass_on(&mut self, endpoint: &EndpointId, max: u32) -> Result<(), CloseReason> {
        let key = Key::Endpoint(endpoint.clone());
        if self.held.contains(&key) {
            return Ok(());
        }
        self.take(key, max, CloseReason::LimitEndpoint)
    }

    fn take(&mut self, key: Key, max: u32, full: CloseReason) -> Result<(), CloseReason> {
        if !self.shared.take(&key, max) {
            return Err(full);
        }
        self.held.push(key);
        Ok(())
    }
}

/// What counts as one source: an IPv4 address, or the /64 that one IPv6 host is usually given whole.
pub(crate) fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

/// Counts of unauthenticated connections by source, for the agent port.
#[derive(Clone, Default)]
pub(crate) struct Sources {
    counts: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

/// One connection's place among those of its source.
pub(crate) struct SourceSlot {
    sources: Sources,
    source: IpAddr,
}

impl Sources {
    /// A place for one more connection from `address`, if its source has fewer than `max`.
    pub(crate) fn take(&self, address: IpAddr, max: u32) -> Option<SourceSlot> {
        let source = source_of(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(source).or_insert(0);
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(SourceSlot {
            sources: self.clone(),
            source,
        })
    }
}

impl Drop for SourceSlot {
    fn drop(&mut self) {
        let mut counts = self
            .sources
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(seed: u8) -> EndpointId {
        EndpointId::new(1_700_000_000, [seed; 16])
    }

    fn account() -> AccountId {
        AccountId::new(1_700_000_000, [1; 16])
    }

    const CAPS: Caps = Caps {
        endpoint: 3,
        source: 2,
        account: Some(4),
    };

    fn admit(admission: &Admission, seed: u8, source: &str) -> Result<Admitted, CloseReason> {
        admission.admit(
            &endpoint(seed),
            &account(),
            source.parse().expect("ip"),
            CAPS,
        )
    }

    #[test]
    fn each_limit_refuses_by_its_own_reason() {
        let admission = Admission::default();
        let _a = admit(&admission, 1, "192.0.2.1").ok();
        let _b = admit(&admission, 1, "192.0.2.1").ok();
        assert_eq!(
            admit(&admission, 1, "192.0.2.1").err(),
            Some(CloseReason::LimitSource)
        );
        let _c = admit(&admission, 1, "192.0.2.2").ok();
        assert_eq!(
            admit(&admission, 1, "192.0.2.3").err(),
            Some(CloseReason::LimitEndpoint)
        );
        let _d = admit(&admission, 2, "192.0.2.1").ok();
        assert_eq!(
            admit(&admission, 2, "192.0.2.9").err(),
            Some(CloseReason::LimitAccount)
        );
        assert_eq!(admission.count_of(&endpoint(1)), 3);
    }

    #[test]
    fn everything_is_given_back_on_drop_and_nothing_is_kept_on_refusal() {
        let admission = Admission::default();
        let held: Vec<_> = (0..2).map(|_| admit(&admission, 1, "192.0.2.1")).collect();
        assert!(admit(&admission, 1, "192.0.2.1").is_err());
        assert_eq!(admission.count_of(&endpoint(1)), 2);
        drop(held);
        assert!(
            admission
                .shared
                .shards
                .iter()
                .all(|shard| shard.lock().expect("sound").is_empty())
        );
    }

    #[test]
    fn a_forwarded_connection_counts_for_each_endpoint_once() {
        let admission = Admission::default();
        let mut admitted = admit(&admission, 1, "192.0.2.1").expect("room");
        assert_eq!(admitted.pass_on(&endpoint(2), 1), Ok(()));
        assert_eq!(admitted.pass_on(&endpoint(2), 1), Ok(()));
        assert_eq!(admission.count_of(&endpoint(2)), 1);
        let mut other = admit(&admission, 1, "192.0.2.1").expect("room");
        assert_eq!(
            other.pass_on(&endpoint(2), 1),
            Err(CloseReason::LimitEndpoint)
        );
        drop((admitted, other));
        assert_eq!(admission.count_of(&endpoint(2)), 0);
    }

    #[test]
    fn one_ipv6_host_is_one_source() {
        let one = source_of("2001:db8:1:2::1".parse().expect("ip"));
        assert_eq!(one, source_of("2001:db8:1:2:ffff::9".parse().expect("ip")));
        assert_ne!(one, source_of("2001:db8:1:3::1".parse().expect("ip")));
        assert_eq!(
            source_of("::ffff:192.0.2.1".parse().expect("ip")).to_string(),
            "192.0.2.1"
        );
    }

    #[test]
    fn a_source_has_a_bounded_number_of_pending_connections() {
        let sources = Sources::default();
        let address: IpAddr = "192.0.2.1".parse().expect("ip");
        let slots: Vec<_> = (0..3).map(|_| sources.take(address, 2)).collect();
        assert_eq!(slots.iter().flatten().count(), 2);
        drop(slots);
        assert!(sources.counts.lock().expect("sound").is_empty());
    }
}
