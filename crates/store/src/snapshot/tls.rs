//! `tls://` endpoints in a snapshot: which name leads where, and which port is theirs.
//!
//! Must never: lead a name to another than the nearest endpoint.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use portcullis_model::url::Scheme;
use portcullis_model::{AccountId, Binding, Endpoint, EndpointUrl};

use super::{Hosts, Listen, Pool, Snapshot, index};
use crate::keys;
use crate::records::Claim;

/// What the places of claims of TLS names begin with.
pub(crate) const TLS_PLACES: &str = "tls/";

/// Pools of `tls://` endpoints.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    pub(super) public: Arc<Hosts>,
    pub(super) internal: Arc<HashMap<AccountId, Arc<Hosts>>>,
}

impl Snapshot {
    /// The pool of `tls://` endpoints that a connection accepted at this local IP and port is for, by the name that the
    /// client asks for: the exact name, else the nearest wildcard.
    pub fn tls(&self, local: IpAddr, port: u16, name: &str) -> Option<&Arc<Pool>> {
        if !self.is_tls(local, port) {
            return None;
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        let name = match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(name.to_ascii_lowercase()),
            false => Cow::Borrowed(name),
        };
        // A client asks for a name in full.
        if name.starts_with('*') {
            return None;
        }
        index::internal(&self.names.public, &name, port)
    }

    /// Whether connections accepted at this local IP and port are routed by the name in their TLS. A `tcp://` endpoint
    /// that was there before the port became that of TLS keeps it.
    pub fn is_tls(&self, local: IpAddr, port: u16) -> bool {
        let tls = &self.settings.tls;
        if tls.port != Some(port) {
            return false;
        }
        let local = local.to_canonical();
        (tls.bind.is_empty() || tls.bind.contains(&local))
            && !self.dedicated.contains_key(&local)
            && self.listener(local, port).is_none()
    }

    /// Every public pool of `tls://` endpoints.
    pub fn tls_pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.names.public.values().flat_map(|ports| ports.values())
    }

    /// The public pool at a URL, wildcards as they are written.
    pub fn public_at(&self, url: &EndpointUrl) -> Option<&Arc<Pool>> {
        match url.scheme() {
            Scheme::Tcp => self.public(url.host(), url.port()),
            Scheme::Tls => self.names.public.get(url.host())?.get(&url.port()),
        }
    }

    /// The pool of an internal URL of the account: the exact name, else the nearest wildcard.
    pub fn internal_at(&self, account: &AccountId, url: &EndpointUrl) -> Option<&Arc<Pool>> {
        match url.scheme() {
            Scheme::Tcp => self.internal(account, url.host(), url.port()),
            Scheme::Tls => {
                let hosts = self.names.internal.get(account)?;
                index::internal(hosts, url.host(), url.port())
            }
        }
    }

    /// The pool that an endpoint stands in, by its URL and binding; `None` for a binding without pools.
    pub fn pool_of(&self, endpoint: &Endpoint) -> Option<&Arc<Pool>> {
        let url = &endpoint.url;
        match (endpoint.binding, url.scheme()) {
            (Binding::Internal, _) => self.internal_at(&endpoint.account, url),
            (Binding::Public, Scheme::Tcp) => self.public(url.host(), url.port()),
            (Binding::Public, Scheme::Tls) => self.names.public.get(url.host())?.get(&url.port()),
            (Binding::Kubernetes, _) => None,
        }
    }

    /// The public `tls://` endpoints at exactly this name, at whatever port.
    pub(crate) fn tls_names(&self, name: &str) -> Option<&Arc<Pool>> {
        self.names.public.get(name)?.values().next()
    }

    /// The sockets of `tls://` endpoints at a port; none when that is not the server's any more.
    pub(super) fn listens_for_tls(&self, port: u16) -> Vec<Listen> {
        let tls = &self.settings.tls;
        if tls.port != Some(port) {
            return Vec::new();
        }
        if tls.bind.is_empty() {
            return vec![Listen { ip: None, port }];
        }
        let ips = tls.bind.iter();
        ips.map(|ip| Listen {
            ip: Some(*ip),
            port,
        })
        .collect()
    }

    /// The sockets of all public `tls://` endpoints: none while there is none.
    pub(super) fn listens_of_names(&self) -> Vec<Listen> {
        let port = self.settings.tls.port;
        match port.filter(|port| self.tls_pools().any(|pool| pool.url.port() == *port)) {
            Some(port) => self.listens_for_tls(port),
            None => Vec::new(),
        }
    }

    /// The claim of a TLS name.
    pub(crate) fn tls_claim(&self, name: &str) -> Option<&Claim> {
        self.place_claim(&format!("{TLS_PLACES}{}", keys::reversed(name)))
    }

    /// The claims of TLS names below a name, its wildcard included; of all for an empty one. With each the name,
    /// its labels in reverse.
    pub(crate) fn tls_claims(&self, below: &str) -> impl Iterator<Item = (&str, &Claim)> {
        let from = match below {
            "" => TLS_PLACES.to_owned(),
            _ => format!("{TLS_PLACES}{}.", keys::reversed(below)),
        };
        self.place_claims
            .range(Arc::from(from.as_str())..)
            .take_while(move |(place, _)| place.starts_with(&from))
            .filter_map(|(place, claim)| {
                let reversed = place.strip_prefix(TLS_PLACES)?;
                Some((reversed, &**claim))
            })
    }
}
