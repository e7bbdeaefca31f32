//! Admission: how many connections an endpoint, a source address and an account may have at once.
//! The node's own cap stands before the spawn, in the accept loop.
//!
//! Owns: the counts. Must never: wait, or count a connection that it refused.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use portcullis_model::{AccountId, EndpointId};
use portcullis_telemetry::CloseReason;

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

/// The counts of a node.
#[derive(Default)]
pub(crate) struct Admission {
    endpoints: RwLock<HashMap<EndpointId, Arc<Counts>>>,
    accounts: RwLock<HashMap<AccountId, Arc<AtomicU32>>>,
    /// Connections that are routed by a name which has not come yet, by source.
    unrouted: Arc<Counts>,
}

/// The counts of one endpoint. They are looked up once per connection, without copying a name.
#[derive(Default)]
struct Counts {
    open: AtomicU32,
    sources: Mutex<HashMap<IpAddr, u32>>,
    /// Of its account, which it never changes.
    account: Arc<AtomicU32>,
}

impl Counts {
    fn take_source(&self, source: IpAddr, max: u32) -> bool {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let count = sources.entry(source).or_insert(0);
        let free = *count < max;
        if free {
            *count += 1;
        } else if *count == 0 {
            sources.remove(&source);
        }
        free
    }

    fn give_source_back(&self, source: IpAddr) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        match sources.get_mut(&source) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => {
                sources.remove(&source);
            }
        }
    }
}

fn take(count: &AtomicU32, max: u32) -> bool {
    let more = |now| (now < max).then_some(now + 1);
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
        .is_ok()
}

fn give_back(count: &AtomicU32) {
    count.fetch_sub(1, Ordering::Relaxed);
}

/// What a connection holds while it lasts; dropping it gives everything back. Long-lived, so it is
/// kept small.
pub(crate) struct Admitted {
    entry: Arc<Counts>,
    source: IpAddr,
    /// Another endpoint that it was forwarded to.
    target: Option<Arc<Counts>>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(target) = &self.target {
            give_back(&target.open);
        }
        give_back(&self.entry.account);
        give_back(&self.entry.open);
        self.entry.give_source_back(self.source);
    }
}

/// What a connection holds while it is not known which endpoint it is for.
pub(crate) struct Unrouted {
    counts: Arc<Counts>,
    source: IpAddr,
}

impl Drop for Unrouted {
    fn drop(&mut self) {
        self.counts.give_source_back(self.source);
    }
}

impl Admission {
    /// Counts a connection from `source` that says itself which endpoint it is for: who is silent must not keep
    /// more places than at any endpoint.
    ///
    /// # Errors
    /// The source has as many already.
    pub(crate) fn await_name(&self, source: IpAddr, max: u32) -> Result<Unrouted, CloseReason> {
        let source = source_of(source);
        if !self.unrouted.take_source(source, max) {
            return Err(CloseReason::LimitSource);
        }
        Ok(Unrouted {
            counts: Arc::clone(&self.unrouted),
            source,
        })
    }

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
        let (entry, source) = (self.counts(endpoint, account), source_of(source));
        if !entry.take_source(source, caps.source) {
            return Err(CloseReason::LimitSource);
        }
        if !take(&entry.open, caps.endpoint) {
            entry.give_source_back(source);
            return Err(CloseReason::LimitEndpoint);
        }
        if !take(&entry.account, caps.account.unwrap_or(u32::MAX)) {
            give_back(&entry.open);
            entry.give_source_back(source);
            return Err(CloseReason::LimitAccount);
        }
        Ok(Admitted {
            entry,
            source,
            target: None,
        })
    }

    /// Counts the same connection for an endpoint that it was forwarded to.
    ///
    /// # Errors
    /// The endpoint's limit is reached; what was held before stays held.
    pub(crate) fn pass_on(
        &self,
        admitted: &mut Admitted,
        endpoint: &EndpointId,
        account: &AccountId,
        max: u32,
    ) -> Result<(), CloseReason> {
        let counts = self.counts(endpoint, account);
        let known = |held: &Arc<Counts>| Arc::ptr_eq(held, &counts);
        if known(&admitted.entry) || admitted.target.as_ref().is_some_and(known) {
            return Ok(());
        }
        if !take(&counts.open, max) {
            return Err(CloseReason::LimitEndpoint);
        }
        if let Some(before) = admitted.target.replace(counts) {
            give_back(&before.open);
        }
        Ok(())
    }

    /// Connections that an endpoint has now, as the entry or behind `forward-internal`.
    pub(crate) fn count_of(&self, endpoint: &EndpointId) -> u32 {
        let endpoints = read(&self.endpoints);
        endpoints
            .get(endpoint)
            .map_or(0, |counts| counts.open.load(Ordering::Relaxed))
    }

    /// Forgets endpoints that are gone, with their last connection.
    pub(crate) fn retain(&self, alive: impl Fn(&EndpointId) -> bool) {
        let idle = |counts: &Counts| counts.open.load(Ordering::Relaxed) == 0;
        write(&self.endpoints).retain(|endpoint, counts| alive(endpoint) || !idle(counts));
        // Counted by no endpoint any more.
        write(&self.accounts).retain(|_, count| Arc::strong_count(count) > 1);
    }

    fn counts(&self, endpoint: &EndpointId, account: &AccountId) -> Arc<Counts> {
        if let Some(counts) = read(&self.endpoints).get(endpoint) {
            return Arc::clone(counts);
        }
        let account = Arc::clone(write(&self.accounts).entry(account.clone()).or_default());
        let mut endpoints = write(&self.endpoints);
        let counts = endpoints.entry(endpoint.clone()).or_insert_with(|| {
            Arc::new(Counts {
                open: AtomicU32::new(0),
                sources: Mutex::default(),
                account,
            })
        });
        Arc::clone(counts)
    }
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
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
    fn a_source_awaits_names_for_so_many_connections_and_no_more() {
        let (admission, source) = (Admission::default(), IpAddr::from([192, 0, 2, 1]));
        let one = admission.await_name(source, 1).expect("the first");
        let full = admission.await_name(source, 1).err();
        assert_eq!(full, Some(CloseReason::LimitSource));
        assert!(admission.await_name([192, 0, 2, 2].into(), 1).is_ok());
        drop(one);
        assert!(admission.await_name(source, 1).is_ok());
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
        assert_eq!(admission.count_of(&endpoint(1)), 0);
        admission.retain(|_| false);
        admission.retain(|_| false);
        assert!(read(&admission.endpoints).is_empty() && read(&admission.accounts).is_empty());
    }

    #[test]
    fn a_forwarded_connection_counts_for_each_endpoint_once() {
        let admission = Admission::default();
        let pass_on = |admitted: &mut Admitted, seed| {
            admission.pass_on(admitted, &endpoint(seed), &account(), 1)
        };
        let mut admitted = admit(&admission, 1, "192.0.2.1").expect("room");
        assert_eq!(pass_on(&mut admitted, 1), Ok(()));
        assert_eq!(pass_on(&mut admitted, 2), Ok(()));
        assert_eq!(pass_on(&mut admitted, 2), Ok(()));
        assert_eq!(admission.count_of(&endpoint(1)), 1);
        assert_eq!(admission.count_of(&endpoint(2)), 1);
        let mut other = admit(&admission, 1, "192.0.2.1").expect("room");
        assert_eq!(pass_on(&mut other, 2), Err(CloseReason::LimitEndpoint));
        drop((admitted, other));
        assert_eq!(admission.count_of(&endpoint(2)), 0);
    }

    #[test]
    fn an_endpoint_that_is_gone_is_counted_until_its_last_connection() {
        let admission = Admission::default();
        let admitted = admit(&admission, 1, "192.0.2.1").expect("room");
        admission.retain(|_| false);
        assert_eq!(admission.count_of(&endpoint(1)), 1);
        drop(admitted);
        admission.retain(|_| false);
        assert!(read(&admission.endpoints).is_empty());
    }

    #[test]
    fn what_a_connection_holds_is_small() {
        assert!(size_of::<Admitted>() <= 40, "{}", size_of::<Admitted>());
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
