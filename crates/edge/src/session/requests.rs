//! What agents ask of the registry, in the registry's words.

use portcullis_model::{Code, Endpoint, Error, SessionId};
use portcullis_proto::message::{Bind, Update};
use portcullis_store::{BindSpec, BoundUpdate};
use portcullis_telemetry::EndpointState;

use crate::defaults::BIND_SETTLE_TIMEOUT;
use crate::node::Node;

/// Binds an endpoint, and answers when its listeners are open: who reads the URL may connect at once.
///
/// # Errors
/// The registry's refusal, or why the port cannot be listened on; the endpoint is not bound then.
pub(super) async fn bind(node: &Node, session: &SessionId, bind: Bind) -> Result<Endpoint, Error> {
    let spec = BindSpec {
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
    };
    let endpoint = node.registry.bind_endpoint(session, spec).await?.value;
    match node.settled(&endpoint.id, BIND_SETTLE_TIMEOUT).await {
        EndpointState::Programmed | EndpointState::Pending => Ok(endpoint),
        EndpointState::Failed(error) => {
            node.registry.unbind_endpoint(session, &endpoint.id).await?;
            Err(explain(error, &endpoint))
        }
    }
}

fn explain(error: Error, endpoint: &Endpoint) -> Error {
    let message = match error.code {
        Code::PortTaken => format!("{}: {}", endpoint.url, error.message),
        _ => error.message,
    };
    Error {
        code: error.code,
        message,
        internal: error.internal,
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
    };
    node.registry
        .update_bound_endpoint(session, &update.endpoint_id, change)
        .await
        .map(drop)
}
