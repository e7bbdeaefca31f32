//! Choosing a public host and port: at random, or as the user wishes.

use portcullis_model::{Account, Code, Error};

use super::claims::{Standing, refusal};
use super::draft::Draft;
use super::tls_names;
use crate::records::{Claim, ClaimHolder};
use crate::settings::SharedHost;
use crate::{defaults, ids};

/// The shared hosts that an account may use, of a region or of all.
pub(super) fn hosts<'a>(
    draft: &Draft<'a>,
    account: &Account,
    region: Option<&str>,
) -> Result<Vec<&'a SharedHost>, Error> {
    let snapshot: &'a crate::Snapshot = draft.snapshot;
    let mine: Vec<&SharedHost> = snapshot
        .settings()
        .hosts
        .iter()
        .filter(|host| host.admits(account))
        .collect();
    if mine.is_empty() {
        return Err(Error::new(
            Code::AddressHostUnknown,
            "the server has no shared host for this account; add one under `hosts:`",
        ));
    }
    let Some(region) = region else {
        return Ok(mine);
    };
    let there: Vec<&SharedHost> = mine
        .iter()
        .copied()
        .filter(|host| host.region == region)
        .collect();
    if there.is_empty() {
        let mut regions: Vec<&str> = mine.iter().map(|host| host.region.as_str()).collect();
        regions.sort_unstable();
        regions.dedup();
        let message = format!(
            "no host of region {region:?} exists here; the regions are {}",
            regions.join(", ")
        );
        return Err(Error::new(Code::AddressRegion, message));
    }
    Ok(there)
}

/// A shared host by its name.
pub(super) fn host<'a>(
    draft: &Draft<'a>,
    account: &Account,
    name: &str,
) -> Result<&'a SharedHost, Error> {
    let all = hosts(draft, account, None)?;
    all.iter()
        .copied()
        .find(|host| host.host.eq_ignore_ascii_case(name))
        .ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|host| host.host.as_str()).take(20).collect();
            Error::new(
                Code::AddressHostUnknown,
                format!(
                    "`{name}` is not one of this server's shared hosts, which are {}",
                    names.join(", ")
                ),
            )
        })
}

/// Draws a port on one of the hosts; every free one is as likely as any other. An account for which a
/// good part of the range rests already gets a place of those: by coming and going it must not take the
/// range from the others.
pub(super) fn draw<'a>(
    draft: &Draft<'_>,
    account: &Account,
    hosts: &[&'a SharedHost],
) -> Result<(&'a SharedHost, u16), Error> {
    let total: u32 = hosts.iter().map(|host| host.ports.count()).sum();
    let share = (total / defaults::RESTING_SHARE).max(defaults::RESTING_MIN);
    let resting = resting(draft, account, hosts);
    if resting.len() >= usize::try_from(share).unwrap_or(usize::MAX)
        && let Some(longest) = resting.first()
    {
        return Ok(*longest);
    }
    for _ in 0..defaults::DRAW_ATTEMPTS {
        if let Some((host, port)) = nth(hosts, ids::below(total)?)
            && unclaimed(draft, account, host, port, false)
        {
            return Ok((host, port));
        }
    }
    // Crowded: look at all of them; what rests for this very account will do if nothing else is left.
    for own_rest in [false, true] {
        let free: Vec<u32> = (0..total)
            .filter(|place| {
                nth(hosts, *place)
                    .is_some_and(|(host, port)| unclaimed(draft, account, host, port, own_rest))
            })
            .collect();
        let count = u32::try_from(free.len()).unwrap_or(u32::MAX);
        if count > 0
            && let Some(place) = free.get(usize::try_from(ids::below(count)?).unwrap_or(0))
            && let Some(found) = nth(hosts, *place)
        {
            return Ok(found);
        }
    }
    let ranges: Vec<String> = hosts
        .iter()
        .map(|host| format!("{} on {}", host.ports, host.host))
        .collect();
    Err(Error::new(
        Code::AddressExhausted,
        format!("no free port is left in {}", ranges.join(", ")),
    ))
}

/// The places on the hosts that rest for the account, those that no agent is expected back at first,
/// and then those that have rested longest. An account that is alone here keeps its agents' places.
fn resting<'a>(
    draft: &Draft<'_>,
    account: &Account,
    hosts: &[&'a SharedHost],
) -> Vec<(&'a SharedHost, u16)> {
    let alone = draft.snapshot.accounts().nth(1).is_none();
    let of_agent = |claim: &Claim| matches!(claim.holder, ClaimHolder::Agent { .. });
    let claims = draft.snapshot.all_port_claims();
    let mut resting: Vec<_> = claims
        .filter(|(_, _, claim)| claim.account == account.id && !(alone && of_agent(claim)))
        .filter_map(|(name, port, claim)| {
            let host = hosts.iter().copied().find(|host| host.host == name)?;
            let rests = host.ports.contains(port)
                && !unclaimed(draft, account, host, port, false)
                && unclaimed(draft, account, host, port, true);
            let until = claim.resting_until;
            rests.then_some(((of_agent(claim), until.is_none(), until), (host, port)))
        })
        .collect();
    resting.sort_by_key(|(rank, _)| *rank);
    resting.into_iter().map(|(_, place)| place).collect()
}

fn nth<'a>(hosts: &[&'a SharedHost], mut place: u32) -> Option<(&'a SharedHost, u16)> {
    for host in hosts {
        let count = host.ports.count();
        if place < count {
            return host.ports.nth(place).map(|port| (*host, port));
        }
        place -= count;
    }
    None
}

fn unclaimed(
    draft: &Draft<'_>,
    account: &Account,
    host: &SharedHost,
    port: u16,
    own_rest: bool,
) -> bool {
    if tls_names::takes_port(draft, host, port) {
        return false;
    }
    draft.rivals(&host.host, port).all(|(claimed, claim)| {
        match draft.port_standing(&account.id, claimed, port, claim) {
            Standing::Free => true,
            Standing::MineOffline => own_rest,
            Standing::MineHeld | Standing::Taken | Standing::Resting(_) => false,
        }
    })
}

/// Checks that an account may have a chosen port: in a range, and nobody else's. What the account
/// itself holds there is no hindrance, unless it is on another host that shares the IPs.
pub(super) fn check(
    draft: &Draft<'_>,
    account: &Account,
    host: &SharedHost,
    port: u16,
) -> Result<(), Error> {
    if !host.choose.contains(port) && !host.ports.contains(port) {
        return Err(Error::new(
            Code::AddressPortNotPermitted,
            format!(
                "port {port} may not be chosen on {}; choose one of {}",
                host.host, host.choose
            ),
        ));
    }
    if tls_names::takes_port(draft, host, port) {
        return Err(Error::new(
            Code::AddressPortNotPermitted,
            format!(
                "port {port} of {0} is for TLS endpoints, which share it by name; use `tls://NAME`, such as `tls://app.{0}`, or choose another port",
                host.host
            ),
        ));
    }
    for (claimed, claim) in draft.rivals(&host.host, port) {
        let shown = if claimed == host.host {
            format!("{claimed}:{port}")
        } else {
            format!(
                "port {port} of {claimed}, which answers on the same IPs as {},",
                host.host
            )
        };
        match draft.port_standing(&account.id, claimed, port, claim) {
            Standing::Free | Standing::MineOffline => {}
            Standing::MineHeld if claimed == host.host => {}
            other => return Err(refusal(&shown, other)),
        }
    }
    Ok(())
}
