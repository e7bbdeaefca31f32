//! An endpoint's limits (ours).

use portcullis_model::EndpointLimits;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Limits of an endpoint's connections that differ from the server's. Durations are milliseconds; 0
/// means never. What is null is the server's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    /// No byte in either direction for this long ends a connection.
    idle_timeout_ms: Option<u64>,
    /// The client alone silent for this long ends a connection.
    client_idle_timeout_ms: Option<u64>,
    /// The upstream alone silent for this long ends a connection.
    server_idle_timeout_ms: Option<u64>,
    /// Silence after one direction has ended.
    half_close_timeout_ms: Option<u64>,
    /// Accept to established.
    connect_timeout_ms: Option<u64>,
    /// Accept to the end, however many bytes move.
    max_lifetime_ms: Option<u64>,
    /// Simultaneous connections of this endpoint.
    connections_max: Option<u32>,
    /// Simultaneous connections of one source address.
    connections_per_source_max: Option<u32>,
}

impl From<EndpointLimits> for Limits {
    fn from(limits: EndpointLimits) -> Self {
        Self {
            idle_timeout_ms: limits.idle_timeout_ms,
            client_idle_timeout_ms: limits.client_idle_timeout_ms,
            server_idle_timeout_ms: limits.server_idle_timeout_ms,
            half_close_timeout_ms: limits.half_close_timeout_ms,
            connect_timeout_ms: limits.connect_timeout_ms,
            max_lifetime_ms: limits.max_lifetime_ms,
            connections_max: limits.connections_max,
            connections_per_source_max: limits.connections_per_source_max,
        }
    }
}

impl From<Limits> for EndpointLimits {
    fn from(limits: Limits) -> Self {
        Self {
            idle_timeout_ms: limits.idle_timeout_ms,
            client_idle_timeout_ms: limits.client_idle_timeout_ms,
            server_idle_timeout_ms: limits.server_idle_timeout_ms,
            half_close_timeout_ms: limits.half_close_timeout_ms,
            connect_timeout_ms: limits.connect_timeout_ms,
            max_lifetime_ms: limits.max_lifetime_ms,
            connections_max: limits.connections_max,
            connections_per_source_max: limits.connections_per_source_max,
        }
    }
}
