//! Policies on the data path: refusals, chains of forward-internal, loops.

use portcullis_model::Code;
use portcullis_telemetry::{CloseReason, NodeCommands as _};

use crate::bed::{Bed, assert_reset, echo, ending, exchange, nobody};

fn forward(url: &str) -> String {
    format!("on_tcp_connect: [{{actions: [{{type: forward-internal, config: {{url: '{url}'}}}}]}}]")
}

#[tokio::test(flavor = "multi_thread")]
async fn deny_closes_without_a_byte() {
    let bed = Bed::start().await;
    let endpoint = bed
        .cloud("tcp://", "on_tcp_connect: [{actions: [{type: deny}]}]")
        .await;
    assert_eq!(
        ending(&mut bed.connect(&endpoint).await).await.ok(),
        Some(0),
        "FIN, not RST"
    );
    bed.closed(CloseReason::PolicyDenied).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restrict_ips_lets_in_whom_it_allows() {
    let bed = Bed::start().await;
    let policy = |network: &str| {
        format!(
            "on_tcp_connect: [{{actions: [{{type: restrict-ips, config: {{allow: ['{network}']}}}}]}}]"
        )
    };
    let upstream = echo("in").await;
    let open = bed
        .direct_with("tcp://", upstream, |spec| {
            spec.traffic_policy = policy("127.0.0.0/8")
        })
        .await;
    let shut = bed
        .direct_with("tcp://", upstream, |spec| {
            spec.traffic_policy = policy("10.0.0.0/8")
        })
        .await;
    assert_eq!(exchange(bed.connect(&open).await, b"").await, b"in");
    assert_eq!(ending(&mut bed.connect(&shut).await).await.ok(), Some(0));
    bed.closed(CloseReason::IpRestricted).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forward_internal_runs_the_targets_policy_and_reaches_its_upstream() {
    let bed = Bed::start().await;
    bed.direct("tcp://db.internal:5432", echo("db:").await)
        .await;
    bed.cloud("tcp://hop.internal:1", &forward("tcp://db.internal:5432"))
        .await;
    let entry = bed.cloud("tcp://", &forward("tcp://hop.internal:1")).await;
    assert_eq!(exchange(bed.connect(&entry).await, b"q").await, b"db:q");
    bed.closed(CloseReason::ClientFinished).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_of_forwards_ends_at_the_hop_limit() {
    let bed = Bed::start().await;
    bed.cloud("tcp://a.internal:1", &forward("tcp://b.internal:1"))
        .await;
    bed.cloud("tcp://b.internal:1", &forward("tcp://a.internal:1"))
        .await;
    let entry = bed.cloud("tcp://", &forward("tcp://a.internal:1")).await;
    assert_reset(&mut bed.connect(&entry).await).await;
    bed.closed(CloseReason::ForwardHopLimit).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_target_halts_or_continues_as_the_policy_says() {
    let bed = Bed::start().await;
    let halts = bed
        .cloud("tcp://", &forward("tcp://missing.internal:1"))
        .await;
    assert_reset(&mut bed.connect(&halts).await).await;
    bed.closed(CloseReason::ForwardTargetMissing).await;

    bed.direct("tcp://spare.internal:1", echo("spare").await)
        .await;
    bed.direct("tcp://down.internal:1", nobody().await).await;
    let policy = "on_tcp_connect:
  - actions:
      - {type: forward-internal, config: {url: 'tcp://missing.internal:1', on_error: continue}}
      - {type: forward-internal, config: {url: 'tcp://down.internal:1', on_error: continue}}
      - {type: forward-internal, config: {url: 'tcp://spare.internal:1'}}";
    let goes_on = bed.cloud("tcp://", policy).await;
    assert_eq!(exchange(bed.connect(&goes_on).await, b"").await, b"spare");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_internal_upstream_that_refuses_is_noted_on_its_own_endpoint() {
    let bed = Bed::start().await;
    let internal = bed.direct("tcp://down.internal:1", nobody().await).await;
    let entry = bed.cloud("tcp://", &forward("tcp://down.internal:1")).await;
    assert_reset(&mut bed.connect(&entry).await).await;
    bed.closed(CloseReason::UpstreamRefused).await;
    let failure = bed.edge.endpoint_status(&internal.id).last_upstream_error;
    assert_eq!(
        failure.map(|failure| failure.error.code),
        Some(Code::UpstreamRefused)
    );
    assert_eq!(
        bed.edge.endpoint_status(&entry.id).last_upstream_error,
        None
    );
    bed.finish().await;
}
