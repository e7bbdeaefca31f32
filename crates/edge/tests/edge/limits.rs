//! Caps and time limits as a client meets them.

use portcullis_model::EndpointLimits;
use portcullis_net::proxy_protocol::{Version, encode};
use portcullis_store::AccountUpdate;
use portcullis_telemetry::{CloseReason, NodeCommands as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::bed::{Bed, assert_reset, echo, eventually, exchange, greeting, soon};

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoints_connections_are_capped_and_given_back() {
    let bed = Bed::start().await;
    let upstream = echo("e").await;
    let endpoint = bed
        .direct_with("tcp://", upstream, |spec| {
            spec.limits.connections_max = Some(2)
        })
        .await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = bed.connect(&endpoint).await;
        greeting(&mut client, 1).await;
        held.push(client);
    }
    assert_reset(&mut bed.connect(&endpoint).await).await;
    bed.closed(CloseReason::LimitEndpoint).await;
    drop(held);
    eventually("the places are given back", || {
        bed.edge.endpoint_status(&endpoint.id).connections_open == 0
    })
    .await;
    greeting(&mut bed.connect(&endpoint).await, 1).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_member_of_a_pool_leaves_its_connections_to_the_others() {
    let bed = Bed::start().await;
    let pooled = |spec: &mut portcullis_store::DirectSpec| {
        spec.pooling_enabled = true;
        spec.limits.connections_max = Some(1);
    };
    let url = "tcp://edge.test:9510";
    let endpoint = bed.direct_with(url, echo("1").await, pooled).await;
    bed.direct_with(url, echo("2").await, pooled).await;
    let (mut one, mut two) = (bed.connect(&endpoint).await, bed.connect(&endpoint).await);
    let mut tags = [greeting(&mut one, 1).await, greeting(&mut two, 1).await];
    tags.sort();
    assert_eq!(tags, ["1", "2"]);
    assert_reset(&mut bed.connect(&endpoint).await).await;
    bed.closed(CloseReason::LimitEndpoint).await;
    drop((one, two));
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_source_has_its_own_cap() {
    let bed = Bed::start().await;
    let upstream = echo("e").await;
    let limit =
        |spec: &mut portcullis_store::DirectSpec| spec.limits.connections_per_source_max = Some(1);
    let endpoint = bed.direct_with("tcp://", upstream, limit).await;
    let mut first = bed.connect(&endpoint).await;
    greeting(&mut first, 1).await;
    assert_reset(&mut bed.connect(&endpoint).await).await;
    bed.closed(CloseReason::LimitSource).await;
    drop(first);
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_nodes_cap_connections_are_shed_before_they_have_a_record() {
    let bed = Bed::with(|config| config.limits.connections_max = 1).await;
    let endpoint = bed.direct("tcp://", echo("e").await).await;
    let mut first = bed.connect(&endpoint).await;
    greeting(&mut first, 1).await;
    let mut second = bed.connect(&endpoint).await;
    assert_reset(&mut second).await;
    assert_eq!(bed.records.metrics().accept_shed.get(), 1);
    assert_eq!(bed.records.metrics().count_opened(), 1);
    drop(first);
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_ends_at_its_endpoints_idle_timeout() {
    let bed = Bed::start().await;
    let upstream = echo("e").await;
    let endpoint = bed
        .direct_with("tcp://", upstream, |spec| {
            spec.limits.idle_timeout_ms = Some(200)
        })
        .await;
    let mut client = bed.connect(&endpoint).await;
    greeting(&mut client, 1).await;
    assert_reset(&mut client).await;
    bed.closed(CloseReason::IdleTimeout).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accounts_connections_are_capped_by_its_plan_over_all_endpoints() {
    let bed = Bed::start().await;
    let plan = AccountUpdate {
        plan: Some("two-connections".to_owned()),
        ..AccountUpdate::default()
    };
    bed.registry
        .update_account(&bed.account, plan)
        .await
        .expect("plan");
    let upstream = echo("e").await;
    let (one, two) = (
        bed.direct("tcp://", upstream).await,
        bed.direct("tcp://", upstream).await,
    );
    let (mut first, mut second) = (bed.connect(&one).await, bed.connect(&two).await);
    greeting(&mut first, 1).await;
    greeting(&mut second, 1).await;
    assert_reset(&mut bed.connect(&two).await).await;
    bed.closed(CloseReason::LimitAccount).await;
    drop((first, second));
    bed.finish().await;
}

/// Ends a connection by a limit of its endpoint.
async fn ends_by(limit: impl FnOnce(&mut EndpointLimits), half_close: bool, reason: CloseReason) {
    let bed = Bed::start().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("listener");
    let upstream = silent.local_addr().expect("address");
    let endpoint = bed
        .direct_with("tcp://", upstream, |spec| limit(&mut spec.limits))
        .await;
    let mut client = bed.connect(&endpoint).await;
    let _upstream = soon("the upstream is dialled", silent.accept())
        .await
        .expect("accepted");
    if half_close {
        client.shutdown().await.expect("half-close");
    }
    assert_reset(&mut client).await;
    bed.closed(reason).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sides_silence_ends_a_connection_where_that_is_configured() {
    ends_by(
        |limits| limits.client_idle_timeout_ms = Some(200),
        false,
        CloseReason::ClientIdleTimeout,
    )
    .await;
    ends_by(
        |limits| limits.server_idle_timeout_ms = Some(200),
        false,
        CloseReason::ServerIdleTimeout,
    )
    .await;
    ends_by(
        |limits| limits.half_close_timeout_ms = Some(200),
        true,
        CloseReason::HalfCloseTimeout,
    )
    .await;
}

fn trusting(config: &mut portcullis_edge::EdgeConfig) {
    config.trusted_proxies = vec!["127.0.0.0/8".parse().expect("network")];
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_peers_proxy_header_names_the_client() {
    let bed = Bed::with(trusting).await;
    let endpoint = bed.direct("tcp://", echo("e").await).await;
    for version in [Version::V1, Version::V2] {
        let mut client = bed.connect(&endpoint).await;
        let (named, server) = (
            "203.0.113.9:4711".parse().expect("address"),
            "203.0.113.1:22".parse().expect("address"),
        );
        client
            .write_all(&encode(version, named, server, &[]))
            .await
            .expect("write");
        greeting(&mut client, 1).await;
        assert_eq!(bed.edge.connections()[0].client, named);
        assert_eq!(
            exchange(client, b"after the header").await,
            b"after the header"
        );
        eventually("the connection has ended", || {
            bed.records.live().count() == 0
        })
        .await;
    }
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_peer_without_a_header_is_reset() {
    let bed = Bed::with(trusting).await;
    let endpoint = bed.direct("tcp://", echo("e").await).await;
    let mut client: TcpStream = bed.connect(&endpoint).await;
    client
        .write_all(b"SSH-2.0-plain bytes\r\n")
        .await
        .expect("write");
    assert_reset(&mut client).await;
    bed.closed(CloseReason::ProxyHeaderInvalid).await;
    bed.finish().await;
}
