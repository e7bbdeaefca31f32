//! How many requests a key may send: in a rolling minute, and at once.
//!
//! Must never: make a caller wait; what is over a limit is refused and told when to come back.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use portcullis_model::{ApiKeyId, Code};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::errors::Refusal;
use crate::defaults;

/// The limits of all keys.
pub(crate) struct Limits {
    rate: Option<(u32, DefaultKeyedRateLimiter<ApiKeyId>)>,
    failures: DefaultKeyedRateLimiter<IpAddr>,
    concurrency_max: usize,
    running: Arc<Mutex<HashMap<ApiKeyId, usize>>>,
    bulk: Semaphore,
}

/// One request under way; dropping it makes room for another.
#[derive(Debug)]
pub(crate) struct Running {
    key: ApiKeyId,
    running: Arc<Mutex<HashMap<ApiKeyId, usize>>>,
}

fn per_minute(requests: NonZeroU32) -> Quota {
    Quota::per_minute(requests)
}

impl Limits {
    /// `0` turns a limit off.
    pub(crate) fn new(rate_per_minute: u32, concurrency_max: usize) -> Self {
        let failures =
            NonZeroU32::new(defaults::AUTH_FAILURES_PER_MINUTE).unwrap_or(NonZeroU32::MIN);
        let rate = NonZeroU32::new(rate_per_minute);
        Self {
            rate: rate.map(|rate| (rate.get(), RateLimiter::keyed(per_minute(rate)))),
            failures: RateLimiter::keyed(per_minute(failures)),
            concurrency_max,
            running: Arc::default(),
            bulk: Semaphore::new(defaults::BULK_BODIES_MAX),
        }
    }

    /// Counts one request of a key.
    pub(crate) fn request(&self, key: &ApiKeyId) -> Result<(), Refusal> {
        let Some((limit, limiter)) = &self.rate else {
            return Ok(());
        };
        if limiter.len() > defaults::RATED_MAX {
            limiter.retain_recent();
        }
        let refused = limiter
            .check_key(key)
            .err()
            .map(|until| until.wait_time_from(DefaultClock::default().now()));
        refused.map_or(Ok(()), |wait| {
            Err(too_many(
                &format!("this key sent more than {limit} requests in a minute"),
                wait,
            ))
        })
    }

    /// Counts one failed authentication of an address.
    pub(crate) fn failure(&self, from: IpAddr) -> Result<(), Refusal> {
        if self.failures.len() > defaults::RATED_MAX {
            self.failures.retain_recent();
        }
        let refused = self
            .failures
            .check_key(&source_of(from))
            .err()
            .map(|until| until.wait_time_from(DefaultClock::default().now()));
        refused.map_or(Ok(()), |wait| {
            Err(too_many(
                "too many requests without a valid key came from this address",
                wait,
            ))
        })
    }

    /// Takes one of the places of large bodies, whosever they are.
    pub(crate) fn start_bulk(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        self.bulk.try_acquire().map_err(|_| {
            let message = "as many large bodies are being read as the server allows";
            Refusal::new(Code::ApiConcurrency, message).retry_after(defaults::BULK_RETRY)
        })
    }

    /// Takes one of the key's places.
    pub(crate) fn start(&self, key: &ApiKeyId) -> Result<Running, Refusal> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let count = running.entry(key.clone()).or_insert(0);
        if self.concurrency_max > 0 && *count >= self.concurrency_max {
            let message = format!(
                "this key has {} requests under way, as many as it may",
                self.concurrency_max
            );
            return Err(
                Refusal::new(Code::ApiConcurrency, message).retry_after(Duration::from_secs(1))
            );
        }
        *count += 1;
        Ok(Running {
            key: key.clone(),
            running: Arc::clone(&self.running),
        })
    }
}

/// What counts as one source: an IPv4 address, or the /64 that one IPv6 host is usually given whole.
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

fn too_many(what: &str, wait: Duration) -> Refusal {
    let seconds = wait.as_secs() + 1;
    Refusal::new(
        Code::ApiRateLimited,
        format!("{what}; try again in {seconds} s"),
    )
    .retry_after(wait)
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> ApiKeyId {
        ApiKeyId::new(1_700_000_000, [n; 16])
    }

    #[test]
    fn each_key_has_its_own_rate() {
        let limits = Limits::new(2, 0);
        assert!(limits.request(&key(1)).is_ok() && limits.request(&key(1)).is_ok());
        let refused = limits.request(&key(1)).expect_err("the third");
        assert_eq!(refused.error.code, Code::ApiRateLimited);
        assert!(refused.retry_after.is_some(), "Retry-After");
        assert!(limits.request(&key(2)).is_ok());
        assert!(Limits::new(0, 0).request(&key(1)).is_ok());
    }

    #[test]
    fn one_ipv6_host_has_one_rate_of_failures() {
        let limits = Limits::new(0, 0);
        for n in 0..defaults::AUTH_FAILURES_PER_MINUTE {
            let from: IpAddr = format!("2001:db8::{n:x}").parse().expect("ip");
            assert!(limits.failure(from).is_ok());
        }
        assert!(
            limits
                .failure("2001:db8::ffff".parse().expect("ip"))
                .is_err()
        );
        assert!(
            limits
                .failure("2001:db8:0:1::1".parse().expect("ip"))
                .is_ok()
        );
    }

    #[test]
    fn places_come_back() {
        let limits = Limits::new(0, 1);
        let first = limits.start(&key(1)).expect("free");
        assert_eq!(
            limits.start(&key(1)).expect_err("taken").error.code,
            Code::ApiConcurrency
        );
        assert!(limits.start(&key(2)).is_ok());
        drop(first);
        assert!(limits.start(&key(1)).is_ok());
        assert!(limits.running.lock().expect("lock").is_empty());
    }
}
