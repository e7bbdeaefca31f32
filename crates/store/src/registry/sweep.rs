//! The sweep: random places whose endpoint went offline start to rest, and what has rested is freed.

use std::sync::Weak;

use portcullis_model::{AccountId, Binding, EndpointUrl, Error};
use tokio_util::sync::CancellationToken;

use super::draft::Draft;
use super::{Inner, Registry, tls_names};
use crate::records::{Claim, ClaimHolder};
use crate::{defaults, keys};

/// Sweeps as long as the registry lives.
pub(super) async fn keep_sweeping(inner: Weak<Inner>, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(defaults::SWEEP_INTERVAL) => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        if let Err(error) = (Registry { inner }).sweep().await {
            tracing::warn!(%error, "rested addresses could not be freed; tried again soon");
        }
    }
}

impl Registry {
    /// Marks what went offline without a word, and frees what has rested. Runs by itself; tests and
    /// tools may call it.
    ///
    /// # Errors
    /// `PTC_STORE_…`.
    pub async fn sweep(&self) -> Result<(), Error> {
        self.write("sweep", sweep).await.map(|_| ())
    }
}

fn sweep(draft: &mut Draft<'_>) -> Result<(), Error> {
    let snapshot = draft.snapshot;
    let mut changed = 0;
    for (host, port, claim) in snapshot.all_port_claims() {
        if changed == defaults::SWEEP_CLAIMS_MAX {
            return Ok(());
        }
        let held = matches!(claim.holder, ClaimHolder::Address { .. })
            || snapshot.public(host, port).is_some();
        if held || claim.resting_until.is_some_and(|until| until > draft.now) {
            continue;
        }
        let key = keys::port_claim(host, port);
        draft.unchanged(key.clone());
        draft.nothing_new(keys::at_url(
            Binding::Public,
            &claim.account,
            &EndpointUrl::new(host, port),
        ));
        match claim.resting_until {
            Some(_) => draft.delete(key),
            None => mark(draft, key, claim)?,
        }
        changed += 1;
    }
    changed += tls_names::sweep(draft, defaults::SWEEP_CLAIMS_MAX - changed)?;
    for (place, claim) in snapshot.all_place_claims() {
        if place.starts_with(crate::snapshot::TLS_PLACES) {
            continue;
        }
        let rested = claim.resting_until.is_some_and(|until| until <= draft.now);
        if rested
            && !matches!(claim.holder, ClaimHolder::Address { .. })
            && changed < defaults::SWEEP_CLAIMS_MAX
        {
            let key = format!("claim/{place}");
            draft.unchanged(key.clone());
            draft.delete(key);
            changed += 1;
        }
    }
    forget_agents(draft, defaults::SWEEP_CLAIMS_MAX - changed);
    Ok(())
}

pub(super) fn mark(draft: &mut Draft<'_>, key: String, claim: &Claim) -> Result<(), Error> {
    let until = draft.now.plus(draft.snapshot.settings().address_rest);
    draft.put(
        key,
        &Claim {
            resting_until: Some(until),
            ..claim.clone()
        },
    )
}

/// Installations that were not seen for as long as their addresses rest are forgotten.
fn forget_agents(draft: &mut Draft<'_>, most: usize) {
    let snapshot = draft.snapshot;
    let rest = snapshot.settings().address_rest;
    let accounts: Vec<&AccountId> = snapshot.accounts().map(|account| &account.id).collect();
    let gone: Vec<_> = accounts
        .into_iter()
        .flat_map(|account| snapshot.agents(account).map(move |agent| (account, agent)))
        .filter(|(account, agent)| {
            let old = snapshot
                .agent(account, agent)
                .is_some_and(|record| draft.now.since(record.seen_at) > rest);
            old && !snapshot
                .sessions(account)
                .any(|session| session.agent == **agent)
        })
        .take(most)
        .collect();
    for (account, agent) in gone {
        draft.unchanged(keys::agent(account, agent));
        draft.delete(keys::agent(account, agent));
    }
}
