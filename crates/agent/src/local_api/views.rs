//! JSON of the local API, in ngrok's shape with our fields beside it.

use std::time::Duration;

use portcullis_model::health::Health;
use portcullis_model::{Error, HealthCheck};
use serde_json::{Value, json};

use crate::status::{ConnectionStats, EndpointStatus, SessionState, Status};

/// `/api/status`.
pub(super) fn status(status: &Status) -> Value {
    let leg = |region: &str| json!({"region": region, "latency": status.latency.map(millis)});
    let legs: Vec<Value> = status
        .session
        .iter()
        .map(|session| leg(&session.region))
        .collect();
    let session = status.session.as_ref();
    json!({
        "status": status.state.as_str(),
        "agent_version": env!("CARGO_PKG_VERSION"),
        "session": {
            "legs": legs,
            "id": session.map(|session| session.id.to_string()),
            "account": session.map(|session| session.account.clone()),
            "node": session.map(|session| session.node.clone()),
            "server_version": session.map(|session| session.server_version.clone()),
            "public_host": session.map(|session| session.public_host.clone()),
            "since": session.map(|session| session.since.to_string()),
        },
        "uri": "/api/status",
        "server": status.server,
        "agent_id": status.agent_id.as_ref().map(ToString::to_string),
        "error": status.error.as_ref().map(error_field),
        "attempts": status.attempts,
        "retry_at": status.retry_at.map(|at| at.to_string()),
        "metrics": {"conns": conns(&status.connections)},
    })
}

/// One of `/api/endpoints`.
pub(super) fn endpoint(endpoint: &EndpointStatus, session: SessionState) -> Value {
    let upstream_error = endpoint.upstream_error.as_ref();
    json!({
        "name": endpoint.name,
        "uri": format!("/api/endpoints/{}", endpoint.name),
        "id": endpoint.id.as_ref().map(ToString::to_string),
        "url": endpoint.url,
        "bindings": endpoint.binding.map(|binding| vec![binding.as_str()]),
        "upstream": {
            "url": endpoint.upstream,
            "protocol": "tcp",
            "proxy_protocol": endpoint.proxy_protocol,
            "error": upstream_error.map(error_field),
            "health": endpoint.health_check.as_ref().map(|check| health(check, endpoint.health.as_ref())),
        },
        "description": endpoint.description,
        "metadata": endpoint.metadata,
        "pooling_enabled": endpoint.pooling_enabled,
        "pool_strategy": endpoint.pool.strategy,
        "weight": endpoint.pool.weight,
        "on_change": endpoint.on_change,
        "traffic_policy": endpoint.traffic_policy,
        "inspect": false,
        "status": endpoint.state.as_str(),
        "session": session.as_str(),
        "error": endpoint.error.as_ref().map(error_field),
        "metrics": {"conns": conns(&endpoint.connections)},
    })
}

/// One of `/api/tunnels`, as version 2 had it.
pub(super) fn tunnel(endpoint: &EndpointStatus) -> Value {
    json!({
        "name": endpoint.name,
        "ID": endpoint.id.as_ref().map(ToString::to_string),
        "uri": format!("/api/tunnels/{}", endpoint.name),
        "public_url": endpoint.url,
        "proto": if endpoint.url.starts_with("tls://") { "tls" } else { "tcp" },
        "config": {"addr": endpoint.upstream, "inspect": false},
        "metrics": {"conns": conns(&endpoint.connections)},
    })
}

/// An error's body.
pub(super) fn error(error: &Error) -> Value {
    json!({
        "error_code": error.code.api_code(),
        "status_code": error.code.http_status(),
        "msg": error.message,
        "details": {"code": error.code.as_str(), "err": error.to_string(), "remedy": error.code.remedy()},
    })
}

fn error_field(error: &Error) -> Value {
    json!({"code": error.code.as_str(), "message": error.message})
}

/// The check as it was asked for, with what it came to.
fn health(check: &HealthCheck, health: Option<&Health>) -> Value {
    let status = match health {
        None => "pending",
        Some(health) if !health.healthy => "unhealthy",
        Some(health) if health.is_shaky() => "degraded",
        Some(_) => "online",
    };
    json!({
        "check": check.written(),
        "status": status,
        "reason": health.and_then(|health| health.reason.as_ref()).map(error_field),
        "since": health.map(|health| health.since),
        "checked_at": health.map(|health| health.checked_at),
        "consecutive_failures": health.map_or(0, |health| health.failures),
    })
}

/// Durations are nanoseconds, as ngrok's agent has them.
fn conns(stats: &ConnectionStats) -> Value {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    json!({
        "count": stats.opened,
        "gauge": stats.open,
        "failed": stats.failed,
        "bytes_in": stats.bytes_in,
        "bytes_out": stats.bytes_out,
        "rate1": stats.rate1,
        "rate5": stats.rate5,
        "rate15": stats.rate15,
        "p50": nanos(stats.p50),
        "p90": nanos(stats.p90),
        "p95": nanos(stats.p95),
        "p99": nanos(stats.p99),
    })
}

fn millis(time: Duration) -> String {
    format!("{:.3}ms", time.as_secs_f64() * 1000.0)
}
