//! Draining: agents first, listeners closed, connections finish or are cut with a reason.

use std::net::SocketAddr;
use std::time::Duration;

use portcullis_model::Code;
use portcullis_proto::message::EdgeMessage;
use portcullis_telemetry::{CloseReason, DrainOutcome, NodeCommands as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::agent::{Agent, Identity};
use crate::bed::{Bed, assert_reset, dial, echo, eventually, exchange, greeting, soon};

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_connections_finish_and_cuts_those_that_do_not() {
    let bed = Bed::start().await;
    let (_, token) = bed.credential().await;
    let identity = Identity::new(1, token);
    let mut agent = Agent::connect(&bed, &identity).await;
    let bound = agent.bind("tcp://", echo("e").await).await;
    let endpoint = bed
        .registry
        .snapshot()
        .endpoint_by_id(&bound.endpoint_id)
        .expect("in the snapshot")
        .record()
        .clone();
    let address = bed.address(&endpoint);
    let mut finishing = bed.connect(&endpoint).await;
    let mut staying = bed.connect(&endpoint).await;
    greeting(&mut finishing, 1).await;
    greeting(&mut staying, 1).await;

    let edge = bed.edge.clone();
    let drain = tokio::spawn(async move { edge.drain(Duration::from_secs(2)).await });
    assert!(
        matches!(agent.hear().await, EdgeMessage::Drain(drain) if drain.code == Code::ServerDraining)
    );
    eventually("the public port is closed", || {
        std::net::TcpStream::connect(address).is_err()
    })
    .await;
    let refused = Agent::try_connect(
        &bed,
        &Identity {
            generation: 2,
            ..identity
        },
    )
    .await
    .err()
    .expect("refused");
    assert_eq!(refused.code, Code::ServerDraining);
    assert_eq!(exchange(finishing, b"to the end").await, b"to the end");
    assert!(!drain.is_finished(), "it waits for the other");
    assert_reset(&mut staying).await;
    let outcome = soon("the drain", drain).await.expect("no panic");
    assert_eq!(outcome.cut, 1);
    // The probes of the port above may have been connections too.
    assert!(outcome.finished >= 1, "{outcome:?}");
    assert_eq!(bed.records.metrics().count_closed(CloseReason::Drained), 1);
    assert!(matches!(agent.hear().await, EdgeMessage::Error(fatal) if fatal.retry));
    assert!(
        TcpStream::connect(bed.edge.agent_addr()).await.is_err(),
        "the agent port is closed"
    );
    bed.finish().await;
}

/// One thread, so that the connection is not accepted before the drain begins.
#[tokio::test]
async fn a_drain_waits_for_who_was_in_the_queue_when_it_began() {
    let bed = Bed::start().await;
    let endpoint = bed.direct("tcp://", echo("e").await).await;
    let mut client = dial(bed.address(&endpoint));
    let edge = bed.edge.clone();
    let drain = tokio::spawn(async move { edge.drain(Duration::from_secs(60)).await });
    greeting(&mut client, 1).await;
    assert!(!drain.is_finished(), "it waits for the client");
    assert_eq!(exchange(client, b"to the end").await, b"to the end");
    let outcome = soon("the drain", drain).await.expect("no panic");
    assert_eq!((outcome.finished, outcome.cut), (1, 0));
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_with_nothing_to_wait_for_is_over_at_once() {
    let bed = Bed::start().await;
    let begun = std::time::Instant::now();
    let outcome = bed.edge.drain(Duration::from_secs(60)).await;
    assert_eq!(outcome, DrainOutcome::default());
    assert!(begun.elapsed() < Duration::from_secs(5));
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_runs_when_the_drain_begins_arrives_whole() {
    const BYTES: usize = 32 << 20;
    let bed = Bed::start().await;
    let (_, token) = bed.credential().await;
    let mut agent = Agent::connect(&bed, &Identity::new(1, token)).await;
    let bound = agent.bind("tcp://", echo("e").await).await;
    let mut client = dial(SocketAddr::new(bed.ip, bound.url.port()));
    greeting(&mut client, 1).await;
    let (mut read, mut write) = client.into_split();
    let block: Vec<u8> = (0..=u8::MAX).cycle().take(1 << 20).collect();
    let (first, sent) = (block.clone(), tokio::sync::oneshot::channel());
    let writer = tokio::spawn(async move {
        let mut told = Some(sent.0);
        for _ in 0..BYTES / first.len() {
            write.write_all(&first).await.expect("write");
            // Once only: the drain begins while the rest is on its way.
            if let Some(told) = told.take() {
                told.send(()).expect("the test waits");
            }
        }
        write.shutdown().await.expect("half-close");
    });
    sent.1.await.expect("the transfer runs");
    let edge = bed.edge.clone();
    let drain = tokio::spawn(async move { edge.drain(Duration::from_secs(60)).await });
    let mut got = vec![0; block.len()];
    for _ in 0..BYTES / block.len() {
        soon("the next block", read.read_exact(&mut got))
            .await
            .expect("read");
        assert!(got == block, "the bytes are the same");
    }
    assert_eq!(soon("the end", read.read(&mut got)).await.ok(), Some(0));
    writer.await.expect("written");
    let outcome = soon("the drain", drain).await.expect("no panic");
    assert_eq!(
        outcome,
        DrainOutcome {
            finished: 1,
            cut: 0
        }
    );
    bed.finish().await;
}
