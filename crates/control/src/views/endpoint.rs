//! Endpoints, cloud and agent, as one collection.

use portcullis_model::endpoint::ProxyVersion;
use portcullis_model::{EndpointType, Timestamp};
use portcullis_store::EndpointEntry;
use portcullis_telemetry::{EndpointState, EndpointStatus};
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
    /// `tcp`
    proto: &'static str,
    /// `tcp`
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
}

envelope! {
    /// A page of endpoints.
    EndpointList { endpoints: EndpointView }
}

impl EndpointView {
    pub(crate) fn new(
        links: &Links,
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
        }
    }

    pub(crate) fn of_entry(links: &Links, entry: &EndpointEntry, status: EndpointStatus) -> Self {
        Self::new(links, entry.record(), status)
    }
}
