//! `limit-bandwidth`: how fast the bytes of a connection may go, alone or together with others.
//!
//! A flow is one number, the time until which its rate is spoken for. Who moves bytes moves that time on by what
//! they take at the rate, and goes on when it is no further ahead of the clock than the burst: so each of many gets
//! its turn, in order, and together they never move more than the burst and the rate. A turn is short
//! ([`TURN`] of the rate), and its bytes are charged when they have moved.
//!
//! Must never: spin, lock on the byte path, or let bytes through that are not charged.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use portcullis_model::AccountId;
use portcullis_policy::Bandwidth;
use portcullis_policy::world::Bucket;
use tokio::time::{Instant, Sleep};

use crate::defaults::{BANDWIDTH_KEYS_MAX, BANDWIDTH_SHARES, BANDWIDTH_TURN_BYTES_MAX};

/// How much of its rate one turn of a connection takes at most.
const TURN: Duration = Duration::from_millis(50);
/// A turn that was not taken for so long is over: who comes back queues again.
const TURN_LASTS_NANOS: u64 = 1_000_000_000;
/// Nanoseconds of a second.
const SECOND: u128 = 1_000_000_000;

/// Until when a rate is spoken for, in nanoseconds on the node's clock.
#[derive(Debug, Default)]
struct Flow(AtomicU64);

impl Flow {
    /// Takes so much time, from now on at the earliest; until when the rate is spoken for then.
    fn charge(&self, now: u64, cost: u64) -> u64 {
        let then = |until: u64| until.max(now).saturating_add(cost);
        match self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |until| {
                Some(then(until))
            }) {
            Ok(before) | Err(before) => then(before),
        }
    }

    fn until(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Both directions of what counts together.
#[derive(Debug, Default)]
struct Flows {
    up: Flow,
    down: Flow,
}

/// The flows that connections of the node share.
pub(crate) struct Bandwidths {
    hashers: [RandomState; 2],
    epoch: Instant,
    table: Mutex<Table>,
    most: usize,
}

/// The flows by their key, each with its account, and how many each account has.
#[derive(Default)]
struct Table {
    flows: HashMap<u128, (u64, Arc<Flows>)>,
    of: HashMap<u64, usize>,
}

impl Default for Bandwidths {
    fn default() -> Self {
        Self::with_keys(BANDWIDTH_KEYS_MAX)
    }
}

impl Bandwidths {
    fn with_keys(most: usize) -> Self {
        Self {
            hashers: [RandomState::new(), RandomState::new()],
            epoch: Instant::now(),
            table: Mutex::default(),
            most,
        }
    }

    /// What holds one connection to these; `early` bytes of its client were read before.
    pub(crate) fn pacer(
        &self,
        account: &AccountId,
        bandwidths: &[Bandwidth],
        early: usize,
    ) -> Pacer {
        let mut pacer = Pacer {
            up: Lane::new(self.epoch),
            down: Lane::new(self.epoch),
        };
        for bandwidth in bandwidths {
            let flows = match &bandwidth.bucket {
                Some(bucket) => self.shared(account, bucket),
                None => Arc::default(),
            };
            let gate = |rate: u64, way| Gate::new(&flows, way, rate, bandwidth.burst);
            pacer.up.gates.extend(gate(bandwidth.upload, Way::Up));
            pacer.down.gates.extend(gate(bandwidth.download, Way::Down));
        }
        pacer.up.begin();
        pacer.down.begin();
        pacer.up.charge(early);
        pacer
    }

    /// Where there is no room, or the account has its share, the connection's own: nobody's flow slows a stranger's.
    fn shared(&self, account: &AccountId, bucket: &Bucket) -> Arc<Flows> {
        let [high, low] = &self.hashers;
        let key = u128::from(high.hash_one(bucket)) << 64 | u128::from(low.hash_one(bucket));
        let account = high.hash_one(account.as_str());
        let mut table = self.table();
        if let Some((_, flows)) = table.flows.get(&key) {
            return Arc::clone(flows);
        }
        let share = (self.most / BANDWIDTH_SHARES).max(1);
        let is_full = |table: &Table| {
            table.flows.len() >= self.most || table.of.get(&account).is_some_and(|of| *of >= share)
        };
        if is_full(&table) {
            Self::forget(&mut table, self.now());
            if is_full(&table) {
                return Arc::default();
            }
        }
        let flows = Arc::<Flows>::default();
        table.flows.insert(key, (account, Arc::clone(&flows)));
        *table.of.entry(account).or_default() += 1;
        flows
    }

    /// Forgets flows that nobody has, and that are as good as new ones.
    pub(crate) fn sweep(&self) {
        let now = self.now();
        let mut table = self.table();
        Self::forget(&mut table, now);
        let few = table.flows.len() * 2;
        table.flows.shrink_to(few);
    }

    fn forget(table: &mut Table, now: u64) {
        let Table { flows, of } = table;
        flows.retain(|_, (account, flows)| {
            let stays =
                Arc::strong_count(flows) > 1 || flows.up.until() > now || flows.down.until() > now;
            if !stays && let Some(count) = of.get_mut(account) {
                *count -= 1;
            }
            stays
        });
        of.retain(|_, count| *count > 0);
    }

    fn now(&self) -> u64 {
        nanos(self.epoch.elapsed())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Which direction of the flows.
#[derive(Clone, Copy)]
enum Way {
    Up,
    Down,
}

/// One limit of one direction.
struct Gate {
    flows: Arc<Flows>,
    way: Way,
    /// Bytes in a second; never 0.
    rate: u64,
    /// How far ahead of the clock the flow may be.
    burst_nanos: u64,
}

impl Gate {
    /// `None`: any rate will do.
    fn new(flows: &Arc<Flows>, way: Way, rate: u64, burst: u64) -> Option<Self> {
        if rate == 0 {
            return None;
        }
        Some(Self {
            flows: Arc::clone(flows),
            way,
            rate,
            // A timer is a millisecond late and more; what was missed meanwhile is made good.
            burst_nanos: cost(burst, rate).max(nanos(TURN)),
        })
    }

    fn flow(&self) -> &Flow {
        match self.way {
            Way::Up => &self.flows.up,
            Way::Down => &self.flows.down,
        }
    }

    fn turn_bytes(&self) -> usize {
        let turn = u128::from(self.rate) * TURN.as_nanos() / SECOND;
        usize::try_from(turn)
            .unwrap_or(usize::MAX)
            .clamp(1, BANDWIDTH_TURN_BYTES_MAX)
    }
}

/// How long so many bytes take at a rate.
fn cost(bytes: u64, rate: u64) -> u64 {
    let nanos = u128::from(bytes) * SECOND / u128::from(rate.max(1));
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

/// What holds a connection to its limits.
pub(crate) struct Pacer {
    /// From the client.
    pub(crate) up: Lane,
    /// To the client.
    pub(crate) down: Lane,
}

/// One direction of a connection.
pub(crate) struct Lane {
    epoch: Instant,
    gates: Vec<Gate>,
    /// When its next turn is.
    turn_at: u64,
    turn_bytes: usize,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Lane {
    fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            gates: Vec::new(),
            turn_at: 0,
            turn_bytes: usize::MAX,
            sleep: None,
        }
    }

    /// Queues behind those who are there.
    fn begin(&mut self) {
        self.turn_bytes = (self.gates.iter().map(Gate::turn_bytes)).min().unwrap_or(0);
        self.queue();
    }

    fn queue(&mut self) {
        let each = self.gates.iter();
        let at = each.map(|gate| gate.flow().until().saturating_sub(gate.burst_nanos));
        self.turn_at = at.max().unwrap_or(0);
    }

    /// Whether there is anything to wait for.
    pub(crate) fn is_limited(&self) -> bool {
        !self.gates.is_empty()
    }

    /// How many bytes may move now, at least one; waits for its turn.
    pub(crate) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        loop {
            let now = nanos(self.epoch.elapsed());
            if now.saturating_sub(self.turn_at) > TURN_LASTS_NANOS {
                self.queue();
            }
            if self.turn_at <= now {
                return Poll::Ready(self.turn_bytes);
            }
            let at = self.epoch + Duration::from_nanos(self.turn_at);
            let sleep = match &mut self.sleep {
                Some(sleep) => {
                    if sleep.deadline() != at {
                        sleep.as_mut().reset(at);
                    }
                    sleep
                }
                none => none.insert(Box::pin(tokio::time::sleep_until(at))),
            };
            ready!(sleep.as_mut().poll(cx));
        }
    }

    /// So many bytes have moved.
    pub(crate) fn charge(&mut self, bytes: usize) {
        if bytes == 0 || self.gates.is_empty() {
            return;
        }
        let now = nanos(self.epoch.elapsed());
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let each = self.gates.iter();
        let at = each.map(|gate| {
            let until = gate.flow().charge(now, cost(bytes, gate.rate));
            until.saturating_sub(gate.burst_nanos)
        });
        self.turn_at = at.max().unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn account(seed: u8) -> AccountId {
        AccountId::new(1_700_000_000, [seed; 16])
    }

    fn bandwidth(bucket: Option<&str>, upload: u64, burst: u64) -> Bandwidth {
        Bandwidth {
            bucket: bucket.map(|key| Bucket {
                endpoint: Arc::from("ep_1"),
                action: Arc::from("slow/0"),
                key: Arc::from(key),
            }),
            upload,
            download: 0,
            burst,
        }
    }

    /// Moves as much as it may for a while.
    async fn moved(pacers: &mut [Pacer], span: Duration) -> Vec<usize> {
        let end = Instant::now() + span;
        let mut moved = vec![0; pacers.len()];
        while Instant::now() < end {
            let any = poll_fn(|cx| {
                for (pacer, moved) in pacers.iter_mut().zip(&mut moved) {
                    if let Poll::Ready(bytes) = pacer.up.poll_turn(cx) {
                        pacer.up.charge(bytes);
                        *moved += bytes;
                        return Poll::Ready(());
                    }
                }
                Poll::Pending
            });
            if tokio::time::timeout_at(end, any).await.is_err() {
                break;
            }
        }
        moved
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_goes_at_its_rate_behind_its_burst() {
        let node = Bandwidths::default();
        let mut one = [node.pacer(&account(1), &[bandwidth(None, 10_000, 50_000)], 0)];
        let [first] = moved(&mut one, Duration::from_millis(1))
            .await
            .try_into()
            .unwrap();
        assert!((50_000..=51_000).contains(&first), "{first}");
        let [later] = moved(&mut one, Duration::from_secs(10))
            .await
            .try_into()
            .unwrap();
        assert!((99_000..=101_000).contains(&later), "{later}");
        assert!(!one[0].down.is_limited());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_share_a_flow_share_its_rate_evenly() {
        let node = Bandwidths::default();
        let each = |_| node.pacer(&account(1), &[bandwidth(Some("a"), 100_000, 0)], 0);
        let mut four: Vec<_> = (0..4).map(each).collect();
        let moved = moved(&mut four, Duration::from_secs(20)).await;
        let all: usize = moved.iter().sum();
        assert!((1_980_000..=2_030_000).contains(&all), "{moved:?}");
        for each in &moved {
            assert!((480_000..=520_000).contains(each), "{moved:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_of_several_limits_counts_and_what_was_read_before_is_charged() {
        let node = Bandwidths::default();
        let limits = [bandwidth(None, 1_000, 0), bandwidth(Some("b"), 500, 0)];
        let mut one = [node.pacer(&account(1), &limits, 5_000)];
        let moved = moved(&mut one, Duration::from_secs(20)).await;
        assert!((4_900..=5_100).contains(&moved[0]), "{moved:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn flows_are_forgotten_when_they_are_paid_and_only_so_many_are_kept() {
        let node = Bandwidths::with_keys(8);
        let a = node.pacer(&account(1), &[bandwidth(Some("a"), 1_000, 0)], 2_000);
        let b = node.pacer(&account(1), &[bandwidth(Some("b"), 1_000, 0)], 0);
        let c = node.pacer(&account(1), &[bandwidth(Some("c"), 1_000, 0)], 0);
        assert_eq!(node.table().flows.len(), 2, "a quarter is one account's");
        assert!(c.up.is_limited(), "which is held to its rate nevertheless");
        let d = node.pacer(&account(2), &[bandwidth(Some("d"), 1_000, 0)], 0);
        assert_eq!(node.table().flows.len(), 3, "another has its own part");
        drop(d);
        drop((a, b, c));
        node.sweep();
        assert_eq!(node.table().flows.len(), 1, "one is not paid for");
        tokio::time::advance(Duration::from_secs(3)).await;
        node.sweep();
        let table = node.table();
        assert!(table.flows.is_empty() && table.of.is_empty());
    }
}
