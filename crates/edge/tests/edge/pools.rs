//! Pools: strategies and weights, health checks of this node and of agents, ejection.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_model::endpoint::Endpoint;
use portcullis_model::health::Probe;
use portcullis_model::{Code, HealthCheck, PoolStrategy};
use portcullis_proto::message::{Bind, HealthReport};
use portcullis_store::DirectSpec;
use portcullis_telemetry::{EndpointHealth, HealthState, NodeCommands as _};
use tokio::net::TcpListener;

use crate::agent::{Agent, Identity};
use crate::bed::{Bed, dial, echo, eventually, exchange, greeting, nobody};

fn member(strategy: PoolStrategy, weight: u32) -> impl Fn(&mut DirectSpec) {
    move |spec| {
        spec.pooling_enabled = true;
        spec.pool.strategy = strategy;
        spec.pool.weight = weight;
    }
}

/// A pool of echoes `a`, `b` and so on with these weights.
async fn pool(bed: &Bed, port: u16, strategy: PoolStrategy, weights: &[u32]) -> Vec<Endpoint> {
    let mut members = Vec::new();
    for (tag, weight) in ["a", "b", "c"].into_iter().zip(weights) {
        let url = format!("tcp://edge.test:{port}");
        let with = member(strategy, *weight);
        members.push(bed.direct_with(&url, echo(tag).await, with).await);
    }
    members
}

/// Who answers so many connections, one after the other in each of four tasks.
async fn answers(at: SocketAddr, count: usize) -> BTreeMap<String, usize> {
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            tokio::spawn(async move {
                let mut tags = Vec::new();
                for _ in 0..count / 4 {
                    tags.push(exchange(dial(at), b"").await);
                }
                tags
            })
        })
        .collect();
    let mut counts = BTreeMap::new();
    for task in tasks {
        for tag in task.await.expect("no panic") {
            *counts
                .entry(String::from_utf8(tag).expect("text"))
                .or_default() += 1;
        }
    }
    counts
}

fn counts(expected: &[(&str, usize)]) -> BTreeMap<String, usize> {
    expected
        .iter()
        .map(|(tag, count)| ((*tag).to_owned(), *count))
        .collect()
}

fn health(bed: &Bed, endpoint: &Endpoint) -> EndpointHealth {
    bed.edge.endpoint_status(&endpoint.id).health
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_are_exact_over_ten_thousand_connections() {
    let bed = Bed::start().await;
    let members = pool(&bed, 9_610, PoolStrategy::Weighted, &[7, 2, 1]).await;
    let counted = answers(bed.address(&members[0]), 10_000).await;
    assert_eq!(counted, counts(&[("a", 7_000), ("b", 2_000), ("c", 1_000)]));
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_weight_gets_none_and_a_client_stays_with_its_own() {
    let bed = Bed::start().await;
    let members = pool(&bed, 9_620, PoolStrategy::Random, &[1, 0, 1]).await;
    let counted = answers(bed.address(&members[0]), 200).await;
    assert!(!counted.contains_key("b"), "{counted:?}");
    assert!(counted["a"] > 0 && counted["c"] > 0, "{counted:?}");

    let members = pool(&bed, 9_621, PoolStrategy::HashClientIp, &[1, 1, 1]).await;
    let counted = answers(bed.address(&members[0]), 40).await;
    assert_eq!(counted.len(), 1, "one client, one member: {counted:?}");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_busy_member_is_chosen() {
    let bed = Bed::start().await;
    let members = pool(&bed, 9_630, PoolStrategy::LeastConnections, &[1, 1, 1]).await;
    let mut held = Vec::new();
    let mut tags = BTreeMap::<String, usize>::new();
    for _ in 0..9 {
        let mut client = bed.connect(&members[0]).await;
        *tags.entry(greeting(&mut client, 1).await).or_default() += 1;
        held.push(client);
    }
    assert_eq!(tags, counts(&[("a", 3), ("b", 3), ("c", 3)]));
    drop(held);
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_members_strategy_counts() {
    let bed = Bed::start().await;
    let url = "tcp://edge.test:9640";
    let first = bed
        .direct_with(url, echo("a").await, member(PoolStrategy::Weighted, 3))
        .await;
    bed.direct_with(url, echo("b").await, member(PoolStrategy::HashClientIp, 1))
        .await;
    let counted = answers(bed.address(&first), 400).await;
    assert_eq!(counted, counts(&[("a", 300), ("b", 100)]));
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_opens_fail_is_passed_over_and_its_clients_do_not_notice() {
    let bed = Bed::start().await;
    let url = "tcp://edge.test:9650";
    let with = member(PoolStrategy::Weighted, 1);
    let good = bed.direct_with(url, echo("a").await, &with).await;
    let bad = bed.direct_with(url, nobody().await, &with).await;
    let counted = answers(bed.address(&good), 100).await;
    assert_eq!(counted, counts(&[("a", 100)]));
    let shown = health(&bed, &bad);
    assert_eq!(shown.state, HealthState::Degraded);
    assert_eq!(shown.reason.expect("told").code, Code::UpstreamRefused);
    assert!(shown.ejected_until.is_some() && shown.consecutive_failures >= 1);
    assert!(
        shown.consecutive_failures <= 4,
        "it was tried by those that came together, and then passed over: {}",
        shown.consecutive_failures
    );
    assert_eq!(bed.records.metrics().upstream_ejections.get(), 1);
    bed.finish().await;
}

fn often(probe: Probe) -> HealthCheck {
    HealthCheck {
        interval: Duration::from_millis(500),
        rise: 1,
        fall: 2,
        ..HealthCheck::new(probe)
    }
}

/// A service that greets as SSH does, as long as it is not dropped.
async fn greeter(at: SocketAddr) -> tokio::task::JoinHandle<()> {
    let listener = TcpListener::bind(at).await.expect("the port");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            use tokio::io::AsyncWriteExt as _;
            stream.write_all(b"SSH-2.0-x\r\n").await.ok();
            stream.shutdown().await.ok();
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn this_node_checks_what_it_dials_and_passes_over_what_is_unhealthy() {
    let bed = Bed::start().await;
    let url = "tcp://edge.test:9660";
    let at = nobody().await;
    let service = greeter(at).await;
    let checked = |spec: &mut DirectSpec| {
        member(PoolStrategy::Weighted, 1)(spec);
        spec.health = Some(often(Probe::Ssh));
    };
    // Its greeting is another's: it takes connections, and is none of these.
    let other = bed.direct_with(url, echo("no ssh\n").await, checked).await;
    let good = bed.direct_with(url, at, checked).await;
    eventually("both were checked", || {
        health(&bed, &other).state == HealthState::Unhealthy
            && health(&bed, &good).checked_at.is_some()
    })
    .await;
    let shown = health(&bed, &other);
    let reason = shown.reason.expect("told");
    assert_eq!(reason.code, Code::UpstreamUnhealthy);
    assert!(reason.message.starts_with("ssh: "), "{reason}");
    assert_eq!(bed.records.metrics().upstreams_unhealthy.get(), 1);
    let counted = answers(bed.address(&good), 40).await;
    assert_eq!(counted, counts(&[("SSH-2.0-x\r\n", 40)]));

    // With the last one gone too, the choice is among them all: a check may be wrong.
    service.abort();
    assert!(service.await.is_err_and(|error| error.is_cancelled()));
    eventually("the other falls too", || {
        health(&bed, &good).state == HealthState::Unhealthy
    })
    .await;
    assert_eq!(exchange(bed.connect(&good).await, b"").await, b"no ssh\n");
    let _service = greeter(at).await;
    eventually("it rises again", || {
        health(&bed, &good).state == HealthState::Online
    })
    .await;
    assert_eq!(health(&bed, &good).consecutive_failures, 0);
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_tells_of_its_own_endpoints_and_of_no_others() {
    let bed = Bed::start().await;
    let (_, token) = bed.credential().await;
    bed.reserve(9_670).await;
    let mut agent = Agent::connect(&bed, &Identity::new(1, token)).await;
    let pooled = |name: &str| Bind {
        name: name.to_owned(),
        url: "tcp://edge.test:9670".to_owned(),
        pooling_enabled: true,
        ..Bind::default()
    };
    let one = agent
        .bind_with(pooled("one"), echo("1").await)
        .await
        .expect("bound");
    let two = agent
        .bind_with(pooled("two"), echo("2").await)
        .await
        .expect("bound");
    let foreign = bed.direct("tcp://", echo("f").await).await;
    let report = |endpoint, healthy| HealthReport {
        endpoint_id: endpoint,
        healthy,
        failures: u32::from(!healthy) * 3,
        age_ms: 1_000,
        code: (!healthy).then_some(Code::UpstreamUnhealthy),
        reason: "redis: it said \u{1b}[2J".to_owned(),
    };
    agent.say(report(foreign.id.clone(), false)).await;
    agent.say(report(one.endpoint_id.clone(), false)).await;
    let of = |id| bed.edge.endpoint_status(id).health;
    eventually("the edge has heard", || {
        of(&one.endpoint_id).state == HealthState::Unhealthy
    })
    .await;
    assert_eq!(
        of(&foreign.id).state,
        HealthState::Online,
        "it is not the agent's"
    );
    let shown = of(&one.endpoint_id);
    assert_eq!(shown.consecutive_failures, 3);
    assert!(!shown.reason.expect("told").message.contains('\u{1b}'));
    let at = SocketAddr::new(bed.ip, 9_670);
    assert_eq!(answers(at, 40).await, counts(&[("2", 40)]));
    agent.say(report(one.endpoint_id.clone(), true)).await;
    agent.say(report(two.endpoint_id.clone(), false)).await;
    eventually("the edge has heard", || {
        of(&two.endpoint_id).state == HealthState::Unhealthy
    })
    .await;
    assert_eq!(answers(at, 40).await, counts(&[("1", 40)]));
    agent.goodbye().await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_and_go_under_traffic_without_a_failed_connection() {
    let bed = Arc::new(Bed::start().await);
    let members = pool(&bed, 9_680, PoolStrategy::Weighted, &[1, 1]).await;
    let at = bed.address(&members[0]);
    let clients = tokio::spawn(answers(at, 400));
    // Two that nobody serves: with a third one a connection could meet none but them.
    for _ in 0..2 {
        let with = member(PoolStrategy::Weighted, 1);
        bed.direct_with("tcp://edge.test:9680", nobody().await, with)
            .await;
    }
    let counted = clients.await.expect("no panic");
    assert_eq!(counted.values().sum::<usize>(), 400, "{counted:?}");
    let bed = Arc::into_inner(bed).expect("the only one");
    bed.finish().await;
}
