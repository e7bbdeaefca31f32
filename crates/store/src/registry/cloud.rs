//! Cloud endpoints: they live in the store until deleted, and their policy decides alone.

use std::collections::BTreeSet;

use portcullis_model::{AccountId, Code, Endpoint, EndpointId, EndpointType, Error, PoolTerms};

use super::draft::Draft;
use super::endpoints::{self, Asker};
use super::{Registry, Written, claims};
use crate::requests::{EndpointUpdate, NewCloudEndpoint};
use crate::{keys, validate};

impl Registry {
    /// Makes a cloud endpoint.
    ///
    /// # Errors
    /// `PTC_URL_…`, `PTC_ADDRESS_…`, `PTC_POLICY_…`, `PTC_POOLING_…`, `PTC_ENDPOINT_…`, lengths.
    pub async fn create_cloud_endpoint(
        &self,
        account: &AccountId,
        new: NewCloudEndpoint,
    ) -> Result<Written<Endpoint>, Error> {
        validate::texts(&new.description, &new.metadata)?;
        self.write(account.as_str(), |draft| create(draft, account, &new))
            .await
    }

    /// Changes a cloud endpoint. Connections that are open stay; new ones see the change.
    ///
    /// # Errors
    /// As creation, and `PTC_ENDPOINT_NOT_FOUND`, `PTC_ENDPOINT_READ_ONLY`, `PTC_API_EMPTY_UPDATE`.
    pub async fn update_cloud_endpoint(
        &self,
        account: &AccountId,
        id: &EndpointId,
        update: EndpointUpdate,
    ) -> Result<Written<Endpoint>, Error> {
        validate::not_empty(&update)?;
        self.write(account.as_str(), |draft| {
            change(draft, account, id, &update)
        })
        .await
    }

    /// Deletes a cloud endpoint.
    ///
    /// # Errors
    /// `PTC_ENDPOINT_NOT_FOUND`, `PTC_ENDPOINT_READ_ONLY`.
    pub async fn delete_endpoint(
        &self,
        account: &AccountId,
        id: &EndpointId,
    ) -> Result<Written<()>, Error> {
        self.write(account.as_str(), |draft| {
            let endpoint = find_cloud(draft, account, id)?;
            draft.unchanged(keys::endpoint(account, id));
            endpoints::remove(draft, &[endpoint])
        })
        .await
    }
}

fn create(
    draft: &mut Draft<'_>,
    id: &AccountId,
    new: &NewCloudEndpoint,
) -> Result<Endpoint, Error> {
    new.pool.check()?;
    let account = draft.account(id)?;
    endpoints::check_tcp(draft, account)?;
    endpoints::check_policy(draft, account, &new.traffic_policy, EndpointType::Cloud)?;
    endpoints::check_quota(draft, account)?;
    let id = draft.id(EndpointId::new)?;
    let place = endpoints::place(draft, account, &id, (&new.url, new.binding), Asker::Cloud)?;
    let endpoint = Endpoint {
        id,
        account: account.id.clone(),
        kind: EndpointType::Cloud,
        url: place.url,
        binding: place.binding,
        name: String::new(),
        description: new.description.clone(),
        metadata: new.metadata.clone(),
        pooling_enabled: new.pooling_enabled,
        on_change: new.on_change,
        pool: new.pool,
        health: None,
        traffic_policy: new.traffic_policy.clone(),
        upstream_url: String::new(),
        proxy_protocol: None,
        limits: new.limits,
        addr: place.addr,
        holder: None,
        region: place.region,
        created_at: draft.now,
        updated_at: draft.now,
    };
    endpoints::check_pool(draft, &endpoint)?;
    endpoints::put(draft, &endpoint, false)?;
    Ok(endpoint)
}

fn find_cloud<'a>(
    draft: &Draft<'a>,
    account: &AccountId,
    id: &EndpointId,
) -> Result<&'a Endpoint, Error> {
    let endpoint = endpoints::find(draft, account, id)?;
    match endpoint.kind {
        EndpointType::Cloud => Ok(endpoint),
        EndpointType::Agent => Err(Error::new(
            Code::EndpointReadOnly,
            format!(
                "endpoint {id} belongs to an agent, which changes and ends it; stop its session to take it offline"
            ),
        )),
    }
}

fn change(
    draft: &mut Draft<'_>,
    account_id: &AccountId,
    id: &EndpointId,
    update: &EndpointUpdate,
) -> Result<Endpoint, Error> {
    let old = find_cloud(draft, account_id, id)?;
    let account = draft.account(account_id)?;
    let mut endpoint = old.clone();
    let into = (&mut endpoint.description, &mut endpoint.metadata);
    validate::set_texts(update.description.as_ref(), update.metadata.as_ref(), into)?;
    if let Some(policy) = &update.traffic_policy {
        endpoints::check_policy(draft, account, policy, EndpointType::Cloud)?;
        endpoint.traffic_policy.clone_from(policy);
    }
    if let Some(pooling) = update.pooling_enabled {
        endpoint.pooling_enabled = pooling;
    }
    if let Some(limits) = update.limits {
        endpoint.limits = limits;
    }
    endpoint.on_change = update.on_change.unwrap_or(old.on_change);
    endpoint.pool = PoolTerms {
        strategy: update.pool_strategy.unwrap_or(old.pool.strategy),
        weight: update.weight.unwrap_or(old.pool.weight),
    };
    endpoint.pool.check()?;
    if update.url.is_some() || update.binding.is_some() {
        let current = old.url.to_string();
        let url = update.url.as_deref().unwrap_or(&current);
        let binding = update
            .binding
            .or_else(|| update.url.is_none().then_some(old.binding));
        if url != current || binding.is_some_and(|binding| binding != old.binding) {
            endpoints::check_tcp(draft, account)?;
            draft.delete(keys::url_marker(old));
            claims::vacate(draft, old, &BTreeSet::from([id]))?;
            let place = endpoints::place(draft, account, id, (url, binding), Asker::Cloud)?;
            if place.url.scheme() != old.url.scheme() {
                return Err(Error::new(
                    Code::UrlSchemeChange,
                    format!(
                        "endpoint {id} is at {}, and its scheme cannot become {}; create another endpoint",
                        old.url,
                        place.url.scheme()
                    ),
                ));
            }
            (endpoint.url, endpoint.binding) = (place.url, place.binding);
            (endpoint.region, endpoint.addr) = (place.region, place.addr);
        }
    }
    endpoint.updated_at = draft.now;
    draft.unchanged(keys::endpoint(account_id, id));
    if endpoint.pooling_enabled != old.pooling_enabled
        || endpoint.url != old.url
        || endpoint.binding != old.binding
    {
        endpoints::check_pool(draft, &endpoint)?;
    }
    endpoints::put(draft, &endpoint, false)?;
    Ok(endpoint)
}
