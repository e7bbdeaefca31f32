//! From the store's entries to a snapshot: one change at a time, on a copy that nobody reads yet.
//!
//! Must never: fail on a change it does not understand; a newer release may write other kinds.

use std::sync::Arc;

use portcullis_model::{AddressKind, Endpoint, IpPolicy, IpRestriction, ReservedAddr};
use serde::de::DeserializeOwned;

use super::ip::Touched;
use super::owned::place;
use super::{EndpointEntry, Owned, Snapshot, Table, index};
use crate::compile::compile;
use crate::error::StoreError;
use crate::keys;
use crate::kv::{Change, Entry, Listing};
use crate::settings::Settings;

impl Snapshot {
    /// A snapshot of nothing.
    pub(crate) fn empty(settings: Arc<Settings>) -> Self {
        Self {
            revision: 0,
            settings,
            accounts: Table::default(),
            api_keys: Table::default(),
            credentials: Table::default(),
            addrs: Table::default(),
            endpoints: Table::default(),
            sessions: Table::default(),
            agents: Table::default(),
            ip_policies: Owned::default(),
            ip_rules: Owned::default(),
            ip_rules_of: Table::default(),
            touched: Vec::new(),
            claims: Table::default(),
            place_claims: Table::default(),
            first_account: None,
            public: Arc::default(),
            internal: Arc::default(),
            names: super::tls::Names::default(),
            dedicated: Arc::default(),
            vaults: super::vaults::Vaults::default(),
            material: super::certificates::Material::default(),
            ip_restrictions: Owned::default(),
        }
    }

    /// A snapshot of everything that a store holds.
    ///
    /// # Errors
    /// `StoreError::Corrupt` names the key whose value cannot be read.
    pub(crate) fn read(settings: Arc<Settings>, listing: Listing) -> Result<Self, StoreError> {
        let mut snapshot = Self::empty(settings);
        for entry in listing.entries {
            snapshot.put(&entry)?;
        }
        snapshot.revision = listing.revision;
        snapshot.make_ip_sets();
        Ok(snapshot)
    }

    /// This snapshot with changes that happened after it.
    ///
    /// # Errors
    /// `StoreError::Corrupt` names the key whose value cannot be read; the others are applied.
    pub(crate) fn with(&self, changes: &[Change]) -> (Self, Vec<StoreError>) {
        let mut next = self.clone();
        let mut unreadable = Vec::new();
        for change in changes {
            let applied = match &change.entry {
                Some(entry) => next.put(entry),
                None => {
                    next.delete(&change.key);
                    Ok(())
                }
            };
            unreadable.extend(applied.err());
            next.revision = next.revision.max(change.revision);
        }
        next.make_ip_sets();
        (next, unreadable)
    }

    fn put(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let (kind, rest) = entry.key.split_once('/').unwrap_or((&entry.key, ""));
        match kind {
            "account" => insert(&mut self.accounts, entry, |account| account.id.clone()),
            "key" => insert(&mut self.api_keys, entry, |key| key.id.clone()),
            "cred" => insert(&mut self.credentials, entry, |credential| {
                credential.id.clone()
            }),
            "session" => insert(&mut self.sessions, entry, |session| session.id.clone()),
            "addr" => self.put_address(entry),
            "endpoint" => self.put_endpoint(entry),
            "agent" => {
                let Some((account, agent)) = rest.split_once('/') else {
                    return Ok(());
                };
                let key = (id(account, entry)?, id(agent, entry)?);
                insert(&mut self.agents, entry, |_| key)
            }
            "ipp" => {
                let policy: IpPolicy = read(entry)?;
                let (account, id) = (policy.account.clone(), policy.id.clone());
                self.ip_policies.insert(&account, id, policy);
                Ok(())
            }
            "ipx" => {
                let restriction: IpRestriction = read(entry)?;
                let (account, id) = (restriction.account.clone(), restriction.id.clone());
                self.ip_restrictions.insert(&account, id, restriction);
                Ok(())
            }
            "ipr" => {
                self.put_ip_rule(read(entry)?);
                Ok(())
            }
            "claim" => self.put_claim(rest, entry),
            "vault" => {
                self.vaults.put_vault(read(entry)?);
                Ok(())
            }
            "secret" => {
                let sealer = self.settings.sealer.as_deref();
                self.vaults.put_secret(read(entry)?, sealer);
                Ok(())
            }
            "ca" => {
                self.material.put_authority(read(entry)?);
                Ok(())
            }
            "cert" => {
                let sealer = self.settings.sealer.as_deref();
                self.material.put_certificate(read(entry)?, sealer);
                Ok(())
            }
            "meta" if entry.key == keys::FIRST_ACCOUNT => {
                self.first_account = Some(read(entry)?);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn put_address(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let addr: ReservedAddr = read(entry)?;
        if addr.kind == AddressKind::Host {
            let binds: Vec<_> = addr
                .ips
                .iter()
                .filter_map(|ip| self.settings.pool_ip(*ip))
                .map(|(_, ip)| ip.bind)
                .collect();
            let host: Arc<str> = addr.host.as_str().into();
            let dedicated = Arc::make_mut(&mut self.dedicated);
            dedicated.extend(binds.into_iter().map(|ip| (ip, Arc::clone(&host))));
        }
        self.addrs.insert(addr.id.clone(), addr);
        Ok(())
    }

    fn put_endpoint(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let record: Endpoint = read(entry)?;
        let known = self.endpoints.get(&record.id).cloned();
        let policy = match &known {
            Some(old) if old.traffic_policy == record.traffic_policy => old.policy.clone(),
            Some(_) | None => compile(&record.traffic_policy, record.kind),
        };
        if let Err(error) = &policy {
            tracing::error!(endpoint = %record.id, %error, "a stored policy does not compile; the endpoint refuses every connection");
        }
        if let Some(old) = known {
            index::remove(self, &old);
        }
        if let Ok(Some(policy)) = &policy {
            let used = policy.uses().ip_policies;
            used.into_iter().for_each(|id| self.touch(Touched::Use(id)));
        }
        let (added, _) = self
            .endpoints
            .insert(record.id.clone(), EndpointEntry { record, policy });
        index::add(self, &added);
        Ok(())
    }

    fn put_claim(&mut self, rest: &str, entry: &Entry) -> Result<(), StoreError> {
        match port_claim_key(rest) {
            Some(key) => insert(&mut self.claims, entry, |_| key),
            None => insert(&mut self.place_claims, entry, |_| rest.into()),
        }
    }

    fn delete(&mut self, key: &str) {
        let (kind, rest) = key.split_once('/').unwrap_or((key, ""));
        let last = rest.rsplit_once('/').map_or(rest, |(_, last)| last);
        match kind {
            "account" => remove(&mut self.accounts, last),
            "key" => remove(&mut self.api_keys, last),
            "cred" => remove(&mut self.credentials, last),
            "session" => remove(&mut self.sessions, last),
            "addr" => self.delete_address(last),
            "endpoint" => self.delete_endpoint(last),
            "agent" => {
                if let Some((account, agent)) = rest.split_once('/')
                    && let (Ok(account), Ok(agent)) = (account.parse(), agent.parse())
                {
                    self.agents.remove(&(account, agent));
                }
            }
            "ipp" | "ipr" | "ipx" | "vault" | "secret" | "ca" | "cert" => {
                // A key that is none of ours names nothing that is here.
                let _known = self.delete_owned(kind, rest);
            }
            "claim" => match port_claim_key(rest) {
                Some(key) => drop(self.claims.remove(&key)),
                None => drop(self.place_claims.remove(rest)),
            },
            "meta" if key == keys::FIRST_ACCOUNT => self.first_account = None,
            _ => {}
        }
    }

    /// Takes out what is kept by its owner; `None` where the key cannot be read.
    fn delete_owned(&mut self, kind: &str, rest: &str) -> Option<()> {
        match kind {
            "ipp" => {
                let (account, id) = place(rest)?;
                self.ip_policies.remove(&account, &id);
            }
            "ipr" => {
                let (account, id) = place(rest)?;
                self.delete_ip_rule(&account, &id);
            }
            "ipx" => {
                let (account, id) = place(rest)?;
                self.ip_restrictions.remove(&account, &id);
            }
            "vault" => {
                let (account, id) = place(rest)?;
                self.vaults.delete_vault(&account, &id);
            }
            "secret" => {
                let (account, id) = place(rest)?;
                self.vaults.delete_secret(&account, &id);
            }
            "ca" => {
                let (account, id) = place(rest)?;
                self.material.delete_authority(&account, &id);
            }
            _ => {
                let (account, id) = place(rest)?;
                self.material.delete_certificate(&account, &id);
            }
        }
        Some(())
    }

    fn delete_address(&mut self, id: &str) {
        let Some(addr) = id.parse().ok().and_then(|id| self.addrs.remove(&id)) else {
            return;
        };
        if addr.kind == AddressKind::Host {
            Arc::make_mut(&mut self.dedicated).retain(|_, host| **host != *addr.host);
        }
    }

    fn delete_endpoint(&mut self, id: &str) {
        if let Some(old) = id.parse().ok().and_then(|id| self.endpoints.remove(&id)) {
            index::remove(self, &old);
        }
    }
}

/// Port and host of `port/20001/edge.example.com`; `None` for `host/…` and `ip/…`.
fn port_claim_key(rest: &str) -> Option<(u16, Arc<str>)> {
    let (port, host) = rest.strip_prefix("port/")?.split_once('/')?;
    Some((port.parse().ok()?, host.into()))
}

fn read<T: DeserializeOwned>(entry: &Entry) -> Result<T, StoreError> {
    serde_json::from_slice(&entry.value).map_err(|cause| StoreError::Corrupt {
        what: format!("the record `{}`", entry.key),
        cause: cause.to_string(),
    })
}

fn id<T: std::str::FromStr<Err = portcullis_model::id::IdError>>(
    text: &str,
    entry: &Entry,
) -> Result<T, StoreError> {
    text.parse().map_err(|cause: T::Err| StoreError::Corrupt {
        what: format!("the key `{}`", entry.key),
        cause: cause.to_string(),
    })
}

fn insert<K: Ord + Clone, V: DeserializeOwned>(
    table: &mut Table<K, V>,
    entry: &Entry,
    key: impl FnOnce(&V) -> K,
) -> Result<(), StoreError> {
    let value: V = read(entry)?;
    table.insert(key(&value), value);
    Ok(())
}

fn remove<K: Ord + Clone + std::str::FromStr, V>(table: &mut Table<K, V>, id: &str) {
    if let Ok(id) = id.parse() {
        table.remove(&id);
    }
}
