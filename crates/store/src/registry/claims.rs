//! Claims: whose a public place is, while it is used and while it rests.
//!
//! Owns: the rule that a place passes to another account only after its rest. Must never: give one
//! place to two accounts.

use std::collections::BTreeSet;
use std::time::Duration;

use portcullis_model::url::Scheme;
use portcullis_model::{AccountId, Binding, Code, Endpoint, EndpointId, Error, Timestamp};

use super::draft::Draft;
use super::tls_names;
use crate::keys;
use crate::records::{Claim, ClaimHolder};

/// What a claim means for an account that wants the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has rested; anyone may have it.
    Free,
    /// The account's, and nothing stands on it now.
    MineOffline,
    /// The account's, and in use.
    MineHeld,
    /// Another account's.
    Taken,
    /// Another account's until this time.
    Resting(Timestamp),
}

/// Judges a claim; `live` says whether an endpoint stands on the place now.
pub(super) fn standing(
    claim: &Claim,
    account: &AccountId,
    live: bool,
    now: Timestamp,
    rest: Duration,
) -> Standing {
    let mine = claim.account == *account;
    if live || matches!(claim.holder, ClaimHolder::Address { .. }) {
        return if mine {
            Standing::MineHeld
        } else {
            Standing::Taken
        };
    }
    // Not marked yet: it went offline a moment ago.
    let until = claim.resting_until.unwrap_or_else(|| now.plus(rest));
    match (until <= now, mine) {
        (true, _) => Standing::Free,
        (false, true) => Standing::MineOffline,
        (false, false) => Standing::Resting(until),
    }
}

impl Draft<'_> {
    fn rest(&self) -> Duration {
        self.snapshot.settings().address_rest
    }

    /// The standing of a host and port.
    pub(super) fn port_standing(
        &self,
        account: &AccountId,
        host: &str,
        port: u16,
        claim: &Claim,
    ) -> Standing {
        let live = self.snapshot.public(host, port).is_some();
        standing(claim, account, live, self.now, self.rest())
    }

    /// The standing of a whole host or an IP (`host/NAME`, `ip/IP`); a place without a claim is free.
    pub(super) fn place_standing(&self, account: &AccountId, place: &str) -> Standing {
        self.snapshot
            .place_claim(place)
            .map_or(Standing::Free, |claim| {
                standing(claim, account, false, self.now, self.rest())
            })
    }

    /// Claims whose places answer at the same listener as this host and port, that one included.
    pub(super) fn rivals<'s>(
        &self,
        host: &'s str,
        port: u16,
    ) -> impl Iterator<Item = (&'s str, &'s Claim)>
    where
        Self: 's,
    {
        let snapshot: &'s crate::Snapshot = self.snapshot;
        let settings = snapshot.settings();
        let own = settings.shared_host(host);
        snapshot.port_claims(port).filter(move |(claimed, _)| {
            *claimed == host
                || own
                    .zip(settings.shared_host(claimed))
                    .is_some_and(|(own, other)| own.shares_ips_with(other))
        })
    }

    /// Puts a claim on a host and port, if nobody else did meanwhile.
    pub(super) fn hold_port(
        &mut self,
        account: &AccountId,
        host: &str,
        port: u16,
        holder: ClaimHolder,
    ) -> Result<(), Error> {
        let claim = Claim {
            account: account.clone(),
            holder,
            resting_until: None,
        };
        self.nothing_new(keys::port_claims(port));
        if self.snapshot.settings().tls.port == Some(port) {
            self.nothing_new(keys::tls_claims(""));
        }
        self.put(keys::port_claim(host, port), &claim)
    }

    /// Puts a claim on a key that only one record can have.
    pub(super) fn hold_place(
        &mut self,
        account: &AccountId,
        key: String,
        holder: ClaimHolder,
    ) -> Result<(), Error> {
        let claim = Claim {
            account: account.clone(),
            holder,
            resting_until: None,
        };
        self.nothing_new(key.clone());
        self.put(key, &claim)
    }

    /// The place rests for its account from now on.
    pub(super) fn let_rest(&mut self, key: String, account: &AccountId) -> Result<(), Error> {
        let until = self.now.plus(self.rest());
        self.put(
            key,
            &Claim {
                account: account.clone(),
                holder: ClaimHolder::Nobody,
                resting_until: Some(until),
            },
        )
    }
}

/// An endpoint leaves its public place: what only it held starts to rest. `leaving` are all endpoints
/// that go in the same write.
pub(super) fn vacate(
    draft: &mut Draft<'_>,
    endpoint: &Endpoint,
    leaving: &BTreeSet<&EndpointId>,
) -> Result<(), Error> {
    if endpoint.binding != Binding::Public {
        return Ok(());
    }
    if endpoint.url.scheme() == Scheme::Tls {
        return tls_names::vacate(draft, endpoint, leaving);
    }
    let (host, port) = (endpoint.url.host(), endpoint.url.port());
    let others = draft.snapshot.public(host, port);
    if others.is_some_and(|pool| {
        pool.members
            .iter()
            .any(|member| !leaving.contains(&member.id))
    }) {
        return Ok(());
    }
    let Some(claim) = draft
        .snapshot
        .port_claim(host, port)
        .filter(|claim| claim.account == endpoint.account)
    else {
        return Ok(());
    };
    let holder = match &claim.holder {
        ClaimHolder::Address { .. } | ClaimHolder::Nobody => return Ok(()),
        ClaimHolder::Endpoint { .. } => ClaimHolder::Nobody,
        kept @ (ClaimHolder::Agent { .. } | ClaimHolder::Direct { .. }) => kept.clone(),
    };
    let until = draft.now.plus(draft.rest());
    draft.unchanged(keys::port_claim(host, port));
    draft.nothing_new(keys::at_url(
        endpoint.binding,
        &endpoint.account,
        &endpoint.url,
    ));
    draft.put(
        keys::port_claim(host, port),
        &Claim {
            account: claim.account.clone(),
            holder,
            resting_until: Some(until),
        },
    )
}

/// An account goes: everything it claims rests.
pub(super) fn rest_all_of(draft: &mut Draft<'_>, account: &AccountId) -> Result<(), Error> {
    let snapshot = draft.snapshot;
    for (host, port, claim) in snapshot.all_port_claims() {
        if claim.account == *account {
            draft.let_rest(keys::port_claim(host, port), account)?;
        }
    }
    for (place, claim) in snapshot.all_place_claims() {
        if claim.account == *account {
            draft.let_rest(format!("claim/{place}"), account)?;
        }
    }
    Ok(())
}

/// The refusal for a place of another account.
pub(super) fn refusal(what: &str, standing: Standing) -> Error {
    match standing {
        Standing::Resting(until) => Error::new(
            Code::AddressResting,
            format!(
                "{what} was released recently and rests for its former owner until {until}; choose another"
            ),
        ),
        Standing::Free | Standing::MineOffline | Standing::MineHeld | Standing::Taken => {
            Error::new(
                Code::AddressTaken,
                format!("{what} is taken; choose another port, or leave it out for a random one"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(100);

    fn account(n: u8) -> AccountId {
        AccountId::new(1_700_000_000, [n; 16])
    }

    #[test]
    fn a_place_passes_on_only_after_its_rest() {
        let now = Timestamp::from_unix_millis(1_700_000_000_000);
        let mut claim = Claim {
            account: account(1),
            holder: ClaimHolder::Nobody,
            resting_until: Some(now.plus(REST)),
        };
        let judge =
            |claim: &Claim, who: u8, live, at| standing(claim, &account(who), live, at, REST);
        assert_eq!(judge(&claim, 1, false, now), Standing::MineOffline);
        assert_eq!(
            judge(&claim, 2, false, now),
            Standing::Resting(now.plus(REST))
        );
        assert_eq!(judge(&claim, 2, false, now.plus(REST)), Standing::Free);
        assert_eq!(
            judge(&claim, 2, true, now.plus(REST)),
            Standing::Taken,
            "in use after all"
        );
        claim.resting_until = None;
        assert_eq!(
            judge(&claim, 2, false, now),
            Standing::Resting(now.plus(REST)),
            "offline, not marked yet"
        );
        claim.holder = ClaimHolder::Address {
            addr: portcullis_model::AddrId::new(1_700_000_000, [0; 16]),
        };
        assert_eq!(judge(&claim, 2, false, now), Standing::Taken);
        assert_eq!(judge(&claim, 1, false, now), Standing::MineHeld);
    }
}
