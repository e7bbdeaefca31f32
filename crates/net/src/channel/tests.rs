//! Channels over real TLS: a client and an upstream, a relay on either end, opens one after another.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use portcullis_model::EndpointId;
use portcullis_model::id::ConnectionId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::relay::{Counters, RelayEnd, RelayLimits, Side, relay};
use crate::socket::{TcpConn, reset_on_drop};
use crate::testing::{SOON, clog, pattern, read_all, soon, tcp_pair, tls_pair};

async fn channel_pair() -> (Channel, Channel) {
    let (edge, agent) = tls_pair().await;
    (Channel::edge(7, edge), Channel::agent(7, agent))
}

fn header() -> OpenHeader {
    OpenHeader {
        endpoint_id: EndpointId::new(1_700_000_000, [1; 16]),
        connection_id: ConnectionId::new(1_700_000_000, [2; 16]),
        client: "192.0.2.7:4711".parse().unwrap(),
        server: "198.51.100.1:20001".parse().unwrap(),
    }
}

fn deadline() -> Instant {
    Instant::now() + SOON
}

pub(super) async fn open_pair(
    edge: Channel,
    agent: Channel,
    first: &[u8],
) -> (TunnelStream, TunnelStream, Bytes) {
    let wanted = header();
    let near = async {
        edge.open(&wanted, first)
            .await
            .unwrap()
            .verdict(deadline())
            .await
            .unwrap()
    };
    let far = async {
        let (got, first, opening) = agent.accept().await.unwrap();
        assert_eq!(got, wanted);
        (opening.opened().await.unwrap(), first)
    };
    let (near, (far, first)) = soon("the open", async { tokio::join!(near, far) }).await;
    (near, far, first)
}

pub(super) type Ended = JoinHandle<(RelayEnd, TunnelStream)>;

/// A client and an upstream at the two ends of one open.
pub(super) struct Bench {
    pub(super) client: TcpStream,
    pub(super) upstream: TcpStream,
    pub(super) edge: Ended,
    pub(super) agent: Ended,
    pub(super) counters: [Arc<Counters>; 2],
}

impl Bench {
    pub(super) async fn start(edge: Channel, agent: Channel) -> Self {
        let (near, far, _) = open_pair(edge, agent, b"").await;
        let (client, edge_socket) = tcp_pair().await;
        let (upstream, agent_socket) = tcp_pair().await;
        let counters = [Arc::new(Counters::new()), Arc::new(Counters::new())];
        let run = |socket: TcpStream, mut tunnel: TunnelStream, edge: bool| {
            let counters = Arc::clone(&counters[usize::from(!edge)]);
            crate::task::spawn("relay", async move {
                let (limits, kill) = (RelayLimits::default(), CancellationToken::new());
                let mut socket = TcpConn::new(socket);
                let end = if edge {
                    relay(&mut socket, &mut tunnel, &limits, &counters, &kill).await
                } else {
                    relay(&mut tunnel, &mut socket, &limits, &counters, &kill).await
                };
                (end, tunnel)
            })
        };
        Self {
            client,
            upstream,
            edge: run(edge_socket, near, true),
            agent: run(agent_socket, far, false),
            counters,
        }
    }

    /// Both ends' relays, and then both channels.
    pub(super) async fn settle(
        edge: Ended,
        agent: Ended,
    ) -> ((RelayEnd, Finished), (RelayEnd, Finished)) {
        let finish = |ended: Ended| async {
            let (end, tunnel) = ended.await.unwrap();
            (end, tunnel.finish().await)
        };
        soon("both ends", async {
            tokio::join!(finish(edge), finish(agent))
        })
        .await
    }
}

pub(super) fn reusable(finished: Finished) -> Channel {
    match finished {
        Finished::Reusable(channel) => channel,
        Finished::Abort { .. } => panic!("the channel was aborted"),
        Finished::Closed | Finished::Settled => panic!("the channel was closed"),
    }
}

pub(super) async fn transfer(
    client: TcpStream,
    upstream: TcpStream,
    up: usize,
    down: usize,
    seed: u64,
) {
    let (sent_up, sent_down) = (pattern(up, seed), pattern(down, seed + 1));
    let side = |stream: TcpStream, sends: Vec<u8>| async move {
        let (mut reader, mut writer) = stream.into_split();
        let writing = crate::task::spawn("writer", async move {
            writer.write_all(&sends).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        let (got, end) = read_all(&mut reader).await;
        end.unwrap();
        writing.await.unwrap();
        got
    };
    let both = async {
        tokio::join!(
            side(client, sent_up.clone()),
            side(upstream, sent_down.clone())
        )
    };
    let (at_client, at_upstream) = soon("both transfers", both).await;
    assert!(at_client == sent_down && at_upstream == sent_up);
}

#[tokio::test]
async fn both_directions_carry_their_bytes() {
    let (mut edge, mut agent) = channel_pair().await;
    for (up, down) in [(0, 0), (1, 1), (70_000, 3_000_000), (5_000_000, 4_000_000)] {
        let bench = Bench::start(edge, agent).await;
        transfer(bench.client, bench.upstream, up, down, 9).await;
        let ((e, edge_channel), (a, agent_channel)) = Bench::settle(bench.edge, bench.agent).await;
        assert!(
            matches!(
                (&e, &a),
                (RelayEnd::Finished { .. }, RelayEnd::Finished { .. })
            ),
            "{e:?} {a:?}"
        );
        (edge, agent) = (reusable(edge_channel), reusable(agent_channel));
    }
}

#[tokio::test]
async fn half_close_keeps_the_other_direction() {
    let (mut edge, mut agent) = channel_pair().await;
    for client_first in [true, false] {
        let bench = Bench::start(edge, agent).await;
        let (mut first, mut second) = if client_first {
            (bench.client, bench.upstream)
        } else {
            (bench.upstream, bench.client)
        };
        first.write_all(b"question").await.unwrap();
        first.shutdown().await.unwrap();
        let (got, end) = soon("the question", read_all(&mut second)).await;
        assert_eq!((got.as_slice(), end.is_ok()), (&b"question"[..], true));
        second.write_all(b"late answer").await.unwrap();
        second.shutdown().await.unwrap();
        let (got, end) = soon("the answer", read_all(&mut first)).await;
        assert_eq!((got.as_slice(), end.is_ok()), (&b"late answer"[..], true));
        let ((_, e), (_, a)) = Bench::settle(bench.edge, bench.agent).await;
        (edge, agent) = (reusable(e), reusable(a));
    }
}

#[tokio::test]
async fn a_reset_with_data_in_flight_reaches_the_other_end_as_reset() {
    let (mut edge, mut agent) = channel_pair().await;
    for by in [Side::Client, Side::Upstream, Side::Client, Side::Upstream] {
        let bench = Bench::start(edge, agent).await;
        let (mut breaks, mut sees) = if by == Side::Client {
            (bench.client, bench.upstream)
        } else {
            (bench.upstream, bench.client)
        };
        breaks.write_all(&pattern(200_000, 1)).await.unwrap();
        sees.write_all(&pattern(200_000, 2)).await.unwrap();
        breaks.read_u8().await.unwrap();
        reset_on_drop(&breaks);
        drop(breaks);
        let settled = crate::task::spawn("settle", Bench::settle(bench.edge, bench.agent));
        let (_, end) = soon("the reset", read_all(&mut sees)).await;
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let ((e, edge_channel), (a, agent_channel)) = settled.await.unwrap();
        assert!(
            matches!(e, RelayEnd::Reset { by: side } if side == by),
            "edge: {e:?}"
        );
        assert!(
            matches!(a, RelayEnd::Reset { by: side } if side == by),
            "agent: {a:?}"
        );
        (edge, agent) = (reusable(edge_channel), reusable(agent_channel));
    }
}

/// A reset behind FIN: nobody reads bytes of that side any more.
#[tokio::test]
async fn a_reset_behind_half_close_reaches_the_upstream() {
    let (edge, agent) = channel_pair().await;
    let mut bench = Bench::start(edge, agent).await;
    bench.client.shutdown().await.unwrap();
    assert_eq!(
        soon("FIN", bench.upstream.read(&mut [0; 1])).await.unwrap(),
        0
    );
    reset_on_drop(&bench.client);
    drop(bench.client);
    let ((_, e), (a, f)) = Bench::settle(bench.edge, bench.agent).await;
    assert!(matches!(a, RelayEnd::Reset { by: Side::Client }), "{a:?}");
    drop((reusable(e), reusable(f)));
}

/// Every byte of an open is its number, and opens end in every way: whole, cut by either end with
/// data in flight, or refused.
#[tokio::test]
async fn a_thousand_opens_share_no_byte() {
    let (mut edge, mut agent) = channel_pair().await;
    for n in 1..=1000_u32 {
        let mark = u8::try_from(n % 251).unwrap();
        if n % 10 == 9 {
            let refused = async {
                edge.open(&header(), &[mark; 100])
                    .await
                    .unwrap()
                    .verdict(deadline())
                    .await
            };
            let refuse = async {
                let (_, first, opening) = agent.accept().await.unwrap();
                assert_eq!(first, vec![mark; 100]);
                opening
                    .refuse(&Error::new(Code::UpstreamRefused, "no"))
                    .await
            };
            let (e, a) = soon("the refusal", async { tokio::join!(refused, refuse) }).await;
            let Err((why, Some(channel))) = e else {
                panic!("open {n} was not refused cleanly")
            };
            assert_eq!(why.code, Code::UpstreamRefused);
            (edge, agent) = (channel, a.unwrap());
            continue;
        }
        let (mut near, mut far, first) = open_pair(edge, agent, &[mark; 3]).await;
        assert_eq!(
            (first.as_ref(), near.open(), far.open()),
            (&[mark; 3][..], n, n)
        );
        let chunk = vec![mark; usize::try_from(n).unwrap() * 37 % 40_000 + 1];
        near.write_all(&chunk).await.unwrap();
        far.write_all(&chunk).await.unwrap();
        tokio::try_join!(near.flush(), far.flush()).unwrap();
        let mut got = vec![0; chunk.len().min(1000)];
        far.read_exact(&mut got).await.unwrap();
        assert!(got.iter().all(|byte| *byte == mark), "open {n}");
        match n % 4 {
            0 => crate::relay::RelayIo::reset(&mut near),
            1 => crate::relay::RelayIo::reset(&mut far),
            2 => {
                crate::relay::RelayIo::reset(&mut near);
                crate::relay::RelayIo::reset(&mut far);
            }
            _ => {
                tokio::try_join!(near.shutdown(), far.shutdown()).unwrap();
                let ((a, end_a), (b, end_b)) =
                    tokio::join!(read_all(&mut near), read_all(&mut far));
                end_a.and(end_b).unwrap();
                assert_eq!(a.len(), chunk.len());
                assert!(a.iter().chain(&b).all(|byte| *byte == mark), "open {n}");
            }
        }
        let (e, a) = soon("the settling", async {
            tokio::join!(near.finish(), far.finish())
        })
        .await;
        (edge, agent) = (reusable(e), reusable(a));
    }
}

#[tokio::test]
async fn first_bytes_go_with_the_open() {
    let (edge, agent) = channel_pair().await;
    let bytes = pattern(16 * 1024, 3);
    let (_near, _far, first) = open_pair(edge, agent, &bytes).await;
    assert!(first == bytes);
    let (edge, _agent) = channel_pair().await;
    assert!(edge.open(&header(), &vec![0; 16 * 1024 + 1]).await.is_err());
}

#[tokio::test]
async fn a_verdict_has_a_deadline_and_the_agent_learns() {
    let (edge, agent) = channel_pair().await;
    let opening = edge.open(&header(), b"").await.unwrap();
    let (_, _, mut at_agent) = agent.accept().await.unwrap();
    let late = Instant::now() + Duration::from_millis(50);
    let Err((why, None)) = opening.verdict(late).await else {
        panic!("no verdict was given")
    };
    assert_eq!(why.code, Code::UpstreamTimeout);
    soon("the agent learns", at_agent.gone()).await;
    assert!(matches!(at_agent.abandon().await, Finished::Closed));
}

#[tokio::test]
async fn an_open_given_up_before_its_verdict_frees_the_channel() {
    let (mut edge, mut agent) = channel_pair().await;
    for crossing in [0, 1, 2] {
        let opening = edge.open(&header(), b"early").await.unwrap();
        let (_, _, mut at_agent) = agent.accept().await.unwrap();
        let agent_side = async {
            match crossing {
                0 => {
                    at_agent.gone().await;
                    reusable(at_agent.abandon().await)
                }
                1 => at_agent
                    .refuse(&Error::of(Code::UpstreamRefused))
                    .await
                    .unwrap(),
                _ => {
                    let mut stream = at_agent.opened().await.unwrap();
                    stream.write_all(b"too late").await.unwrap();
                    let (_, end) = read_all(&mut stream).await;
                    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
                    reusable(stream.finish().await)
                }
            }
        };
        let (e, a) = soon("both ends", async {
            tokio::join!(opening.cancel(), agent_side)
        })
        .await;
        (edge, agent) = (reusable(e), a);
    }
}

#[tokio::test]
async fn a_lost_agent_is_no_verdict() {
    let (edge, agent) = channel_pair().await;
    let opening = edge.open(&header(), b"first").await.unwrap();
    let (_, _, at_agent) = agent.accept().await.unwrap();
    drop(at_agent);
    let Err((why, None)) = soon("the loss", opening.verdict(deadline())).await else {
        panic!("no verdict")
    };
    assert_eq!(why.code, Code::AgentLostUnknown);
}

/// A lost channel is a failure, not a reset of the connection that it carried, and never an end.
#[tokio::test]
async fn a_lost_channel_is_not_an_end() {
    let (edge, agent) = channel_pair().await;
    let (mut near, far, _) = open_pair(edge, agent, b"").await;
    drop(far);
    let (_, end) = soon("the loss", read_all(&mut near)).await;
    assert_ne!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(near.is_lost());
    assert!(matches!(near.finish().await, Finished::Closed));
}

#[tokio::test]
async fn a_dead_idle_channel_is_noticed_before_use() {
    let (mut edge, agent) = channel_pair().await;
    assert!(edge.is_alive());
    drop(agent);
    soon("its death", edge.dead()).await;
    assert!(!edge.is_alive());
    let Err(error) = edge.open(&header(), b"").await else {
        panic!("opened a dead channel")
    };
    assert_eq!(error.code, Code::AgentLost);
}

#[tokio::test]
async fn a_refused_channel_says_why() {
    let (mut edge, agent) = tls_pair().await;
    let agent = Channel::agent(1, agent);
    let fatal = portcullis_proto::message::Fatal {
        code: Code::AgentFenced,
        message: "a newer session".to_owned(),
        retry: false,
    };
    let refusal =
        portcullis_proto::codec::encode(&portcullis_proto::EdgeMessage::Error(fatal)).unwrap();
    edge.write_all(&refusal).await.unwrap();
    edge.flush().await.unwrap();
    let Err(error) = soon("the refusal", agent.accept()).await else {
        panic!("accepted")
    };
    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::AgentFenced, "a newer session")
    );
}

#[tokio::test]
async fn what_the_protocol_forbids_closes_the_channel() {
    for wrong in [
        &[9, 0, 0, 0, 0, 0, 0, 1][..],
        &[4, 0, 0, 1, 0, 0, 0, 1, 65],
        &[1, 0, 0, 3, 0, 0, 0, 2, 0, 1, 65],
    ] {
        let (mut edge, agent) = tls_pair().await;
        let agent = Channel::agent(1, agent);
        edge.write_all(wrong).await.unwrap();
        edge.flush().await.unwrap();
        let Err(error) = soon("the violation", agent.accept()).await else {
            panic!("accepted {wrong:?}")
        };
        assert_eq!(error.code, Code::ProtocolViolation);
    }
}

/// The upstream reads nothing, so the agent reads nothing from the channel and cannot see a reset
/// there: it is told on the control connection.
#[tokio::test]
async fn a_reset_behind_a_clogged_channel_is_told_elsewhere() {
    let (edge, agent) = channel_pair().await;
    let (near, far, _) = open_pair(edge, agent, b"").await;
    let (client, edge_socket) = tcp_pair().await;
    let (mut upstream, agent_socket) = tcp_pair().await;
    let abort = far.abort_handle();
    let run = |socket: TcpStream, mut tunnel: TunnelStream, is_edge: bool| async move {
        let (limits, counters, kill) = (
            RelayLimits::default(),
            Counters::new(),
            CancellationToken::new(),
        );
        let mut socket = TcpConn::new(socket);
        let end = if is_edge {
            relay(&mut socket, &mut tunnel, &limits, &counters, &kill).await
        } else {
            relay(&mut tunnel, &mut socket, &limits, &counters, &kill).await
        };
        drop(socket);
        (end, tunnel.finish().await)
    };
    let at_edge = crate::task::spawn("edge", run(edge_socket, near, true));
    let at_agent = crate::task::spawn("agent", run(agent_socket, far, false));
    clog(&client).await;
    reset_on_drop(&client);
    drop(client);
    let (end, finished) = soon("the edge", at_edge).await.unwrap();
    assert!(
        matches!(end, RelayEnd::Reset { by: Side::Client }),
        "{end:?}"
    );
    assert!(matches!(
        finished,
        Finished::Abort {
            channel: 7,
            open: 1
        }
    ));
    abort.abort();
    let (_, finished) = soon("the agent", at_agent).await.unwrap();
    assert!(matches!(finished, Finished::Closed));
    let (_, end) = soon("the upstream's reset", read_all(&mut upstream)).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_late_abort_does_not_hit_the_next_open() {
    let (edge, agent) = channel_pair().await;
    let (mut near, mut far, _) = open_pair(edge, agent, b"").await;
    let late = far.abort_handle();
    tokio::try_join!(near.shutdown(), far.shutdown()).unwrap();
    let (a, b) = tokio::join!(read_all(&mut near), read_all(&mut far));
    a.1.and(b.1).unwrap();
    let (e, a) = tokio::join!(near.finish(), far.finish());
    let (mut near, mut far, _) = open_pair(reusable(e), reusable(a), b"").await;
    late.abort();
    near.write_all(b"x").await.unwrap();
    near.flush().await.unwrap();
    assert_eq!(soon("x", far.read_u8()).await.unwrap(), b'x');
}

#[tokio::test]
async fn the_peers_reason_comes_with_its_reset() {
    let (edge, agent) = channel_pair().await;
    let (mut near, mut far, _) = open_pair(edge, agent, b"").await;
    far.reset_with(&Error::new(Code::UpstreamUnreachable, "gone"));
    let settle = crate::task::spawn("agent", far.finish());
    let (_, end) = soon("the reset", read_all(&mut near)).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(near.peer_reason().unwrap().message, "gone");
    drop(reusable(near.finish().await));
    drop(reusable(settle.await.unwrap()));
}

#[tokio::test]
async fn an_idle_stream_is_small() {
    assert!(
        size_of::<TunnelStream>() <= 160,
        "{} bytes",
        size_of::<TunnelStream>()
    );
    assert!(size_of::<Arc<Link>>() == 8);
}
