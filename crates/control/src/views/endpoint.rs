//! Endpoints, cloud and agent, as one collection.

use portcullis_model::endpoint::ProxyVersion;
use portcullis_model::{EndpointType, PoolStrategy, Timestamp};
use portcullis_policy::Notice;
use portcullis_store::{EndpointEntry, Snapshot};
use portcullis_telemetry::{EndpointHealth, EndpointState, EndpointStatus};
use serde::Serialize;
use utoipa::ToSchema;

use super::limits::Limits;
use super::problem::Problem;
use super::{Ref, envelope};
use crate::web::Links;
use crate::web::id::TunnelId;

/// An endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Endpoint)]
pub(crate) struct EndpointView {
    /// `ep_…`
    id: String,
    /// Where it can be read.
    uri: String,
    /// The region of its address, `global` where it has none.
    region: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// The whole URL, with its port.
    url: String,
    /// The same as `url`.
    public_url: String,
    /// `tcp` or `tls`
    proto: &'static str,
    /// `tcp` or `tls`
    scheme: &'static str,
    /// `host:port`
    hostport: String,
    host: String,
    port: u16,
    /// `cloud`, or `ephemeral` for an agent's.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Chosen by the agent; empty for cloud endpoints.
    name: String,
    description: String,
    metadata: String,
    /// The Traffic Policy as given, YAML or JSON.
    traffic_policy: String,
    /// What its writer should know, though it works; such as which rule waits for a request.
    traffic_policy_notices: Vec<NoticeView>,
    /// One of `public`, `internal`, `kubernetes`.
    bindings: Vec<&'static str>,
    pooling_enabled: bool,
    /// The account.
    principal: Ref,
    /// Always null here.
    #[schema(required)]
    domain: Option<Ref>,
    /// The reserved address that it stands on.
    #[schema(required)]
    tcp_addr: Option<Ref>,
    /// An agent's endpoint under its older name.
    #[schema(required)]
    tunnel: Option<Ref>,
    /// Always null here.
    #[schema(required)]
    edge: Option<Ref>,
    /// The session of the agent that serves it.
    #[schema(required)]
    tunnel_session: Option<Ref>,
    /// What it forwards to; empty for cloud endpoints.
    upstream_url: String,
    /// Always empty here.
    upstream_protocol: &'static str,
    /// PROXY protocol towards the upstream: `1`, `2` or null.
    #[schema(required)]
    proxy_protocol: Option<&'static str>,
    limits: Limits,
    /// `programmed`: clients reach it; `pending`: about to be; `failed`: see `error`.
    status: &'static str,
    /// Why it can't be reached.
    #[schema(required)]
    error: Option<Problem>,
    /// The last failed open of its upstream; null while opens work.
    #[schema(required)]
    last_upstream_error: Option<Problem>,
    /// Client connections now.
    connections_open: u64,
    /// What becomes of open connections when the policy changes: `keep`, `reevaluate` or `drain`.
    on_change: &'static str,
    /// How members of its pool are chosen: `random`, `weighted`, `least-connections`, `random-two` or
    /// `hash-client-ip`. The oldest member's counts; see `pool_strategy_in_use`.
    pool_strategy: &'static str,
    /// The strategy of its pool: the oldest member's.
    pool_strategy_in_use: &'static str,
    /// Its share beside the other members.
    weight: u32,
    health: HealthView,
}

/// Whether the upstream of an endpoint can be counted on, by this node's or its agent's checks and by opens.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EndpointHealth)]
pub(crate) struct HealthView {
    /// `online`; `degraded`: the last open or check failed; `unhealthy`: its checks fail, and other members
    /// of its pool are chosen.
    status: &'static str,
    /// What speaks against it.
    #[schema(required)]
    reason: Option<Problem>,
    /// Since when it has this status; null where nothing has been seen of it.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Its last check. Of an agent's the last one that was told: each that fails, and what changes.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    checked_at: Option<Timestamp>,
    /// Checks or opens in a row that failed.
    consecutive_failures: u32,
    /// Until when other members of its pool go first, because opens failed.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    ejected_until: Option<Timestamp>,
}

impl From<EndpointHealth> for HealthView {
    fn from(health: EndpointHealth) -> Self {
        Self {
            status: health.state.as_str(),
            reason: health
                .reason
                .map(|error| Problem::new(&error, health.checked_at)),
            since: health.since,
            checked_at: health.checked_at,
            consecutive_failures: health.consecutive_failures,
            ejected_until: health.ejected_until,
        }
    }
}

/// What the writer of a Traffic Policy should know.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TrafficPolicyNotice)]
pub(crate) struct NoticeView {
    /// Where in the document, such as `on_http_request[1]`.
    path: String,
    /// What to know.
    message: String,
}

envelope! {
    /// A page of endpoints.
    EndpointList { endpoints: EndpointView }
}

impl EndpointView {
    pub(crate) fn new(
        links: &Links,
        snapshot: &Snapshot,
        record: &portcullis_model::Endpoint,
        status: EndpointStatus,
    ) -> Self {
        let (state, error) = match &status.state {
            EndpointState::Programmed => ("programmed", None),
            EndpointState::Pending => ("pending", None),
            EndpointState::Failed(error) => ("failed", Some(Problem::new(error, None))),
        };
        let agent = record.kind == EndpointType::Agent;
        Self {
            id: record.id.to_string(),
            uri: links.to("endpoints", &record.id),
            region: record.region.clone(),
            created_at: record.created_at,
            updated_at: record.updated_at,
            url: record.url.to_string(),
            public_url: record.url.to_string(),
            proto: record.url.scheme().as_str(),
            scheme: record.url.scheme().as_str(),
            hostport: record.url.hostport(),
            host: record.url.host().to_owned(),
            port: record.url.port(),
            kind: if agent { "ephemeral" } else { "cloud" },
            name: record.name.clone(),
            description: record.description.clone(),
            metadata: record.metadata.clone(),
            traffic_policy: record.traffic_policy.clone(),
            traffic_policy_notices: Vec::new(),
            bindings: vec![record.binding.as_str()],
            pooling_enabled: record.pooling_enabled,
            principal: Ref::new(links, "accounts", &record.account),
            domain: None,
            tcp_addr: record
                .addr
                .as_ref()
                .map(|id| Ref::new(links, "reserved_addrs", id)),
            tunnel: agent.then(|| Ref::new(links, "tunnels", TunnelId(record.id.clone()))),
            edge: None,
            tunnel_session: record
                .session()
                .map(|id| Ref::new(links, "tunnel_sessions", id)),
            upstream_url: record.upstream_url.clone(),
            upstream_protocol: "",
            proxy_protocol: record.proxy_protocol.map(|version| match version {
                ProxyVersion::V1 => "1",
                ProxyVersion::V2 => "2",
            }),
            limits: record.limits.into(),
            status: state,
            error,
            last_upstream_error: status
                .last_upstream_error
                .map(|last| Problem::new(&last.error, Some(last.at))),
            connections_open: status.connections_open,
            on_change: record.on_change.as_str(),
            pool_strategy: record.pool.strategy.as_str(),
            pool_strategy_in_use: pool_strategy(snapshot, record).as_str(),
            weight: record.pool.weight,
            health: status.health.into(),
        }
    }

    pub(crate) fn of_entry(
        links: &Links,
        snapshot: &Snapshot,
        entry: &EndpointEntry,
        status: EndpointStatus,
    ) -> Self {
        let policy = entry.policy().ok().flatten();
        let notices = policy.map(|policy| policy.notices()).unwrap_or_default();
        Self::new(links, snapshot, entry.record(), status).with_notices(notices)
    }

    /// With what is to be known of its policy.
    pub(crate) fn with_notices(mut self, notices: &[Notice]) -> Self {
        let view = |notice: &Notice| NoticeView {
            path: notice.path.clone(),
            message: notice.message.clone(),
        };
        self.traffic_policy_notices = notices.iter().map(view).collect();
        self
    }
}

/// The strategy of the pool that an endpoint stands in: the oldest member's.
fn pool_strategy(snapshot: &Snapshot, record: &portcullis_model::Endpoint) -> PoolStrategy {
    let pool = snapshot.pool_of(record);
    let oldest = pool.and_then(|pool| pool.members.first());
    oldest.map_or(record.pool.strategy, |oldest| oldest.pool.strategy)
}
