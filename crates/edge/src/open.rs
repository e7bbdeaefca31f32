//! Opening the upstream of an endpoint: over a data channel of its agent's session, or by dialling it.
//!
//! Nothing of the client has been read before, so nothing is ever replayed; a member whose verdict
//! is unknown ends the connection.

use std::sync::Arc;

use portcullis_model::endpoint::{Holder, ProxyVersion};
use portcullis_model::{Code, Error, SessionId};
use portcullis_net::channel::{Finished, OpenHeader, TunnelStream};
use portcullis_net::proxy_protocol::{self, Version};
use portcullis_net::upstream::UpstreamStream;
use portcullis_net::{Counters, RelayEnd, RelayLimits, TcpConn, relay, task, upstream};
use portcullis_store::EndpointEntry;
use portcullis_telemetry::{CloseReason, Ended, Fault, Record};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::defaults::CHANNELS_TRIED_MAX;
use crate::node::Node;
use crate::sessions::Session;
use crate::source::Source;

/// An open upstream.
pub(crate) enum Upstream {
    /// Over a data channel.
    Channel(Tunnel),
    /// Dialled from here.
    Direct(UpstreamStream),
}

/// A stream over a data channel, with what it goes back to.
pub(crate) struct Tunnel {
    stream: TunnelStream,
    place: OwnedSemaphorePermit,
    session: Arc<Session>,
}

impl Upstream {
    /// Moves the bytes until the end.
    pub(crate) async fn relay(
        &mut self,
        client: &mut TcpConn,
        limits: &RelayLimits,
        counters: &Counters,
        kill: &CancellationToken,
    ) -> RelayEnd {
        match self {
            Self::Channel(tunnel) => {
                relay(client, &mut tunnel.stream, limits, counters, kill).await
            }
            Self::Direct(stream) => relay(client, stream, limits, counters, kill).await,
        }
    }

    /// After the relay: settles the open with the agent and gives the channel back. It takes as long as
    /// the agent's upstream needs for its last bytes (bounded in `net`), so it runs in a task.
    pub(crate) fn recycle(self) {
        let Self::Channel(Tunnel {
            stream,
            place,
            session,
        }) = self
        else {
            return; // a dialled socket ends as the relay left it
        };
        let channel = stream.channel();
        drop(task::spawn("recycle", async move {
            let finished = stream.finish().await;
            session.channels.over(channel);
            match finished {
                Finished::Reusable(channel) => session.channels.put(channel, place),
                Finished::Abort { channel, open } => session.abort(channel, open),
                Finished::Closed => {}
            }
        }));
    }
}

/// Opens the endpoint's upstream, and notes how that went on its status.
///
/// # Errors
/// Why it could not be opened; whether another member may be tried is the reason's to say.
pub(crate) async fn open(
    node: &Node,
    endpoint: &EndpointEntry,
    source: Source,
    record: &mut Record,
    deadline: Instant,
) -> Result<Upstream, Ended> {
    let (carrier, opened) = match &endpoint.holder {
        Some(Holder::Session { session, .. }) => {
            record.set_carrier(None, &endpoint.upstream_url);
            (
                "channel",
                channel(node, session, endpoint, source, record, deadline)
                    .await
                    .map(Upstream::Channel),
            )
        }
        Some(Holder::Direct { upstream }) => {
            record.set_carrier(None, upstream);
            (
                "direct",
                direct(node, upstream, endpoint.proxy_protocol, source, deadline)
                    .await
                    .map(Upstream::Direct),
            )
        }
        None => ("none", Err(Error::of(Code::PolicyNotTerminating))),
    };
    opened
        .inspect(|_| noted(node, endpoint, carrier, None))
        .map_err(|error| {
            let mut ended = Ended::open_failed(error);
            // What goes wrong inside an agent is its own trouble, not this node's.
            if carrier == "channel" && ended.reason.fault() == Fault::Us {
                ended.reason = CloseReason::AgentRefused;
            }
            noted(node, endpoint, carrier, Some(&ended));
            ended
        })
}

fn noted(node: &Node, endpoint: &EndpointEntry, carrier: &'static str, ended: Option<&Ended>) {
    let outcome = ended.map_or("ok", |ended| ended.reason.label());
    node.records.metrics().upstream_open(carrier, outcome);
    match ended {
        None => node.status.opened(&endpoint.id),
        // Our own trouble (no descriptors) says nothing of the endpoint.
        Some(ended) if ended.reason.fault() == Fault::Us => {}
        Some(ended) => {
            let code = ended.code().unwrap_or(Code::Internal);
            node.status.failed(
                &endpoint.id,
                &ended.error.clone().unwrap_or_else(|| Error::of(code)),
            );
        }
    }
}

/// Dials from here. The PROXY header goes first, so that nobody else's bytes can stand before it.
async fn direct(
    node: &Node,
    url: &str,
    proxy: Option<ProxyVersion>,
    source: Source,
    deadline: Instant,
) -> Result<UpstreamStream, Error> {
    let upstream: upstream::Upstream = url.parse()?;
    let header = proxy.map(|version| {
        let version = match version {
            ProxyVersion::V1 => Version::V1,
            ProxyVersion::V2 => Version::V2,
        };
        proxy_protocol::encode(version, source.client, source.server, &[])
    });
    upstream::dial(&upstream, &node.resolver, deadline, header.as_deref()).await
}

/// Opens over a channel of the session. A channel that turns out to be dead before the open was sent is
/// replaced by the next.
async fn channel(
    node: &Node,
    session: &SessionId,
    endpoint: &EndpointEntry,
    source: Source,
    record: &mut Record,
    deadline: Instant,
) -> Result<Tunnel, Error> {
    let gone = || {
        Error::new(
            Code::AgentLost,
            "the agent's session is not connected to this node",
        )
    };
    let session = node.sessions.find(session).ok_or_else(gone)?;
    let header = OpenHeader {
        endpoint_id: endpoint.id.clone(),
        connection_id: record.id().clone(),
        client: source.client,
        server: source.server,
    };
    let mut last = gone();
    for _ in 0..CHANNELS_TRIED_MAX {
        let wait = tokio::time::timeout_at(deadline, session.channels.take()).await;
        let (channel, place) = wait.map_err(|_| Error::of(Code::NoChannel))??;
        // From here on a lost session ends this connection; the second look finds one that was lost
        // before the record named it.
        record.set_carrier(Some(&session.id), &endpoint.upstream_url);
        if session.channels.is_closed() {
            return Err(gone());
        }
        let opening = match channel.open(&header, &[]).await {
            Ok(opening) => opening,
            Err(error) => {
                last = error;
                continue;
            }
        };
        return match opening.verdict(deadline).await {
            Ok(stream) => {
                session
                    .channels
                    .began(stream.channel(), stream.open(), stream.abort_handle());
                Ok(Tunnel {
                    stream,
                    place,
                    session,
                })
            }
            Err((error, free)) => {
                if let Some(channel) = free {
                    session.channels.put(channel, place);
                }
                Err(error)
            }
        };
    }
    Err(last)
}
