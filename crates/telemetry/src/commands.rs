//! What control asks of a node: stop a session, end a connection, say how an endpoint fares, drain.
//! The edge implements it; control calls it, here or on a peer node.

use std::time::Duration;

use async_trait::async_trait;
use portcullis_model::id::ConnectionId;
use portcullis_model::{EndpointId, Error, SessionId, Timestamp};
use serde::Serialize;

use crate::live::ConnectionView;

/// Whether an endpoint is served where it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "error")]
pub enum EndpointState {
    /// It is reachable: its listeners are open, or it needs none.
    Programmed,
    /// It is known, and its listeners are being opened.
    Pending,
    /// It cannot be reached; the error says why. The node goes on trying.
    Failed(Error),
}

/// The last time that an endpoint's upstream could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UpstreamFailure {
    /// What went wrong.
    pub error: Error,
    /// When.
    pub at: Timestamp,
}

/// Whether an endpoint's upstream can be counted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// Nothing speaks against it.
    #[default]
    Online,
    /// The last open or the last check failed.
    Degraded,
    /// Its checks fail: other members of its pool are chosen.
    Unhealthy,
}

impl HealthState {
    /// The word in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// How an endpoint's upstream fares on a node, by checks and by opens.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct EndpointHealth {
    /// Whether it can be counted on.
    pub state: HealthState,
    /// What speaks against it.
    pub reason: Option<Error>,
    /// Since when it is in this state; `None` where nothing has been seen of it.
    pub since: Option<Timestamp>,
    /// Its last check.
    pub checked_at: Option<Timestamp>,
    /// Checks, or else opens, in a row that failed.
    pub consecutive_failures: u32,
    /// Until when other members of its pool go first, because opens failed.
    pub ejected_until: Option<Timestamp>,
}

/// How an endpoint fares on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndpointStatus {
    /// Whether it is served.
    #[serde(flatten)]
    pub state: EndpointState,
    /// The last failed open since the last one that worked; `None` while opens work.
    pub last_upstream_error: Option<UpstreamFailure>,
    /// Client connections that it serves now.
    pub connections_open: u64,
    /// Whether its upstream can be counted on.
    pub health: EndpointHealth,
}

/// What a drain came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct DrainOutcome {
    /// Connections that ended by themselves after the drain began.
    pub finished: u64,
    /// Connections that were cut when the time was over.
    pub cut: u64,
}

/// The commands. Every call answers within seconds, or says in its description what bounds it.
#[async_trait]
pub trait NodeCommands: Send + Sync {
    /// Ends an agent's session. With `restart` the agent comes back at once, else it stays away.
    ///
    /// # Errors
    /// `PTC_SESSION_NOT_FOUND` when this node does not hold it; `PTC_REMOTE_MANAGEMENT_OFF` when the
    /// agent takes no remote commands.
    async fn stop_session(&self, id: &SessionId, restart: bool) -> Result<(), Error>;

    /// Ends one client connection.
    ///
    /// # Errors
    /// `PTC_API_NOT_FOUND` when this node does not hold it.
    async fn end_connection(&self, id: &ConnectionId) -> Result<(), Error>;

    /// The connections open now, oldest first.
    fn connections(&self) -> Vec<ConnectionView>;

    /// How an endpoint fares here. An endpoint that this node never heard of is `Pending`.
    fn endpoint_status(&self, id: &EndpointId) -> EndpointStatus;

    /// Stops accepting, tells agents, waits up to `timeout` for connections to end and cuts the rest.
    /// Bounded by `timeout` and a second. A second call waits for the same drain.
    async fn drain(&self, timeout: Duration) -> DrainOutcome;
}
