//! Names of public TLS endpoints: whose a name is while it is used and while it rests.
//!
//! A name belongs to the account that first has an endpoint there, under the rules of ports. Names that one
//! client could ask for belong together: nobody gets a name below another's wildcard, or a wildcard above
//! another's name, so that no name changes hands when an endpoint comes or goes.
//!
//! Must never: give two accounts names that overlap.

use std::collections::BTreeSet;

use portcullis_model::acl::BindRequest;
use portcullis_model::url::Scheme;
use portcullis_model::{
    Account, AccountId, Binding, Code, Endpoint, EndpointId, EndpointUrl, Error,
};

use super::claims::{Standing, standing};
use super::draft::Draft;
use super::endpoints::{Asker, Place, check_acl, holder_for};
use crate::records::{Claim, ClaimHolder};
use crate::settings::SharedHost;
use crate::snapshot::Snapshot;
use crate::{defaults, ids, keys};

/// Characters of random names: none that is easily taken for another.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

impl Draft<'_> {
    fn tls_standing(&self, account: &AccountId, name: &str, claim: &Claim) -> Standing {
        let live = self.snapshot.tls_names(name).is_some();
        let rest = self.snapshot.settings().address_rest;
        standing(claim, account, live, self.now, rest)
    }
}

/// The port of TLS endpoints.
fn port(draft: &Draft<'_>) -> Result<u16, Error> {
    draft.snapshot.settings().tls.port.ok_or_else(|| {
        Error::new(
            Code::UrlScheme,
            "this server has no public TLS endpoints: its `tls.port` is off; use `tcp://`, which passes TLS through untouched",
        )
    })
}

/// A name that was asked for.
pub(super) fn exact(
    draft: &mut Draft<'_>,
    account: &Account,
    id: &EndpointId,
    (name, wanted): (&str, Option<u16>),
    asker: Asker<'_>,
) -> Result<Place, Error> {
    let at = port(draft)?;
    if let Some(wanted) = wanted.filter(|wanted| *wanted != at) {
        let message = format!(
            "`tls://{name}:{wanted}`: this server's port for TLS endpoints is {at}; write `tls://{name}`"
        );
        return Err(Error::new(Code::UrlPortScheme, message));
    }
    let url = EndpointUrl::with_scheme(Scheme::Tls, name, at);
    check_acl(asker, BindRequest::Url(Binding::Public, &url))?;
    let alone = draft.snapshot.accounts().nth(1).is_none();
    let settings = draft.snapshot.settings();
    let region = settings.tls_region(account, alone, name)?.to_owned();
    check_host_address(draft, account, name)?;
    check_port(draft, account, at)?;
    check_free(draft, &account.id, name)?;
    let own = draft.snapshot.tls_claim(name);
    let own = own.filter(|claim| claim.account == account.id);
    if own.is_none() {
        check_count(draft, account)?;
    }
    let holder = match own.map(|claim| &claim.holder) {
        // It stays the random name of whose it is.
        Some(kept @ (ClaimHolder::Agent { .. } | ClaimHolder::Direct { .. })) => kept.clone(),
        _ => match asker {
            Asker::Direct { name, .. } if !name.is_empty() => ClaimHolder::Direct {
                name: name.to_owned(),
            },
            _ => ClaimHolder::Endpoint {
                endpoint: id.clone(),
            },
        },
    };
    hold(draft, account, url, region, holder)
}

/// A random name: the one kept for the asker if there is one, else a new one.
pub(super) fn random(
    draft: &mut Draft<'_>,
    account: &Account,
    id: &EndpointId,
    asker: Asker<'_>,
) -> Result<Place, Error> {
    let at = port(draft)?;
    check_acl(asker, BindRequest::Random(Scheme::Tls))?;
    check_port(draft, account, at)?;
    let holder = holder_for(asker, id);
    let (name, region) = match kept(draft, account, &holder) {
        Some(kept) => kept,
        None => {
            check_count(draft, account)?;
            draw(draft, account)?
        }
    };
    check_free(draft, &account.id, &name)?;
    let url = EndpointUrl::with_scheme(Scheme::Tls, &name, at);
    hold(draft, account, url, region, holder)
}

fn hold(
    draft: &mut Draft<'_>,
    account: &Account,
    url: EndpointUrl,
    region: String,
    holder: ClaimHolder,
) -> Result<Place, Error> {
    draft.nothing_new(keys::port_claims(url.port()));
    draft.hold_place(&account.id, keys::tls_claim(url.host()), holder)?;
    Ok(Place {
        url,
        binding: Binding::Public,
        region,
        addr: None,
    })
}

fn kept(draft: &Draft<'_>, account: &Account, holder: &ClaimHolder) -> Option<(String, String)> {
    let snapshot = draft.snapshot;
    let alone = snapshot.accounts().nth(1).is_none();
    let mine = snapshot
        .tls_claims("")
        .filter(|(_, claim)| claim.account == account.id && claim.holder == *holder);
    mine.map(|(reversed, claim)| (keys::reversed(reversed), claim))
        .filter(|(name, claim)| {
            draft.tls_standing(&account.id, name, claim) == Standing::MineOffline
        })
        .find_map(|(name, _)| {
            let region = snapshot.settings().tls_region(account, alone, &name).ok()?;
            Some((name, region.to_owned()))
        })
}

fn draw(draft: &Draft<'_>, account: &Account) -> Result<(String, String), Error> {
    let (base, region) = draft.snapshot.settings().tls_random_base(account)?;
    for _ in 0..defaults::DRAW_ATTEMPTS {
        let mut label = String::with_capacity(defaults::TLS_RANDOM_CHARS);
        while label.len() < defaults::TLS_RANDOM_CHARS {
            let at = usize::try_from(ids::below(LETTERS.len() as u32)?).unwrap_or(0);
            label.push(char::from(LETTERS[at]));
        }
        let name = format!("{label}.{base}");
        if draft.snapshot.tls_claim(&name).is_none() {
            return Ok((name, region.to_owned()));
        }
    }
    Err(Error::of(Code::AddressExhausted))
}

/// Names that an account holds or that rest for it are bounded, so that nobody takes all by coming and going.
fn check_count(draft: &Draft<'_>, account: &Account) -> Result<(), Error> {
    let all = draft.snapshot.tls_claims("");
    let count = all.filter(|(_, claim)| claim.account == account.id).count();
    if count < defaults::TLS_NAMES_MAX {
        return Ok(());
    }
    let message = format!(
        "the account holds {count} names for TLS, those that rest for it included, and cannot have more"
    );
    Err(Error::new(Code::AddressLimit, message))
}

/// No name of another account overlaps with it, and none will until the write happens.
pub(super) fn check_free(
    draft: &mut Draft<'_>,
    account: &AccountId,
    name: &str,
) -> Result<(), Error> {
    let snapshot: &Snapshot = draft.snapshot;
    let url = EndpointUrl::with_scheme(Scheme::Tls, name, 1);
    let mut foreign = None;
    let mut see = |draft: &Draft<'_>, name: &str, claim: &Claim| {
        let standing = draft.tls_standing(account, name, claim);
        if matches!(standing, Standing::Taken | Standing::Resting(_)) {
            foreign.get_or_insert(standing);
        }
    };
    for wider in url.wildcards() {
        if let Some(claim) = snapshot.tls_claim(wider.host()) {
            see(draft, wider.host(), claim);
        }
        draft.nothing_new(keys::tls_claim(wider.host()));
    }
    match name.strip_prefix("*.") {
        None => {
            if let Some(claim) = snapshot.tls_claim(name) {
                see(draft, name, claim);
            }
            draft.nothing_new(keys::tls_claim(name));
        }
        Some(parent) => {
            for (below, claim) in snapshot.tls_claims(parent) {
                see(draft, &keys::reversed(below), claim);
            }
            draft.nothing_new(keys::tls_claims(parent));
        }
    }
    match foreign {
        None => Ok(()),
        Some(Standing::Resting(until)) => Err(Error::new(
            Code::AddressResting,
            format!(
                "`{name}`, or a name that overlaps with it, was released recently and rests for its former owner until {until}; choose another"
            ),
        )),
        Some(_) => Err(Error::new(
            Code::AddressForeign,
            format!(
                "`{name}` is not available to this account: it, or a name that overlaps with it, is taken; choose another"
            ),
        )),
    }
}

/// A host that has an IP of its own is not reached at the shared port.
fn check_host_address(draft: &mut Draft<'_>, account: &Account, name: &str) -> Result<(), Error> {
    draft.nothing_new(keys::host_claim(name));
    match draft.place_standing(&account.id, &format!("host/{name}")) {
        Standing::Free | Standing::MineOffline => Ok(()),
        Standing::MineHeld => Err(Error::new(
            Code::AddressKind,
            format!(
                "`{name}` is an address with an IP of its own, every port of which is yours; use `tcp://{name}:443`, which passes TLS through untouched"
            ),
        )),
        Standing::Taken | Standing::Resting(_) => Err(Error::new(
            Code::AddressForeign,
            format!("`{name}` is not available to this account; choose another"),
        )),
    }
}

/// Nothing else stands on the port where TLS would be accepted.
fn check_port(draft: &Draft<'_>, account: &Account, port: u16) -> Result<(), Error> {
    let settings = draft.snapshot.settings();
    for (host, claim) in draft.snapshot.port_claims(port) {
        let shared = settings.shared_host(host);
        if !shared.is_some_and(|shared| settings.tls.shares_ips_with(shared)) {
            continue;
        }
        match draft.port_standing(&account.id, host, port, claim) {
            Standing::Free | Standing::MineOffline => {}
            Standing::MineHeld | Standing::Taken | Standing::Resting(_) => {
                let message = format!(
                    "TLS endpoints need port {port}, and `tcp://{host}:{port}` has it; release that address, or let the operator set another `tls.port`"
                );
                return Err(Error::new(Code::AddressTaken, message));
            }
        }
    }
    Ok(())
}

/// Whether a port of a shared host is for TLS endpoints: then no TCP endpoint can have it.
pub(super) fn takes_port(draft: &Draft<'_>, host: &SharedHost, port: u16) -> bool {
    let tls = &draft.snapshot.settings().tls;
    tls.port == Some(port)
        && tls.shares_ips_with(host)
        && (tls.reserved || draft.snapshot.tls_claims("").next().is_some())
}

/// An endpoint leaves its name: what only it held starts to rest.
pub(super) fn vacate(
    draft: &mut Draft<'_>,
    endpoint: &Endpoint,
    leaving: &BTreeSet<&EndpointId>,
) -> Result<(), Error> {
    let name = endpoint.url.host();
    let others = draft.snapshot.tls_names(name);
    if others.is_some_and(|pool| {
        pool.members
            .iter()
            .any(|member| !leaving.contains(&member.id))
    }) {
        return Ok(());
    }
    let claim = draft.snapshot.tls_claim(name);
    let Some(claim) = claim.filter(|claim| claim.account == endpoint.account) else {
        return Ok(());
    };
    let holder = match &claim.holder {
        ClaimHolder::Address { .. } | ClaimHolder::Nobody => return Ok(()),
        ClaimHolder::Endpoint { .. } => ClaimHolder::Nobody,
        kept @ (ClaimHolder::Agent { .. } | ClaimHolder::Direct { .. }) => kept.clone(),
    };
    let until = draft.now.plus(draft.snapshot.settings().address_rest);
    draft.unchanged(keys::tls_claim(name));
    draft.nothing_new(keys::at_url(
        endpoint.binding,
        &endpoint.account,
        &endpoint.url,
    ));
    draft.put(
        keys::tls_claim(name),
        &Claim {
            account: claim.account.clone(),
            holder,
            resting_until: Some(until),
        },
    )
}

/// Marks names that went offline without a word, and frees what has rested; at most so many. How many it were.
pub(super) fn sweep(draft: &mut Draft<'_>, most: usize) -> Result<usize, Error> {
    let snapshot: &Snapshot = draft.snapshot;
    let mut changed = 0;
    for (reversed, claim) in snapshot.tls_claims("") {
        if changed == most {
            break;
        }
        let rests = claim.resting_until.is_some_and(|until| until > draft.now);
        let name = keys::reversed(reversed);
        if rests || snapshot.tls_names(&name).is_some() {
            continue;
        }
        let key = keys::tls_claim(&name);
        draft.unchanged(key.clone());
        draft.nothing_new(keys::at_tls_name(&name));
        match claim.resting_until {
            Some(_) => draft.delete(key),
            None => super::sweep::mark(draft, key, claim)?,
        }
        changed += 1;
    }
    Ok(changed)
}
