//! What the agent shows of itself: the session, its endpoints and their connections, published on a
//! watch channel for the terminal, the local API and SDK users.
//!
//! Must never: hold a secret.

use std::time::Duration;

use portcullis_model::endpoint::ProxyVersion;
use portcullis_model::health::Health;
use portcullis_model::{
    AgentId, Binding, EndpointId, Error, HealthCheck, OnChange, PoolTerms, SessionId, Timestamp,
};

/// Where the agent stands with its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SessionState {
    /// First attempt.
    #[default]
    Connecting,
    /// A session is up.
    Online,
    /// The session was lost or could not be made; the agent tries again by itself.
    Reconnecting,
    /// The agent has ended and does not try again; [`Status::error`] says why.
    Stopped,
}

impl SessionState {
    /// The word in the local API and on the terminal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Online => "online",
            Self::Reconnecting => "reconnecting",
            Self::Stopped => "stopped",
        }
    }
}

/// The session that is up, as the server described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// `ts_…`
    pub id: SessionId,
    /// The edge node.
    pub node: String,
    /// Its region.
    pub region: String,
    /// Name of the account.
    pub account: String,
    /// The server's release.
    pub server_version: String,
    /// The host name of random public addresses.
    pub public_host: String,
    /// Since when.
    pub since: Timestamp,
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Status {
    /// Where the agent stands.
    pub state: SessionState,
    /// Why the last attempt or session ended; `None` while online.
    pub error: Option<Error>,
    /// Attempts since the last session, while not online.
    pub attempts: u32,
    /// When the next attempt is due, while waiting for it.
    pub retry_at: Option<Timestamp>,
    /// Where the agent connects.
    pub server: String,
    /// The session, while online.
    pub session: Option<SessionInfo>,
    /// Round trip of the last heartbeat.
    pub latency: Option<Duration>,
    /// This installation.
    pub agent_id: Option<AgentId>,
    /// Where the local API listens, once it does.
    pub local_api: Option<String>,
    /// The endpoints, in order of creation.
    pub endpoints: Vec<EndpointStatus>,
    /// Connections of all endpoints, the closed ones among them.
    pub connections: ConnectionStats,
}

/// Where an endpoint stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EndpointState {
    /// Not bound yet, or not again yet.
    #[default]
    Pending,
    /// Bound: clients reach it.
    Online,
    /// The server refused it; [`EndpointStatus::error`] says why. It is tried again.
    Refused,
    /// Closed.
    Closed,
}

impl EndpointState {
    /// The word in the local API and on the terminal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Online => "online",
            Self::Refused => "refused",
            Self::Closed => "closed",
        }
    }
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EndpointStatus {
    /// Its name within the agent.
    pub name: String,
    /// Its id at the server, while bound.
    pub id: Option<EndpointId>,
    /// The URL it has, else the one asked for.
    pub url: String,
    /// Its binding, where the caller named one.
    pub binding: Option<Binding>,
    /// Where the bytes go; `app://…` for a listener in the program.
    pub upstream: String,
    /// PROXY protocol towards the upstream.
    pub proxy_protocol: Option<ProxyVersion>,
    /// Free text.
    pub description: String,
    /// Free text.
    pub metadata: String,
    /// Whether others may share the URL.
    pub pooling_enabled: bool,
    /// The policy as given.
    pub traffic_policy: String,
    /// Where it stands.
    pub state: EndpointState,
    /// Why the server refused it, or why it closed.
    pub error: Option<Error>,
    /// The last connection that failed at the upstream.
    pub upstream_error: Option<Error>,
    /// What becomes of open connections when the policy changes.
    pub on_change: OnChange,
    /// How it stands in its pool.
    pub pool: PoolTerms,
    /// How its upstream is checked.
    pub health_check: Option<HealthCheck>,
    /// How its upstream fares by its checks; `None` before the first.
    pub health: Option<Health>,
    /// Its connections.
    pub connections: ConnectionStats,
}

/// Connections in numbers. Rates are per second, exponentially weighted over 1, 5 and 15 minutes;
/// quantiles are over the durations of the last connections that ended.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ConnectionStats {
    /// Opened since the start.
    pub opened: u64,
    /// Open now.
    pub open: u64,
    /// Refused because the upstream could not be reached.
    pub failed: u64,
    /// Bytes from clients to upstreams.
    pub bytes_in: u64,
    /// Bytes from upstreams to clients.
    pub bytes_out: u64,
    /// Per second over one minute.
    pub rate1: f64,
    /// Per second over five minutes.
    pub rate5: f64,
    /// Per second over fifteen minutes.
    pub rate15: f64,
    /// Half of the connections were shorter.
    pub p50: Duration,
    /// Nine of ten were shorter.
    pub p90: Duration,
    /// 95 of 100 were shorter.
    pub p95: Duration,
    /// 99 of 100 were shorter.
    pub p99: Duration,
}
