//! What every kind of endpoint shares: where it may stand, with whom it may share a URL, how many
//! there may be, and what its coming and going writes.

use std::collections::BTreeSet;
use std::sync::Arc;

use portcullis_model::account::TcpAccess;
use portcullis_model::acl::{Acl, BindRequest};
use portcullis_model::url::{Scheme, UrlRequest, parse};
use portcullis_model::{
    Account, AccountId, AddrId, AddressKind, AgentId, Binding, Code, Credential, Endpoint,
    EndpointId, EndpointType, EndpointUrl, Error,
};

use super::claims::{self, Standing};
use super::draft::Draft;
use super::{certificates, ip_policies, places, secret_uses, tls_names};
use crate::compile::compile;
use crate::keys;
use crate::records::{Claim, ClaimHolder};
use crate::snapshot::EndpointEntry;

/// Region of endpoints that stand on no host of a region.
const GLOBAL: &str = "global";

/// Who asks for a place, which decides what is kept for it.
#[derive(Clone, Copy)]
pub(super) enum Asker<'a> {
    /// The API.
    Cloud,
    /// An agent, by its credential's rules.
    Agent {
        agent: &'a AgentId,
        credential: &'a Credential,
        name: &'a str,
        upstream: &'a str,
        ephemeral: bool,
    },
    /// The server's own configuration, which needs no reservation.
    Direct { name: &'a str, upstream: &'a str },
}

/// Where an endpoint stands.
pub(super) struct Place {
    pub(super) url: EndpointUrl,
    pub(super) binding: Binding,
    pub(super) region: String,
    pub(super) addr: Option<AddrId>,
}

/// Compiles an endpoint's policy as a check, and sees that what it refers to exists in the account, and
/// still does when the write happens.
pub(super) fn check_policy(
    draft: &mut Draft<'_>,
    account: &Account,
    text: &str,
    kind: EndpointType,
) -> Result<(), Error> {
    let Some(policy) = compile(text, kind)? else {
        return Ok(());
    };
    secret_uses::check(draft, &account.id, Some(&policy))?;
    let uses = policy.uses();
    let mut absent = ip_policies::guard(draft, &account.id, &uses.ip_policies);
    absent.extend(certificates::guard(draft, &account.id, &uses));
    if absent.is_empty() {
        return Ok(());
    }
    // Each ends in its id.
    let placed = absent.iter().map(|what| {
        let id = what.rsplit(' ').next().unwrap_or_default();
        match policy.place_of(&|uses| uses.has_id(id)) {
            Some(place) => format!("{place}: {what}"),
            None => what.clone(),
        }
    });
    let placed: Vec<String> = placed.collect();
    let message = format!(
        "the policy names what does not exist in this account: {}",
        placed.join(", ")
    );
    Err(Error::new(Code::PolicyReference, message))
}

/// Finds the place that a URL means for an account, and claims it where nothing is reserved.
pub(super) fn place(
    draft: &mut Draft<'_>,
    account: &Account,
    id: &EndpointId,
    wish: (&str, Option<Binding>),
    asker: Asker<'_>,
) -> Result<Place, Error> {
    let (binding, request) = parse(wish.0, wish.1)?;
    match (binding, request) {
        (Binding::Kubernetes, _) => Err(Error::of(Code::NoOperator)),
        (Binding::Internal, UrlRequest::Exact(url)) => {
            check_acl(asker, BindRequest::Url(binding, &url))?;
            Ok(Place {
                url,
                binding,
                region: GLOBAL.to_owned(),
                addr: None,
            })
        }
        (Binding::Internal, _) => Err(Error::of(Code::UrlInternalRandom)),
        (Binding::Public, UrlRequest::RandomTls) => tls_names::random(draft, account, id, asker),
        (Binding::Public, UrlRequest::TlsName(name)) => {
            tls_names::exact(draft, account, id, (&name, None), asker)
        }
        (Binding::Public, UrlRequest::Exact(url)) if url.scheme() == Scheme::Tls => {
            tls_names::exact(draft, account, id, (url.host(), Some(url.port())), asker)
        }
        (Binding::Public, UrlRequest::Random) => {
            check_acl(asker, BindRequest::Random(Scheme::Tcp))?;
            random(draft, account, id, asker)
        }
        (Binding::Public, UrlRequest::Host(host)) => {
            let url = infer(draft, account, &host, asker)?;
            exact(draft, account, url, asker)
        }
        (Binding::Public, UrlRequest::Exact(url)) => exact(draft, account, url, asker),
    }
}

pub(super) fn check_acl(asker: Asker<'_>, request: BindRequest<'_>) -> Result<(), Error> {
    match asker {
        Asker::Agent { credential, .. } => Acl::parse(&credential.acl)?.check(request),
        Asker::Cloud | Asker::Direct { .. } => Ok(()),
    }
}

/// A random place: the one kept for the asker if there is one, else a new one.
fn random(
    draft: &mut Draft<'_>,
    account: &Account,
    id: &EndpointId,
    asker: Asker<'_>,
) -> Result<Place, Error> {
    let holder = holder_for(asker, id);
    let (host, port) = match kept(draft, account, &holder) {
        Some(kept) => kept,
        None => {
            let here = draft.snapshot.settings().region.clone();
            let hosts = places::hosts(draft, account, Some(&here))
                .or_else(|_| places::hosts(draft, account, None))?;
            places::draw(draft, account, &hosts)?
        }
    };
    draft.hold_port(&account.id, &host.host, port, holder)?;
    let url = EndpointUrl::new(&host.host, port);
    Ok(Place {
        url,
        binding: Binding::Public,
        region: host.region.clone(),
        addr: None,
    })
}

/// Whose a random place is kept for.
pub(super) fn holder_for(asker: Asker<'_>, id: &EndpointId) -> ClaimHolder {
    match asker {
        Asker::Agent {
            agent,
            name,
            ephemeral: false,
            ..
        } => ClaimHolder::Agent {
            agent: agent.clone(),
            name: name.to_owned(),
        },
        Asker::Direct { name, .. } if !name.is_empty() => ClaimHolder::Direct {
            name: name.to_owned(),
        },
        Asker::Agent { .. } | Asker::Cloud | Asker::Direct { .. } => ClaimHolder::Endpoint {
            endpoint: id.clone(),
        },
    }
}

fn kept<'a>(
    draft: &Draft<'a>,
    account: &Account,
    holder: &ClaimHolder,
) -> Option<(&'a crate::SharedHost, u16)> {
    let snapshot: &'a crate::Snapshot = draft.snapshot;
    let same = |claim: &Claim| claim.account == account.id && claim.holder == *holder;
    snapshot
        .all_port_claims()
        .filter(|(host, port, claim)| {
            same(claim)
                && draft.port_standing(&account.id, host, *port, claim) == Standing::MineOffline
        })
        .find_map(|(name, port, _)| {
            let host = snapshot
                .settings()
                .shared_host(name)
                .filter(|host| host.admits(account))?;
            places::check(draft, account, host, port)
                .ok()
                .map(|()| (host, port))
        })
}

/// The port of a URL that names a host only.
fn infer(
    draft: &Draft<'_>,
    account: &Account,
    host: &str,
    asker: Asker<'_>,
) -> Result<EndpointUrl, Error> {
    let snapshot = draft.snapshot;
    let mine: Vec<_> = snapshot
        .addresses_at_host(host)
        .filter(|addr| addr.account == account.id)
        .collect();
    if mine.iter().any(|addr| addr.kind == AddressKind::Host) {
        let upstream = match asker {
            Asker::Agent { upstream, .. } | Asker::Direct { upstream, .. } => {
                upstream_port(upstream)
            }
            Asker::Cloud => None,
        };
        return upstream.map(|port| EndpointUrl::new(host, port)).ok_or_else(|| {
            let message = format!("`tcp://{host}` has no port and every port of {host} is yours; write `tcp://{host}:PORT`");
            Error::new(Code::UrlPortMissing, message)
        });
    }
    let ports: Vec<u16> = mine.iter().filter_map(|addr| addr.port).collect();
    match ports.as_slice() {
        [port] => Ok(EndpointUrl::new(host, *port)),
        [] => Err(not_reserved(draft, account, host, None)),
        several => {
            let urls: Vec<String> = several
                .iter()
                .map(|port| EndpointUrl::new(host, *port).to_string())
                .collect();
            let message = format!(
                "{host} carries several addresses of the account; write one of {}",
                urls.join(", ")
            );
            Err(Error::new(Code::UrlAmbiguous, message))
        }
    }
}

/// The port at the end of an upstream such as `5432`, `db:5432` or `tcp://db:5432`.
fn upstream_port(upstream: &str) -> Option<u16> {
    let tail = upstream
        .trim_end_matches('/')
        .rsplit([':', '/'])
        .next()
        .unwrap_or(upstream);
    tail.parse().ok().filter(|port| *port != 0)
}

/// A place named in full: a reserved address, or one that is kept for the asker.
fn exact(
    draft: &mut Draft<'_>,
    account: &Account,
    url: EndpointUrl,
    asker: Asker<'_>,
) -> Result<Place, Error> {
    check_acl(asker, BindRequest::Url(Binding::Public, &url))?;
    let snapshot = draft.snapshot;
    if let Some(addr) = snapshot.address_at(&account.id, url.host(), url.port()) {
        draft.still(keys::address(&account.id, &addr.id));
        let (region, addr) = (addr.region.clone(), Some(addr.id.clone()));
        return Ok(Place {
            url,
            binding: Binding::Public,
            region,
            addr,
        });
    }
    let shared = snapshot.settings().shared_host(url.host());
    let claim = snapshot
        .port_claim(url.host(), url.port())
        .filter(|claim| claim.account == account.id);
    let holder = match (asker, claim.map(|claim| &claim.holder)) {
        (Asker::Agent { agent, .. }, Some(holder @ ClaimHolder::Agent { agent: own, .. }))
            if own == agent =>
        {
            holder.clone()
        }
        (Asker::Direct { name, .. }, _) => ClaimHolder::Direct {
            name: name.to_owned(),
        },
        _ => return Err(not_reserved(draft, account, url.host(), Some(url.port()))),
    };
    let Some(host) = shared.filter(|host| host.admits(account)) else {
        return Err(not_reserved(draft, account, url.host(), Some(url.port())));
    };
    places::check(draft, account, host, url.port())?;
    draft.hold_port(&account.id, &host.host, url.port(), holder)?;
    Ok(Place {
        url,
        binding: Binding::Public,
        region: host.region.clone(),
        addr: None,
    })
}

/// Why a place that is not reserved cannot be had, and what to do.
fn not_reserved(draft: &Draft<'_>, account: &Account, host: &str, port: Option<u16>) -> Error {
    let shown = port.map_or_else(
        || host.to_owned(),
        |port| EndpointUrl::new(host, port).hostport(),
    );
    let foreign_host = draft
        .snapshot
        .place_claim(&format!("host/{host}"))
        .is_some_and(|claim| claim.account != account.id);
    let foreign_port = port.and_then(|port| {
        let claim = draft.snapshot.port_claim(host, port)?;
        let standing = draft.port_standing(&account.id, host, port, claim);
        matches!(standing, Standing::Taken | Standing::Resting(_)).then_some(())
    });
    if foreign_host || foreign_port.is_some() {
        return Error::new(
            Code::AddressForeign,
            format!("{shown} is not available to this account; choose another"),
        );
    }
    if let Err(error) = places::host(draft, account, host) {
        return error;
    }
    let port = port.map_or_else(|| "PORT".to_owned(), |port| port.to_string());
    Error::new(
        Code::AddressNotReserved,
        format!(
            "{shown} is not reserved for this account; reserve it with `portcullis api reserved-addrs create --host {host} --port {port}`, or use `tcp://` for a random address"
        ),
    )
}

/// Whether the account's plan lets it use TCP at all.
pub(super) fn check_tcp(draft: &Draft<'_>, account: &Account) -> Result<(), Error> {
    let plan = draft.snapshot.settings().plan(account);
    let why = match plan.tcp {
        TcpAccess::Allowed => return Ok(()),
        TcpAccess::Verified if account.verified => return Ok(()),
        TcpAccess::Verified => format!(
            "plan `{}` allows TCP only for verified accounts",
            account.plan
        ),
        TcpAccess::Denied => format!("plan `{}` does not allow TCP", account.plan),
    };
    let hint = plan
        .verify_hint
        .as_deref()
        .unwrap_or("Ask the operator to verify the account.");
    Err(Error::new(Code::TcpNotAllowed, format!("{why}. {hint}")))
}

/// Whether the account may have one endpoint more.
pub(super) fn check_quota(draft: &mut Draft<'_>, account: &Account) -> Result<(), Error> {
    let Some(most) = draft.snapshot.settings().plan(account).endpoints_max else {
        return Ok(());
    };
    let count = draft.snapshot.endpoints(&account.id).count();
    if count >= usize::try_from(most).unwrap_or(usize::MAX) {
        let message = format!(
            "the account has {count} endpoints, as many as its plan `{}` allows",
            account.plan
        );
        return Err(Error::new(Code::EndpointLimit, message));
    }
    draft.nothing_new(keys::owned("endpoint", &account.id));
    Ok(())
}

/// Whether an endpoint may stand at a URL beside those that do.
pub(super) fn check_pool(draft: &mut Draft<'_>, endpoint: &Endpoint) -> Result<(), Error> {
    let snapshot = draft.snapshot;
    draft.nothing_new(keys::at_url(
        endpoint.binding,
        &endpoint.account,
        &endpoint.url,
    ));
    let same = |other: &&Arc<EndpointEntry>| {
        other.id != endpoint.id && other.binding == endpoint.binding && other.url == endpoint.url
    };
    let other = match endpoint.binding {
        // A public place has an index, and its owner alone stands there.
        Binding::Public => snapshot.public_at(&endpoint.url).and_then(|pool| {
            let others = pool.members.iter().filter(same);
            others.min_by_key(|other| other.pooling_enabled)
        }),
        _ => {
            let others = snapshot.endpoints(&endpoint.account).filter(same);
            others.min_by_key(|other| other.pooling_enabled)
        }
    };
    let Some(other) = other else {
        return Ok(());
    };
    let url = &endpoint.url;
    let (code, message) = match (endpoint.pooling_enabled, other.pooling_enabled) {
        (true, true) => return Ok(()),
        (true, false) => (
            Code::PoolingThisOn,
            format!(
                "{url} is online as {} without pooling; enable pooling on it too",
                other.id
            ),
        ),
        (false, true) => (
            Code::PoolingThisOff,
            format!(
                "{url} is online as {} with pooling; enable pooling on this one too",
                other.id
            ),
        ),
        (false, false) => (
            Code::EndpointConflict,
            format!(
                "{url} is already online as {}; stop it, choose another URL, or enable pooling on both",
                other.id
            ),
        ),
    };
    Err(Error::new(code, message))
}

/// Writes an endpoint and the marker at its URL; an agent's under the node's lease.
pub(super) fn put(draft: &mut Draft<'_>, endpoint: &Endpoint, leased: bool) -> Result<(), Error> {
    let key = keys::endpoint(&endpoint.account, &endpoint.id);
    let marker = keys::url_marker(endpoint);
    if leased {
        draft.put_leased(key, endpoint)?;
        draft.put_leased(marker, &endpoint.pooling_enabled)
    } else {
        draft.put(key, endpoint)?;
        draft.put(marker, &endpoint.pooling_enabled)
    }
}

/// Deletes endpoints with their markers; places that only they held start to rest.
pub(super) fn remove(draft: &mut Draft<'_>, endpoints: &[&Endpoint]) -> Result<(), Error> {
    let leaving: BTreeSet<&EndpointId> = endpoints.iter().map(|endpoint| &endpoint.id).collect();
    for endpoint in endpoints {
        draft.delete(keys::endpoint(&endpoint.account, &endpoint.id));
        draft.delete(keys::url_marker(endpoint));
        claims::vacate(draft, endpoint, &leaving)?;
    }
    Ok(())
}

/// The refusal for an id that isn't the account's.
pub(super) fn unknown(id: &EndpointId) -> Error {
    Error::new(Code::EndpointNotFound, format!("there is no endpoint {id}"))
}

/// An endpoint of the account.
pub(super) fn find<'a>(
    draft: &Draft<'a>,
    account: &AccountId,
    id: &EndpointId,
) -> Result<&'a Endpoint, Error> {
    draft
        .snapshot
        .endpoint(account, id)
        .map(|entry| entry.record())
        .ok_or_else(|| unknown(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstream_ports_are_read_from_every_form() {
        assert_eq!(upstream_port("5432"), Some(5432));
        assert_eq!(upstream_port("db:5432"), Some(5432));
        assert_eq!(upstream_port("tcp://[::1]:22/"), Some(22));
        assert_eq!(upstream_port("unix:/run/x.sock"), None);
        assert_eq!(upstream_port(""), None);
        assert_eq!(upstream_port("db:0"), None);
    }
}
