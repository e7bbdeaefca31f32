//! What policies count on this node: tokens of `rate-limit`, places of `limit-connections`, and whose turn it
//! is among the targets of a `forward-internal`.
//!
//! Keys come from clients, so only their hashes are kept (keyed by a secret of the process), and only so
//! many, and only so many of one account; one that there is no room for is refused. Must never: wait, or let
//! in what it cannot count.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portcullis_model::AccountId;
use portcullis_policy::balance::Smooth;
use portcullis_policy::world::{Bucket, Rate, TokenBucket};
use tokio::time::Instant;

use crate::defaults::{
    POLICY_KEYS_ACCOUNT_SHARE, POLICY_KEYS_MAX, POLICY_SHARDS, POLICY_SWEEP_AGAIN,
    POLICY_WHEELS_MAX,
};

/// The hash of a bucket. Two of 128 bits do not meet by chance, and nobody outside knows how to make them.
pub(crate) type Key = u128;

/// The counts of a node.
pub(crate) struct PolicyState {
    hashers: [RandomState; 2],
    epoch: Instant,
    shards: Box<[Mutex<Shard>]>,
    /// Of each of the tables of a shard.
    keys_per_shard: usize,
    /// Of these, of one account.
    keys_per_account: usize,
}

/// The hash of an account.
pub(crate) type Owner = u64;

#[derive(Default)]
struct Shard {
    /// A full bucket is as one that is not there.
    rates: Table<TokenBucket>,
    /// Places that are taken.
    held: Table<u32>,
    wheels: HashMap<Key, Smooth>,
    /// When full buckets were looked for last, on the node's clock.
    swept: Option<i64>,
}

/// Counts by their keys, and how many keys each account has.
struct Table<V> {
    counts: HashMap<Key, (Owner, V)>,
    owners: HashMap<Owner, usize>,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self {
            counts: HashMap::new(),
            owners: HashMap::new(),
        }
    }
}

impl<V> Table<V> {
    fn find(&mut self, key: Key) -> Option<&mut V> {
        self.counts.get_mut(&key).map(|(_, count)| count)
    }

    fn insert(&mut self, key: Key, owner: Owner, count: V) {
        if self.counts.insert(key, (owner, count)).is_none() {
            *self.owners.entry(owner).or_insert(0) += 1;
        }
    }

    fn remove(&mut self, key: Key) {
        if let Some((owner, _)) = self.counts.remove(&key) {
            give_back(&mut self.owners, owner);
        }
    }

    fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        let owners = &mut self.owners;
        self.counts.retain(|_, (owner, count)| {
            let keeps = keep(count);
            if !keeps {
                give_back(owners, *owner);
            }
            keeps
        });
    }

    fn has_room(&self, owner: Owner, most: usize, of_owner: usize) -> bool {
        let owns = self.owners.get(&owner).copied().unwrap_or(0);
        self.counts.len() < most && owns < of_owner
    }

    /// Gives back the memory of a peak.
    fn shrink(&mut self) {
        self.counts.shrink_to(self.counts.len() * 2);
        self.owners.shrink_to(self.owners.len() * 2);
    }
}

fn give_back(owners: &mut HashMap<Owner, usize>, owner: Owner) {
    match owners.get_mut(&owner) {
        Some(count) if *count > 1 => *count -= 1,
        Some(_) | None => drop(owners.remove(&owner)),
    }
}

impl Shard {
    /// Forgets full buckets.
    fn sweep(&mut self, now: i64) {
        self.rates.retain(|bucket| !bucket.is_full(now));
        self.swept = Some(now);
    }

    /// The same where there is no room. It looks at every bucket, so not for each of many that find none.
    fn make_room(&mut self, now: i64) {
        let again = i64::try_from(POLICY_SWEEP_AGAIN.as_micros()).unwrap_or(i64::MAX);
        if self
            .swept
            .is_none_or(|swept| now.saturating_sub(swept) >= again)
        {
            self.sweep(now);
        }
    }
}

impl Default for PolicyState {
    fn default() -> Self {
        Self::with_keys(POLICY_KEYS_MAX)
    }
}

impl PolicyState {
    fn with_keys(most: usize) -> Self {
        let keys_per_shard = (most / POLICY_SHARDS).max(1);
        Self {
            hashers: [RandomState::new(), RandomState::new()],
            epoch: Instant::now(),
            shards: (0..POLICY_SHARDS).map(|_| Mutex::default()).collect(),
            keys_per_shard,
            keys_per_account: (keys_per_shard / POLICY_KEYS_ACCOUNT_SHARE).max(1),
        }
    }

    /// The key of a bucket.
    pub(crate) fn key(&self, bucket: &Bucket) -> Key {
        self.key_of(&bucket.endpoint, &bucket.action, &bucket.key)
    }

    /// The same by its parts.
    pub(crate) fn key_of(&self, endpoint: &str, action: &str, key: &str) -> Key {
        let [high, low] = &self.hashers;
        let parts = (endpoint, action, key);
        u128::from(high.hash_one(parts)) << 64 | u128::from(low.hash_one(parts))
    }

    /// The hash of an account, whose keys are bounded for themselves.
    pub(crate) fn owner(&self, account: &AccountId) -> Owner {
        self.hashers[0].hash_one(account.as_str())
    }

    /// Takes a token.
    pub(crate) fn take_rate(&self, owner: Owner, key: Key, rate: &Rate) -> bool {
        let now = self.now();
        let mut shard = self.shard(key);
        if let Some(bucket) = shard.rates.find(key) {
            return bucket.take(now, rate);
        }
        let (most, of_owner) = (self.keys_per_shard, self.keys_per_account);
        if !shard.rates.has_room(owner, most, of_owner) {
            shard.make_room(now);
            if !shard.rates.has_room(owner, most, of_owner) {
                return false;
            }
        }
        let mut bucket = TokenBucket::full(now, rate);
        let taken = bucket.take(now, rate);
        shard.rates.insert(key, owner, bucket);
        taken
    }

    /// Takes a place; [`Held`] gives it back.
    fn take_place(&self, owner: Owner, key: Key, most: u32) -> bool {
        let mut shard = self.shard(key);
        if let Some(count) = shard.held.find(key) {
            let free = *count < most;
            *count += u32::from(free);
            return free;
        }
        let (keys, of_owner) = (self.keys_per_shard, self.keys_per_account);
        let free = most > 0 && shard.held.has_room(owner, keys, of_owner);
        if free {
            shard.held.insert(key, owner, 1);
        }
        free
    }

    fn give_place_back(&self, key: Key) {
        let mut shard = self.shard(key);
        match shard.held.find(key) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => shard.held.remove(key),
        }
    }

    /// Whose turn it is.
    pub(crate) fn turn(&self, key: Key, weights: &[u32]) -> Option<usize> {
        let mut shard = self.shard(key);
        if shard.wheels.len() >= POLICY_WHEELS_MAX / POLICY_SHARDS
            && !shard.wheels.contains_key(&key)
        {
            shard.wheels.clear();
        }
        shard.wheels.entry(key).or_default().next(weights)
    }

    /// Forgets counts that stand where they began.
    pub(crate) fn sweep(&self) {
        let now = self.now();
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.sweep(now);
            shard.rates.shrink();
            shard.held.shrink();
        }
    }

    /// Microseconds since the node began, on a clock that never goes back.
    fn now(&self) -> i64 {
        i64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(i64::MAX)
    }

    fn shard(&self, key: Key) -> MutexGuard<'_, Shard> {
        let at = usize::try_from(key % self.shards.len() as u128).unwrap_or(0);
        lock(&self.shards[at])
    }

    #[cfg(test)]
    fn count(&self) -> (usize, usize) {
        let shards = self.shards.iter().map(lock);
        shards.fold((0, 0), |(rates, held), shard| {
            let owned = |owners: &HashMap<Owner, usize>| owners.values().sum::<usize>();
            let (here, places) = (shard.rates.counts.len(), shard.held.counts.len());
            assert_eq!(
                owned(&shard.rates.owners),
                here,
                "each key is one account's"
            );
            assert_eq!(
                owned(&shard.held.owners),
                places,
                "each key is one account's"
            );
            (rates + here, held + places)
        })
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Places of `limit-connections` that a connection has, given back when it is over.
pub(crate) struct Held {
    state: Arc<PolicyState>,
    keys: Vec<Key>,
}

impl Held {
    /// None yet.
    pub(crate) fn none(state: &Arc<PolicyState>) -> Self {
        Self {
            state: Arc::clone(state),
            keys: Vec::new(),
        }
    }

    /// Takes one more.
    pub(crate) fn take(&mut self, owner: Owner, key: Key, most: u32) -> bool {
        let taken = self.state.take_place(owner, key, most);
        if taken {
            self.keys.push(key);
        }
        taken
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for key in &self.keys {
            self.state.give_place_back(*key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RATE: Rate = Rate {
        capacity: 3,
        per_micros: 3_000_000,
    };

    const ME: Owner = 1;

    fn burst(state: &PolicyState, key: Key) -> usize {
        (0..10).filter(|_| state.take_rate(ME, key, &RATE)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_holds_its_capacity_and_fills_evenly() {
        let state = PolicyState::default();
        let key = state.key_of("ep_1", "rule/0", "192.0.2.1");
        assert_eq!(burst(&state, key), 3);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(burst(&state, key), 1);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(burst(&state, key), 3, "never more than it holds");
        assert_eq!(burst(&state, key + 1), 3, "another key is another bucket");
    }

    #[tokio::test(start_paused = true)]
    async fn full_buckets_are_forgotten_and_only_so_many_are_kept() {
        let state = PolicyState::with_keys(POLICY_SHARDS);
        let keys = (0..).step_by(POLICY_SHARDS).map(|key| key as Key);
        let mut keys = keys.take(3); // of one shard, which holds one
        let (first, second) = (keys.next().expect("a key"), keys.next().expect("a key"));
        assert!(state.take_rate(ME, first, &RATE));
        assert!(!state.take_rate(ME, second, &RATE), "no room is a refusal");
        assert!(state.take_rate(ME, first, &RATE), "who is known goes on");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(
            state.take_rate(ME, second, &RATE),
            "the first is full again"
        );
        tokio::time::advance(Duration::from_secs(60)).await;
        state.sweep();
        assert_eq!(state.count(), (0, 0));
    }

    /// Otherwise each stranger would cost a look at all that is known.
    #[tokio::test(start_paused = true)]
    async fn who_finds_no_room_makes_some_once_a_second() {
        let state = PolicyState::with_keys(POLICY_SHARDS);
        let shards = POLICY_SHARDS as Key;
        let soon = Rate {
            capacity: 1,
            per_micros: 1_000,
        };
        assert!(state.take_rate(ME, 0, &soon));
        assert!(!state.take_rate(ME, shards, &soon), "looked for, and none");
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(!state.take_rate(ME, shards, &soon), "not looked for again");
        tokio::time::advance(POLICY_SWEEP_AGAIN).await;
        assert!(state.take_rate(ME, shards, &soon));
    }

    #[test]
    fn a_capacity_of_nothing_lets_nobody_in() {
        let rate = Rate {
            capacity: 0,
            per_micros: 1,
        };
        assert!(!PolicyState::default().take_rate(ME, 1, &rate));
    }

    #[test]
    fn places_are_given_back_by_dropping_them_and_nothing_is_kept() {
        let state = Arc::new(PolicyState::default());
        let (mut one, mut two) = (Held::none(&state), Held::none(&state));
        assert!(one.take(ME, 7, 1));
        assert!(!two.take(ME, 7, 1));
        assert!(!two.take(ME, 8, 0));
        drop(one);
        assert!(two.take(ME, 7, 1));
        drop(two);
        assert_eq!(state.count(), (0, 0));
    }

    #[test]
    fn places_have_a_bound_as_well() {
        let state = Arc::new(PolicyState::with_keys(POLICY_SHARDS));
        let mut held = Held::none(&state);
        let shards = POLICY_SHARDS as Key;
        assert!(held.take(ME, 0, 9) && held.take(ME, 0, 9));
        assert!(!held.take(ME, shards, 9), "the shard holds one key");
    }

    /// One account's policy must not refuse the clients of all others.
    #[tokio::test(start_paused = true)]
    async fn one_account_gets_its_share_of_the_keys_and_others_have_theirs() {
        let share = 2;
        let most = POLICY_SHARDS * POLICY_KEYS_ACCOUNT_SHARE * share;
        let state = Arc::new(PolicyState::with_keys(most));
        let (mine, theirs) = (ME, ME + 1);
        let keys = |from: usize| {
            let keys = (from..).map(|key| (key * POLICY_SHARDS) as Key);
            keys.take(POLICY_KEYS_ACCOUNT_SHARE * share) // of one shard, which holds them all
        };
        let mut held = Held::none(&state);
        let rates = keys(0).filter(|key| state.take_rate(mine, *key, &RATE));
        assert_eq!(rates.count(), share);
        let places = keys(0).filter(|key| held.take(mine, *key, 9));
        assert_eq!(places.count(), share);
        assert!(state.take_rate(theirs, 9_000 * POLICY_SHARDS as Key, &RATE));
        assert!(held.take(theirs, 9_000 * POLICY_SHARDS as Key, 9));
        assert!(state.take_rate(mine, 0, &RATE), "who is known goes on");
        assert_eq!(state.count(), (share + 1, share + 1));
        // What is given back or forgotten makes room for it again.
        drop(held);
        tokio::time::advance(Duration::from_secs(60)).await;
        let mut held = Held::none(&state);
        assert!(held.take(mine, 8_000 * POLICY_SHARDS as Key, 9));
        assert!(state.take_rate(mine, 8_000 * POLICY_SHARDS as Key, &RATE));
        assert_eq!(state.count(), (1, 1));
    }

    /// The table has at most 16 places for 7 keys, each with a byte more.
    #[test]
    fn what_a_key_costs_is_small() {
        assert!(size_of::<(Key, (Owner, TokenBucket))>() <= 80);
        assert!(size_of::<(Key, (Owner, u32))>() <= 32);
    }

    #[test]
    fn weights_are_exact_over_ten_thousand_turns_and_never_bunch() {
        let state = PolicyState::default();
        let weights = [5, 0, 3, 2];
        let mut counts = [0_u32; 4];
        for turn in 1..=10_000 {
            counts[state.turn(1, &weights).expect("someone")] += 1;
            if turn % 10 == 0 {
                let round = turn / 10;
                assert_eq!(counts, weights.map(|weight| weight * round));
            }
        }
        assert_eq!(counts, [5_000, 0, 3_000, 2_000]);
        assert_eq!(state.turn(2, &[0, 0]), None);
        assert_eq!(state.turn(2, &[]), None);
        assert_eq!(state.turn(1, &[0, 9]), Some(1));
    }
}
