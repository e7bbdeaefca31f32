//! A store in memory, for tests and trials: the same engine, nothing durable.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::{self, Backend, EmbeddedStore};
use crate::error::StoreError;
use crate::kv::{Entry, LeaseId};

/// Makes stores that forget everything when they are dropped.
#[derive(Debug)]
pub struct MemoryStore;

impl MemoryStore {
    /// An empty store.
    ///
    /// # Errors
    /// `StoreError::Unavailable` when the system gives no thread.
    pub fn open() -> Result<EmbeddedStore, StoreError> {
        engine::start(Memory::default(), "memory-store")
    }
}

#[derive(Default)]
pub(crate) struct Memory {
    entries: BTreeMap<String, Entry>,
    /// What the keys were at `begin`, oldest first.
    undo: Vec<(String, Option<Entry>)>,
    revision: u64,
}

impl Memory {
    fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.entries
            .range(prefix.to_owned()..)
            .map(|(_, entry)| entry)
            .take_while(move |entry| entry.key.starts_with(prefix))
    }
}

impl Backend for Memory {
    fn revision(&mut self) -> Result<u64, StoreError> {
        Ok(self.revision)
    }

    fn leases(&mut self) -> Result<Vec<(LeaseId, Duration)>, StoreError> {
        Ok(Vec::new())
    }

    fn get(&mut self, key: &str) -> Result<Option<Entry>, StoreError> {
        Ok(self.entries.get(key).cloned())
    }

    fn list(&mut self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        Ok(self.under(prefix).cloned().collect())
    }

    fn newest(&mut self, prefix: &str) -> Result<u64, StoreError> {
        Ok(self
            .under(prefix)
            .map(|entry| entry.mod_revision)
            .max()
            .unwrap_or(0))
    }

    fn lease_keys(&mut self, lease: LeaseId) -> Result<Vec<String>, StoreError> {
        let held = self
            .entries
            .values()
            .filter(|entry| entry.lease == Some(lease));
        Ok(held.map(|entry| entry.key.clone()).collect())
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        self.undo.clear();
        Ok(())
    }

    fn put(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let old = self.entries.insert(entry.key.clone(), entry.clone());
        self.undo.push((entry.key.clone(), old));
        Ok(())
    }

    fn delete(&mut self, key: &str) -> Result<(), StoreError> {
        let old = self.entries.remove(key);
        self.undo.push((key.to_owned(), old));
        Ok(())
    }

    fn lease_put(&mut self, _lease: LeaseId, _ttl: Duration) -> Result<(), StoreError> {
        Ok(())
    }

    fn lease_delete(&mut self, _lease: LeaseId) -> Result<(), StoreError> {
        Ok(())
    }

    fn commit(&mut self, revision: u64) -> Result<(), StoreError> {
        self.revision = revision;
        self.undo.clear();
        Ok(())
    }

    fn rollback(&mut self) {
        while let Some((key, old)) = self.undo.pop() {
            match old {
                Some(entry) => self.entries.insert(key, entry),
                None => self.entries.remove(&key),
            };
        }
    }
}
