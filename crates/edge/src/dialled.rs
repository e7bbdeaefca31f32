//! A user's connection to an internal endpoint of the account (`portcullis connect`): it is let in here, and
//! then it is a client like any other, whose story is the one in `connection.rs`.
//!
//! The story serves a socket. What the user says comes in frames, so a pair of sockets of this machine stands
//! between: whatever a policy lays over a client's socket works as it does everywhere, and half-close and reset
//! pass through. What the story ended with is told to the user, which no socket could.
//!
//! Must never: let one in whose credential does not allow it, or outlive that credential.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use portcullis_model::acl::{Acl, BindRequest};
use portcullis_model::endpoint::Binding;
use portcullis_model::id::ConnectionId;
use portcullis_model::url::{self, UrlRequest};
use portcullis_model::{AccountId, Code, CredentialId, EndpointUrl, Error};
use portcullis_net::channel::{Channel, OpenHeader, TunnelStream};
use portcullis_net::control::Writer;
use portcullis_net::{
    Counters, RelayEnd, RelayIo, RelayLimits, Side, TcpConn, relay, socket, task, tls,
};
use portcullis_proto::defaults::VERSIONS;
use portcullis_proto::handshake::choose_version;
use portcullis_proto::message::{Dial, DialAnswer, Ready};
use portcullis_store::Snapshot;
use portcullis_telemetry::{CloseReason, Ended};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::agents::{Pending, refuse};
use crate::connection;
use crate::defaults::{DIALLED_PERMITS, DIALLED_REST, LOOPBACK_TRIES_MAX, REFUSE_TIMEOUT};
use crate::node::Node;
use crate::restrict;
use crate::route::{self, Routed, Tries};
use crate::source::Source;

/// What the story of a dialled connection knows of it, and says of itself.
pub(crate) struct Dialled {
    account: AccountId,
    credential: CredentialId,
    url: EndpointUrl,
    progress: watch::Sender<Progress>,
}

/// How far the story is.
#[derive(Debug, Clone, Default)]
struct Progress {
    id: Option<ConnectionId>,
    established: bool,
    ended: Option<Ended>,
}

impl Dialled {
    /// The member of the endpoint that it reaches.
    ///
    /// # Errors
    /// `forward_target_missing`, or the last failure when every member was tried.
    pub(crate) fn entry(
        &self,
        node: &Node,
        snapshot: &Snapshot,
        tries: &Tries,
    ) -> Result<Routed, Ended> {
        // The story may have waited since it was let in.
        if let Some(why) = self.revoked(snapshot) {
            return Err(why);
        }
        let pool = snapshot.internal_at(&self.account, &self.url);
        let member = pool.and_then(|pool| route::member(node, pool, tries));
        member.ok_or_else(|| tries.or_last(missing(&self.url)))
    }

    /// The record was made.
    pub(crate) fn began(&self, record: &connection::Record) {
        record.add_policy(format!("connected by {}", self.credential));
        let id = record.id();
        self.progress.send_modify(|progress| progress.id = Some(id));
    }

    /// The upstream is open.
    pub(crate) fn established(&self) {
        self.progress
            .send_modify(|progress| progress.established = true);
    }

    /// The story is over.
    pub(crate) fn over(&self, ended: &Ended) {
        self.progress
            .send_modify(|progress| progress.ended = Some(ended.clone()));
    }

    fn revoked(&self, snapshot: &Snapshot) -> Option<Ended> {
        let code = if snapshot.account(&self.account).is_none() {
            Code::AccountSuspended
        } else if !snapshot.has_credential(&self.credential) {
            Code::CredentialRevoked
        } else {
            return None;
        };
        Some(Ended::with(CloseReason::CredentialRevoked, Error::of(code)))
    }
}

/// Who is at the ends of a dialled connection: its user, and the agent port.
pub(crate) fn source(peer: SocketAddr, listener: SocketAddr) -> Source {
    let canonical = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
    Source {
        client: canonical(peer),
        server: canonical(listener),
    }
}

fn missing(url: &EndpointUrl) -> Ended {
    Ended::with(CloseReason::ForwardTargetMissing, absent(url))
}

fn absent(url: &EndpointUrl) -> Error {
    let message = format!("`{url}` is not online in the account");
    Error::new(Code::ForwardTargetMissing, message)
}

/// Serves a `dial` on the agent port, from its first message to its end. The `pending` slot is given back as
/// soon as it is known who dials.
pub(crate) async fn serve(
    node: Arc<Node>,
    stream: tls::Stream,
    ends: (SocketAddr, SocketAddr),
    dial: Dial,
    pending: Pending,
) {
    let (peer, listener) = ends;
    let (check, (version, dialled)) = match let_in(&node, &dial, peer) {
        Ok(let_in) => (dial.check, let_in),
        Err(error) => {
            tracing::info!(%peer, %error, cause = error.internal, "dial refused");
            let retry = error.code == Code::ServerDraining;
            return refuse(&node, stream, &error, retry).await;
        }
    };
    drop(dial);
    if check {
        // It counts among those that are on their way until it has been told.
        tell_ready(&node, stream, version, dialled.url.clone()).await;
        drop(pending);
        return;
    }
    drop(pending);
    let permits = Arc::clone(&node.permits);
    let Ok(permit) = permits.try_acquire_many_owned(DIALLED_PERMITS) else {
        return refuse(&node, stream, &Error::of(Code::LimitGlobal), true).await;
    };
    let pair = match pair().await {
        Ok(pair) => pair,
        Err(error) => {
            let error = Error::internal(error);
            return refuse(&node, stream, &error, true).await;
        }
    };
    let dialled = Arc::new(dialled);
    let story = Story {
        node: Arc::clone(&node),
        outer: pair.0,
        peer,
        listener,
        permit,
        dialled: Arc::clone(&dialled),
    };
    carry(&node, stream, story, pair.1, &dialled).await;
}

/// Who dials may, and what: the rules for agents, and the credential's for the URL.
fn let_in(node: &Node, dial: &Dial, peer: SocketAddr) -> Result<(u16, Dialled), Error> {
    if node.draining.is_cancelled() {
        return Err(Error::of(Code::ServerDraining));
    }
    let version = choose_version(VERSIONS, dial.versions)?;
    let credential = node
        .registry
        .authenticate_credential(dial.authtoken.expose())?;
    let snapshot = node.registry.snapshot();
    restrict::agent(&snapshot, &credential.account, peer.ip())?;
    let url = internal_url(&dial.url)?;
    // What a credential may not serve it may not reach either.
    Acl::parse(&credential.acl)?.check(BindRequest::Url(Binding::Internal, &url))?;
    if snapshot.internal_at(&credential.account, &url).is_none() {
        return Err(absent(&url));
    }
    let dialled = Dialled {
        account: credential.account.clone(),
        credential: credential.id.clone(),
        url,
        progress: watch::Sender::new(Progress::default()),
    };
    Ok((version, dialled))
}

fn internal_url(text: &str) -> Result<EndpointUrl, Error> {
    match url::parse(text, None)? {
        (Binding::Internal, UrlRequest::Exact(url)) if !url.is_wildcard() => Ok(url),
        _ => Err(Error::of(Code::DialNotInternal)),
    }
}

async fn tell_ready(node: &Node, stream: tls::Stream, version: u16, url: EndpointUrl) {
    let ready = Ready {
        version,
        url,
        server_version: node.config.server_version.clone(),
    };
    let mut writer = Writer::new(stream);
    let told = async {
        writer.send(&DialAnswer::from(ready)).await?;
        writer.close().await
    };
    // Who asks and does not listen needs no answer.
    drop(timeout(REFUSE_TIMEOUT, told).await);
}

/// A connected pair of sockets of this machine: the story's, and ours.
async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let ours = TcpStream::connect(listener.local_addr()?).await?;
    let own = ours.local_addr()?;
    for _ in 0..LOOPBACK_TRIES_MAX {
        let (storys, peer) = listener.accept().await?;
        // Anybody on this machine could have been faster; he is none of ours.
        if peer == own {
            for end in [&storys, &ours] {
                socket::configure(end)?;
            }
            return Ok((storys, ours));
        }
    }
    Err(io::ErrorKind::ConnectionRefused.into())
}

/// What the story begins with.
struct Story {
    node: Arc<Node>,
    outer: TcpStream,
    peer: SocketAddr,
    listener: SocketAddr,
    permit: OwnedSemaphorePermit,
    dialled: Arc<Dialled>,
}

/// The story in a task, and the bytes between it and the user until both are over.
async fn carry(
    node: &Arc<Node>,
    stream: tls::Stream,
    story: Story,
    ours: TcpStream,
    dialled: &Arc<Dialled>,
) {
    let mut progress = dialled.progress.subscribe();
    let (peer, listener) = (story.peer, story.listener);
    drop(task::spawn("dialled connection", story.run()));
    let guard = Revocation::watch(Arc::clone(node), Arc::clone(dialled));
    let Some(id) = began(&mut progress).await else {
        return; // it was over before it had a record, which only a panic does
    };
    let mut inner = Inner::new(ours, progress.clone());
    let deadline = Instant::now() + node.config.limits.connect_timeout;
    let opened = open(node, stream, dialled, id, (peer, listener), deadline).await;
    let mut tunnel = match opened {
        Ok(tunnel) => tunnel,
        Err(error) => {
            tracing::debug!(%peer, %error, cause = error.internal, "who dialled is gone");
            inner.reset();
            return;
        }
    };
    let end = between(&mut tunnel, &mut inner, &mut progress).await;
    drop(inner); // its end may be what the story waits for
    if !matches!(
        end,
        RelayEnd::Finished { .. } | RelayEnd::Reset { by: Side::Client }
    ) {
        let why = timeout(DIALLED_REST, over(&mut progress))
            .await
            .ok()
            .flatten();
        if let Some(why) = why.as_ref().and_then(told) {
            tunnel.reset_with(&why);
        }
    }
    drop(guard);
    // Bounded in `net`. The link ends with its one connection.
    drop(tunnel.finish().await);
}

impl Story {
    async fn run(self) {
        let Self {
            node,
            outer,
            peer,
            listener,
            permit,
            dialled,
        } = self;
        connection::serve_dialled(node, outer, listener, peer, permit, dialled).await;
    }
}

/// Begins the one open of the link.
async fn open(
    node: &Node,
    stream: tls::Stream,
    dialled: &Dialled,
    id: ConnectionId,
    (client, server): (SocketAddr, SocketAddr),
    deadline: Instant,
) -> Result<TunnelStream, Error> {
    let snapshot = node.registry.snapshot();
    let pool = snapshot.internal_at(&dialled.account, &dialled.url);
    let member = pool.and_then(|pool| pool.members.first());
    let header = OpenHeader {
        endpoint_id: member.ok_or_else(|| absent(&dialled.url))?.id.clone(),
        connection_id: id,
        client,
        server,
    };
    let opening = async {
        let opening = Channel::edge(0, stream).open(&header, &[]).await?;
        opening.verdict(deadline).await.map_err(|(error, _)| error)
    };
    timeout_at(deadline, opening)
        .await
        .map_err(|_| Error::of(Code::EstablishTimeout))?
}

/// Moves the bytes. When the story is over first, what it left is still delivered for as long as it moves.
async fn between(
    tunnel: &mut TunnelStream,
    inner: &mut Inner,
    progress: &mut watch::Receiver<Progress>,
) -> RelayEnd {
    let (counters, kill) = (Counters::new(), CancellationToken::new());
    let limits = RelayLimits::default(); // the story has them
    let moved = || counters.from(Side::Client) + counters.from(Side::Upstream);
    let mut relay = pin!(relay(tunnel, inner, &limits, &counters, &kill));
    tokio::select! {
        biased; // an end that is there needs no waiting
        end = &mut relay => return end,
        _ = over(progress) => {}
    }
    loop {
        let before = moved();
        match timeout(DIALLED_REST, &mut relay).await {
            Ok(end) => return end,
            Err(_) if moved() != before => {}
            Err(_) => {
                kill.cancel();
                return relay.await;
            }
        }
    }
}

/// What the user is told of an end. A whole stream needs no words.
fn told(ended: &Ended) -> Option<Error> {
    let code = ended.code()?;
    Some(ended.error.clone().unwrap_or_else(|| Error::of(code)))
}

async fn began(progress: &mut watch::Receiver<Progress>) -> Option<ConnectionId> {
    let began = progress.wait_for(|now| now.id.is_some()).await.ok()?;
    began.id.clone()
}

/// What the story ended with; `None` when it vanished.
async fn over(progress: &mut watch::Receiver<Progress>) -> Option<Ended> {
    let over = progress.wait_for(|now| now.ended.is_some()).await.ok()?;
    over.ended.clone()
}

/// Ends the connection with its credential, for as long as it is held.
struct Revocation(CancellationToken);

impl Revocation {
    fn watch(node: Arc<Node>, dialled: Arc<Dialled>) -> Self {
        let done = CancellationToken::new();
        let until = done.clone();
        let watching = async move {
            let mut snapshots = node.registry.watch();
            // The first look is owed: it may have gone since it was let in.
            snapshots.mark_changed();
            while snapshots.changed().await.is_ok() {
                if let Some(why) = dialled.revoked(&snapshots.borrow_and_update()) {
                    let id = dialled.progress.borrow().id.clone();
                    if id.is_some_and(|id| node.records.live().end(&id, why)) {
                        return;
                    }
                }
            }
        };
        drop(task::spawn(
            "credential of a dialled connection",
            async move {
                tokio::select! {
                    biased;
                    () = until.cancelled() => {}
                    () = watching => {}
                }
            },
        ));
        Self(done)
    }
}

impl Drop for Revocation {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Our end of the pair. A FIN of a story that refused its client is not an end of bytes: the user is told why
/// instead.
struct Inner {
    conn: TcpConn,
    progress: watch::Receiver<Progress>,
    any: bool,
    /// Waits for what the FIN means.
    meaning: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
}

impl Inner {
    fn new(conn: TcpStream, progress: watch::Receiver<Progress>) -> Self {
        Self {
            conn: TcpConn::new(conn),
            progress,
            any: false,
            meaning: None,
        }
    }

    /// Ready with whether the FIN that was read is an end of bytes: of an upstream, or of an answer.
    fn poll_meaning(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let progress = &self.progress;
        let meaning = self.meaning.get_or_insert_with(|| {
            let mut progress = progress.clone();
            Box::pin(async move {
                let decided = |now: &Progress| now.established || now.ended.is_some();
                let decided = progress.wait_for(decided).await;
                decided.is_ok_and(|now| now.established)
            })
        });
        meaning.as_mut().poll(cx)
    }
}

impl AsyncRead for Inner {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.meaning.is_none() {
            ready!(Pin::new(&mut self.conn).poll_read(cx, buf))?;
        }
        if buf.filled().len() > before {
            self.any = true;
        } else if !self.any && !ready!(self.poll_meaning(cx)) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Inner {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.conn).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.conn).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.conn).poll_shutdown(cx)
    }
}

impl RelayIo for Inner {
    fn reset(&mut self) {
        self.conn.reset();
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.conn.poll_broken(cx)
    }
}

#[cfg(test)]
mod tests;
