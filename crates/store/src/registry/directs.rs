//! The server's own endpoints, many at a time: a server with ten thousand of them is up in a second or
//! two, for they share a few transactions.
//!
//! Must never: judge otherwise than [`Registry::bind_direct`]. What it cannot judge by the snapshot
//! alone it hands on one by one.

use std::collections::HashSet;
use std::sync::PoisonError;

use portcullis_model::{AccountId, Code, Endpoint, Error};

use super::{Registry, binds};
use crate::defaults::DIRECTS_PER_WRITE_MAX;
use crate::requests::DirectSpec;
use crate::validate;

impl Registry {
    /// Brings endpoints online as [`Self::bind_direct`] does; each has its own outcome, in the order given.
    pub async fn bind_directs(
        &self,
        account: &AccountId,
        specs: Vec<DirectSpec>,
    ) -> Vec<Result<Endpoint, Error>> {
        let mut outcomes = Vec::with_capacity(specs.len());
        let mut specs = specs.into_iter().peekable();
        while specs.peek().is_some() {
            let some: Vec<_> = specs.by_ref().take(DIRECTS_PER_WRITE_MAX).collect();
            match self.bind_together(account, &some).await {
                Ok(bound) => outcomes.extend(bound.into_iter().map(Ok)),
                // One of them is refused, or needs the others to be there already.
                Err(_) => {
                    for spec in some {
                        let bound = self.bind_direct(account, spec).await;
                        outcomes.push(bound.map(|written| written.value));
                    }
                }
            }
        }
        outcomes
    }

    /// All of them with one write, or none.
    async fn bind_together(
        &self,
        account: &AccountId,
        specs: &[DirectSpec],
    ) -> Result<Vec<Endpoint>, Error> {
        for spec in specs {
            validate::texts(&spec.description, &spec.metadata)?;
            validate::endpoint_name(&spec.name)?;
        }
        let one_by_one = || Error::of(Code::StoreConflict);
        if !specs.iter().all(names_its_port) {
            return Err(one_by_one()); // draws must not draw the same
        }
        let written = self
            .write(account.as_str(), |draft| {
                let snapshot = draft.snapshot;
                let plan = snapshot.plan(account);
                if plan.is_some_and(|plan| plan.endpoints_max.is_some()) {
                    return Err(one_by_one()); // who counts must see the one before
                }
                let mut places = HashSet::with_capacity(specs.len());
                let mut bound = Vec::with_capacity(specs.len());
                for spec in specs {
                    let endpoint = binds::bind_direct(draft, account, spec)?;
                    if !places.insert((endpoint.binding, endpoint.url.to_string())) {
                        return Err(one_by_one()); // a pool's members must agree
                    }
                    bound.push(endpoint);
                }
                Ok(bound)
            })
            .await?;
        self.remember_directs(account, specs);
        Ok(written.value)
    }

    /// Remembers direct endpoints for the case that the lease is lost.
    pub(super) fn remember_directs(&self, account: &AccountId, specs: &[DirectSpec]) {
        fn key(spec: &DirectSpec) -> (&str, Option<u16>, &str) {
            (&spec.url, spec.port, &spec.name)
        }
        let new: HashSet<_> = specs.iter().map(key).collect();
        let mut directs = self
            .inner
            .directs
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        directs.retain(|(owner, known)| owner != account || !new.contains(&key(known)));
        directs.extend(specs.iter().map(|spec| (account.clone(), spec.clone())));
    }
}

/// Whether nothing has to be drawn for it.
fn names_its_port(spec: &DirectSpec) -> bool {
    match spec.port.filter(|_| spec.url.is_empty()) {
        Some(port) => port != 0,
        None => {
            let place = spec.url.trim_start_matches("tcp://");
            let port = place.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            matches!(port, Some(Ok(port)) if port != 0)
        }
    }
}
