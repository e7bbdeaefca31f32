//! Counting connections: opened, open, failed, bytes, rates and durations.
//!
//! Owns a guard per connection whose drop does the bookkeeping. Must never: be touched per read.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_net::relay::Counters;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::defaults;
use crate::status::ConnectionStats;

/// Connections of one endpoint, or of the whole agent.
#[derive(Debug)]
pub(crate) struct Stats {
    opened: AtomicU64,
    failed: AtomicU64,
    books: Mutex<Books>,
    open: watch::Sender<u64>,
}

#[derive(Debug)]
struct Books {
    next: u64,
    /// Counters of the connections that are open; few enough to be summed once a second.
    live: std::collections::HashMap<u64, Arc<Counters>>,
    closed_in: u64,
    closed_out: u64,
    durations: VecDeque<Duration>,
    rates: Rates,
}

impl Default for Stats {
    fn default() -> Self {
        let books = Books {
            next: 0,
            live: std::collections::HashMap::new(),
            closed_in: 0,
            closed_out: 0,
            durations: VecDeque::new(),
            rates: Rates::default(),
        };
        Self {
            opened: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            books: Mutex::new(books),
            open: watch::Sender::new(0),
        }
    }
}

/// A connection that is open; dropping it closes the books on it.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    stats: [Arc<Stats>; 2],
    keys: [u64; 2],
    counters: Arc<Counters>,
    since: Instant,
}

impl OpenConnection {
    /// Opens the books of an endpoint and of the agent.
    pub(crate) fn begin(endpoint: &Arc<Stats>, agent: &Arc<Stats>) -> Self {
        let counters = Arc::new(Counters::default());
        let keys = [endpoint.add(&counters), agent.add(&counters)];
        Self {
            stats: [Arc::clone(endpoint), Arc::clone(agent)],
            keys,
            counters,
            since: Instant::now(),
        }
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// How long it has been open.
    pub(crate) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// It never reached the upstream.
    pub(crate) fn failed(&self) {
        for stats in &self.stats {
            stats.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        for (stats, key) in self.stats.iter().zip(self.keys) {
            stats.remove(key, self.since.elapsed());
        }
    }
}

impl Stats {
    fn books(&self) -> MutexGuard<'_, Books> {
        // Plain numbers: a panic elsewhere leaves nothing half done that matters.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, counters: &Arc<Counters>) -> u64 {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let mut books = self.books();
        books.next += 1;
        let key = books.next;
        books.live.insert(key, Arc::clone(counters));
        self.open.send_replace(books.live.len() as u64);
        key
    }

    fn remove(&self, key: u64, lasted: Duration) {
        let mut books = self.books();
        if let Some(counters) = books.live.remove(&key) {
            books.closed_in += counters.from_client.load(Ordering::Relaxed);
            books.closed_out += counters.from_upstream.load(Ordering::Relaxed);
        }
        if books.durations.len() == defaults::DURATIONS_KEPT {
            books.durations.pop_front();
        }
        books.durations.push_back(lasted);
        self.open.send_replace(books.live.len() as u64);
    }

    /// Waits until no connection is open.
    pub(crate) async fn idle(&self) {
        let mut open = self.open.subscribe();
        // The sender is a field of `self`: it cannot be gone while this waits.
        open.wait_for(|open| *open == 0).await.ok();
    }

    /// Computes the rates anew; called once per [`defaults::STATUS_INTERVAL`].
    pub(crate) fn tick(&self, elapsed: Duration) {
        let opened = self.opened.load(Ordering::Relaxed);
        self.books().rates.tick(opened, elapsed);
    }

    pub(crate) fn snapshot(&self) -> ConnectionStats {
        let books = self.books();
        let sum = |of: fn(&Counters) -> &AtomicU64| -> u64 {
            books
                .live
                .values()
                .map(|counters| of(counters).load(Ordering::Relaxed))
                .sum()
        };
        let mut sorted: Vec<Duration> = books.durations.iter().copied().collect();
        sorted.sort_unstable();
        ConnectionStats {
            opened: self.opened.load(Ordering::Relaxed),
            open: books.live.len() as u64,
            failed: self.failed.load(Ordering::Relaxed),
            bytes_in: books.closed_in + sum(|counters| &counters.from_client),
            bytes_out: books.closed_out + sum(|counters| &counters.from_upstream),
            rate1: books.rates.per_second[0],
            rate5: books.rates.per_second[1],
            rate15: books.rates.per_second[2],
            p50: quantile(&sorted, 50),
            p90: quantile(&sorted, 90),
            p95: quantile(&sorted, 95),
            p99: quantile(&sorted, 99),
        }
    }
}

/// The smallest duration that `percent` of all do not exceed.
fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

/// Exponentially weighted moving averages over 1, 5 and 15 minutes.
#[derive(Debug, Default)]
struct Rates {
    seen: u64,
    per_second: [f64; 3],
}

impl Rates {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate is shown with two digits"
    )]
    fn tick(&mut self, opened: u64, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let now = opened.saturating_sub(self.seen) as f64 / seconds;
        self.seen = opened;
        for (rate, minutes) in self.per_second.iter_mut().zip([1.0, 5.0, 15.0]) {
            let keep = (-seconds / (minutes * 60.0_f64)).exp();
            *rate = *rate * keep + now * (1.0 - keep);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_name_a_duration_that_occurred() {
        let durations: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(quantile(&durations, 50), Duration::from_millis(50));
        assert_eq!(quantile(&durations, 99), Duration::from_millis(99));
        assert_eq!(quantile(&durations[..1], 99), Duration::from_millis(1));
        assert_eq!(quantile(&[], 50), Duration::ZERO);
    }

    #[test]
    fn rates_settle_on_a_steady_stream() {
        let mut rates = Rates::default();
        for second in 1..=3600 {
            rates.tick(second * 10, Duration::from_secs(1));
        }
        assert!(
            rates
                .per_second
                .iter()
                .all(|rate| (rate - 10.0).abs() < 0.5),
            "{rates:?}"
        );
    }

    #[tokio::test]
    async fn the_guard_keeps_the_books() {
        let (endpoint, agent) = (Arc::new(Stats::default()), Arc::new(Stats::default()));
        let open = OpenConnection::begin(&endpoint, &agent);
        open.counters().from_client.store(7, Ordering::Relaxed);
        assert_eq!(
            (endpoint.snapshot().open, agent.snapshot().bytes_in),
            (1, 7)
        );
        drop(open);
        agent.idle().await;
        let after = agent.snapshot();
        assert_eq!((after.open, after.opened, after.bytes_in), (0, 1, 7));
    }
}
