//! The story of a client connection, from accept to close. Read it top to bottom.
//!
//! `?` means one thing here: close with this reason. Helpers return values; nothing but this file
//! ends a connection, and nothing but the record tells of it.
//!
//! How the client's socket ends is the reason's `Farewell` (FIN after a whole stream and after a
//! policy's refusal, RST after everything else), or what the policy asked for: see `farewell.rs`.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use portcullis_net::{Counters, Relay, RelayEnd, RelayIo as _, RelayLimits, Side};
use portcullis_telemetry::{CloseReason, Ended, KillSwitch, SharedEndpoint, Traffic};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::admission::Admitted;
use crate::cancel::Tap;
use crate::client::ClientIo;
use crate::decide::{self, Decided, Grounds};
use crate::defaults::CLIENT_WATCH_AFTER;
use crate::dialled::{self, Dialled};
use crate::early::Early;
use crate::farewell::{Bounds, Client, Refused};
use crate::node::Node;
use crate::open::{self, Owed, Upstream};
use crate::policy_state::Held;
use crate::reads::Waiting;
use crate::route::Tries;
use crate::source::{self, Source};
use crate::world::Known;
use crate::{limits, names, restrict};

/// The record of a client connection.
pub(crate) type Record = portcullis_telemetry::Record<Bytes>;

/// What a connection has while bytes are relayed. That is what an idle one costs beside its sockets and
/// its entry in the table, so nothing else is kept; a test below bounds it.
struct Open {
    client: Client,
    record: Record,
    established: Established,
    permit: OwnedSemaphorePermit,
}

/// What an established connection runs with.
struct Established {
    upstream: Owed,
    relay: Relay,
    limits: Arc<RelayLimits>,
    /// Gives its places back when the connection is over.
    admitted: Option<Admitted>,
    /// The same of `limit-connections`.
    held: Option<Box<Held>>,
}

/// Serves one accepted connection: record, story, farewell, close. The permit is the place under the
/// node's cap; it was taken before this task was spawned.
pub(crate) fn serve(
    node: Arc<Node>,
    client: TcpStream,
    listener: SocketAddr,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
) -> impl Future<Output = ()> + Send {
    // Boxed, and gone before the relay: getting there takes many times the memory of being there.
    let begin = Box::pin(begin(node, client, listener, peer, permit, None));
    async {
        let Ok(mut open) = begin.await else { return };
        let end = poll_fn(|cx| open.poll_relay(cx)).await;
        drop(open.over(end)); // the record has told of it
    }
}

/// The same for who was let in to one internal endpoint, and hears what came of it.
pub(crate) async fn serve_dialled(
    node: Arc<Node>,
    client: TcpStream,
    listener: SocketAddr,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
    dialled: Arc<Dialled>,
) {
    let begin = begin(node, client, listener, peer, permit, Some(&dialled));
    let ended = match Box::pin(begin).await {
        Ok(mut open) => {
            dialled.established();
            let end = poll_fn(|cx| open.poll_relay(cx)).await;
            open.over(end)
        }
        Err(ended) => ended,
    };
    dialled.over(&ended);
}

/// The record, and the way to an open upstream; when there is none, all is told.
async fn begin(
    node: Arc<Node>,
    client: TcpStream,
    listener: SocketAddr,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
    dialled: Option<&Dialled>,
) -> Result<Open, Ended> {
    let mut client = Client::new(client);
    let bytes = Bytes(Counters::new());
    let record = node.records.open(node.entropy(), listener, peer, bytes);
    if let Some(dialled) = dialled {
        dialled.began(&record);
    }
    // It ends with the establishment: from there on nothing is logged but the record.
    let span = tracing::debug_span!("connection", id = %record.id());
    let (mut admitted, mut known) = (None, Known::default());
    let establishing = establish(
        &node,
        &mut client.conn,
        &record,
        dialled,
        &mut admitted,
        &mut known,
    );
    match establishing.instrument(span).await {
        Ok(established) => Ok(Open {
            client,
            record,
            established,
            permit,
        }),
        Err(refused) => {
            // A client that is kept waiting or is being answered counts as any other: its places are its
            // until it has been told. What was read of it is not needed for that.
            let held = known.take_held();
            drop(known);
            let bounds = Bounds {
                kill: record.kill(),
                counters: &record.traffic().0,
                tarpits: &node.tarpits,
                draining: &node.draining,
            };
            let ended = client.part(refused, bounds).await;
            drop((admitted, held));
            record.close(&ended);
            Err(ended)
        }
    }
}

impl Open {
    /// Moves the bytes until the end.
    fn poll_relay(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        let (kill, counters) = (self.record.kill(), &self.record.traffic().0);
        let (client, established) = (&mut self.client.conn, &mut self.established);
        let Some(upstream) = &mut established.upstream.0 else {
            return Poll::Ready(RelayEnd::Killed); // it is there until `over` takes it
        };
        match kill.poll_killed(cx) {
            Poll::Ready(()) => Poll::Ready(upstream.kill(client)),
            Poll::Pending => {
                let (relay, limits) = (&mut established.relay, &established.limits);
                upstream.poll_relay(cx, relay, client, limits, counters)
            }
        }
    }

    /// Farewell and close; what can be used again goes back.
    fn over(self, end: RelayEnd) -> Ended {
        let Established {
            upstream,
            admitted,
            held,
            ..
        } = self.established;
        let over_agent = matches!(upstream.0, Some(Upstream::Channel(_)));
        let killed = matches!(end, RelayEnd::Killed);
        let ended = reason(end, over_agent, self.record.kill());
        match killed {
            // Whatever it was for: a stream that is cut must not look complete.
            true => self.client.cut(),
            false => self.client.farewell(&ended),
        }
        self.record.close(&ended);
        drop((admitted, held, self.permit));
        upstream.settle();
        ended
    }
}

/// Source, route, admit, decide, open. A failed open, or a member that is full, routes the next one and
/// decides afresh: at most three, under one deadline. So does a change of the registry while the client was
/// waited for. What was read of the client, and what policies took for it, stays through all of them; what it
/// was admitted with outlives a refusal.
async fn establish(
    node: &Node,
    client: &mut ClientIo,
    record: &Record,
    dialled: Option<&Dialled>,
    admitted: &mut Option<Admitted>,
    known: &mut Known,
) -> Result<Established, Refused> {
    let (accepted, server) = (Instant::now(), &node.config.limits);
    let (listener, kill) = (record.listener(), record.kill());
    let (counters, within) = (&record.traffic().0, accepted + server.connect_timeout);
    let source = arrived(node, client, record, dialled, within).await?;
    record.set_client(source.client);
    let (mut tries, early) = (Tries::of(source.client.ip()), Early::new(counters));
    loop {
        let snapshot = node.registry.snapshot();
        let entry = match dialled {
            Some(dialled) => dialled.entry(node, &snapshot, &tries)?,
            None if names::is_awaited(&snapshot, listener, known) => {
                let who = (record, source.client);
                Box::pin(names::read(node, client, &early, who, known, within)).await?;
                continue; // what happened meanwhile counts
            }
            None => names::entry(node, &snapshot, listener, &tries, known)?,
        };
        let (id, account) = (&entry.endpoint.id, &entry.endpoint.account);
        let own = entry.endpoint.limits;
        record.set_entry(Arc::clone(&entry.endpoint) as SharedEndpoint);
        restrict::endpoints(&snapshot, account, source.client.ip())?;
        let caps = limits::caps(server, snapshot.plan(account), &own);
        *admitted = None; // it does not stand in its own way
        let place = match node.admission.admit(id, account, source.client.ip(), caps) {
            Ok(place) => admitted.insert(place),
            Err(full) => {
                tries.failed(id, full.into())?;
                continue;
            }
        };
        let grounds = Grounds::of(node, &snapshot, source, &tries, record);
        let connect = limits::connect_timeout(server, &own);
        let waiting = Waiting::of(client, &early, record, accepted + known.handshake, connect);
        let decided = decide::decide(grounds, entry, known, waiting).await?;
        let Some(target) = decided else { continue };
        let limits = limits::merged(&own, &target.endpoint.limits, &target.limits);
        let (id, account) = (&target.endpoint.id, &target.endpoint.account);
        let most = limits::caps(server, None, &target.endpoint.limits).endpoint;
        node.admission.pass_on(place, id, account, most)?;
        let began = accepted + known.handshake;
        let within = began + limits::connect_timeout(server, &limits);
        early.hold(known.has_front());
        let share = tries.deadline(within, target.others);
        let open = open::open(node, &target.endpoint, source, record, &early, share);
        match opening(kill, client, &early, within, open).await {
            Ok(upstream) => {
                record.established();
                layered(node, client, &early, known, &target);
                let limits = limits::relay_shared(&node.relay_limits, server, &limits);
                return Ok(Established {
                    upstream,
                    relay: Relay::new(&limits, counters),
                    limits,
                    admitted: admitted.take(),
                    held: known.take_held(),
                });
            }
            Err(ended) => tries.failed(id, ended)?,
        }
    }
}

/// Where the connection comes from: a link's own ends, or what the socket and a trusted peer's header say.
async fn arrived(
    node: &Node,
    client: &mut ClientIo,
    record: &Record,
    dialled: Option<&Dialled>,
    within: Instant,
) -> Result<Source, Ended> {
    let (peer, listener) = (record.peer(), record.listener());
    match dialled {
        Some(_) => Ok(dialled::source(peer, listener)),
        None => {
            let reading = source::read(node, client, peer, listener);
            bounded(record.kill(), within, reading).await
        }
    }
}

/// What lies between the client and the relay from here on; for nearly all nothing.
fn layered(node: &Node, client: &mut ClientIo, early: &Early<'_>, known: &Known, target: &Decided) {
    let (begins, said) = early.look(|bytes, _| (bytes.first().copied(), bytes.len()));
    if known.speaks_postgres(begins) {
        let pool = node.cancels.pool_of(&target.entry);
        client.set_tap(Tap::new(&node.cancels, pool, &target.endpoint.id));
    }
    if !target.bandwidths.is_empty() {
        let account = &target.endpoint.account;
        client.set_pacer(node.bandwidths.pacer(account, &target.bandwidths, said));
    }
}

/// One wait of the establishment: until it is done, someone ends the connection, or the time is over.
/// The kill goes first: who was told to end must not go on because the wait was ready too.
async fn bounded<T>(
    kill: &KillSwitch,
    deadline: Instant,
    wait: impl Future<Output = Result<T, Ended>>,
) -> Result<T, Ended> {
    tokio::select! {
        biased;
        () = kill.killed() => Err(killed(kill, false)),
        done = wait => done,
        () = tokio::time::sleep_until(deadline) => Err(CloseReason::EstablishTimeout.into()),
    }
}

/// The same for an open, which also ends when the client goes; what the client says meanwhile is read as
/// far as the open wants it. Most opens are done before anybody
/// looks, so one timer serves both: it begins the watch first, and is the deadline then.
async fn opening<T>(
    kill: &KillSwitch,
    client: &mut ClientIo,
    early: &Early<'_>,
    deadline: Instant,
    open: impl Future<Output = Result<T, Ended>>,
) -> Result<T, Ended> {
    let mut open = pin!(open);
    let watch_from = deadline.min(Instant::now() + CLIENT_WATCH_AFTER);
    let mut timer = pin!(tokio::time::sleep_until(watch_from));
    let mut watching = false;
    poll_fn(|cx| {
        if kill.poll_killed(cx).is_ready() {
            return Poll::Ready(Err(killed(kill, false)));
        }
        loop {
            if let Poll::Ready(done) = open.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            match early.poll_take(cx, client) {
                Poll::Ready(Ok(())) => {} // the open is told
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(failed(CloseReason::ClientReset, &error)));
                }
                Poll::Pending => break,
            }
        }
        loop {
            if watching && let Poll::Ready(error) = client.poll_broken(cx) {
                return Poll::Ready(Err(failed(CloseReason::ClientReset, &error)));
            }
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= deadline {
                return Poll::Ready(Err(CloseReason::EstablishTimeout.into()));
            }
            watching = true;
            timer.as_mut().reset(deadline);
        }
    })
    .await
}

/// The reason that the end of a relay stands for. What breaks on an agent's channel is the agent's: its
/// upstream's end comes as FIN or RST.
fn reason(end: RelayEnd, over_agent: bool, kill: &KillSwitch) -> Ended {
    match end {
        RelayEnd::Finished {
            first: Side::Client,
        } => CloseReason::ClientFinished.into(),
        RelayEnd::Finished {
            first: Side::Upstream,
        } => CloseReason::UpstreamFinished.into(),
        RelayEnd::Reset { by: Side::Client } => CloseReason::ClientReset.into(),
        RelayEnd::Reset { by: Side::Upstream } => CloseReason::UpstreamReset.into(),
        RelayEnd::Failed {
            side: Side::Client,
            source,
        } => failed(CloseReason::ClientFailed, &source),
        RelayEnd::Failed {
            side: Side::Upstream,
            source,
        } => match over_agent {
            true => kill
                .why()
                .unwrap_or_else(|| failed(CloseReason::AgentLost, &source)),
            false => failed(CloseReason::UpstreamFailed, &source),
        },
        RelayEnd::Idle => CloseReason::IdleTimeout.into(),
        RelayEnd::ClientIdle => CloseReason::ClientIdleTimeout.into(),
        RelayEnd::ServerIdle => CloseReason::ServerIdleTimeout.into(),
        RelayEnd::HalfCloseIdle => CloseReason::HalfCloseTimeout.into(),
        RelayEnd::LifetimeOver => CloseReason::LifetimeOver.into(),
        RelayEnd::Killed => killed(kill, true),
    }
}

/// A reason with what the system said.
pub(crate) fn failed(reason: CloseReason, source: &std::io::Error) -> Ended {
    let code = reason.code().unwrap_or(portcullis_model::Code::Internal);
    Ended::with(
        reason,
        portcullis_model::Error::new(code, source.to_string()),
    )
}

/// Why someone ended it. An agent that is lost before its verdict leaves open whether its upstream saw
/// the connection.
pub(crate) fn killed(kill: &KillSwitch, established: bool) -> Ended {
    match kill.why() {
        Some(why) if why.reason == CloseReason::AgentLost && !established => {
            CloseReason::AgentLostUnknown.into()
        }
        Some(why) => why,
        None => CloseReason::Aborted.into(),
    }
}

/// The relay's counters, for whoever looks at the connection while it lives.
pub(crate) struct Bytes(pub(crate) Counters);

impl Traffic for Bytes {
    fn bytes_in(&self) -> u64 {
        self.0.from(Side::Client)
    }
    fn bytes_out(&self) -> u64 {
        self.0.from(Side::Upstream)
    }
    fn first_byte(&self) -> Option<Duration> {
        self.0.first_byte_from(Side::Upstream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With what the runtime adds to a task (128 bytes at most) it fits into 512, the allocator's class.
    const SERVE_BYTES_MAX: usize = 376;

    fn of(end: RelayEnd, over_agent: bool) -> CloseReason {
        reason(end, over_agent, &KillSwitch::default()).reason
    }

    /// The size of the future that a function of five arguments returns.
    fn size_of_future<A, B, C, D, E, F: Future>(_: impl Fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    /// What an idle connection's task costs, beside its sockets and its record.
    #[test]
    fn what_lives_as_long_as_a_connection_is_small() {
        let serve = size_of_future(serve);
        assert!(serve <= SERVE_BYTES_MAX, "the task is {serve} bytes");
    }

    #[tokio::test]
    async fn a_panic_resets_both_sides_and_is_an_internal_error() {
        use tokio::io::AsyncReadExt as _;
        use tokio::net::TcpListener;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("address");
        let mut outside = TcpStream::connect(at).await.expect("connected");
        let (inside, peer) = listener.accept().await.expect("accepted");
        let resolver = portcullis_net::resolve::Resolver::system().expect("resolver");
        let soon = Instant::now() + Duration::from_secs(10);
        let to = format!("tcp://{at}").parse().expect("upstream");
        let dialled = portcullis_net::upstream::dial(&to, &resolver, soon, None).await;
        let (mut behind, _) = listener.accept().await.expect("accepted");

        let records = portcullis_telemetry::Records::new();
        let record = records.open([1; 16], at, peer, Bytes(Counters::new()));
        let client = Client::new(inside);
        let upstream = Owed(Some(Upstream::Direct(dialled.expect("dialled"))));
        let task = tokio::spawn(async move {
            let _held = (client, record, upstream);
            panic!("on purpose");
        });
        assert!(task.await.expect_err("a panic").is_panic());
        for side in [&mut outside, &mut behind] {
            let error = side.read(&mut [0]).await.expect_err("a reset");
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        assert_eq!(records.metrics().count_closed(CloseReason::Internal), 1);
    }

    #[test]
    fn every_end_of_a_relay_has_its_reason() {
        use CloseReason as Reason;
        let broke = |side| RelayEnd::Failed {
            side,
            source: std::io::ErrorKind::TimedOut.into(),
        };
        let (client, upstream) = (Side::Client, Side::Upstream);
        let finished = |first| RelayEnd::Finished { first };
        assert_eq!(of(finished(client), false), Reason::ClientFinished);
        assert_eq!(of(finished(upstream), true), Reason::UpstreamFinished);
        assert_eq!(
            of(RelayEnd::Reset { by: client }, true),
            Reason::ClientReset
        );
        assert_eq!(
            of(RelayEnd::Reset { by: upstream }, true),
            Reason::UpstreamReset
        );
        assert_eq!(of(broke(client), true), Reason::ClientFailed);
        assert_eq!(of(broke(upstream), false), Reason::UpstreamFailed);
        assert_eq!(of(broke(upstream), true), Reason::AgentLost);
        assert_eq!(of(RelayEnd::Idle, false), Reason::IdleTimeout);
        assert_eq!(of(RelayEnd::ClientIdle, false), Reason::ClientIdleTimeout);
        assert_eq!(of(RelayEnd::ServerIdle, false), Reason::ServerIdleTimeout);
        assert_eq!(of(RelayEnd::HalfCloseIdle, false), Reason::HalfCloseTimeout);
        assert_eq!(of(RelayEnd::LifetimeOver, false), Reason::LifetimeOver);
    }

    #[test]
    fn who_ends_a_connection_names_the_reason() {
        let kill = KillSwitch::default();
        kill.kill(CloseReason::AgentLost);
        assert_eq!(killed(&kill, true).reason, CloseReason::AgentLost);
        assert_eq!(killed(&kill, false).reason, CloseReason::AgentLostUnknown);
        let kill = KillSwitch::default();
        kill.kill(CloseReason::SessionStopped);
        let lost = RelayEnd::Failed {
            side: Side::Upstream,
            source: std::io::ErrorKind::Other.into(),
        };
        assert_eq!(
            reason(lost, true, &kill).reason,
            CloseReason::SessionStopped
        );
    }
}
