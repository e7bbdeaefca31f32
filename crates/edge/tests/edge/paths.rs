//! The way of the bytes: over an agent, by direct dial, through pools; and upstreams that fail.

use portcullis_model::Code;
use portcullis_proto::message::Bind;
use portcullis_telemetry::{CloseReason, NodeCommands as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::agent::{Agent, Identity};
use crate::bed::{Bed, assert_reset, echo, eventually, exchange, greeting, nobody, soon};

async fn agent(bed: &Bed, seed: u8) -> Agent {
    let (_, token) = bed.credential().await;
    Agent::connect(bed, &Identity::new(seed, token)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_goes_through_the_agent_with_half_close() {
    let bed = Bed::start().await;
    let mut agent = agent(&bed, 1).await;
    let bound = agent.bind("tcp://", echo("a:").await).await;
    let endpoint = bed
        .registry
        .snapshot()
        .endpoint_by_id(&bound.endpoint_id)
        .expect("in the snapshot")
        .record()
        .clone();
    let answer = exchange(bed.connect(&endpoint).await, b"hello").await;
    assert_eq!(answer, b"a:hello");
    bed.closed(CloseReason::ClientFinished).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_are_used_again_and_a_burst_gets_more_of_them() {
    let bed = Bed::start().await;
    let mut agent = agent(&bed, 1).await;
    let bound = agent.bind("tcp://", echo("").await).await;
    let endpoint = bed
        .registry
        .snapshot()
        .endpoint_by_id(&bound.endpoint_id)
        .expect("in the snapshot")
        .record()
        .clone();
    for round in 0..30_u8 {
        assert_eq!(
            exchange(bed.connect(&endpoint).await, &[round; 100]).await,
            [round; 100]
        );
    }
    let opened = bed.records.metrics().channels_opened.get();
    assert!(
        opened < 30,
        "{opened} channels for 30 connections, one after the other"
    );
    let burst = (0..100_u8).map(|seed| {
        let stream = bed.connect(&endpoint);
        async move {
            let bytes = vec![seed; 10_000 + usize::from(seed) * 1_000];
            assert!(
                exchange(stream.await, &bytes).await == bytes,
                "connection {seed} got its own bytes back"
            );
        }
    });
    let burst: Vec<_> = burst.collect();
    soon("a hundred connections at once", futures(burst)).await;
    bed.finish().await;
}

/// All of them at once, in one task.
async fn futures(all: Vec<impl Future<Output = ()>>) {
    let mut all: Vec<_> = all.into_iter().map(|one| Some(Box::pin(one))).collect();
    std::future::poll_fn(|cx| {
        for slot in &mut all {
            if slot
                .as_mut()
                .is_some_and(|one| one.as_mut().poll(cx).is_ready())
            {
                *slot = None;
            }
        }
        if all.iter().all(Option::is_none) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_edge_dials_a_direct_endpoint_itself() {
    let bed = Bed::start().await;
    let endpoint = bed.direct("tcp://", echo("d:").await).await;
    assert_eq!(exchange(bed.connect(&endpoint).await, b"hi").await, b"d:hi");
    bed.closed(CloseReason::ClientFinished).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_direct_upstream_resets_the_client_and_is_on_the_status() {
    let bed = Bed::start().await;
    let endpoint = bed.direct("tcp://", nobody().await).await;
    assert_reset(&mut bed.connect(&endpoint).await).await;
    bed.closed(CloseReason::UpstreamRefused).await;
    let failure = bed
        .edge
        .endpoint_status(&endpoint.id)
        .last_upstream_error
        .expect("noted");
    assert_eq!(failure.error.code, Code::UpstreamRefused);
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_the_agent_cannot_reach_resets_the_client_and_comes_back() {
    let bed = Bed::start().await;
    let mut agent = agent(&bed, 1).await;
    let bound = agent.bind("tcp://", nobody().await).await;
    let endpoint = bed
        .registry
        .snapshot()
        .endpoint_by_id(&bound.endpoint_id)
        .expect("in the snapshot")
        .record()
        .clone();
    assert_reset(&mut bed.connect(&endpoint).await).await;
    bed.closed(CloseReason::UpstreamRefused).await;
    let status = bed.edge.endpoint_status(&endpoint.id);
    assert_eq!(
        status.last_upstream_error.expect("noted").error.code,
        Code::UpstreamRefused
    );

    agent.forward(&endpoint.id, echo("back").await);
    let mut client = bed.connect(&endpoint).await;
    assert_eq!(greeting(&mut client, 4).await, "back");
    assert_eq!(
        bed.edge.endpoint_status(&endpoint.id).last_upstream_error,
        None
    );
    assert_eq!(bed.edge.endpoint_status(&endpoint.id).connections_open, 1);
    drop(client);
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_spreads_over_its_members_and_passes_over_the_one_that_fails() {
    let bed = Bed::start().await;
    let first = bed
        .direct_with("tcp://edge.test:9500", echo("1").await, |spec| {
            spec.pooling_enabled = true
        })
        .await;
    bed.direct_with("tcp://edge.test:9500", echo("2").await, |spec| {
        spec.pooling_enabled = true
    })
    .await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..64 {
        seen.insert(greeting(&mut bed.connect(&first).await, 1).await);
    }
    assert_eq!(
        seen.len(),
        2,
        "one member in 64 draws has a chance of 2^-63"
    );
    bed.direct_with("tcp://edge.test:9500", nobody().await, |spec| {
        spec.pooling_enabled = true
    })
    .await;
    for _ in 0..32 {
        greeting(&mut bed.connect(&first).await, 1).await;
    }
    assert_eq!(
        bed.records
            .metrics()
            .count_closed(CloseReason::UpstreamRefused),
        0
    );
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_in_a_pool_that_is_gone_is_passed_over() {
    let bed = Bed::start().await;
    let (_, token) = bed.credential().await;
    let mut one = Agent::connect(&bed, &Identity::new(1, token.clone())).await;
    let mut two = Agent::connect(&bed, &Identity::new(2, token)).await;
    bed.reserve(9_501).await;
    let bind = || Bind {
        url: "tcp://edge.test:9501".to_owned(),
        pooling_enabled: true,
        ..Bind::default()
    };
    let bound = one.bind_with(bind(), echo("1").await).await.expect("bound");
    two.bind_with(bind(), echo("2").await).await.expect("bound");
    let endpoint = bed
        .registry
        .snapshot()
        .endpoint_by_id(&bound.endpoint_id)
        .expect("in the snapshot")
        .record()
        .clone();
    let session = one.session.clone();
    drop(one);
    eventually("the crashed agent's session is gone", || {
        bed.registry.snapshot().session_by_id(&session).is_none()
    })
    .await;
    for _ in 0..16 {
        assert_eq!(greeting(&mut bed.connect(&endpoint).await, 1).await, "2");
    }
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resets_pass_in_both_directions() {
    let bed = Bed::start().await;
    let mut agent = agent(&bed, 1).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("listener");
    let bound = agent
        .bind("tcp://", listener.local_addr().expect("address"))
        .await;
    let endpoint = bed
        .registry
        .snapshot()
        .endpoint_by_id(&bound.endpoint_id)
        .expect("in the snapshot")
        .record()
        .clone();

    let mut client = bed.connect(&endpoint).await;
    client.write_all(b"x").await.expect("write");
    let (mut upstream, _) = soon("the upstream is dialled", listener.accept())
        .await
        .expect("accepted");
    upstream.read_exact(&mut [0]).await.expect("read");
    portcullis_net::socket::reset_on_drop(&upstream);
    drop(upstream);
    assert_reset(&mut client).await;
    bed.closed(CloseReason::UpstreamReset).await;

    let mut client = bed.connect(&endpoint).await;
    client.write_all(b"x").await.expect("write");
    let (mut upstream, _) = soon("the upstream is dialled", listener.accept())
        .await
        .expect("accepted");
    upstream.read_exact(&mut [0]).await.expect("read");
    portcullis_net::socket::reset_on_drop(&client);
    drop(client);
    assert_reset(&mut upstream).await;
    bed.closed(CloseReason::ClientReset).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_ends_a_connection() {
    let bed = Bed::start().await;
    let endpoint = bed.direct("tcp://", echo("d").await).await;
    let mut client = bed.connect(&endpoint).await;
    greeting(&mut client, 1).await;
    let views = bed.edge.connections();
    assert_eq!(views.len(), 1);
    assert_eq!(views[0].client, client.local_addr().expect("address"));
    assert_eq!(views[0].endpoint.as_ref(), Some(&endpoint.id));
    assert!(views[0].established);
    bed.edge
        .end_connection(&views[0].id)
        .await
        .expect("it is open");
    assert_reset(&mut client).await;
    bed.closed(CloseReason::EndedByOperator).await;
    let again = bed.edge.end_connection(&views[0].id).await;
    assert_eq!(again.map_err(|error| error.code), Err(Code::ApiNotFound));
    bed.finish().await;
}
