//! Live client connections (ours).

use portcullis_model::Timestamp;
use portcullis_telemetry::ConnectionView as Live;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Ref, envelope};
use crate::web::Links;

/// A client connection that is open now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Connection)]
pub(crate) struct ConnectionView {
    /// `cn_…`
    id: String,
    /// Where it can be read.
    uri: String,
    #[schema(value_type = String, format = DateTime)]
    opened_at: Timestamp,
    /// The client's address and port; behind a trusted proxy, what that says.
    client: String,
    /// The other end of the socket.
    peer: String,
    /// The local address it came in on.
    listener: String,
    /// The endpoint that the client reached.
    #[schema(required)]
    entry: Option<Ref>,
    /// The endpoint that serves it: another than `entry` after `forward-internal`.
    #[schema(required)]
    endpoint: Option<Ref>,
    /// The URL of `endpoint`.
    #[schema(required)]
    url: Option<String>,
    #[schema(required)]
    tunnel_session: Option<Ref>,
    #[schema(required)]
    upstream: Option<String>,
    /// Whether the upstream is open.
    established: bool,
    /// Bytes from the client.
    bytes_in: u64,
    /// Bytes to the client.
    bytes_out: u64,
}

envelope! {
    /// A page of connections.
    ConnectionList { connections: ConnectionView }
}

impl ConnectionView {
    pub(crate) fn new(links: &Links, live: &Live) -> Self {
        Self {
            id: live.id.to_string(),
            uri: links.to("connections", &live.id),
            opened_at: live.opened_at,
            client: live.client.to_string(),
            peer: live.peer.to_string(),
            listener: live.listener.to_string(),
            entry: live
                .entry
                .as_ref()
                .map(|id| Ref::new(links, "endpoints", id)),
            endpoint: live
                .endpoint
                .as_ref()
                .map(|id| Ref::new(links, "endpoints", id)),
            url: live.url.clone(),
            tunnel_session: live
                .session
                .as_ref()
                .map(|id| Ref::new(links, "tunnel_sessions", id)),
            upstream: live.upstream.clone(),
            established: live.established,
            bytes_in: live.bytes_in,
            bytes_out: live.bytes_out,
        }
    }
}
