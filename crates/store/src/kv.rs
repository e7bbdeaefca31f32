//! The seam to what keeps the bytes: a small trait shaped like etcd. Get, list by prefix, a
//! transaction with guards, watch from a revision, leases.
//!
//! Owns: the promises every implementation keeps (see [`crate::conformance`]). Must never: know what
//! the values mean.

use std::time::Duration;

use async_trait::async_trait;

use crate::error::StoreError;

/// Names a lease of one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(pub i64);

/// A key with its value, as of one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// The revision at which the key came into being.
    pub create_revision: u64,
    /// The revision of its last change.
    pub mod_revision: u64,
    /// The lease that takes it away when it ends.
    pub lease: Option<LeaseId>,
}

/// Entries in the order of their keys, all of one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The entries.
    pub entries: Vec<Entry>,
    /// The revision they were read at; a watch goes on from the next.
    pub revision: u64,
}

/// What must hold for a transaction to happen. All guards must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// The key exists.
    Exists(String),
    /// The key does not exist.
    Absent(String),
    /// The key was last changed at this revision; 0 means that it does not exist.
    ModRevision(String, u64),
    /// The key has this value.
    Value(String, Vec<u8>),
    /// No key that starts so was made or changed after this revision (deletions are not seen).
    NoneNewer {
        /// The prefix.
        prefix: String,
        /// The newest revision that is still fine.
        revision: u64,
    },
}

/// A change that a transaction makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Sets a key. It is then under this lease, or under none.
    Put {
        /// The key.
        key: String,
        /// Its new value.
        value: Vec<u8>,
        /// The lease it is under from now on.
        lease: Option<LeaseId>,
    },
    /// Deletes a key; no error if there is none.
    Delete {
        /// The key.
        key: String,
    },
}

impl Op {
    /// The key it changes.
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// Guards and changes that happen together or not at all. No key is changed twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    /// What must hold.
    pub guards: Vec<Guard>,
    /// What is done then.
    pub ops: Vec<Op>,
}

/// What came of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxnOutcome {
    /// Done, durably, at this revision. Where nothing changed, the revision is the current one.
    Committed {
        /// The revision.
        revision: u64,
    },
    /// A guard did not hold at this revision; nothing was done.
    Refused {
        /// The revision.
        revision: u64,
    },
}

/// One change that a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its revision; changes of one transaction share it.
    pub revision: u64,
    /// The key.
    pub key: String,
    /// The entry as it is from then on; `None`: deleted.
    pub entry: Option<Entry>,
}

/// Changes under a prefix, each once, in the order of their revisions.
#[async_trait]
pub trait Watch: Send {
    /// Waits for changes and returns them: whole revisions only, never an empty list.
    ///
    /// # Errors
    /// `StoreError::Compacted` when the watcher is too far behind: list again and watch from there.
    ///
    /// # Cancel safety
    /// Safe: a change is taken only when it is returned.
    async fn next(&mut self) -> Result<Vec<Change>, StoreError>;
}

/// What keeps the bytes.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The entry of a key.
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// The entries whose keys start so.
    async fn list(&self, prefix: &str) -> Result<Listing, StoreError>;

    /// Does the changes if every guard holds. When it answers, they are durable.
    ///
    /// # Cancel safety
    /// Dropping the future does not undo a transaction that was handed over.
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError>;

    /// Follows the changes under a prefix from a revision on, that one included.
    ///
    /// # Errors
    /// `StoreError::Compacted` when that revision is no longer kept.
    async fn watch(&self, prefix: &str, from_revision: u64) -> Result<Box<dyn Watch>, StoreError>;

    /// The revision of the last change.
    async fn revision(&self) -> Result<u64, StoreError>;

    /// Makes a lease. Unless kept alive it ends `ttl` later, and its keys are deleted.
    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, StoreError>;

    /// Gives a lease its whole time again.
    ///
    /// # Errors
    /// `StoreError::LeaseGone` when it has ended.
    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Ends a lease and deletes its keys, in one revision.
    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError>;
}
