//! Tunnels: ngrok's older view of agents' endpoints, read only.

use std::collections::BTreeMap;

use portcullis_model::{Endpoint, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Ref, envelope};
use crate::web::Links;
use crate::web::id::TunnelId;

/// An agent's endpoint under its older name.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Tunnel)]
pub(crate) struct TunnelView {
    /// `tn_…`, with the same 27 characters as the endpoint's `ep_…`.
    id: String,
    /// Where it can be read.
    uri: String,
    public_url: String,
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    metadata: String,
    proto: &'static str,
    region: String,
    /// Null for what the server itself forwards.
    #[schema(required)]
    tunnel_session: Option<Ref>,
    endpoint: Ref,
    /// Always empty here.
    labels: BTreeMap<String, String>,
    /// Always empty here.
    backends: Vec<Ref>,
    /// The upstream.
    forwards_to: String,
}

envelope! {
    /// A page of tunnels.
    TunnelList { tunnels: TunnelView }
}

impl TunnelView {
    pub(crate) fn new(links: &Links, record: &Endpoint) -> Self {
        let id = TunnelId(record.id.clone());
        Self {
            uri: links.to("tunnels", &id),
            id: id.to_string(),
            public_url: record.url.to_string(),
            started_at: record.created_at,
            metadata: record.metadata.clone(),
            proto: record.url.scheme().as_str(),
            region: record.region.clone(),
            tunnel_session: record
                .session()
                .map(|id| Ref::new(links, "tunnel_sessions", id)),
            endpoint: Ref::new(links, "endpoints", &record.id),
            labels: BTreeMap::new(),
            backends: Vec::new(),
            forwards_to: record.upstream_url.clone(),
        }
    }
}
