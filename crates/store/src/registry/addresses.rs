//! Addresses: one port of a shared host, or a whole host with an IP of its own.

use portcullis_model::url::{UrlRequest, parse};
use portcullis_model::{
    Account, AccountId, AddrId, AddressKind, Binding, Code, Error, ReservedAddr,
};

use super::claims::{Standing, refusal};
use super::draft::Draft;
use super::{Registry, Written, endpoints, places, tls_names};
use crate::records::ClaimHolder;
use crate::requests::{AddressUpdate, NewAddress};
use crate::settings::{IpPool, PoolIp};
use crate::{keys, validate};

impl Registry {
    /// Reserves an address.
    ///
    /// # Errors
    /// `PTC_ADDRESS_…`, `PTC_TCP_NOT_ALLOWED`, lengths.
    pub async fn reserve_address(
        &self,
        account: &AccountId,
        new: NewAddress,
    ) -> Result<Written<ReservedAddr>, Error> {
        validate::texts(&new.description, &new.metadata)?;
        self.write(account.as_str(), |draft| reserve(draft, account, &new))
            .await
    }

    /// Changes an address's texts.
    ///
    /// # Errors
    /// `PTC_API_NOT_FOUND`, `PTC_API_EMPTY_UPDATE`, lengths.
    pub async fn update_address(
        &self,
        account: &AccountId,
        id: &AddrId,
        update: AddressUpdate,
    ) -> Result<Written<ReservedAddr>, Error> {
        validate::not_empty(&update)?;
        self.write(account.as_str(), |draft| {
            change(draft, account, id, &update)
        })
        .await
    }

    /// Releases an address, which then rests: its last owner may have it back at once, others later.
    ///
    /// # Errors
    /// `PTC_API_NOT_FOUND`, `PTC_ADDRESS_IN_USE`.
    pub async fn release_address(
        &self,
        account: &AccountId,
        id: &AddrId,
    ) -> Result<Written<()>, Error> {
        self.write(account.as_str(), |draft| release(draft, account, id))
            .await
    }
}

fn reserve(draft: &mut Draft<'_>, id: &AccountId, new: &NewAddress) -> Result<ReservedAddr, Error> {
    let account = draft.account(id)?;
    endpoints::check_tcp(draft, account)?;
    check_quota(draft, account)?;
    match new.kind.unwrap_or(AddressKind::Port) {
        AddressKind::Port => reserve_port(draft, account, new),
        AddressKind::Host => reserve_host(draft, account, new),
    }
}

fn check_quota(draft: &mut Draft<'_>, account: &Account) -> Result<(), Error> {
    let Some(most) = draft.snapshot.settings().plan(account).addresses_max else {
        return Ok(());
    };
    let count = draft.snapshot.addresses(&account.id).count();
    if count >= usize::try_from(most).unwrap_or(usize::MAX) {
        let message = format!(
            "the account has {count} addresses, as many as its plan `{}` allows",
            account.plan
        );
        return Err(Error::new(Code::AddressLimit, message));
    }
    draft.nothing_new(keys::owned("addr", &account.id));
    Ok(())
}

fn record(
    draft: &Draft<'_>,
    account: &Account,
    new: &NewAddress,
    kind: AddressKind,
) -> Result<ReservedAddr, Error> {
    Ok(ReservedAddr {
        id: draft.id(AddrId::new)?,
        account: account.id.clone(),
        kind,
        host: String::new(),
        port: None,
        region: String::new(),
        ips: Vec::new(),
        description: new.description.clone(),
        metadata: new.metadata.clone(),
        created_at: draft.now,
    })
}

fn reserve_port(
    draft: &mut Draft<'_>,
    account: &Account,
    new: &NewAddress,
) -> Result<ReservedAddr, Error> {
    if new.port == Some(0) {
        return Err(Error::new(
            Code::UrlPortRange,
            "port 0 is not within 1 to 65535; leave it out for a random one",
        ));
    }
    let region = new.region.as_deref().filter(|region| !region.is_empty());
    let hosts = match new.host.as_deref().filter(|host| !host.is_empty()) {
        None => places::hosts(draft, account, region)?,
        Some(name) => {
            let host = places::host(draft, account, name)?;
            if let Some(region) = region.filter(|region| *region != host.region) {
                let message = format!(
                    "{} is in region {:?}, not {region:?}; leave the region out",
                    host.host, host.region
                );
                return Err(Error::new(Code::AddressRegion, message));
            }
            vec![host]
        }
    };
    let (host, port) = match new.port {
        None => places::draw(draft, account, &hosts)?,
        Some(port) => {
            let checked = hosts
                .iter()
                .map(|host| check_chosen(draft, account, host, port).map(|()| *host));
            let mut first_refusal = None;
            let found = checked
                .filter_map(|host| {
                    host.map_err(|error| first_refusal.get_or_insert(error).code)
                        .ok()
                })
                .next();
            match (found, first_refusal) {
                (Some(host), _) => (host, port),
                (None, Some(error)) => return Err(error),
                (None, None) => return Err(Error::of(Code::AddressHostUnknown)),
            }
        }
    };
    let mut addr = record(draft, account, new, AddressKind::Port)?;
    (addr.host, addr.port, addr.region) = (host.host.clone(), Some(port), host.region.clone());
    draft.hold_port(
        &account.id,
        &host.host,
        port,
        ClaimHolder::Address {
            addr: addr.id.clone(),
        },
    )?;
    // The draw and the check looked at what stands on the place.
    draft.nothing_new(format!("{}{port}/", keys::at_public_host(&host.host)));
    draft.put(keys::address(&account.id, &addr.id), &addr)?;
    Ok(addr)
}

/// A random address that the account's agent holds may be reserved, to keep it; one that is reserved
/// already may not.
fn check_chosen(
    draft: &Draft<'_>,
    account: &Account,
    host: &crate::SharedHost,
    port: u16,
) -> Result<(), Error> {
    places::check(draft, account, host, port)?;
    let claim = draft.snapshot.port_claim(&host.host, port);
    match claim.map(|claim| &claim.holder) {
        Some(ClaimHolder::Address { addr }) => Err(Error::new(
            Code::AddressTaken,
            format!(
                "{}:{port} is reserved for this account already, as {addr}",
                host.host
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

fn reserve_host(
    draft: &mut Draft<'_>,
    account: &Account,
    new: &NewAddress,
) -> Result<ReservedAddr, Error> {
    if new.port.is_some() {
        return Err(Error::new(
            Code::AddressKind,
            "an address of kind host has every port; leave `port` out, or use kind port",
        ));
    }
    let chosen = new
        .host
        .as_deref()
        .filter(|host| !host.is_empty())
        .map(|host| chosen_host(draft, host))
        .transpose()?;
    let (pool, ip, host) = free_ip(draft, account, new.region.as_deref(), chosen)?;
    tls_names::check_free(draft, &account.id, &host)?;
    let mut addr = record(draft, account, new, AddressKind::Host)?;
    (addr.host, addr.ips, addr.region) = (host, vec![ip.public], pool.region.clone());
    let holder = ClaimHolder::Address {
        addr: addr.id.clone(),
    };
    draft.hold_place(&account.id, keys::host_claim(&addr.host), holder.clone())?;
    draft.hold_place(&account.id, keys::ip_claim(ip.public), holder)?;
    draft.put(keys::address(&account.id, &addr.id), &addr)?;
    Ok(addr)
}

/// A name of the user's own, which must be a public host name and no shared host.
fn chosen_host(draft: &Draft<'_>, host: &str) -> Result<String, Error> {
    let wanted = parse(&format!("tcp://{host}:1"), Some(Binding::Public))?.1;
    let UrlRequest::Exact(url) = wanted else {
        return Err(Error::of(Code::UrlHostInvalid));
    };
    if draft.snapshot.settings().shared_host(url.host()).is_some() {
        let message = format!(
            "`{}` is a shared host; use kind port for a port of it, or another name",
            url.host()
        );
        return Err(Error::new(Code::AddressKind, message));
    }
    Ok(url.host().to_owned())
}

/// The first IP, in the order of the configuration, that the account may have; one that rests for it
/// comes before others.
fn free_ip<'a>(
    draft: &Draft<'a>,
    account: &Account,
    region: Option<&str>,
    chosen: Option<String>,
) -> Result<(&'a IpPool, PoolIp, String), Error> {
    let snapshot: &'a crate::Snapshot = draft.snapshot;
    let wanted = region.filter(|region| !region.is_empty());
    let pools: Vec<&IpPool> = snapshot
        .settings()
        .ip_pools
        .iter()
        .filter(|pool| pool.admits(account))
        .collect();
    if pools.is_empty() {
        return Err(Error::new(
            Code::AddressNoPool,
            "no pool of dedicated IPs is configured for this account; add `ip_pools:` to the server's configuration, or use kind port",
        ));
    }
    if let Some(region) = wanted.filter(|region| !pools.iter().any(|pool| pool.region == **region))
    {
        let regions: Vec<&str> = pools.iter().map(|pool| pool.region.as_str()).collect();
        let message = format!(
            "no pool of region {region:?} exists here; the regions are {}",
            regions.join(", ")
        );
        return Err(Error::new(Code::AddressRegion, message));
    }
    if let Some(host) = &chosen {
        check_place(draft, account, &format!("host/{host}"), host)?;
    }
    let mut refused = None;
    for own in [true, false] {
        for pool in pools
            .iter()
            .filter(|pool| wanted.is_none_or(|region| pool.region == region))
        {
            for (index, ip) in pool.ips.iter().enumerate() {
                let standing = draft.place_standing(&account.id, &format!("ip/{}", ip.public));
                if standing
                    != if own {
                        Standing::MineOffline
                    } else {
                        Standing::Free
                    }
                {
                    continue;
                }
                let Some(host) = chosen.clone().or_else(|| pool.host_of(index)) else {
                    continue;
                };
                match check_place(draft, account, &format!("host/{host}"), &host) {
                    Ok(()) => return Ok((pool, *ip, host)),
                    Err(error) => refused = Some(error),
                }
            }
        }
    }
    Err(refused.unwrap_or_else(|| {
        let names: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
        Error::new(
            Code::AddressExhausted,
            format!("no free IP is left in {}", names.join(", ")),
        )
    }))
}

fn check_place(
    draft: &Draft<'_>,
    account: &Account,
    place: &str,
    shown: &str,
) -> Result<(), Error> {
    match draft.place_standing(&account.id, place) {
        Standing::Free | Standing::MineOffline => Ok(()),
        Standing::MineHeld => Err(Error::new(
            Code::AddressTaken,
            format!("{shown} is reserved for this account already"),
        )),
        other => Err(refusal(shown, other)),
    }
}

fn find<'a>(
    draft: &Draft<'a>,
    account: &AccountId,
    id: &AddrId,
) -> Result<&'a ReservedAddr, Error> {
    let addr = draft.snapshot.address(account, id);
    addr.map(|addr| &**addr).ok_or_else(|| {
        Error::new(
            Code::ApiNotFound,
            format!("there is no reserved address {id}"),
        )
    })
}

fn change(
    draft: &mut Draft<'_>,
    account: &AccountId,
    id: &AddrId,
    update: &AddressUpdate,
) -> Result<ReservedAddr, Error> {
    let mut addr = find(draft, account, id)?.clone();
    let into = (&mut addr.description, &mut addr.metadata);
    validate::set_texts(update.description.as_ref(), update.metadata.as_ref(), into)?;
    draft.unchanged(keys::address(account, id));
    draft.put(keys::address(account, id), &addr)?;
    Ok(addr)
}

fn release(draft: &mut Draft<'_>, account: &AccountId, id: &AddrId) -> Result<(), Error> {
    let addr = find(draft, account, id)?;
    let snapshot = draft.snapshot;
    let standing_on = snapshot.endpoints(account).find(|endpoint| {
        endpoint.binding == Binding::Public && addr.covers(endpoint.url.host(), endpoint.url.port())
    });
    if let Some(endpoint) = standing_on {
        return Err(Error::new(
            Code::AddressInUse,
            format!(
                "endpoint {} stands on {}; delete it or stop its agent first",
                endpoint.id,
                addr.addr()
            ),
        ));
    }
    draft.unchanged(keys::address(account, id));
    draft.delete(keys::address(account, id));
    match addr.port {
        Some(port) => {
            draft.nothing_new(format!("{}{port}/", keys::at_public_host(&addr.host)));
            draft.let_rest(keys::port_claim(&addr.host, port), account)
        }
        None => {
            draft.nothing_new(keys::at_public_host(&addr.host));
            addr.ips
                .iter()
                .try_for_each(|ip| draft.let_rest(keys::ip_claim(*ip), account))?;
            draft.let_rest(keys::host_claim(&addr.host), account)
        }
    }
}
