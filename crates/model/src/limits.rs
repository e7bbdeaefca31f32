//! Limits of one endpoint, optional everywhere: what is absent is the account's, then the server's.

use serde::{Deserialize, Serialize};

/// Limits of an endpoint's connections. Durations are milliseconds; `0` means never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointLimits {
    /// No byte in either direction for this long ends a connection. Server's default: 300,000 (5 min).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u64>,
    /// The client alone silent for this long ends a connection. Off by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_idle_timeout_ms: Option<u64>,
    /// The upstream alone silent for this long ends a connection. Off by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_idle_timeout_ms: Option<u64>,
    /// Silence after one direction has ended. Default: the idle timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half_close_timeout_ms: Option<u64>,
    /// Accept to established. Server's default: 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_timeout_ms: Option<u64>,
    /// Accept to the end, however many bytes move. Off by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lifetime_ms: Option<u64>,
    /// Simultaneous connections of this endpoint. Server's default: 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_max: Option<u32>,
    /// Simultaneous connections of one source address. Server's default: 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_per_source_max: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_limits_stay_absent_and_unknown_ones_are_refused() {
        let limits: EndpointLimits =
            serde_json::from_str("{\"idle_timeout_ms\": 0}").expect("valid");
        assert_eq!(limits.idle_timeout_ms, Some(0));
        assert_eq!(
            serde_json::to_string(&limits).expect("plain data"),
            "{\"idle_timeout_ms\":0}"
        );
        let error =
            serde_json::from_str::<EndpointLimits>("{\"idle_timeout\": 0}").expect_err("misspelt");
        assert!(error.to_string().contains("`idle_timeout`"), "{error}");
    }
}
