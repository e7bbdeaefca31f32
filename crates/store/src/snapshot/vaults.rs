//! Vaults and secrets of a snapshot: opened when their record comes, found by name without an allocation.
//!
//! Must never: print a value.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use portcullis_model::id::{SecretId, VaultId};
use portcullis_model::{AccountId, Error, Vault, VaultSecret, secret};

use super::{Owned, Snapshot};
use crate::sealer::Sealer;

/// A secret with its value in the clear. It dereferences to the record.
pub struct SecretEntry {
    record: VaultSecret,
    value: Option<Arc<str>>,
}

impl SecretEntry {
    /// The record as stored.
    pub fn record(&self) -> &VaultSecret {
        &self.record
    }

    /// Whether its value could be opened.
    pub fn is_open(&self) -> bool {
        self.value.is_some()
    }
}

impl Deref for SecretEntry {
    type Target = VaultSecret;
    fn deref(&self) -> &VaultSecret {
        &self.record
    }
}

impl fmt::Debug for SecretEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretEntry")
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

impl Drop for SecretEntry {
    /// Wipes the value, unless a policy that runs just now still has it.
    fn drop(&mut self) {
        if let Some(value) = self.value.as_mut().and_then(Arc::get_mut) {
            secret::wipe(value);
        }
    }
}

type Names<V> = Arc<HashMap<Arc<str>, V>>;

/// The records, and where their names lead.
#[derive(Debug, Clone, Default)]
pub(super) struct Vaults {
    vaults: Owned<VaultId, Vault>,
    secrets: Owned<SecretId, SecretEntry>,
    vault_names: Arc<HashMap<AccountId, Names<VaultId>>>,
    secret_names: Arc<HashMap<VaultId, Names<Arc<SecretEntry>>>>,
}

impl Vaults {
    pub(super) fn put_vault(&mut self, vault: Vault) {
        let (account, id) = (vault.account.clone(), vault.id.clone());
        self.delete_vault(&account, &id);
        let name = Arc::from(vault.name.as_str());
        let accounts = Arc::make_mut(&mut self.vault_names);
        Arc::make_mut(accounts.entry(account.clone()).or_default()).insert(name, id.clone());
        self.vaults.insert(&account, id, vault);
    }

    pub(super) fn delete_vault(&mut self, account: &AccountId, id: &VaultId) {
        if let Some(old) = self.vaults.remove(account, id) {
            forget(&mut self.vault_names, &old.account, &old.name);
        }
    }

    pub(super) fn put_secret(&mut self, record: VaultSecret, sealer: Option<&dyn Sealer>) {
        let (account, id) = (record.account.clone(), record.id.clone());
        self.delete_secret(&account, &id);
        let value = opened(&record, sealer);
        let (entry, _) = self
            .secrets
            .insert(&account, id, SecretEntry { record, value });
        let vaults = Arc::make_mut(&mut self.secret_names);
        let names = vaults.entry(entry.vault.clone()).or_default();
        Arc::make_mut(names).insert(entry.name.as_str().into(), entry);
    }

    pub(super) fn delete_secret(&mut self, account: &AccountId, id: &SecretId) {
        if let Some(old) = self.secrets.remove(account, id) {
            forget(&mut self.secret_names, &old.vault, &old.name);
        }
    }
}

/// Takes a name out, and its owner with the last one.
fn forget<O: Eq + std::hash::Hash + Clone, V: Clone>(
    index: &mut Arc<HashMap<O, Names<V>>>,
    owner: &O,
    name: &str,
) {
    let owners = Arc::make_mut(index);
    if let Some(names) = owners.get_mut(owner) {
        Arc::make_mut(names).remove(name);
        if names.is_empty() {
            owners.remove(owner);
        }
    }
}

/// The value; without it the record stays, and policies that ask for it fail.
fn opened(record: &VaultSecret, sealer: Option<&dyn Sealer>) -> Option<Arc<str>> {
    let open = || {
        let sealer = sealer.ok_or_else(|| Error::internal("the server has no master key"))?;
        let plain = sealer.open(&record.value, &record.place())?;
        let text = std::str::from_utf8(plain.expose()).map_err(Error::internal)?;
        Ok::<Arc<str>, Error>(Arc::from(text))
    };
    match open() {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::error!(secret = %record.id, code = %error.code, "the value of a secret cannot be opened: {}", error.message);
            None
        }
    }
}

impl Snapshot {
    /// A vault of the account.
    pub fn vault(&self, account: &AccountId, id: &VaultId) -> Option<&Arc<Vault>> {
        self.vaults.vaults.get(account, id)
    }

    /// A vault of the account by its name.
    pub fn vault_by_name(&self, account: &AccountId, name: &str) -> Option<&Arc<Vault>> {
        let id = self.vaults.vault_names.get(account)?.get(name)?;
        self.vault(account, id)
    }

    /// The account's vaults, oldest first.
    pub fn vaults(&self, account: &AccountId) -> impl DoubleEndedIterator<Item = &Arc<Vault>> {
        self.vaults.vaults.of(account)
    }

    /// A secret of the account, without its value.
    pub fn vault_secret(&self, account: &AccountId, id: &SecretId) -> Option<&Arc<SecretEntry>> {
        self.vaults.secrets.get(account, id)
    }

    /// The account's secrets, oldest first.
    pub fn vault_secrets(
        &self,
        account: &AccountId,
    ) -> impl DoubleEndedIterator<Item = &Arc<SecretEntry>> {
        self.vaults.secrets.of(account)
    }

    /// How many secrets a vault holds.
    pub fn secrets_in(&self, vault: &VaultId) -> usize {
        self.vaults
            .secret_names
            .get(vault)
            .map_or(0, |names| names.len())
    }

    /// A secret of the account by the names of its vault and its own.
    pub fn vault_secret_by_name(
        &self,
        account: &AccountId,
        vault: &str,
        name: &str,
    ) -> Option<&Arc<SecretEntry>> {
        let id = self.vaults.vault_names.get(account)?.get(vault)?;
        self.vaults.secret_names.get(id)?.get(name)
    }

    /// The value of a secret, for policies: `None` where there is no such secret, or its value cannot be
    /// opened. Never for an answer to a user.
    pub fn secret(&self, account: &AccountId, vault: &str, name: &str) -> Option<Arc<str>> {
        let entry = self.vault_secret_by_name(account, vault, name)?;
        entry.value.clone()
    }

    /// Every secret of every account, for sealing anew: never for an answer to a user.
    pub(crate) fn all_vault_secrets(&self) -> impl Iterator<Item = &Arc<SecretEntry>> {
        self.vaults.secrets.all()
    }
}
