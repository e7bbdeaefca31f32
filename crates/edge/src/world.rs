//! What a policy asks while it runs on one connection, answered from the snapshot and from the counts of
//! this node. What was answered once is answered again: a connection whose open failed is decided afresh,
//! and takes nothing twice.
//!
//! Must never: wait.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_model::id::IpPolicyId;
use portcullis_model::{AccountId, EndpointUrl};
use portcullis_policy::sniff::{CancelKey, First, Front, Protocol};
use portcullis_policy::world::{Bucket, Choice, IpSets, Place, Rate, Strategy, World};
use portcullis_policy::{Given, balance};
use portcullis_store::Snapshot;
use rand::Rng as _;

use crate::defaults::POLICY_KEYS_PER_CONNECTION_MAX;
use crate::node::Node;
use crate::policy_state::{Held, Key};

/// What is known of a connection beside its addresses, for as long as it is being established. Empty, and
/// without an allocation, until a policy needs more than addresses.
#[derive(Default)]
pub(crate) struct Known {
    /// What was read because a policy asked.
    pub(crate) given: Given,
    /// What stood in front of the TLS that was terminated.
    pub(crate) hello: Option<Box<First>>,
    /// What the client said first behind it, where it speaks PostgreSQL.
    pub(crate) behind: Option<Box<First>>,
    /// How long the client took for a handshake.
    pub(crate) handshake: Duration,
    /// A request to cancel was sent to whom its key is from.
    pub(crate) has_cancelled: bool,
    moment: Option<Moment>,
    asked: Mutex<Asked>,
}

/// When it was accepted, and a number that was drawn for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// In microseconds since 1970.
    pub(crate) started_micros: i64,
    pub(crate) random: u64,
}

/// What was asked, and the answers.
#[derive(Default)]
struct Asked {
    rates: Vec<(Key, bool)>,
    places: Vec<(Key, bool)>,
    /// What is known of its two addresses.
    addresses: Vec<(IpAddr, Option<Arc<Place>>)>,
    picks: Vec<(Key, Vec<usize>, Option<usize>)>,
    held: Option<Box<Held>>,
}

impl Asked {
    /// Whether one more key may be counted for it: what one client makes the node keep is bounded.
    fn may_ask(&self) -> bool {
        self.rates.len() + self.places.len() < POLICY_KEYS_PER_CONNECTION_MAX
    }
}

impl Known {
    /// The same for every policy of the connection; `elapsed_micros` is the time since its accept.
    pub(crate) fn moment(&mut self, now_micros: i64, elapsed_micros: i64) -> Moment {
        *self.moment.get_or_insert_with(|| Moment {
            started_micros: now_micros.saturating_sub(elapsed_micros),
            random: rand::rng().next_u64(),
        })
    }

    /// What it wants cancelled, in the clear or behind TLS.
    pub(crate) fn cancel(&self) -> Option<&CancelKey> {
        let behind = self.behind.as_deref().and_then(|it| it.cancel.as_ref());
        behind.or_else(|| self.given.first.as_ref()?.cancel.as_ref())
    }

    /// Whether its upstream has to be asked PostgreSQL's way for TLS, because the client was answered that it may
    /// have it, and its TLS goes through.
    pub(crate) fn has_front(&self) -> bool {
        let first = self.given.first.as_ref();
        self.given.tls.is_none() && first.is_some_and(|first| first.front == Front::Postgres)
    }

    /// Whether it speaks PostgreSQL in the clear, as far as was looked; `begins`: the first byte that goes to the
    /// upstream. (PostgreSQL's begins with a length, which is never that long; TLS may be PostgreSQL by its ALPN.)
    pub(crate) fn speaks_postgres(&self, begins: Option<u8>) -> bool {
        let first = self.behind.as_deref().or(self.given.first.as_ref());
        let is_cancel = self.cancel().is_some();
        let is_postgres = first.is_some_and(|first| first.protocol == Protocol::Postgres);
        is_postgres && !is_cancel && begins == Some(0)
    }

    /// The places that it holds, for whoever lasts as long as the connection.
    pub(crate) fn take_held(&self) -> Option<Box<Held>> {
        self.asked().held.take()
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answers for one connection to endpoints of one account.
pub(crate) struct EdgeWorld<'a> {
    pub(crate) node: &'a Node,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) account: &'a AccountId,
    pub(crate) known: &'a Known,
}

impl World for EdgeWorld<'_> {
    fn ip_policy(&self, id: &IpPolicyId) -> Option<Arc<IpSets>> {
        self.snapshot.ip_sets(self.account, id)
    }

    fn secret(&self, vault: &str, name: &str) -> Option<Arc<str>> {
        self.snapshot.secret(self.account, vault, name)
    }

    fn place(&self, ip: IpAddr) -> Option<Arc<Place>> {
        let mut asked = self.known.asked();
        if let Some((_, before)) = asked.addresses.iter().find(|(known, _)| *known == ip) {
            return before.clone();
        }
        let place = self.node.places.of(ip);
        // Its client's and its own: there is no third.
        asked.addresses.push((ip, place.clone()));
        place
    }

    fn take_rate(&self, bucket: &Bucket, rate: &Rate) -> bool {
        let state = &self.node.policy_state;
        let key = state.key(bucket);
        let mut asked = self.known.asked();
        if let Some((_, before)) = asked.rates.iter().find(|(known, _)| *known == key) {
            return *before;
        }
        if !asked.may_ask() {
            return false;
        }
        let taken = state.take_rate(state.owner(self.account), key, rate);
        asked.rates.push((key, taken));
        taken
    }

    fn hold(&self, bucket: &Bucket, most: u32) -> bool {
        let state = &self.node.policy_state;
        let key = state.key(bucket);
        let mut asked = self.known.asked();
        if let Some((_, before)) = asked.places.iter().find(|(known, _)| *known == key) {
            return *before;
        }
        if !asked.may_ask() {
            return false;
        }
        let held = asked
            .held
            .get_or_insert_with(|| Box::new(Held::none(state)));
        let taken = held.take(state.owner(self.account), key, most);
        asked.places.push((key, taken));
        taken
    }

    fn pick(&self, choice: &Choice<'_>) -> Option<usize> {
        let state = &self.node.policy_state;
        let key = state.key_of(choice.endpoint, choice.action, "");
        let mut asked = self.known.asked();
        let same = |(known, tried, _): &&(Key, Vec<usize>, Option<usize>)| {
            *known == key && tried == choice.tried
        };
        if let Some((.., before)) = asked.picks.iter().find(same) {
            return *before;
        }
        let picked = self.choose(key, choice);
        asked.picks.push((key, choice.tried.to_vec(), picked));
        picked
    }
}

impl EdgeWorld<'_> {
    fn choose(&self, key: Key, choice: &Choice<'_>) -> Option<usize> {
        let open = balance::open_weights(choice);
        let seed = rand::rng().next_u64();
        // A target that rejects has no connections to count, and would always be the least busy.
        let serving = || -> Vec<u32> {
            let each = open.iter().zip(choice.urls);
            each.map(|(weight, url)| url.as_ref().map_or(0, |_| *weight))
                .collect()
        };
        match choice.strategy {
            // Who comes again because the first did not answer is drawn: the order of turns is for those who
            // come first, and stays exact.
            Strategy::Weighted if choice.tried.is_empty() => {
                self.node.policy_state.turn(key, &open)
            }
            Strategy::Weighted => balance::random(&open, seed),
            // It is for when nothing else is left.
            Strategy::LeastConnections => balance::least(&serving(), &self.counts(choice), seed)
                .or_else(|| balance::random(&open, seed)),
            // It gets its share, and no more.
            Strategy::RandomTwo => match balance::random(&open, seed)? {
                rejects if choice.urls.get(rejects).is_some_and(Option::is_none) => Some(rejects),
                _ => balance::random_two(&serving(), &self.counts(choice), rand::rng().next_u64()),
            },
            Strategy::HashClientIp => balance::by_client(&open, choice.urls, choice.client),
        }
    }

    /// Connections that every target has, on this node.
    fn counts(&self, choice: &Choice<'_>) -> Vec<u64> {
        let of = |url: &Option<Arc<EndpointUrl>>| {
            let url = url.as_ref()?;
            let pool = self.snapshot.internal_at(self.account, url)?;
            let each = pool.members.iter();
            Some(
                each.map(|member| u64::from(self.node.admission.count_of(&member.id)))
                    .sum(),
            )
        };
        choice.urls.iter().map(|url| of(url).unwrap_or(0)).collect()
    }
}
