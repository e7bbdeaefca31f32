//! A write in the making: what it rests on (guards) and what it changes.
//!
//! Owns: the translation from rules to guards. Must never: decide a rule.

use std::collections::BTreeMap;

use portcullis_model::id::ENTROPY_BYTES;
use portcullis_model::{Account, AccountId, Code, Error, Timestamp};
use serde::Serialize;

use crate::ids::IdMaker;
use crate::keys;
use crate::kv::{Guard, LeaseId, Op, Txn};
use crate::snapshot::Snapshot;

pub(super) struct Draft<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) now: Timestamp,
    lease: LeaseId,
    ids: &'a IdMaker,
    guards: Vec<Guard>,
    /// By key, so that a later step of a plan may change what an earlier one did.
    ops: BTreeMap<String, Op>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        now: Timestamp,
        lease: LeaseId,
        ids: &'a IdMaker,
    ) -> Self {
        Self {
            snapshot,
            now,
            lease,
            ids,
            guards: Vec::new(),
            ops: BTreeMap::new(),
        }
    }

    /// A new id: `draft.id(EndpointId::new)?`.
    pub(super) fn id<T>(
        &self,
        make: impl FnOnce(i64, [u8; ENTROPY_BYTES]) -> T,
    ) -> Result<T, Error> {
        let (seconds, entropy) = self.ids.parts(self.now)?;
        Ok(make(seconds, entropy))
    }

    /// The account, which must still be there when the write happens.
    pub(super) fn account(&mut self, id: &AccountId) -> Result<&'a Account, Error> {
        let account = self.snapshot.account(id).ok_or_else(|| {
            Error::new(Code::AccountNotFound, format!("there is no account {id}"))
        })?;
        self.still(keys::account(id));
        Ok(account)
    }

    /// The key must still exist.
    pub(super) fn still(&mut self, key: String) {
        self.guard(Guard::Exists(key));
    }

    /// The key must not exist.
    pub(super) fn absent(&mut self, key: String) {
        self.guard(Guard::Absent(key));
    }

    /// The key must be as the snapshot has it.
    pub(super) fn unchanged(&mut self, key: String) {
        self.nothing_new(key.clone());
        self.still(key);
    }

    /// Nothing under the prefix came or changed since the snapshot.
    pub(super) fn nothing_new(&mut self, prefix: String) {
        self.guard(Guard::NoneNewer {
            prefix,
            revision: self.snapshot.revision(),
        });
    }

    fn guard(&mut self, guard: Guard) {
        if !self.guards.contains(&guard) {
            self.guards.push(guard);
        }
    }

    pub(super) fn put<T: Serialize>(&mut self, key: String, value: &T) -> Result<(), Error> {
        self.put_with(key, value, None)
    }

    /// The record goes when this node goes.
    pub(super) fn put_leased<T: Serialize>(&mut self, key: String, value: &T) -> Result<(), Error> {
        self.put_with(key, value, Some(self.lease))
    }

    fn put_with<T: Serialize>(
        &mut self,
        key: String,
        value: &T,
        lease: Option<LeaseId>,
    ) -> Result<(), Error> {
        let value = serde_json::to_vec(value).map_err(Error::internal)?;
        self.ops.insert(key.clone(), Op::Put { key, value, lease });
        Ok(())
    }

    pub(super) fn delete(&mut self, key: String) {
        self.ops.insert(key.clone(), Op::Delete { key });
    }

    pub(super) fn finish(self) -> Txn {
        Txn {
            guards: self.guards,
            ops: self.ops.into_values().collect(),
        }
    }
}
