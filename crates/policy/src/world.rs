//! What a policy asks of the world while it runs. The edge answers from its snapshot and its counters,
//! `policy test` from its flags.
//!
//! An answer must not wait.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use portcullis_model::id::IpPolicyId;

use crate::cidr::CidrSet;

/// Answers for one connection.
pub trait World {
    /// The networks of an IP policy; `None`: there is none such.
    fn ip_policy(&self, id: &IpPolicyId) -> Option<Arc<IpSets>>;

    /// A secret's value; `None`: there is none such.
    fn secret(&self, vault: &str, name: &str) -> Option<Arc<str>>;

    /// What is known of an address: where it is, whose it is. `None`: nothing.
    fn place(&self, ip: IpAddr) -> Option<Arc<Place>>;

    /// Takes one token. Asked again for the same bucket by the same connection (its open failed and the
    /// policy runs afresh) it answers as before, and takes nothing.
    fn take_rate(&self, bucket: &Bucket, rate: &Rate) -> bool;

    /// Takes a place among at most `most` that are held at once, for as long as the connection lasts; asked
    /// again as [`Self::take_rate`].
    fn hold(&self, bucket: &Bucket, most: u32) -> bool;

    /// Chooses among targets that were not tried yet; an index of `weights`. `None`: none is left.
    fn pick(&self, choice: &Choice<'_>) -> Option<usize>;
}

/// The networks of an IP policy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IpSets {
    /// Those of rules that allow.
    pub allow: CidrSet,
    /// Those of rules that deny.
    pub deny: CidrSet,
}

/// What is known of an address, by the names that expressions use (`conn.geo.*`, `conn.client_ip.*`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Place {
    /// `city`, `country`, `country_code`, `subdivision`, `latitude`, `longitude`, `radius`.
    pub geo: BTreeMap<String, String>,
    /// The number of the autonomous system; 0: not known.
    pub as_number: u32,
    /// Its organization.
    pub as_organization: String,
    /// Such as `com.aws`, with those above each.
    pub categories: Vec<String>,
}

/// What counts together: one action of one endpoint, and the value of its key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Bucket {
    /// The endpoint's id.
    pub endpoint: Arc<str>,
    /// The action's own name: its rule's label and its place there.
    pub action: Arc<str>,
    /// The value of the key's expression, as text.
    pub key: Arc<str>,
}

/// Without the key: it may come from a secret.
impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bucket")
            .field("endpoint", &self.endpoint)
            .field("action", &self.action)
            .finish_non_exhaustive()
    }
}

/// How many in which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens of a full bucket.
    pub capacity: u32,
    /// Microseconds in which an empty one fills.
    pub per_micros: u64,
}

/// A bucket of tokens that fills evenly: `capacity` of them in `per_micros`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBucket {
    rate: Rate,
    /// What is in it, in parts: a token is `per_micros` of them, and `capacity` come each microsecond.
    parts: u128,
    at_micros: i64,
}

impl TokenBucket {
    /// A full one.
    pub fn full(now_micros: i64, rate: &Rate) -> Self {
        Self {
            rate: *rate,
            parts: brim(rate),
            at_micros: now_micros,
        }
    }

    /// Takes a token, if there is one. Another rate than before counts from now on, and keeps what is in it.
    /// A clock that went back adds nothing.
    pub fn take(&mut self, now_micros: i64, rate: &Rate) -> bool {
        self.fill(now_micros);
        if self.rate != *rate {
            let tokens = self.parts / u128::from(self.rate.per_micros.max(1));
            self.rate = *rate;
            self.parts = (tokens * u128::from(rate.per_micros.max(1))).min(brim(rate));
        }
        match self.parts.checked_sub(u128::from(rate.per_micros.max(1))) {
            Some(left) => {
                self.parts = left;
                true
            }
            None => false,
        }
    }

    /// Whether it has filled up, so that it is as good as a new one and may be forgotten.
    pub fn is_full(&self, now_micros: i64) -> bool {
        let mut then = self.clone();
        then.fill(now_micros);
        then.parts == brim(&then.rate)
    }

    fn fill(&mut self, now_micros: i64) {
        let passed = now_micros.saturating_sub(self.at_micros);
        self.at_micros = now_micros;
        if let Ok(passed) = u128::try_from(passed) {
            let come = passed * u128::from(self.rate.capacity);
            self.parts = (self.parts + come).min(brim(&self.rate));
        }
    }
}

/// The parts of a full bucket.
fn brim(rate: &Rate) -> u128 {
    u128::from(rate.capacity) * u128::from(rate.per_micros.max(1))
}

/// Targets to choose from.
#[derive(Debug, Clone)]
pub struct Choice<'a> {
    /// The endpoint's id and the action's name, as a bucket has them.
    pub endpoint: &'a str,
    /// See [`Bucket::action`].
    pub action: &'a str,
    /// How to choose.
    pub strategy: Strategy,
    /// Of every target; 0 is never chosen.
    pub weights: &'a [u32],
    /// The internal endpoint of every target; `None` is `reject: true`.
    pub urls: &'a [Option<Arc<portcullis_model::EndpointUrl>>],
    /// Those that were tried for this connection.
    pub tried: &'a [usize],
    /// The client, for `hash-client-ip`.
    pub client: IpAddr,
}

/// How a target is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Smooth weighted round robin: exact on each node.
    #[default]
    Weighted,
    /// The fewest open connections for its weight, of this node.
    LeastConnections,
    /// The less busy one of two drawn at random by weight.
    RandomTwo,
    /// The same target for the same client address, by weighted rendezvous hashing.
    HashClientIp,
}

#[cfg(test)]
mod tests;
