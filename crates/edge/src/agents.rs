//! The agent port: accept, TLS, first frame; then a control session or a data channel. A peer that
//! has not said who it is costs one slot, for a bounded time, and never another agent's.
//!
//! Must never: await a handshake in the accept loop, or tell an unknown session from a wrong MAC.

use std::net::SocketAddr;
use std::sync::Arc;

use portcullis_model::{Code, Error};
use portcullis_net::accept::{self, AcceptObserver, AcceptOptions};
use portcullis_net::carrier::Carrier;
use portcullis_net::channel::{Channel, LinkStream};
use portcullis_net::control::{ControlError, Reader, Writer};
use portcullis_net::{socket, task, tls};
use portcullis_proto::handshake::verify_channel_mac;
use portcullis_proto::message::{ChannelHello, EdgeMessage, Fatal, FirstMessage, Hello};
use portcullis_telemetry::Records;
use tokio::io::AsyncWrite;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

mod plain;

use crate::admission::SourceSlot;
use crate::dialled;
use crate::node::Node;
use crate::session;
use crate::sessions::Session;

/// What an unauthenticated connection holds.
pub(crate) struct Pending {
    records: Records,
    _permit: OwnedSemaphorePermit,
    _slot: SourceSlot,
}

impl Pending {
    fn new(records: Records, permit: OwnedSemaphorePermit, slot: SourceSlot) -> Self {
        records.metrics().agent_pending.inc();
        Self {
            records,
            _permit: permit,
            _slot: slot,
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.records.metrics().agent_pending.dec();
    }
}

/// Accepts until the node has stopped, on the runtime of the data path: that is where the sockets of
/// channels belong. Handshakes and sessions run on the other one.
pub(crate) async fn run(node: Arc<Node>, listener: TcpListener) {
    if node.config.plain_links {
        tracing::warn!(
            "agents may bring carriers and channels without TLS: whoever is on the way can read and change what passes there"
        );
    }
    let options = AcceptOptions {
        permits: Arc::clone(&node.agent_permits),
        shutdown: node.stopped.clone(),
        observer: Arc::new(Observer(node.records.clone())),
    };
    let accepting = Arc::clone(&node);
    let done = accept::run(listener, options, move |stream, peer, permit| {
        let most = accepting.config.limits.agent_pending_per_source_max;
        let Some(slot) = accepting.agent_sources.take(peer.ip(), most) else {
            socket::reset_on_drop(&stream);
            accepting.records.metrics().agent_refused(Code::LimitSource);
            return;
        };
        let pending = Pending::new(accepting.records.clone(), permit, slot);
        drop(task::spawn_on(
            &accepting.control,
            "agent connection",
            greet(Arc::clone(&accepting), stream, peer, pending),
        ));
    });
    if let Err(error) = done.await {
        tracing::error!(%error, "the agent port failed; no agent can connect any more");
    }
}

struct Observer(Records);

impl AcceptObserver for Observer {
    fn shed(&self) {
        self.0.metrics().agent_refused(Code::LimitGlobal);
    }
    fn peer_error(&self, _error: &std::io::Error) {
        self.0.metrics().accept_error("peer");
    }
    fn backoff(&self, error: &std::io::Error, pause: std::time::Duration) {
        self.0.metrics().accept_error("resources");
        tracing::warn!(%error, ?pause, "the agent port waits for descriptors or memory");
    }
}

/// TLS and the first frame, by one deadline; then whatever the frame says. A link without TLS says so by
/// its first byte.
async fn greet(node: Arc<Node>, stream: TcpStream, peer: SocketAddr, pending: Pending) {
    let deadline = Instant::now() + node.config.limits.agent_hello_timeout;
    let is_plain = tokio::select! {
        biased;
        () = node.stopped.cancelled() => return,
        is_plain = tokio::time::timeout_at(deadline, plain::begins(&stream)) => is_plain,
    };
    if is_plain == Ok(true) {
        drop(task::spawn_on(
            &node.data,
            "plain link",
            plain::greet(Arc::clone(&node), stream, peer, pending, deadline),
        ));
        return;
    }
    let local = stream.local_addr();
    let first = first_message(&node, stream, deadline);
    let greeted = tokio::select! {
        biased;
        () = node.stopped.cancelled() => return,
        greeted = tokio::time::timeout_at(deadline, first) => greeted,
    };
    let error = match greeted {
        Err(_) => Error::new(Code::ProtocolViolation, "the peer said nothing in time"),
        Ok(Err(error)) => error,
        Ok(Ok((first, reader))) => match (first, reader.into_inner()) {
            (Ok(Some(FirstMessage::Hello(hello))), Ok(stream)) => {
                return hello_from(node, stream, peer, hello, pending).await;
            }
            (Ok(Some(FirstMessage::Channel(hello))), Ok(stream)) => {
                // From here on its bytes are the data path's.
                let adding = Arc::clone(&node);
                drop(task::spawn_on(&node.data, "add channel", async move {
                    add_channel(&adding, stream, &hello).await;
                    drop(pending);
                }));
                return;
            }
            (Ok(Some(FirstMessage::Carrier(hello))), Ok(stream)) => {
                let carrying = Arc::clone(&node);
                drop(task::spawn_on(&node.data, "carrier", async move {
                    carry(&carrying, stream, &hello, pending).await;
                }));
                return;
            }
            (Ok(Some(FirstMessage::Dial(dial))), Ok(stream)) => {
                // As a client's, its bytes are the data path's.
                let ends = (peer, local.unwrap_or(node.config.agents));
                let dialling = dialled::serve(Arc::clone(&node), stream, ends, dial, pending);
                drop(task::spawn_on(&node.data, "dial", dialling));
                return;
            }
            (Ok(Some(_)), Err(error)) => error,
            (Ok(None), _) => return, // came and went: a port scan, a health check
            (Err(error), stream) => {
                let error = Error::from(error);
                if let Ok(stream) = stream {
                    refuse(&node, stream, &error, false).await;
                    return;
                }
                error
            }
        },
    };
    node.records.metrics().agent_refused(error.code);
    tracing::debug!(%peer, %error, cause = error.internal, "connection to the agent port refused");
}

/// The handshake, and what the peer says first; the reader goes on behind that.
async fn first_message(
    node: &Node,
    stream: TcpStream,
    deadline: Instant,
) -> Result<
    (
        Result<Option<FirstMessage>, ControlError>,
        Reader<tls::Stream>,
    ),
    Error,
> {
    let stream = tls::accept(stream, Arc::clone(&node.config.tls), deadline)
        .await
        .map_err(|error| {
            Error::new(Code::ProtocolViolation, "the TLS handshake failed").with_internal(error)
        })?;
    let mut reader = Reader::new(stream);
    let first = reader.next().await;
    Ok((first, reader))
}

async fn hello_from(
    node: Arc<Node>,
    stream: tls::Stream,
    peer: SocketAddr,
    hello: Hello,
    pending: Pending,
) {
    if let Err((stream, error, retry)) =
        session::serve(Arc::clone(&node), stream, peer, hello, pending).await
    {
        tracing::info!(%peer, %error, cause = error.internal, "agent refused");
        refuse(&node, stream, &error, retry).await;
    }
}

/// A data channel of a session.
async fn add_channel(node: &Node, stream: tls::Stream, hello: &ChannelHello) {
    let Some(session) = owner(node, &stream, hello) else {
        return refuse(node, stream, &Error::of(Code::SessionNotFound), false).await;
    };
    keep_channel(&session, stream, hello);
}

fn keep_channel(session: &Session, stream: impl Into<LinkStream>, hello: &ChannelHello) {
    if let Err(error) = session.channels.add(Channel::edge(hello.channel, stream)) {
        tracing::debug!(session = %session.id, channel = hello.channel, %error, "channel refused");
    }
}

/// A carrier of a session, until it ends. The `pending` slot is given back as soon as it is known whose
/// it is.
async fn carry(node: &Node, stream: tls::Stream, hello: &ChannelHello, pending: Pending) {
    let Some(session) = owner(node, &stream, hello) else {
        return refuse(node, stream, &Error::of(Code::SessionNotFound), false).await;
    };
    drop(pending);
    keep_carrier(&session, stream, hello).await;
}

async fn keep_carrier(session: &Session, stream: impl Into<LinkStream>, hello: &ChannelHello) {
    let (carrier, task) = Carrier::edge(hello.channel, stream, session.carriers.flow());
    if let Err(error) = session.carriers.add(carrier) {
        tracing::debug!(session = %session.id, carrier = hello.channel, %error, "carrier refused");
        return;
    }
    // The agent's opens would be violations, so there is nothing to accept.
    let ended = task.run(drop).await;
    session.carriers.remove(hello.channel);
    if let Err(error) = ended {
        tracing::debug!(session = %session.id, carrier = hello.channel, %error, cause = error.internal, "carrier ended");
    }
}

/// Whose a link is: its MAC proves that it is of the session, and of this very TLS connection.
fn owner(node: &Node, stream: &tls::Stream, hello: &ChannelHello) -> Option<Arc<Session>> {
    let session = node.sessions.find(&hello.session_id);
    let exporter = tls::exporter(stream).ok()?;
    session.filter(|session| {
        let (number, mac) = (hello.channel, &hello.mac);
        verify_channel_mac(&session.key, &session.id, number, &exporter, mac)
    })
}

/// Tells the peer why, and closes.
pub(crate) async fn refuse(
    node: &Node,
    stream: impl AsyncWrite + Unpin,
    error: &Error,
    retry: bool,
) {
    node.records.metrics().agent_refused(error.code);
    let mut writer = Writer::new(stream);
    let last_word = async {
        writer
            .send(&EdgeMessage::from(Fatal::new(error, retry)))
            .await?;
        writer.close().await
    };
    // A peer that does not take the refusal needs none.
    drop(tokio::time::timeout(crate::defaults::REFUSE_TIMEOUT, last_word).await);
}
