//! The story of a client connection, from accept to close. Read it top to bottom.
//!
//! `?` means one thing here: close with this reason. Helpers return values; nothing but this file
//! ends a connection, and nothing but the record tells of it.
//!
//! How the client's socket ends is the reason's [`Farewell`]: FIN after a whole stream and after
//! a policy's refusal, RST after everything else, so that a cut stream never looks complete.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_net::{Counters, RelayEnd, RelayIo as _, RelayLimits, Side, TcpConn};
use portcullis_policy::Conn;
use portcullis_telemetry::close::Farewell;
use portcullis_telemetry::{CloseReason, Ended, KillSwitch, Record, Traffic};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::admission::Admitted;
use crate::defaults::CLIENT_WATCH_AFTER;
use crate::node::Node;
use crate::open::{self, Upstream};
use crate::route::Tries;
use crate::{decide, limits, route, source};

/// What an established connection runs with.
struct Established {
    upstream: Upstream,
    limits: RelayLimits,
    /// Gives its places back when the connection is over.
    _admitted: Admitted,
}

/// Serves one accepted connection: record, story, farewell, close. The permit is the place under the
/// node's cap; it was taken before this task was spawned.
pub(crate) async fn serve(
    node: Arc<Node>,
    client: TcpStream,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
) {
    let Ok(listener) = client.local_addr() else {
        return; // reset between accept and here: there is no connection to tell of
    };
    let listener = SocketAddr::new(listener.ip().to_canonical(), listener.port());
    let mut client = TcpConn::new(client);
    let mut record = node.records.open(node.connection_id(), listener, peer);
    let span = tracing::debug_span!("connection", id = %record.id());
    let (ended, upstream) = story(&node, &mut client, &mut record)
        .instrument(span)
        .await;
    farewell(client, &ended).await;
    record.close(&ended);
    drop(permit);
    if let Some(upstream) = upstream {
        upstream.recycle();
    }
}

/// Everything that happens to a connection, in order.
async fn story(
    node: &Node,
    client: &mut TcpConn,
    record: &mut Record,
) -> (Ended, Option<Upstream>) {
    let counters = Arc::new(Counters::new());
    let kill = record.kill().clone();
    let mut established = match establish(node, client, record, &kill, &counters).await {
        Ok(established) => established,
        Err(ended) => return (ended, None),
    };
    let end = established
        .upstream
        .relay(client, &established.limits, &counters, kill.token())
        .await;
    let over_agent = matches!(established.upstream, Upstream::Channel(_));
    (reason(end, over_agent, &kill), Some(established.upstream))
}

/// Source, route, admit, decide, open. A failed open, or a member that is full, routes the next one and
/// decides afresh: at most three, under one deadline.
async fn establish(
    node: &Node,
    client: &mut TcpConn,
    record: &mut Record,
    kill: &KillSwitch,
    counters: &Arc<Counters>,
) -> Result<Established, Ended> {
    let (accepted, server) = (Instant::now(), &node.config.limits);
    let (peer, listener) = (record.peer(), record.listener());
    let within = accepted + server.connect_timeout;
    let source = bounded(kill, within, source::read(node, client, peer, listener)).await?;
    record.set_client(source.client);
    let mut tries = Tries::default();
    loop {
        let snapshot = node.registry.snapshot();
        let entry = route::entry(node, &snapshot, listener, &tries)?;
        let (id, account, own) = (
            &entry.endpoint.id,
            &entry.endpoint.account,
            entry.endpoint.limits,
        );
        record.set_entry(&entry.endpoint);
        let caps = limits::caps(server, snapshot.plan(account), &own);
        let admitted = node.admission.admit(id, account, source.client.ip(), caps);
        let mut admitted = match admitted {
            Ok(admitted) => admitted,
            Err(full) => {
                tries.failed(id, full.into())?;
                continue;
            }
        };
        let conn = Conn::new(source.client, source.server);
        let target = decide::decide(node, &snapshot, entry, conn, &tries, record)?;
        let limits = limits::merged(&own, &target.endpoint.limits);
        admitted.pass_on(
            &target.endpoint.id,
            limits::caps(server, None, &target.endpoint.limits).endpoint,
        )?;
        let within = accepted + limits::connect_timeout(server, &limits);
        let share = tries.deadline(within, target.others);
        let open = open::open(node, &target.endpoint, source, record, share);
        match bounded(kill, within, unless_gone(client, open)).await {
            Ok(upstream) => {
                record.established(Arc::new(Bytes(Arc::clone(counters))));
                let limits = limits::relay(server, &limits);
                return Ok(Established {
                    upstream,
                    limits,
                    _admitted: admitted,
                });
            }
            Err(ended) => tries.failed(&target.endpoint.id, ended)?,
        }
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
        () = kill.token().cancelled() => Err(killed(kill, false)),
        done = wait => done,
        () = tokio::time::sleep_until(deadline) => Err(CloseReason::EstablishTimeout.into()),
    }
}

/// An open, until the client has gone. Most opens are done before anybody looks.
async fn unless_gone<T>(
    client: &mut TcpConn,
    open: impl Future<Output = Result<T, Ended>>,
) -> Result<T, Ended> {
    let gone = async {
        tokio::time::sleep(CLIENT_WATCH_AFTER).await;
        std::future::poll_fn(|cx| client.poll_broken(cx)).await
    };
    tokio::select! {
        biased;
        done = open => done,
        error = gone => Err(failed(CloseReason::ClientReset, &error)),
    }
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
        RelayEnd::Killed => killed(kill, true),
    }
}

fn failed(reason: CloseReason, source: &std::io::Error) -> Ended {
    let code = reason.code().unwrap_or(portcullis_model::Code::Internal);
    Ended::with(
        reason,
        portcullis_model::Error::new(code, source.to_string()),
    )
}

/// Why someone ended it. An agent that is lost before its verdict leaves open whether its upstream saw
/// the connection.
fn killed(kill: &KillSwitch, established: bool) -> Ended {
    match kill.why() {
        Some(why) if why.reason == CloseReason::AgentLost && !established => {
            CloseReason::AgentLostUnknown.into()
        }
        Some(why) => why,
        None => CloseReason::Aborted.into(),
    }
}

/// Closes the client's side as the reason has it.
async fn farewell(mut client: TcpConn, ended: &Ended) {
    match ended.reason.farewell() {
        Farewell::Reset => client.reset(),
        // The relay has shut it down already, and a second time harms nothing. An error means that the
        // client has gone: there is nobody to say goodbye to.
        Farewell::Fin => drop(client.shutdown().await),
    }
}

/// The relay's counters, for whoever looks at the connection while it lives.
struct Bytes(Arc<Counters>);

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

    fn of(end: RelayEnd, over_agent: bool) -> CloseReason {
        reason(end, over_agent, &KillSwitch::default()).reason
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
