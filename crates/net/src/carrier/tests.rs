//! Carriers over real TLS: opens beside each other, credit, resets, the line for room, and the end.

use std::sync::Mutex;

use bytes::Bytes;
use portcullis_model::EndpointId;
use portcullis_model::id::ConnectionId;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;

use std::task::Context;

use super::*;
use crate::channel::{AgentOpening, Begun, TunnelStream};
use crate::relay::RelayIo as _;
use crate::testing::{SOON, pattern, read_all, soon, tls_pair};

/// An open at the agent.
struct Accepted {
    header: OpenHeader,
    first: Bytes,
    opening: AgentOpening,
}

/// Both ends of a carrier, and what was opened on it.
struct Bench {
    edge: Carrier,
    agent: Carrier,
    accepted: mpsc::Receiver<Accepted>,
    ended: mpsc::Receiver<(&'static str, Result<(), Error>)>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Bench {
    async fn start() -> Self {
        let (near, far) = tls_pair().await;
        let (edge, edge_task) = Carrier::edge(3, near, &Arc::default());
        let (agent, agent_task) = Carrier::agent(3, far, &Arc::default());
        let (opens, accepted) = mpsc::channel(20_000);
        let (ends, ended) = mpsc::channel(2);
        let told = ends.clone();
        let one = crate::task::spawn("edge", async move {
            let end = edge_task.run(|_| panic!("the agent opens nothing")).await;
            told.send(("edge", end)).await.unwrap();
        });
        let other = crate::task::spawn("agent", async move {
            let end = agent_task
                .run(|begun| {
                    let Begun::Open(header, first, opening) = begun else {
                        panic!("nothing moves here");
                    };
                    let accepted = Accepted {
                        header,
                        first,
                        opening,
                    };
                    opens.try_send(accepted).unwrap();
                })
                .await;
            ends.send(("agent", end)).await.unwrap();
        });
        Self {
            edge,
            agent,
            accepted,
            ended,
            tasks: vec![one, other],
        }
    }

    async fn accept(&mut self) -> Accepted {
        soon("an open", self.accepted.recv()).await.unwrap()
    }

    async fn open(&mut self, first: &[u8]) -> (TunnelStream, TunnelStream) {
        let opening = self.edge.open(&header(), first).unwrap();
        let accepted = self.accept().await;
        assert_eq!(accepted.header, header());
        assert_eq!(&accepted.first[..], first);
        let far = accepted.opening.opened().await.unwrap();
        let near = opening.verdict(deadline()).await.unwrap();
        (near, far)
    }

    async fn settled(&self) {
        soon("all released", async {
            while self.edge.live() + self.agent.live() > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        })
        .await;
    }
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

/// Sends both ways at once, to the end, and compares.
async fn exchange(near: TunnelStream, far: TunnelStream, up: usize, down: usize, seed: u64) {
    let side = |stream: TunnelStream, sends: Vec<u8>| async move {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let writing = crate::task::spawn("writer", async move {
            writer.write_all(&sends).await.unwrap();
            writer.shutdown().await.unwrap();
            writer
        });
        let (got, end) = read_all(&mut reader).await;
        end.unwrap();
        let writer = writing.await.unwrap();
        let settling = reader.unsplit(writer).settle();
        assert!(settling.is_none(), "a carrier leaves nothing to settle");
        got
    };
    let (sent_up, sent_down) = (pattern(up, seed), pattern(down, seed + 1));
    let (got_down, got_up) = soon("the exchange", async {
        tokio::join!(side(near, sent_up.clone()), side(far, sent_down.clone()))
    })
    .await;
    assert!(got_up == sent_up && got_down == sent_down);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_arrive_whole_both_ways_beside_each_other() {
    let mut bench = Bench::start().await;
    let mut running = Vec::new();
    for seed in 0..40 {
        let (near, far) = bench.open(b"first").await;
        let size = [0, 1, 100, 16_384, 200_000][seed % 5];
        let exchange = exchange(near, far, size, 3 * size, seed as u64);
        running.push(crate::task::spawn("exchange", exchange));
    }
    for exchange in running {
        exchange.await.unwrap();
    }
    bench.settled().await;
}

/// What an idle open costs on a carrier, beside its place in the table and the stream's few words.
#[test]
fn an_idle_open_is_small() {
    assert!(size_of::<Slot>() <= 320, "{}", size_of::<Slot>());
    assert!(
        size_of::<TunnelStream>() <= 96,
        "{}",
        size_of::<TunnelStream>()
    );
}

#[tokio::test]
async fn a_refusal_carries_its_reason_and_frees_the_number() {
    let mut bench = Bench::start().await;
    let opening = bench.edge.open(&header(), b"").unwrap();
    let accepted = bench.accept().await;
    let why = Error::new(Code::UpstreamUnreachable, "nobody is there");
    assert!(accepted.opening.refuse(&why).await.is_none());
    let (error, channel) = opening.verdict(deadline()).await.unwrap_err();
    assert_eq!(error, why);
    assert!(channel.is_none());
    bench.settled().await;
}

#[tokio::test]
async fn what_is_said_before_the_verdict_is_read_behind_it() {
    let mut bench = Bench::start().await;
    let mut opening = bench.edge.open(&header(), b"one ").unwrap();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    opening.say(&mut cx, b"two ").unwrap();
    opening.say(&mut cx, b"three").unwrap();
    opening.end(&mut cx).unwrap();
    let accepted = bench.accept().await;
    assert_eq!(&accepted.first[..], b"one ");
    let mut far = accepted.opening.opened().await.unwrap();
    let near = opening.verdict(deadline()).await.unwrap();
    let (got, end) = soon("early bytes", read_all(&mut far)).await;
    end.unwrap();
    assert_eq!(got, b"two three");
    exchange(near, far, 0, 500, 1).await;
    bench.settled().await;
}

#[tokio::test]
async fn early_bytes_beyond_the_limit_are_not_sent() {
    let bench = Bench::start().await;
    let mut opening = bench.edge.open(&header(), &[1; 16_000]).unwrap();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    opening.say(&mut cx, &[2; 384]).unwrap();
    assert!(opening.say(&mut cx, &[3; 1]).is_err());
}

#[tokio::test]
async fn an_opening_that_is_dropped_is_gone_for_the_agent() {
    let mut bench = Bench::start().await;
    let opening = bench.edge.open(&header(), b"").unwrap();
    let mut accepted = bench.accept().await;
    drop(opening);
    soon("gone", accepted.opening.gone()).await;
    assert!(matches!(
        accepted.opening.abandon().await,
        crate::channel::Finished::Settled
    ));
    bench.settled().await;
}

#[tokio::test]
async fn a_reset_reaches_the_other_side_with_its_reason_and_nobody_else() {
    let mut bench = Bench::start().await;
    let (mut near, mut far) = bench.open(b"").await;
    let (other_near, other_far) = bench.open(b"").await;
    near.write_all(b"last words").await.unwrap();
    near.reset_with(&Error::new(Code::Internal, "enough"));
    assert!(near.settle().is_none());
    let (got, end) = soon("reset", read_all(&mut far)).await;
    assert_eq!(got, b"last words", "what was said before the reset arrives");
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(far.peer_reason().unwrap().message, "enough");
    assert!(!far.is_lost());
    drop(far);
    exchange(other_near, other_far, 1_000_000, 1_000_000, 8).await;
    bench.settled().await;
}

/// Its window is all that it costs, and it keeps nobody waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stalls_holds_up_nobody() {
    let mut bench = Bench::start().await;
    let (mut stalled, silent) = bench.open(b"").await;
    let written = Arc::new(Mutex::new(0));
    let count = Arc::clone(&written);
    let writer = crate::task::spawn("writer", async move {
        loop {
            match stalled.write(&[1; 10_000]).await {
                Ok(taken) => *count.lock().unwrap() += taken,
                Err(_) => return stalled,
            }
        }
    });
    for seed in 0..20 {
        let (near, far) = bench.open(b"").await;
        exchange(near, far, 300_000, 300_000, seed).await;
    }
    let taken = *written.lock().unwrap();
    assert!(taken <= 64 * 1024, "{taken} bytes were taken");
    drop(silent);
    drop(soon("the writer", writer).await.unwrap());
    bench.settled().await;
}

#[tokio::test]
async fn a_carrier_that_breaks_loses_its_opens() {
    let mut bench = Bench::start().await;
    let (mut near, _far) = bench.open(b"").await;
    let (_, mut unread) = bench.open(b"").await;
    let waiting = bench.edge.open(&header(), b"").unwrap();
    bench.tasks.remove(0).abort();
    let (_, end) = soon("loss", read_all(&mut near)).await;
    assert_ne!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(near.is_lost());
    let (error, _) = waiting.verdict(deadline()).await.unwrap_err();
    assert_eq!(error.code, Code::AgentLostUnknown);
    let (_, end) = soon("loss", read_all(&mut unread)).await;
    assert_ne!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let (whose, end) = soon("the end", bench.ended.recv()).await.unwrap();
    assert_eq!((whose, end.unwrap_err().code), ("agent", Code::AgentLost));
    assert!(bench.edge.open(&header(), b"").is_err());
    assert!(!bench.agent.has_room());
}

#[tokio::test]
async fn a_retired_carrier_ends_with_its_last_open() {
    let mut bench = Bench::start().await;
    let (near, far) = bench.open(b"").await;
    bench.edge.retire();
    assert!(bench.edge.open(&header(), b"").is_err());
    exchange(near, far, 100_000, 100, 4).await;
    let (whose, end) = soon("the end", bench.ended.recv()).await.unwrap();
    assert!(whose == "agent" || end.is_ok(), "{whose}: {end:?}");
    drop(soon("the other's end", bench.ended.recv()).await.unwrap());
}

#[tokio::test]
async fn an_abort_from_elsewhere_is_a_reset_for_the_peer() {
    let mut bench = Bench::start().await;
    let (mut near, mut far) = bench.open(b"").await;
    far.abort_handle().abort();
    let (_, end) = soon("abort", read_all(&mut far)).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    far.reset();
    drop(far);
    let (_, end) = soon("reset", read_all(&mut near)).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    drop(near);
    bench.settled().await;
}

/// Many opens at once, of which a third ends in each way there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_opens_leave_nothing_behind() {
    let mut bench = Bench::start().await;
    for round in 0..10_u64 {
        let mut running = Vec::new();
        for seed in 0..200 {
            let (mut near, far) = bench.open(b"").await;
            running.push(crate::task::spawn("open", async move {
                match seed % 3 {
                    0 => exchange(near, far, 2_000, 2_000, round * 1_000 + seed).await,
                    1 => drop((near, far)),
                    _ => {
                        near.write_all(&pattern(30_000, seed)).await.unwrap();
                        drop(far);
                    }
                }
            }));
        }
        for open in running {
            open.await.unwrap();
        }
    }
    bench.settled().await;
}
