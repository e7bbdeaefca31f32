//! Data of channels without TLS, spliced: whole, and never another's.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::tests::{Bench, open_pair, reusable, transfer};
use super::*;
use crate::relay::{RelayEnd, Side};
use crate::socket::{TcpConn, reset_on_drop};
use crate::testing::{clog, pattern, read_all, soon, tcp_pair};

const MIB: usize = 1024 * 1024;

async fn plain_pair() -> (Channel, Channel) {
    let (near, far) = tcp_pair().await;
    let (near, far) = (TcpConn::new(near), TcpConn::new(far));
    (Channel::edge(7, near), Channel::agent(7, far))
}

#[tokio::test]
async fn bulk_is_spliced_both_ways_and_the_channel_serves_again() {
    let (mut edge, mut agent) = plain_pair().await;
    for (up, down) in [
        (0, 0),
        (70_000, 1),
        (32 * MIB, 0),
        (5, 32 * MIB),
        (16 * MIB, 16 * MIB),
    ] {
        let bench = Bench::start(edge, agent).await;
        transfer(bench.client, bench.upstream, up, down, 9).await;
        let ((e, edge_channel), (a, agent_channel)) = Bench::settle(bench.edge, bench.agent).await;
        assert!(matches!(e, RelayEnd::Finished { .. }), "{e:?}");
        assert!(matches!(a, RelayEnd::Finished { .. }), "{a:?}");
        (edge, agent) = (reusable(edge_channel), reusable(agent_channel));
        for counters in &bench.counters {
            assert!(counters.spliced() > 0 || up.max(down) <= MIB, "{up} {down}");
        }
    }
}

/// Small messages go on behind bulk, in order.
#[tokio::test]
async fn it_copies_again_when_bulk_is_over() {
    let (edge, agent) = plain_pair().await;
    let mut bench = Bench::start(edge, agent).await;
    for round in 0..20_u64 {
        let mut random = rand::rngs::StdRng::seed_from_u64(round);
        let size = match round % 3 {
            0 => 8 * MIB,
            1 => random.random_range(1..200),
            _ => random.random_range(60_000..70_000),
        };
        let bytes = pattern(size, round);
        let mut got = vec![0; size];
        let (sent, read) = tokio::join!(
            bench.client.write_all(&bytes),
            soon("a message", bench.upstream.read_exact(&mut got))
        );
        sent.unwrap();
        read.unwrap();
        assert!(got == bytes, "round {round}");
    }
    assert!(bench.counters.iter().all(|counters| counters.spliced() > 0));
}

/// Resets at any moment of a transfer: what arrives is what was sent, and then a reset; what comes next on
/// the channels that are left is its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_within_spliced_bulk_leaves_nothing_for_the_next() {
    let mut random = rand::rngs::StdRng::seed_from_u64(5);
    let (mut kept, mut dropped) = (0, 0);
    let mut channels = None;
    for round in 0..60 {
        let (edge, agent) = match channels.take() {
            Some(pair) => pair,
            None => plain_pair().await,
        };
        let Bench {
            mut client,
            mut upstream,
            edge,
            agent,
            ..
        } = Bench::start(edge, agent).await;
        let sends = pattern(64 * MIB, round);
        let stall = Duration::from_micros(random.random_range(0..8_000));
        let reads = random.random_range(1..6) * MIB;
        let mut got = vec![0; reads];
        let cut = async {
            upstream.read_exact(&mut got).await.unwrap();
            tokio::time::sleep(stall).await; // clogs it, or not
        };
        // What was sent so far is a prefix; the end of the write is never reached.
        soon("a part", async {
            tokio::select! {
                sent = client.write_all(&sends) => panic!("{sent:?}: all was taken"),
                () = cut => {}
            }
        })
        .await;
        assert!(got == sends[..reads], "round {round}");
        let by_client = round % 2 == 0;
        let (gone, mut stays) = match by_client {
            true => (client, upstream),
            false => (upstream, client),
        };
        reset_on_drop(&gone);
        drop(gone);
        let ends = async { tokio::join!(read_all(&mut stays), Bench::settle(edge, agent)) };
        let ((rest, end), ((e, edge), (a, agent))) = soon("the other end", ends).await;
        if by_client {
            assert!(sends[reads..].starts_with(&rest), "round {round}");
        } else {
            assert!(rest.is_empty());
        }
        end.unwrap_err();
        let side = match by_client {
            true => Side::Client,
            false => Side::Upstream,
        };
        for end in [e, a] {
            assert!(
                matches!(end, RelayEnd::Reset { by } if by == side)
                    || matches!(end, RelayEnd::Failed { .. }),
                "{end:?}"
            );
        }
        channels = match (edge, agent) {
            (Finished::Reusable(edge), Finished::Reusable(agent)) => {
                kept += 1;
                Some((edge, agent))
            }
            _ => {
                dropped += 1;
                None
            }
        };
    }
    assert!(kept + dropped == 60);
}

/// A frame that was begun is not whole: a reset cannot be said any more, so the channel goes.
#[tokio::test]
async fn a_reset_within_a_frame_takes_the_channel_along() {
    let (edge, agent) = plain_pair().await;
    let (near, mut far, _) = open_pair(edge, agent, b"").await;
    let (client, socket) = tcp_pair().await;
    // Nobody reads at the agent: the edge's splice comes to stand within a frame.
    let relaying = crate::task::spawn("relay", async move {
        let (limits, kill) = (
            Default::default(),
            tokio_util::sync::CancellationToken::new(),
        );
        let counters = crate::relay::Counters::new();
        let (mut socket, mut near) = (TcpConn::new(socket), near);
        let end = crate::relay::relay(&mut socket, &mut near, &limits, &counters, &kill).await;
        (end, near, counters)
    });
    let sent = clog(&client).await;
    assert!(sent > MIB);
    reset_on_drop(&client);
    drop(client);
    let (end, near, counters) = soon("the relay's end", relaying).await.unwrap();
    assert!(
        matches!(end, RelayEnd::Reset { by: Side::Client }),
        "{end:?}"
    );
    assert!(counters.spliced() > 0);
    let finished = soon("the edge's end", near.finish()).await;
    assert!(
        matches!(finished, Finished::Abort { channel: 7, .. }),
        "the peer has to be told elsewhere"
    );
    // Whatever the agent still reads, the end is none of a clean kind.
    let (_, end) = soon("the agent's end", read_all(&mut far)).await;
    end.unwrap_err();
}
