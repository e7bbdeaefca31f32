//! What agents ask of the registry, in the registry's words.

use portcullis_model::url::{self, UrlRequest};
use portcullis_model::{Code, Endpoint, Error, SessionId};
use portcullis_proto::message::{Bind, Update};
use portcullis_store::{BindSpec, BoundUpdate};
use portcullis_telemetry::EndpointState;

use crate::defaults::{BIND_SETTLE_TIMEOUT, RANDOM_DRAWS_MAX};
use crate::node::Node;

/// Binds an endpoint, and answers when its listeners are open: who reads the URL may connect at once.
/// A random address whose port another program holds is drawn again.
///
/// # Errors
/// The registry's refusal, or why the port cannot be listened on; the endpoint is not bound then.
pub(super) async fn bind(node: &Node, session: &SessionId, bind: Bind) -> Result<Endpoint, Error> {
    let mut spec = BindSpec {
        name: bind.name,
        url: bind.url,
        binding: bind.binding,
        pooling_enabled: bind.pooling_enabled,
        description: bind.description,
        metadata: bind.metadata,
        traffic_policy: bind.traffic_policy,
        upstream_url: bind.upstream_url,
        proxy_protocol: bind.proxy_protocol,
        limits: bind.limits,
        ephemeral: bind.ephemeral,
        on_change: bind.on_change,
        pool: bind.pool,
    };
    let is_random = matches!(
        url::parse(&spec.url, spec.binding),
        Ok((_, UrlRequest::Random))
    );
    let mut draws = if is_random { RANDOM_DRAWS_MAX } else { 1 };
    loop {
        let endpoint = node
            .registry
            .bind_endpoint(session, spec.clone())
            .await?
            .value;
        let error = match node.settled(&endpoint.id, BIND_SETTLE_TIMEOUT).await {
            EndpointState::Programmed | EndpointState::Pending => return Ok(endpoint),
            EndpointState::Failed(error) => error,
        };
        node.registry.unbind_endpoint(session, &endpoint.id).await?;
        draws -= 1;
        if draws == 0 || error.code != Code::PortTaken {
            return Err(error);
        }
        tracing::warn!(%session, url = %endpoint.url, %error, "a random port is taken; drawing another");
        // The agent's own address is kept for it, and that is the one that is taken.
        spec.ephemeral = true;
    }
}

/// Changes an endpoint in place.
///
/// # Errors
/// The registry's refusal.
pub(super) async fn update(node: &Node, session: &SessionId, update: Update) -> Result<(), Error> {
    let change = BoundUpdate {
        description: update.description,
        metadata: update.metadata,
        traffic_policy: update.traffic_policy,
        pooling_enabled: update.pooling_enabled,
        upstream_url: update.upstream_url,
        on_change: update.on_change,
        pool: update.pool,
    };
    node.registry
        .update_bound_endpoint(session, &update.endpoint_id, change)
        .await
        .map(drop)
}
