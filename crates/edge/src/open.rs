//! Opening the upstream of an endpoint: over its agent's session, or by dialling it.
//!
//! Over a session an open begins on a carrier, or on a channel of its own where there is none. What the
//! client says meanwhile goes along, and is said again to the next member after a refusal; a member whose
//! verdict is unknown ends the connection.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use portcullis_model::endpoint::{Holder, ProxyVersion};
use portcullis_model::{Code, Error, SessionId};
use portcullis_net::channel::{self, EdgeOpening, Exchange, NotOpened, OpenHeader, TunnelStream};
use portcullis_net::proxy_protocol::{self, Version};
use portcullis_net::upstream::UpstreamStream;
use portcullis_net::{Counters, Relay, RelayEnd, RelayIo as _, RelayLimits, task, upstream};
use portcullis_store::EndpointEntry;
use portcullis_telemetry::{CloseReason, Ended, Fault};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::client::ClientIo;
use crate::connection::{self, Record};
use crate::defaults::CHANNELS_TRIED_MAX;
use crate::early::Early;
use crate::health;
use crate::node::Node;
use crate::session::exchange;
use crate::sessions::Session;
use crate::source::Source;

/// An open upstream.
pub(crate) enum Upstream {
    /// Over an agent's session. Boxed: a dialled one is a third of it.
    Channel(Box<Tunnel>),
    /// Dialled from here.
    Direct(UpstreamStream),
}

/// A stream over an agent's session, with what it goes back to.
pub(crate) struct Tunnel {
    stream: TunnelStream,
    session: Arc<Session>,
}

impl Upstream {
    /// Moves what can be moved now.
    pub(crate) fn poll_relay(
        &mut self,
        cx: &mut Context<'_>,
        state: &mut Relay,
        client: &mut ClientIo,
        limits: &RelayLimits,
        counters: &Counters,
    ) -> Poll<RelayEnd> {
        match self {
            Self::Channel(tunnel) => state.poll(cx, client, &mut tunnel.stream, limits, counters),
            Self::Direct(stream) => state.poll(cx, client, stream, limits, counters),
        }
    }

    /// Ends both sides with a reset, because somebody said so.
    pub(crate) fn kill(&mut self, client: &mut ClientIo) -> RelayEnd {
        match self {
            Self::Channel(tunnel) => Relay::cut(client, &mut tunnel.stream, RelayEnd::Killed),
            Self::Direct(stream) => Relay::cut(client, stream, RelayEnd::Killed),
        }
    }

    /// After the relay: settles the open with the agent. An open on a carrier has nothing to wait for.
    fn recycle(self) {
        let Self::Channel(tunnel) = self else {
            return; // a dialled socket ends as the relay left it
        };
        let Tunnel { stream, session } = *tunnel;
        if let Some(settling) = stream.settle() {
            exchange::settle(&session, settling);
        }
    }
}

/// An upstream that is owed an end: dropped without one (a panic, a client that left, a time that was over) it
/// is reset, for what it was told must not look complete. A channel that is dropped cuts itself.
pub(crate) struct Owed(pub(crate) Option<Upstream>);

impl Owed {
    /// It has got its end from the relay; what can be used again goes back.
    pub(crate) fn settle(mut self) {
        if let Some(upstream) = self.0.take() {
            upstream.recycle();
        }
    }

    /// Asks the upstream PostgreSQL's way for TLS, as its client has asked and was answered; its ClientHello comes
    /// next. No byte of the client has gone, so that another member may be tried.
    async fn asked(mut self, deadline: Instant) -> Result<Self, Ended> {
        let asking = async {
            let mut answer = [0];
            match &mut self.0 {
                Some(Upstream::Channel(tunnel)) => {
                    tunnel.stream.write_all(&SSL_REQUEST).await?;
                    tunnel.stream.flush().await?;
                    tunnel.stream.read_exact(&mut answer).await?;
                }
                Some(Upstream::Direct(stream)) => {
                    stream.write_all(&SSL_REQUEST).await?;
                    stream.flush().await?;
                    stream.read_exact(&mut answer).await?;
                }
                None => {} // it is there until it has got its end
            }
            Ok::<_, std::io::Error>(answer)
        };
        let why = match tokio::time::timeout_at(deadline, asking).await {
            Ok(Ok([b'S'])) => return Ok(self),
            Ok(Ok([b'N'])) => "the client asked for TLS, and the upstream takes none".to_owned(),
            Ok(Ok(_)) => "the upstream does not answer as PostgreSQL does".to_owned(),
            Ok(Err(error)) => format!("the upstream did not answer the request for TLS: {error}"),
            Err(_) => return Err(CloseReason::EstablishTimeout.into()),
        };
        let error = Error::new(Code::UpstreamNoTls, why);
        Err(Ended::with(CloseReason::UpstreamNoTls, error))
    }

    /// Says what the client said before, as far as the open did not say it. From the first byte on no other
    /// member may be tried: it would be told the same again.
    async fn told(mut self, bytes: &[u8], deadline: Instant) -> Result<Self, Ended> {
        if bytes.is_empty() {
            return Ok(self);
        }
        let writing = async {
            match &mut self.0 {
                Some(Upstream::Channel(tunnel)) => {
                    tunnel.stream.write_all(bytes).await?;
                    tunnel.stream.flush().await
                }
                Some(Upstream::Direct(stream)) => {
                    stream.write_all(bytes).await?;
                    stream.flush().await
                }
                None => Ok(()), // it is there until it has got its end
            }
        };
        match tokio::time::timeout_at(deadline, writing).await {
            Ok(Ok(())) => Ok(self),
            Ok(Err(error)) => Err(connection::failed(CloseReason::UpstreamFailed, &error)),
            Err(_) => Err(CloseReason::EstablishTimeout.into()),
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if let Some(Upstream::Direct(stream)) = &mut self.0 {
            stream.reset();
        }
    }
}

/// Opens the endpoint's upstream, and notes how that went on its status. Bytes of the client that were
/// sent ahead are told to the record's counters.
///
/// # Errors
/// Why it could not be opened; whether another member may be tried is the reason's to say.
pub(crate) async fn open(
    node: &Node,
    endpoint: &EndpointEntry,
    source: Source,
    record: &Record,
    early: &Early<'_>,
    deadline: Instant,
) -> Result<Owed, Ended> {
    let (over, opened) = match &endpoint.holder {
        Some(Holder::Session { session, .. }) => {
            record.set_carrier(None, &endpoint.upstream_url);
            let opened = tunnel(node, session, endpoint, source, record, early, deadline).await;
            early.over();
            match opened {
                Ok((over, tunnel)) => (over, Ok(Upstream::Channel(Box::new(tunnel)))),
                Err((over, error)) => (over, Err(error)),
            }
        }
        Some(Holder::Direct { upstream }) => {
            record.set_carrier(None, upstream);
            let proxy = endpoint.proxy_protocol;
            let dialled = direct(node, upstream, proxy, source, early, deadline).await;
            (DIRECT, dialled.map(Upstream::Direct))
        }
        None => ("none", Err(Error::of(Code::PolicyNotTerminating))),
    };
    let opened = opened.map_err(|error| {
        let mut ended = Ended::open_failed(error);
        // What goes wrong inside an agent is its own trouble, not this node's.
        if matches!(over, CARRIER | CHANNEL) && ended.reason.fault() == Fault::Us {
            ended.reason = CloseReason::AgentRefused;
        }
        ended
    });
    let opened = match opened {
        Ok(upstream) => {
            let owed = Owed(Some(upstream));
            // Boxed: few are asked, and all would make room for it.
            let owed = match early.is_held() {
                true => Box::pin(owed.asked(deadline)).await,
                false => Ok(owed),
            };
            match owed {
                Ok(owed) => owed.told(&early.untold(), deadline).await,
                Err(ended) => Err(ended),
            }
        }
        Err(ended) => Err(ended),
    };
    noted(node, endpoint, over, opened.as_ref().err());
    opened
}

/// PostgreSQL's `SSLRequest`.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// What opens go over, as the metric says it.
const CARRIER: &str = "carrier";
const CHANNEL: &str = "channel";
const DIRECT: &str = "direct";

fn noted(node: &Node, endpoint: &EndpointEntry, carrier: &'static str, ended: Option<&Ended>) {
    let outcome = ended.map_or("ok", |ended| ended.reason.label());
    node.records.metrics().upstream_open(carrier, outcome);
    match ended {
        None => node.status.opened(&endpoint.id),
        // Our own trouble (no descriptors) says nothing of the endpoint.
        Some(ended) if ended.reason.fault() == Fault::Us => {}
        Some(ended) => {
            let code = ended.code().unwrap_or(Code::Internal);
            let error = ended.error.clone().unwrap_or_else(|| Error::of(code));
            health::open_failed(node, endpoint, &error);
        }
    }
}

/// Dials from here. The PROXY header goes first, so that nobody else's bytes can stand before it.
async fn direct(
    node: &Node,
    url: &str,
    proxy: Option<ProxyVersion>,
    source: Source,
    early: &Early<'_>,
    deadline: Instant,
) -> Result<UpstreamStream, Error> {
    let upstream = node.upstreams.of(url)?;
    let header = proxy.map(|version| {
        let version = match version {
            ProxyVersion::V1 => Version::V1,
            ProxyVersion::V2 => Version::V2,
        };
        proxy_protocol::encode(version, source.client, source.server, &[])
    });
    let stream = upstream::dial(&upstream, &node.resolver, deadline, header.as_deref()).await?;
    if let Some(tcp) = stream.as_tcp() {
        node.config.network.try_apply(tcp);
    }
    early.begun(0, false);
    Ok(stream)
}

/// Opens over the session; and over what, also when it failed.
async fn tunnel(
    node: &Node,
    session: &SessionId,
    endpoint: &EndpointEntry,
    source: Source,
    record: &Record,
    early: &Early<'_>,
    deadline: Instant,
) -> Result<(&'static str, Tunnel), (&'static str, Error)> {
    let session = node
        .sessions
        .find(session)
        .ok_or_else(|| (CHANNEL, gone()))?;
    let header = OpenHeader {
        endpoint_id: endpoint.id.clone(),
        connection_id: record.id(),
        client: source.client,
        server: source.server,
    };
    // A lost session ends every connection that the record says is on it: on a carrier at once, where
    // an open waits for nothing; on a channel once there is one.
    let on = || {
        record.set_carrier(Some(&session.id), &endpoint.upstream_url);
        // The second look finds one that was lost before the record named it.
        if session.channels.is_closed() {
            return Err(gone());
        }
        Ok(())
    };
    let first = early.first();
    let carried = match session.carriers.open(&header, &first) {
        Some(opening) => on().map(|()| opening),
        None => channel(&session, &header, &first, deadline, on).await,
    };
    let opening = carried.map_err(|error| (CHANNEL, error))?;
    let over = match opening.is_on_carrier() {
        true => CARRIER,
        false => CHANNEL,
    };
    early.begun(first.len(), session.carries);
    let awaited = Awaited {
        opening: Some(opening),
        session,
    };
    match awaited.verdict(early, deadline).await {
        Ok(tunnel) => Ok((over, tunnel)),
        Err(error) => Err((over, error)),
    }
}

/// A channel for the open. One that turns out to be dead before the open was sent is
/// replaced by the next.
async fn channel(
    session: &Session,
    header: &OpenHeader,
    first: &[u8],
    deadline: Instant,
    on: impl Fn() -> Result<(), Error>,
) -> Result<EdgeOpening, Error> {
    let mut last = gone();
    for _ in 0..CHANNELS_TRIED_MAX {
        let wait = tokio::time::timeout_at(deadline, session.channels.take()).await;
        let channel = wait.map_err(|_| Error::of(Code::NoChannel))??;
        on()?;
        match channel.open(header, first).await {
            Ok(opening) => return Ok(opening),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn gone() -> Error {
    Error::new(
        Code::AgentLost,
        "the agent's session is not connected to this node",
    )
}

/// An open that waits for its verdict. Dropped while it waits (the client left, or somebody ended it) it
/// is reset, and the channel kept.
struct Awaited {
    opening: Option<EdgeOpening>,
    session: Arc<Session>,
}

impl Awaited {
    /// The verdict. What the client says while it is awaited is told.
    async fn verdict(mut self, early: &Early<'_>, deadline: Instant) -> Result<Tunnel, Error> {
        let verdict = poll_fn(|cx| {
            let Some(opening) = &mut self.opening else {
                return Poll::Ready(Err(NotOpened::Lost(Error::of(Code::Internal))));
            };
            // A link that broke says so to whoever waits for the verdict.
            drop(early.tell(cx, opening));
            opening.poll_verdict(cx)
        });
        let Ok(verdict) = tokio::time::timeout_at(deadline, verdict).await else {
            return Err(channel::late());
        };
        let session = Arc::clone(&self.session);
        match (verdict, self.opening.take()) {
            (Ok(()), Some(opening)) => {
                let mut stream = opening.into_stream();
                if !stream.is_on_carrier() {
                    let (channel, open) = (stream.channel(), stream.open());
                    session.channels.began(channel, open, stream.abort_handle());
                }
                if session.carries {
                    stream.set_exchange(Arc::clone(&session) as Arc<dyn Exchange>);
                }
                Ok(Tunnel { stream, session })
            }
            (Err(NotOpened::Refused(error)), Some(opening)) => {
                if let Some(channel) = opening.refused(deadline).await {
                    session.channels.put(channel);
                }
                Err(error)
            }
            (Err(NotOpened::Lost(error) | NotOpened::Refused(error)), _) => Err(error),
            (Ok(()), None) => Err(Error::of(Code::Internal)),
        }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        let Some(opening) = self.opening.take_if(|opening| !opening.is_on_carrier()) else {
            return; // on a carrier the drop is all that it takes
        };
        let session = Arc::clone(&self.session);
        // Without a runtime there is nobody to settle it; the channel is dropped.
        if let Ok(runtime) = Handle::try_current() {
            drop(task::spawn_on(&runtime, "cancel", async move {
                let (channel, finished) = (opening.channel(), opening.cancel().await);
                if let Some((channel, open)) = session.channels.finished(channel, finished) {
                    session.abort(channel, open);
                }
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use portcullis_net::resolve::Resolver;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A dialled upstream, and its other end.
    async fn dialled() -> (Owed, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("address");
        let resolver = Resolver::system().expect("resolver");
        let soon = Instant::now() + Duration::from_secs(10);
        let to = format!("tcp://{at}").parse().expect("upstream");
        let stream = upstream::dial(&to, &resolver, soon, None).await;
        let (behind, _) = listener.accept().await.expect("accepted");
        (
            Owed(Some(Upstream::Direct(stream.expect("dialled")))),
            behind,
        )
    }

    async fn assert_cut(mut behind: TcpStream) {
        let error = behind.read_to_end(&mut Vec::new()).await;
        let error = error.expect_err("a fragment must not look whole");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }

    /// More than the kernel takes for somebody who does not read.
    const MUCH: usize = 32 * 1024 * 1024;

    #[tokio::test]
    async fn an_upstream_that_was_told_a_part_is_reset() {
        let part = Duration::from_millis(50);
        let (owed, behind) = dialled().await;
        let late = owed.told(&vec![7; MUCH], Instant::now() + part).await;
        let reason = late.err().map(|ended| ended.reason);
        assert_eq!(reason, Some(CloseReason::EstablishTimeout));
        assert_cut(behind).await;

        // The client leaves, or somebody ends the connection: nobody polls it any more.
        let (owed, behind) = dialled().await;
        let much = vec![7; MUCH];
        let telling = owed.told(&much, Instant::now() + Duration::from_secs(60));
        assert!(tokio::time::timeout(part, telling).await.is_err());
        assert_cut(behind).await;
    }

    #[tokio::test]
    async fn an_upstream_that_was_told_all_goes_on() {
        let (owed, mut behind) = dialled().await;
        let soon = Instant::now() + Duration::from_secs(10);
        let owed = owed.told(b"all of it", soon).await.expect("told");
        let mut heard = [0; 9];
        behind.read_exact(&mut heard).await.expect("open");
        assert_eq!(&heard, b"all of it");
        drop(owed);
        assert_cut(behind).await;
    }
}
