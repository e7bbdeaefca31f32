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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_comes_over_the_wire_and_an_unknown_one_is_passed_over() {
        let limits = EndpointLimits {
            idle_timeout_ms: Some(0),
            client_idle_timeout_ms: Some(1),
            server_idle_timeout_ms: Some(2),
            half_close_timeout_ms: Some(3),
            connect_timeout_ms: Some(4),
            max_lifetime_ms: Some(5),
            connections_max: Some(6),
            connections_per_source_max: Some(7),
        };
        let mut said = serde_json::to_value(limits).expect("plain data");
        said["later_limit_ms"] = 8.into();
        assert_eq!(deserialize(said).expect("known fields"), limits);
    }
}
