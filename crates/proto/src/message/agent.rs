//! Bodies of what an agent says, and of what both sides say.

use portcullis_model::endpoint::ProxyVersion;
use portcullis_model::{Binding, Code, EndpointId, EndpointLimits, Error, OnChange, PoolTerms};
use serde::{Deserialize, Serialize};

/// Serve an endpoint. `req` is answered by `bound` or `refused`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bind {
    /// Number of the request; the session machine sets it.
    pub req: u64,
    /// Chosen by the agent; a random address is given again to the same name.
    #[serde(default)]
    pub name: String,
    /// As the user wrote it; empty for a random address.
    #[serde(default)]
    pub url: String,
    /// As the user wrote it; `None` is inferred from the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Binding>,
    /// Whether others may share the URL.
    #[serde(default)]
    pub pooling_enabled: bool,
    /// At most 255 bytes.
    #[serde(default)]
    pub description: String,
    /// At most 4,096 bytes.
    #[serde(default)]
    pub metadata: String,
    /// The Traffic Policy document; empty: none.
    #[serde(default)]
    pub traffic_policy: String,
    /// What the agent forwards to, for people.
    #[serde(default)]
    pub upstream_url: String,
    /// PROXY protocol towards the upstream, for people: the agent writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyVersion>,
    /// Limits that differ from the server's.
    #[serde(default, with = "super::limits")]
    pub limits: EndpointLimits,
    /// Whether a random address is given up with the endpoint.
    #[serde(default)]
    pub ephemeral: bool,
    /// What becomes of open connections when the policy changes.
    #[serde(default, skip_serializing_if = "OnChange::is_default")]
    pub on_change: OnChange,
    /// How it stands in its pool.
    #[serde(default, skip_serializing_if = "PoolTerms::is_default")]
    pub pool: PoolTerms,
}

/// Change an endpoint in place; what is absent stays. Answered by `updated` or `refused`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// Number of the request; the session machine sets it.
    pub req: u64,
    /// The endpoint, one of this session.
    pub endpoint_id: EndpointId,
    /// At most 255 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// At most 4,096 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// The Traffic Policy document; empty removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_policy: Option<String>,
    /// Whether others may share the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooling_enabled: Option<bool>,
    /// What the agent forwards to, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_url: Option<String>,
    /// What becomes of open connections when the policy changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_change: Option<OnChange>,
    /// How it stands in its pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolTerms>,
}

impl Update {
    /// An update that changes nothing yet.
    pub fn of(endpoint_id: EndpointId) -> Self {
        Self {
            req: 0,
            endpoint_id,
            description: None,
            metadata: None,
            traffic_policy: None,
            pooling_enabled: None,
            upstream_url: None,
            on_change: None,
            pool: None,
        }
    }
}

/// Stop serving an endpoint. Answered by `unbound` or `refused`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unbind {
    /// Number of the request; the session machine sets it.
    pub req: u64,
    /// The endpoint, one of this session.
    pub endpoint_id: EndpointId,
}

/// Are you there?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Counts up from 1 on each side.
    pub nonce: u64,
}

/// Yes, with the nonce of the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatAck {
    /// The nonce of the heartbeat that is answered.
    pub nonce: u64,
}

/// A RESET could not be flushed because the direction is clogged: both sides drop the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abort {
    /// The channel's number.
    pub channel: u64,
    /// The open that was to be reset.
    pub open: u32,
}

/// The session ends, on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// Why, for the log.
    #[serde(default)]
    pub reason: String,
}

/// How the upstream of an endpoint fares by the agent's checks. Told only to an edge whose welcome says that
/// it takes it; when it changes, and with every check that fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// The endpoint, one of this session.
    pub endpoint_id: EndpointId,
    /// Whether it is healthy.
    pub healthy: bool,
    /// Checks in a row that failed.
    #[serde(default)]
    pub failures: u32,
    /// For how long it has been healthy or not; ages, because clocks differ.
    #[serde(default)]
    pub age_ms: u64,
    /// What the last check failed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// The same in words.
    #[serde(default)]
    pub reason: String,
}

impl HealthReport {
    /// The reason as the error it tells; cut to what a reason may have.
    pub fn error(&self) -> Option<Error> {
        let code = self.code?;
        let clean = portcullis_model::health::failure(&self.reason);
        Some(Error { code, ..clean })
    }
}
