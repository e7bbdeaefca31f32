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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bucket {
    /// The endpoint's id.
    pub endpoint: Arc<str>,
    /// The action's own name: its rule's label and its place there.
    pub action: Arc<str>,
    /// The value of the key's expression, as text.
    pub key: Arc<str>,
}

/// How many in which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens of a full bucket.
    pub capacity: u32,
    /// Microseconds in which an empty one fills.
    pub per_micros: u64,
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
