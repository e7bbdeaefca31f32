//! Endpoints that someone serves: an agent's session, or this node itself.

use portcullis_model::endpoint::Holder;
use portcullis_model::{AccountId, Code, Endpoint, EndpointId, EndpointType, Error, SessionId};

use super::draft::Draft;
use super::endpoints::{self, Asker};
use super::{Registry, Written};
use crate::requests::{BindSpec, BoundUpdate, DirectSpec};
use crate::{keys, validate};

impl Registry {
    /// Brings an endpoint of a session online.
    ///
    /// # Errors
    /// `PTC_SESSION_NOT_FOUND`, `PTC_URL_…`, `PTC_ADDRESS_…`, `PTC_CREDENTIAL_ACL…`, `PTC_POLICY_…`,
    /// `PTC_POOLING_…`, `PTC_ENDPOINT_…`, lengths.
    pub async fn bind_endpoint(
        &self,
        session: &SessionId,
        spec: BindSpec,
    ) -> Result<Written<Endpoint>, Error> {
        validate::texts(&spec.description, &spec.metadata)?;
        validate::endpoint_name(&spec.name)?;
        let account = self.account_of(session)?;
        self.write(account.as_str(), |draft| {
            bind(draft, &account, session, &spec)
        })
        .await
    }

    /// Changes an endpoint of a session in place.
    ///
    /// # Errors
    /// `PTC_ENDPOINT_NOT_FOUND`, `PTC_POLICY_…`, `PTC_POOLING_…`, lengths.
    pub async fn update_bound_endpoint(
        &self,
        session: &SessionId,
        id: &EndpointId,
        update: BoundUpdate,
    ) -> Result<Written<Endpoint>, Error> {
        validate::not_empty(&update)?;
        let account = self.account_of(session)?;
        self.write(account.as_str(), |draft| {
            change(draft, &account, session, id, &update)
        })
        .await
    }

    /// Takes an endpoint of a session offline; fine if it is gone already.
    ///
    /// # Errors
    /// `PTC_STORE_…`.
    pub async fn unbind_endpoint(
        &self,
        session: &SessionId,
        id: &EndpointId,
    ) -> Result<Written<()>, Error> {
        let Ok(account) = self.account_of(session) else {
            return Ok(Written {
                value: (),
                revision: self.snapshot().revision(),
            });
        };
        self.write(account.as_str(), |draft| {
            match find_bound(draft, &account, session, id) {
                Err(_) => Ok(()),
                Ok(endpoint) => {
                    draft.still(keys::endpoint(&account, id));
                    endpoints::remove(draft, &[endpoint])
                }
            }
        })
        .await
    }

    /// Brings an endpoint online whose upstream the edge dials itself; it lives as long as this node.
    /// A place on a shared host needs no reservation, and is kept for the account.
    ///
    /// # Errors
    /// As [`Self::bind_endpoint`].
    pub async fn bind_direct(
        &self,
        account: &AccountId,
        spec: DirectSpec,
    ) -> Result<Written<Endpoint>, Error> {
        validate::texts(&spec.description, &spec.metadata)?;
        validate::endpoint_name(&spec.name)?;
        let written = self
            .write(account.as_str(), |draft| bind_direct(draft, account, &spec))
            .await?;
        self.remember_directs(account, std::slice::from_ref(&spec));
        Ok(written)
    }

    fn account_of(&self, session: &SessionId) -> Result<AccountId, Error> {
        let snapshot = self.snapshot();
        snapshot
            .session_by_id(session)
            .map(|session| session.account.clone())
            .ok_or_else(|| no_session(session))
    }
}

fn no_session(id: &SessionId) -> Error {
    Error::new(
        Code::SessionNotFound,
        format!("there is no tunnel session {id}"),
    )
}

fn bind(
    draft: &mut Draft<'_>,
    account_id: &AccountId,
    session_id: &SessionId,
    spec: &BindSpec,
) -> Result<Endpoint, Error> {
    let snapshot = draft.snapshot;
    let account = draft
        .account(account_id)
        .map_err(|_| Error::of(Code::AccountSuspended))?;
    let session = snapshot
        .session(account_id, session_id)
        .ok_or_else(|| no_session(session_id))?;
    let credential = snapshot
        .credential(account_id, &session.credential)
        .ok_or_else(|| Error::of(Code::CredentialRevoked))?;
    draft.still(keys::session(account_id, session_id));
    // Also a narrower ACL that comes at this moment counts.
    draft.unchanged(keys::credential(account_id, &credential.id));
    check_session_quota(draft, account_id, session_id)?;
    let holder = Holder::Session {
        session: session_id.clone(),
        agent: session.agent.clone(),
        credential: credential.id.clone(),
    };
    let asker = Asker::Agent {
        agent: &session.agent,
        credential,
        name: &spec.name,
        upstream: &spec.upstream_url,
        ephemeral: spec.ephemeral,
    };
    let mut endpoint = served(
        draft,
        account,
        holder,
        asker,
        (&spec.url, spec.binding),
        &spec.traffic_policy,
    )?;
    endpoint.name.clone_from(&spec.name);
    endpoint.description.clone_from(&spec.description);
    endpoint.metadata.clone_from(&spec.metadata);
    endpoint.pooling_enabled = spec.pooling_enabled;
    endpoint.upstream_url.clone_from(&spec.upstream_url);
    endpoint.proxy_protocol = spec.proxy_protocol;
    endpoint.limits = spec.limits;
    endpoint.on_change = spec.on_change;
    spec.pool.check()?;
    endpoint.pool = spec.pool;
    endpoints::check_pool(draft, &endpoint)?;
    endpoints::put(draft, &endpoint, true)?;
    Ok(endpoint)
}

pub(super) fn bind_direct(
    draft: &mut Draft<'_>,
    account_id: &AccountId,
    spec: &DirectSpec,
) -> Result<Endpoint, Error> {
    let account = draft.account(account_id)?;
    let url = match spec.port.filter(|_| spec.url.is_empty()) {
        None => spec.url.clone(),
        Some(port) => {
            let hosts = super::places::hosts(draft, account, None)?;
            let host = hosts
                .first()
                .ok_or_else(|| Error::of(Code::AddressHostUnknown))?;
            portcullis_model::EndpointUrl::new(&host.host, port).to_string()
        }
    };
    let holder = Holder::Direct {
        upstream: spec.upstream.clone(),
    };
    let asker = Asker::Direct {
        name: &spec.name,
        upstream: &spec.upstream,
    };
    let mut endpoint = served(
        draft,
        account,
        holder,
        asker,
        (&url, spec.binding),
        &spec.traffic_policy,
    )?;
    endpoint.name.clone_from(&spec.name);
    endpoint.description.clone_from(&spec.description);
    endpoint.metadata.clone_from(&spec.metadata);
    endpoint.pooling_enabled = spec.pooling_enabled;
    endpoint.upstream_url.clone_from(&spec.upstream);
    endpoint.proxy_protocol = spec.proxy_protocol;
    endpoint.limits = spec.limits;
    endpoint.on_change = spec.on_change;
    spec.pool.check()?;
    endpoint.pool = spec.pool;
    if let Some(check) = &spec.health {
        check.check()?;
    }
    endpoint.health.clone_from(&spec.health);
    endpoints::check_pool(draft, &endpoint)?;
    endpoints::put(draft, &endpoint, true)?;
    Ok(endpoint)
}

/// An endpoint that falls through to its holder, with its place found and claimed.
fn served(
    draft: &mut Draft<'_>,
    account: &portcullis_model::Account,
    holder: Holder,
    asker: Asker<'_>,
    wish: (&str, Option<portcullis_model::Binding>),
    traffic_policy: &str,
) -> Result<Endpoint, Error> {
    endpoints::check_tcp(draft, account)?;
    endpoints::check_policy(draft, account, traffic_policy, EndpointType::Agent)?;
    endpoints::check_quota(draft, account)?;
    let id = draft.id(EndpointId::new)?;
    let place = endpoints::place(draft, account, &id, wish, asker)?;
    Ok(Endpoint {
        id,
        account: account.id.clone(),
        kind: EndpointType::Agent,
        url: place.url,
        binding: place.binding,
        name: String::new(),
        description: String::new(),
        metadata: String::new(),
        pooling_enabled: false,
        on_change: portcullis_model::OnChange::default(),
        pool: portcullis_model::PoolTerms::default(),
        health: None,
        traffic_policy: traffic_policy.to_owned(),
        upstream_url: String::new(),
        proxy_protocol: None,
        limits: portcullis_model::EndpointLimits::default(),
        addr: place.addr,
        holder: Some(holder),
        region: place.region,
        created_at: draft.now,
        updated_at: draft.now,
    })
}

fn check_session_quota(
    draft: &Draft<'_>,
    account: &AccountId,
    session: &SessionId,
) -> Result<(), Error> {
    let most = draft.snapshot.settings().session_endpoints_max;
    let own = draft
        .snapshot
        .endpoints(account)
        .filter(|endpoint| endpoint.session() == Some(session))
        .count();
    // Only this session's own binds raise the count, and they come one after the other.
    if own >= usize::try_from(most).unwrap_or(usize::MAX) {
        let message = format!("the session has {own} endpoints, as many as the server allows");
        return Err(Error::new(Code::SessionEndpointLimit, message));
    }
    Ok(())
}

fn find_bound<'a>(
    draft: &Draft<'a>,
    account: &AccountId,
    session: &SessionId,
    id: &EndpointId,
) -> Result<&'a Endpoint, Error> {
    let endpoint = endpoints::find(draft, account, id)?;
    if endpoint.session() == Some(session) {
        Ok(endpoint)
    } else {
        Err(endpoints::unknown(id))
    }
}

fn change(
    draft: &mut Draft<'_>,
    account: &AccountId,
    session: &SessionId,
    id: &EndpointId,
    update: &BoundUpdate,
) -> Result<Endpoint, Error> {
    let old = find_bound(draft, account, session, id)?;
    let mut endpoint = old.clone();
    let into = (&mut endpoint.description, &mut endpoint.metadata);
    validate::set_texts(update.description.as_ref(), update.metadata.as_ref(), into)?;
    if let Some(policy) = &update.traffic_policy {
        let account = draft.account(account)?;
        endpoints::check_policy(draft, account, policy, EndpointType::Agent)?;
        endpoint.traffic_policy.clone_from(policy);
    }
    if let Some(upstream) = &update.upstream_url {
        endpoint.upstream_url.clone_from(upstream);
    }
    endpoint.on_change = update.on_change.unwrap_or(old.on_change);
    if let Some(terms) = update.pool {
        terms.check()?;
        endpoint.pool = terms;
    }
    if let Some(pooling) = update
        .pooling_enabled
        .filter(|pooling| *pooling != old.pooling_enabled)
    {
        endpoint.pooling_enabled = pooling;
        endpoints::check_pool(draft, &endpoint)?;
    }
    endpoint.updated_at = draft.now;
    draft.unchanged(keys::endpoint(account, id));
    endpoints::put(draft, &endpoint, true)?;
    Ok(endpoint)
}
