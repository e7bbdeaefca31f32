//! The node itself: `/status`, `/healthz`, `/readyz`, `/metrics`, `/openapi.json`. No key is needed, but
//! for metrics from afar.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use portcullis_model::Code;

use crate::app::App;
use crate::views::system::StatusView;
use crate::web::gate::{authenticate, check_address};
use crate::web::{Answer, Peer, Refusal, Reply};

/// Version and node.
#[utoipa::path(get, path = "/status", tag = "system", operation_id = "status", security(()),
    responses((status = 200, description = "The node.", body = StatusView)))]
pub(crate) async fn status(State(app): State<App>) -> Answer {
    Reply::ok(&StatusView {
        version: app.config.version.clone(),
        node: app.config.node.clone(),
        region: app.config.region.clone(),
        started_at: app.started_at,
        ready: !app.is_draining(),
    })
}

/// Whether the process answers.
#[utoipa::path(get, path = "/healthz", tag = "system", operation_id = "healthz", security(()),
    responses((status = 200, description = "It does.", body = String)))]
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the node takes new work.
#[utoipa::path(get, path = "/readyz", tag = "system", operation_id = "readyz", security(()),
    responses((status = 200, description = "It does.", body = String), (status = 503, description = "It drains.")))]
pub(crate) async fn readyz(State(app): State<App>) -> Response {
    if app.is_draining() {
        return Refusal::of(Code::ServerDraining).into_response();
    }
    "ok\n".into_response()
}

/// Metrics for Prometheus: from this machine, or with an admin key.
#[utoipa::path(get, path = "/metrics", tag = "system", operation_id = "metrics", security((), ("api_key" = [])),
    responses((status = 200, description = "OpenMetrics text.", body = String, content_type = "application/openmetrics-text")))]
pub(crate) async fn metrics(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    if !app.config.metrics {
        return Err(Refusal::new(Code::ApiNotFound, "metrics are turned off"));
    }
    if !peer.is_local(&headers) {
        let key = authenticate(&app, &headers)?;
        check_address(&app, &key, peer)?;
        if !key.admin {
            let message = "metrics from afar need an admin key";
            return Err(Refusal::new(Code::ApiForbidden, message));
        }
    }
    let kind = [(
        header::CONTENT_TYPE,
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    )];
    Ok((kind, app.records.metrics_text()).into_response())
}

/// This API as an OpenAPI document.
#[utoipa::path(get, path = "/openapi.json", tag = "system", operation_id = "openapi", security(()),
    responses((status = 200, description = "The document.", body = Object)))]
pub(crate) async fn document() -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (StatusCode::OK, kind, crate::openapi::document()).into_response()
}
