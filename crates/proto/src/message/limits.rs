//! An endpoint's limits on the wire: the API refuses unknown ones, the wire ignores them, so that a
//! newer agent can talk to an older edge.

use portcullis_model::EndpointLimits;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Deserialize, Default)]
#[serde(default)]
struct Wire {
    idle_timeout_ms: Option<u64>,
    client_idle_timeout_ms: Option<u64>,
    server_idle_timeout_ms: Option<u64>,
    half_close_timeout_ms: Option<u64>,
    connect_timeout_ms: Option<u64>,
    max_lifetime_ms: Option<u64>,
    connections_max: Option<u32>,
    connections_per_source_max: Option<u32>,
}

pub(super) fn serialize<S: Serializer>(
    limits: &EndpointLimits,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    limits.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<EndpointLimits, D::Error> {
    let wire = Wire::deserialize(deserializer)?;
    Ok(EndpointLimits {
        idle_timeout_ms: wire.idle_timeout_ms,
        client_idle_timeout_ms: wire.client_idle_timeout_ms,
        server_idle_timeout_ms: wire.server_idle_timeout_ms,
        half_close_timeout_ms: wire.half_close_timeout_ms,
        connect_timeout_ms: wire.connect_timeout_ms,
        max_lifetime_ms: wire.max_lifetime_ms,
        connections_max: wire.connections_max,
        connections_per_source_max: wire.connections_per_source_max,
    })
}
