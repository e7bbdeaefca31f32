//! Tunnel sessions: agents that are connected.

use std::net::IpAddr;

use portcullis_model::{Timestamp, TunnelSession};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Ref, envelope};
use crate::web::Links;

/// A session of an agent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TunnelSession)]
pub(crate) struct SessionView {
    /// `ts_…`
    id: String,
    /// Where it can be read.
    uri: String,
    agent_version: String,
    /// What it authenticated with.
    credential: Ref,
    /// The agent's address as the server sees it.
    #[schema(value_type = String)]
    ip: IpAddr,
    metadata: String,
    os: String,
    region: String,
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// `portcullis/1`
    transport: &'static str,
    /// The installation: the same across restarts.
    agent_id: String,
    /// Counts up with every start of the agent.
    generation: u64,
    arch: String,
    hostname: String,
    /// The node that holds it.
    node: String,
}

envelope! {
    /// A page of sessions.
    TunnelSessionList { tunnel_sessions: SessionView }
}

impl SessionView {
    pub(crate) fn new(links: &Links, record: &TunnelSession) -> Self {
        Self {
            id: record.id.to_string(),
            uri: links.to("tunnel_sessions", &record.id),
            agent_version: record.agent_version.clone(),
            credential: Ref::new(links, "credentials", &record.credential),
            ip: record.ip,
            metadata: record.metadata.clone(),
            os: record.os.clone(),
            region: record.region.clone(),
            started_at: record.started_at,
            transport: "portcullis/1",
            agent_id: record.agent.to_string(),
            generation: record.generation,
            arch: record.arch.clone(),
            hostname: record.hostname.clone(),
            node: record.node.clone(),
        }
    }
}
