//! Connections that move between a carrier and channels over real TLS, with data in flight.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use portcullis_model::EndpointId;
use portcullis_model::id::ConnectionId;
use portcullis_proto::Leg;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::carrier::Carrier;
use crate::defaults::BULK_NOTE_AGAIN;
use crate::relay::{Counters, RelayEnd, RelayIo as _, RelayLimits, relay};
use crate::socket::TcpConn;
use crate::testing::{SOON, pattern, read_all, soon, tcp_pair, tls_pair};

/// The edge's side of a session.
struct Edge {
    carrier: Carrier,
    idle: Mutex<Vec<Channel>>,
    carrying: Mutex<HashMap<u64, AbortHandle>>,
    promoted: AtomicUsize,
    returned: AtomicUsize,
    lost: AtomicUsize,
    /// Takes that were the first of their connection, and those that came again.
    takes: [AtomicUsize; 2],
}

impl Exchange for Edge {
    fn take(&self, again: bool) -> Option<Channel> {
        self.takes[usize::from(again)].fetch_add(1, Ordering::Relaxed);
        let channel = self.idle.lock().unwrap().pop()?;
        self.promoted.fetch_add(1, Ordering::Relaxed);
        Some(channel)
    }
    fn resume(&self, from: Leg) -> Option<OnCarrier> {
        self.returned.fetch_add(1, Ordering::Relaxed);
        self.carrier.resume(from)
    }
    fn began(&self, at: Leg, handle: AbortHandle) {
        self.carrying.lock().unwrap().insert(at.link, handle);
    }
    fn give_back(self: Arc<Self>, settling: Settling) {
        drop(crate::task::spawn("settle", async move {
            self.carrying.lock().unwrap().remove(&settling.channel());
            match settling.finish().await {
                Finished::Reusable(channel) => self.idle.lock().unwrap().push(channel),
                _ => drop(self.lost.fetch_add(1, Ordering::Relaxed)),
            }
        }));
    }
}

/// The agent's.
struct Agent {
    carrier: Carrier,
    opens: Mutex<HashMap<u64, (u32, AbortHandle)>>,
}

impl Agent {
    fn resume(self: Arc<Self>, resumed: Resumed) {
        let from = resumed.from();
        let connection = match self.opens.lock().unwrap().get(&from.link) {
            Some((open, handle)) => (*open == from.open).then(|| handle.clone()),
            None => self.carrier.handle(from.open),
        };
        if !resumed.is_on_carrier() {
            let at = resumed.at();
            let entry = (at.open, resumed.abort_handle());
            self.opens.lock().unwrap().insert(at.link, entry);
        }
        if let Some(settling) = resumed.hand_to(connection.as_ref()) {
            self.give_back(settling);
        }
    }

    fn serve(self: Arc<Self>, channel: Channel) {
        drop(crate::task::spawn("channel", async move {
            if let Ok(Begun::Resumed(resumed)) = channel.begun().await {
                self.resume(resumed);
            }
        }));
    }
}

impl Exchange for Agent {
    fn give_back(self: Arc<Self>, settling: Settling) {
        drop(crate::task::spawn("settle", async move {
            let number = settling.channel();
            let finished = settling.finish().await;
            self.opens.lock().unwrap().remove(&number);
            if let Finished::Reusable(channel) = finished {
                self.serve(channel);
            }
        }));
    }
}

async fn link_pair_of_tls() -> (LinkStream, LinkStream) {
    let (near, far) = tls_pair().await;
    (near.into(), far.into())
}

async fn plain_link_pair() -> (LinkStream, LinkStream) {
    let (near, far) = tcp_pair().await;
    (TcpConn::new(near).into(), TcpConn::new(far).into())
}

struct Bench {
    edge: Arc<Edge>,
    agent: Arc<Agent>,
    opens: mpsc::Receiver<AgentOpening>,
    channels: usize,
}

impl Bench {
    async fn start(channels: usize) -> Self {
        Self::start_over(link_pair_of_tls, channels).await
    }

    /// Over links of the test's choice.
    async fn start_over<F>(links: impl Fn() -> F, channels: usize) -> Self
    where
        F: Future<Output = (LinkStream, LinkStream)>,
    {
        let (near, far) = links().await;
        let (edge_carrier, edge_task) = Carrier::edge(1, near, &Arc::default());
        let (agent_carrier, agent_task) = Carrier::agent(1, far, &Arc::default());
        let agent = Arc::new(Agent {
            carrier: agent_carrier,
            opens: Mutex::default(),
        });
        let (sender, opens) = mpsc::channel(10_000);
        let served = Arc::clone(&agent);
        drop(crate::task::spawn("edge", edge_task.run(drop)));
        drop(crate::task::spawn("agent", async move {
            let accept = |begun| match begun {
                Begun::Open(_, _, opening) => sender.try_send(opening).unwrap(),
                Begun::Resumed(resumed) => Arc::clone(&served).resume(resumed),
            };
            agent_task.run(accept).await
        }));
        let mut idle = Vec::new();
        for number in 0..channels as u64 {
            let (near, far) = links().await;
            idle.push(Channel::edge(10 + number, near));
            Arc::clone(&agent).serve(Channel::agent(10 + number, far));
        }
        let edge = Arc::new(Edge {
            carrier: edge_carrier,
            idle: Mutex::new(idle),
            carrying: Mutex::default(),
            promoted: AtomicUsize::new(0),
            returned: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
            takes: Default::default(),
        });
        Self {
            edge,
            agent,
            opens,
            channels,
        }
    }

    async fn open(&mut self) -> (TunnelStream, TunnelStream) {
        let header = OpenHeader {
            endpoint_id: EndpointId::new(1_700_000_000, [1; 16]),
            connection_id: ConnectionId::new(1_700_000_000, [2; 16]),
            client: "192.0.2.7:4711".parse().unwrap(),
            server: "198.51.100.1:20001".parse().unwrap(),
        };
        let opening = self.edge.carrier.open(&header, b"").unwrap();
        let accepted = soon("an open", self.opens.recv()).await.unwrap();
        let mut far = accepted.opened().await.unwrap();
        let verdict = opening.verdict(Instant::now() + SOON).await;
        let mut near = verdict.unwrap();
        near.set_exchange(Arc::clone(&self.edge) as Arc<dyn Exchange>);
        far.set_exchange(Arc::clone(&self.agent) as Arc<dyn Exchange>);
        (near, far)
    }

    /// Everything is released, and every channel is idle again.
    async fn settled(&self) {
        let there = || self.edge.idle.lock().unwrap().len();
        let wait = async {
            while self.edge.carrier.live() + self.agent.carrier.live() > 0
                || there() + self.edge.lost.load(Ordering::Relaxed) < self.channels
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let settled = tokio::time::timeout(SOON, wait).await;
        assert!(
            settled.is_ok(),
            "{} and {} opens live, {} of {} channels are idle",
            self.edge.carrier.live(),
            self.agent.carrier.live(),
            there(),
            self.channels
        );
    }

    fn promoted(&self) -> usize {
        self.edge.promoted.load(Ordering::Relaxed)
    }

    /// Every connection on a channel is told to leave it.
    fn call_back(&self) {
        let carrying = self.edge.carrying.lock().unwrap();
        carrying.values().for_each(AbortHandle::leave);
    }
}

/// One side: sends and reads to the end, and settles.
async fn side(
    exchange: Option<Arc<dyn Exchange>>,
    stream: TunnelStream,
    sends: Vec<u8>,
) -> Vec<u8> {
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
    if let (Some(settling), Some(exchange)) = (settling, exchange) {
        exchange.give_back(settling);
    }
    got
}

async fn exchange(
    sites: (Arc<Edge>, Arc<Agent>),
    (near, far): (TunnelStream, TunnelStream),
    (up, down): (usize, usize),
    seed: u64,
) {
    let (edge, agent): (Arc<dyn Exchange>, Arc<dyn Exchange>) = (sites.0, sites.1);
    let (sent_up, sent_down) = (pattern(up, seed), pattern(down, seed + 1));
    let (got_down, got_up) = soon("the exchange", async {
        tokio::join!(
            side(Some(edge), near, sent_up.clone()),
            side(Some(agent), far, sent_down.clone())
        )
    })
    .await;
    assert!(got_up == sent_up, "{} of {up} bytes up", got_up.len());
    assert!(got_down == sent_down, "{} of {down} down", got_down.len());
}

impl Bench {
    fn sites(&self) -> (Arc<Edge>, Arc<Agent>) {
        (Arc::clone(&self.edge), Arc::clone(&self.agent))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_bulky_in_either_direction_moves_to_a_channel_whole() {
    let mut bench = Bench::start(2).await;
    for (turn, sizes) in [(5_000_000, 0), (0, 5_000_000), (3_000_000, 3_000_000)]
        .into_iter()
        .enumerate()
    {
        let streams = bench.open().await;
        exchange(bench.sites(), streams, sizes, turn as u64).await;
        assert_eq!(bench.promoted(), turn + 1, "{sizes:?}");
        bench.settled().await;
    }
    assert_eq!(bench.edge.lost.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_channel_it_stays_and_is_whole() {
    let mut bench = Bench::start(0).await;
    let streams = bench.open().await;
    exchange(bench.sites(), streams, (3_000_000, 3_000_000), 3).await;
    bench.settled().await;
}

/// Otherwise one bulky connection would look like a hundred to whoever keeps channels ready.
#[tokio::test]
async fn without_a_channel_it_is_noted_once_a_second_and_asks_again() {
    let mut bench = Bench::start(0).await;
    let (mut near, mut far) = bench.open().await;
    tokio::time::pause(); // no timer runs from here on, so time stands still
    let mut piece = vec![0; 64 * 1024];
    for second in 1..=3 {
        for _ in 0..40 {
            near.write_all(&piece).await.unwrap();
            near.flush().await.unwrap();
            far.read_exact(&mut piece).await.unwrap();
        }
        let [first, again] = bench.edge.takes.each_ref();
        assert_eq!(first.load(Ordering::Relaxed), second);
        assert!(again.load(Ordering::Relaxed) > 2 * second);
        tokio::time::advance(BULK_NOTE_AGAIN).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_exchanges_stay_on_their_carrier() {
    let mut bench = Bench::start(1).await;
    let (mut near, mut far) = bench.open().await;
    for _ in 0..200 {
        near.write_all(&[1; 900]).await.unwrap();
        near.flush().await.unwrap();
        soon("a request", far.read_exact(&mut [0; 900]))
            .await
            .unwrap();
        far.write_all(&[2; 900]).await.unwrap();
        far.flush().await.unwrap();
        soon("an answer", near.read_exact(&mut [0; 900]))
            .await
            .unwrap();
    }
    assert_eq!(bench.promoted(), 0);
}

/// There and back, several times, with bytes in both directions at every step.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_returns_when_it_is_called_and_moves_again() {
    let mut bench = Bench::start(2).await;
    let (near, far) = bench.open().await;
    let (mut near_in, mut near_out) = tokio::io::split(near);
    let (mut far_in, mut far_out) = tokio::io::split(far);
    for turn in 0..5 {
        let (up, down) = (pattern(700_000, turn), pattern(600_000, turn + 50));
        let mut got = (vec![0; up.len()], vec![0; down.len()]);
        let both = async {
            tokio::try_join!(
                near_out.write_all(&up),
                far_in.read_exact(&mut got.0),
                far_out.write_all(&down),
                near_in.read_exact(&mut got.1),
            )
        };
        soon("a burst", both).await.unwrap();
        assert!(got.0 == up && got.1 == down, "turn {turn}");
        assert_eq!(bench.promoted(), turn as usize + 1);
        bench.call_back();
        // Whoever waits for bytes is who notices.
        let idle = async {
            while bench.edge.idle.lock().unwrap().len() < 2 {
                let (mut one, mut other) = ([0], [0]);
                let waits = async { tokio::join!(near_in.read(&mut one), far_in.read(&mut other)) };
                drop(tokio::time::timeout(Duration::from_millis(5), waits).await);
            }
        };
        soon("the channel comes back", idle).await;
        assert_eq!(
            bench.edge.returned.load(Ordering::Relaxed),
            turn as usize + 1
        );
    }
    let near = near_in.unsplit(near_out);
    let far = far_in.unsplit(far_out);
    assert!(near.is_on_carrier());
    exchange(bench.sites(), (near, far), (100, 100), 9).await;
    bench.settled().await;
    assert_eq!(bench.edge.lost.load(Ordering::Relaxed), 0);
}

/// Half-closed before it moves, in either direction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direction_that_has_ended_ends_again_where_it_moves() {
    let mut bench = Bench::start(1).await;
    for up in [true, false] {
        let (mut near, mut far) = bench.open().await;
        let (closes, sends) = if up {
            (&mut far, &mut near)
        } else {
            (&mut near, &mut far)
        };
        closes.shutdown().await.unwrap();
        assert_eq!(soon("END", sends.read(&mut [0; 8])).await.unwrap(), 0);
        let bytes = pattern(2_000_000, 5);
        let sent = bytes.clone();
        let received = async {
            let mut got = Vec::new();
            closes.read_to_end(&mut got).await.map(|_| got)
        };
        let sending = async {
            sends.write_all(&sent).await?;
            // As a relay does: behind the end nobody reads, but watches.
            poll_fn(|cx| match sends.poll_broken(cx) {
                Poll::Ready(error) => Poll::Ready(Err(error)),
                Poll::Pending => Pin::new(&mut *sends).poll_shutdown(cx),
            })
            .await
        };
        let (got, sent) = soon("the rest", async { tokio::join!(received, sending) }).await;
        sent.unwrap();
        assert!(got.unwrap() == bytes);
        for (stream, site) in [
            (near, Arc::clone(&bench.edge) as Arc<dyn Exchange>),
            (far, Arc::clone(&bench.agent) as Arc<dyn Exchange>),
        ] {
            if let Some(settling) = stream.settle() {
                site.give_back(settling);
            }
        }
        bench.settled().await;
    }
    assert_eq!(bench.promoted(), 2);
    assert_eq!(bench.edge.lost.load(Ordering::Relaxed), 0);
}

/// Resets at any moment of a move reach the other side, and nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_while_moving_reach_the_other_side_and_nobody_else() {
    let mut bench = Bench::start(3).await;
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    for round in 0..60_u64 {
        let victim = bench.open().await;
        let beside = bench.open().await;
        let beside = crate::task::spawn(
            "beside",
            exchange(bench.sites(), beside, (300_000, 300_000), round),
        );
        let (cut_at, near_cuts) = (random.random_range(1..400_000), random.random_bool(0.5));
        let (near, far) = victim;
        let (cuts, other) = if near_cuts { (near, far) } else { (far, near) };
        let (cuts_site, other_site): (Arc<dyn Exchange>, Arc<dyn Exchange>) = if near_cuts {
            (Arc::clone(&bench.edge) as _, Arc::clone(&bench.agent) as _)
        } else {
            (Arc::clone(&bench.agent) as _, Arc::clone(&bench.edge) as _)
        };
        let cutting = async {
            let mut cuts = cuts;
            cuts.write_all(&vec![3; cut_at]).await.unwrap();
            cuts.reset();
            if let Some(settling) = cuts.settle() {
                cuts_site.give_back(settling);
            }
        };
        let suffering = async {
            let mut other = other;
            let (got, end) = read_all(&mut other).await;
            assert!(got.len() <= cut_at && got.iter().all(|byte| *byte == 3));
            assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            other.reset();
            if let Some(settling) = other.settle() {
                other_site.give_back(settling);
            }
        };
        soon("the reset", async { tokio::join!(cutting, suffering) }).await;
        beside.await.unwrap();
    }
    bench.settled().await;
    assert!(bench.promoted() > 20, "{}", bench.promoted());
}

/// More bulky connections than channels, opens by the hundred, and channels called back all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_shares_few_channels_and_no_byte() {
    let mut bench = Bench::start(4).await;
    let mut random = rand::rngs::StdRng::seed_from_u64(11);
    for round in 0..6_u64 {
        let mut running = Vec::new();
        for seed in 0..60_u64 {
            let streams = bench.open().await;
            let sizes = match random.next_u32() % 4 {
                0 => (100, 300_000),
                1 => (300_000, 50),
                2 => (200_000, 200_000),
                _ => (500, 500),
            };
            let exchange = exchange(bench.sites(), streams, sizes, round * 100 + seed);
            running.push(crate::task::spawn("exchange", exchange));
            if seed % 4 == 0 {
                bench.call_back();
            }
        }
        for exchange in running {
            exchange.await.unwrap();
        }
    }
    bench.settled().await;
    assert!(bench.promoted() > 10, "{}", bench.promoted());
    assert_eq!(bench.edge.lost.load(Ordering::Relaxed), 0);
}

/// Bulk that is spliced, stalls within a frame, and is told to leave its channel at any moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_spliced_moves_whole_between_frames() {
    let mut random = rand::rngs::StdRng::seed_from_u64(17);
    let mut spliced = 0;
    for round in 0..8 {
        let mut bench = Bench::start_over(plain_link_pair, 2).await;
        let (near, far) = bench.open().await;
        let Relayed {
            client,
            upstream,
            counters,
            relays,
        } = Relayed::start(near, far).await;
        let calling = {
            let edge = Arc::clone(&bench.edge);
            let pauses: Vec<u64> = (0..400).map(|_| random.random_range(1..20)).collect();
            crate::task::spawn("calls", async move {
                for pause in pauses {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    let carrying = edge.carrying.lock().unwrap();
                    carrying.values().for_each(AbortHandle::leave);
                }
            })
        };
        let stalls = [random.random_range(0..8), random.random_range(0..8)];
        let (up, down) = (pattern(12 << 20, round), pattern(12 << 20, round + 100));
        let (got_down, got_up) = soon("both ways", async {
            tokio::join!(
                haltingly(client, up.clone(), stalls[0]),
                haltingly(upstream, down.clone(), stalls[1])
            )
        })
        .await;
        assert!(got_up == up && got_down == down, "round {round}");
        calling.abort();
        for (at, relay) in relays.into_iter().enumerate() {
            let (end, tunnel) = soon("the relay's end", relay).await.unwrap();
            assert!(matches!(end, RelayEnd::Finished { .. }), "{end:?}");
            let exchange: Arc<dyn Exchange> = match at {
                0 => Arc::clone(&bench.edge) as _,
                _ => Arc::clone(&bench.agent) as _,
            };
            if let Some(settling) = tunnel.settle() {
                exchange.give_back(settling);
            }
            spliced += counters[at].spliced();
        }
        bench.settled().await;
        assert_eq!(bench.edge.lost.load(Ordering::Relaxed), 0);
    }
    assert!(spliced > 0);
}

/// A client and an upstream at the two ends of one open.
struct Relayed {
    client: tokio::net::TcpStream,
    upstream: tokio::net::TcpStream,
    /// The edge's and the agent's.
    counters: [Arc<Counters>; 2],
    relays: [tokio::task::JoinHandle<(RelayEnd, TunnelStream)>; 2],
}

impl Relayed {
    async fn start(near: TunnelStream, far: TunnelStream) -> Self {
        let (client, edge_socket) = tcp_pair().await;
        let (upstream, agent_socket) = tcp_pair().await;
        let counters = [Arc::new(Counters::new()), Arc::new(Counters::new())];
        let run = |socket, mut tunnel: TunnelStream, at: usize| {
            let counters = Arc::clone(&counters[at]);
            crate::task::spawn("relay", async move {
                let (limits, kill) = (RelayLimits::default(), CancellationToken::new());
                let mut socket = TcpConn::new(socket);
                let end = match at {
                    0 => relay(&mut socket, &mut tunnel, &limits, &counters, &kill).await,
                    _ => relay(&mut tunnel, &mut socket, &limits, &counters, &kill).await,
                };
                (end, tunnel)
            })
        };
        let relays = [run(edge_socket, near, 0), run(agent_socket, far, 1)];
        Self {
            client,
            upstream,
            counters,
            relays,
        }
    }
}

/// A client that reads only after it was heard: what it says passes, though the other direction stands
/// within a frame and both are to move.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_does_not_wait_for_a_client_that_does_not_read() {
    for round in 0..8_usize {
        let bulk_down = round % 2 == 0;
        let mut bench = Bench::start_over(plain_link_pair, 2).await;
        let (near, far) = bench.open().await;
        let Relayed {
            client,
            upstream,
            counters,
            relays,
        } = Relayed::start(near, far).await;
        let (mut sender, mut reader) = match bulk_down {
            true => (upstream, client),
            false => (client, upstream),
        };
        let (piece, mut read) = (vec![7; 1 << 20], vec![0; 1 << 20]);
        let bulk = async {
            while counters[usize::from(bulk_down)].spliced() == 0 {
                let both = (sender.write_all(&piece), reader.read_exact(&mut read));
                let (wrote, got) = tokio::join!(both.0, both.1);
                wrote.unwrap();
                got.unwrap();
            }
        };
        soon("bulk is spliced", bulk).await;
        // Buffers of other sizes each time, so that the sender comes to stand within a frame.
        let buffer = 40_000 + 7_001 * round;
        socket2::SockRef::from(&reader)
            .set_recv_buffer_size(buffer)
            .unwrap();
        let sent = clogged(&sender, 10_007 * (round + 1)).await;
        assert_eq!(bench.promoted(), 1);
        bench.call_back();
        let moving = async {
            while bench.edge.returned.load(Ordering::Relaxed) == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        soon("the edge moves", moving).await;
        reader.write_all(b"x").await.unwrap();
        reader.shutdown().await.unwrap();
        let (heard, end) = soon("what the reader says", read_all(&mut sender)).await;
        end.unwrap();
        assert_eq!(heard, b"x", "down: {bulk_down}");
        sender.shutdown().await.unwrap();
        let (got, end) = soon("what the sender sent", read_all(&mut reader)).await;
        end.unwrap();
        assert_eq!(got.len(), sent);
        for relay in relays {
            let (end, _) = soon("the relay's end", relay).await.unwrap();
            assert!(matches!(end, RelayEnd::Finished { .. }), "{end:?}");
        }
    }
}

/// Writes pieces of a size until the other side takes no more; how much it took.
async fn clogged(stream: &tokio::net::TcpStream, piece: usize) -> usize {
    let piece = vec![7; piece];
    let mut sent = 0;
    let patience = Duration::from_millis(300);
    while tokio::time::timeout(patience, stream.writable())
        .await
        .is_ok()
    {
        sent += stream.try_write(&piece).unwrap_or(0);
    }
    sent
}

/// Sends all of it and reads all that comes, with stalls of its reader.
async fn haltingly(stream: tokio::net::TcpStream, sends: Vec<u8>, stalls: u64) -> Vec<u8> {
    let (mut reader, mut writer) = stream.into_split();
    let writing = crate::task::spawn("writer", async move {
        writer.write_all(&sends).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    for _ in 0..stalls {
        let mut part = vec![0; 1 << 20];
        reader.read_exact(&mut part).await.unwrap();
        got.extend_from_slice(&part);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    reader.read_to_end(&mut got).await.unwrap();
    writing.await.unwrap();
    got
}
