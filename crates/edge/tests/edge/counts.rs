//! Policies that decide by conditions and by what a node counts: addresses, rates, places, turns, ways to
//! refuse; and that nothing gets through while policies change or fail.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portcullis_model::Endpoint;
use portcullis_store::EndpointUpdate;
use portcullis_telemetry::CloseReason;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

use crate::bed::{Bed, assert_reset, dial, echo, ending, eventually, exchange, greeting, nobody};

/// Connects from an address of its own.
async fn dial_from(source: SocketAddr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("a socket");
    socket.bind(source).expect("a loopback address");
    socket.connect(to).await.expect("the port is open")
}

fn rules(rules: &str) -> String {
    format!("on_tcp_connect:\n{rules}")
}

/// Two targets by the tags `a` and `b`.
async fn two(bed: &Bed) {
    bed.direct("tcp://a.internal:1", echo("a").await).await;
    bed.direct("tcp://b.internal:1", echo("b").await).await;
}

const TO_A: &str = "{type: forward-internal, config: {url: 'tcp://a.internal:1'}}";
const TO_B: &str = "{type: forward-internal, config: {url: 'tcp://b.internal:1'}}";

fn count(bed: &Bed, reason: CloseReason) -> u64 {
    bed.records.metrics().count_closed(reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_decide_by_the_clients_address_and_port() {
    let bed = Bed::start().await;
    two(&bed).await;
    let policy = rules(&format!(
        "
  - expressions: [\"conn.client_ip == '127.9.9.9'\"]
    actions: [{TO_A}]
  - expressions: [\"conn.client_ip == '127.0.0.1'\", \"conn.client_port > 0\"]
    actions: [{TO_B}]
  - actions: [{{type: deny}}]
"
    ));
    let endpoint = bed.cloud("tcp://", &policy).await;
    let at = bed.address(&endpoint);
    let from = |last: [u8; 4]| SocketAddr::new(IpAddr::V4(Ipv4Addr::from(last)), 0);
    let a = dial_from(from([127, 9, 9, 9]), at).await;
    assert_eq!(exchange(a, b"").await, b"a");
    let b = dial_from(from([127, 0, 0, 1]), at).await;
    assert_eq!(exchange(b, b"").await, b"b");
    let mut refused = dial_from(from([127, 9, 9, 8]), at).await;
    assert_eq!(ending(&mut refused).await.ok(), Some(0));
    bed.closed(CloseReason::PolicyDenied).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_get_their_share_exactly_and_a_share_is_rejected() {
    let bed = Bed::start().await;
    two(&bed).await;
    let policy = rules(
        "
  - actions:
      - type: forward-internal
        config:
          targets:
            - {url: 'tcp://a.internal:1', weight: 3}
            - {url: 'tcp://b.internal:1', weight: 1}
            - {reject: true, weight: 1}
",
    );
    let endpoint = bed.cloud("tcp://", &policy).await;
    let mut counts = [0; 3];
    for _ in 0..50 {
        let answer = exchange(bed.connect(&endpoint).await, b"").await;
        let target = match answer.as_slice() {
            b"a" => 0,
            b"b" => 1,
            b"" => 2,
            other => panic!("{other:?}"),
        };
        counts[target] += 1;
    }
    assert_eq!(counts, [30, 10, 10]);
    assert_eq!(count(&bed, CloseReason::PolicyDenied), 10);
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_cannot_be_reached_is_passed_over_and_a_hash_keeps_its_client() {
    let bed = Bed::start().await;
    two(&bed).await;
    bed.direct("tcp://down.internal:1", nobody().await).await;
    for strategy in [
        "weighted",
        "least-connections",
        "random-two",
        "hash-client-ip",
    ] {
        let policy = rules(&format!(
            "
  - actions:
      - type: forward-internal
        config:
          strategy: {strategy}
          targets:
            - {{url: 'tcp://missing.internal:1', weight: 5}}
            - {{url: 'tcp://down.internal:1', weight: 5}}
            - {{url: 'tcp://a.internal:1', weight: 1}}
"
        ));
        let endpoint = bed.cloud("tcp://", &policy).await;
        for _ in 0..8 {
            let answer = exchange(bed.connect(&endpoint).await, b"q").await;
            assert_eq!(answer, b"aq", "{strategy}");
        }
    }
    let policy = rules(
        "
  - actions:
      - type: forward-internal
        config:
          strategy: hash-client-ip
          targets: [{url: 'tcp://a.internal:1'}, {url: 'tcp://b.internal:1'}]
",
    );
    let endpoint = bed.cloud("tcp://", &policy).await;
    let first = exchange(bed.connect(&endpoint).await, b"").await;
    for _ in 0..8 {
        assert_eq!(exchange(bed.connect(&endpoint).await, b"").await, first);
    }
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_busy_target_is_chosen() {
    let bed = Bed::start().await;
    two(&bed).await;
    let policy = rules(
        "
  - actions:
      - type: forward-internal
        config:
          strategy: least-connections
          targets: [{url: 'tcp://a.internal:1', weight: 2}, {url: 'tcp://b.internal:1', weight: 1}]
",
    );
    let endpoint = bed.cloud("tcp://", &policy).await;
    let (mut held, mut counts) = (Vec::new(), [0; 2]);
    for _ in 0..9 {
        let mut client = bed.connect(&endpoint).await;
        counts[usize::from(greeting(&mut client, 1).await == "b")] += 1;
        held.push(client);
    }
    assert_eq!(counts, [6, 3]);
    drop(held);
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_counted_by_its_key_and_once_for_each_connection() {
    let bed = Bed::start().await;
    two(&bed).await;
    bed.direct("tcp://down.internal:1", nobody().await).await;
    // The open of the first target fails, and the policy runs again.
    let policy = rules(&format!(
        "
  - actions:
      - {{type: rate-limit, config: {{capacity: 2, interval: 1h, key: conn.client_ip}}}}
      - {{type: forward-internal, config: {{url: 'tcp://down.internal:1', on_error: continue}}}}
      - {TO_A}
"
    ));
    let endpoint = bed.cloud("tcp://", &policy).await;
    for _ in 0..2 {
        assert_eq!(exchange(bed.connect(&endpoint).await, b"").await, b"a");
    }
    for _ in 0..3 {
        assert_reset(&mut bed.connect(&endpoint).await).await;
    }
    let other = SocketAddr::from(([127, 9, 9, 9], 0));
    let other = dial_from(other, bed.address(&endpoint)).await;
    assert_eq!(exchange(other, b"").await, b"a", "a key of its own");
    assert_eq!(count(&bed, CloseReason::RateLimited), 3);
    bed.finish().await;
}

/// A key is what a node keeps for a client, so one connection gets so many and no more.
#[tokio::test(flavor = "multi_thread")]
async fn one_connection_is_counted_by_64_keys_at_most() {
    let bed = Bed::start().await;
    two(&bed).await;
    let limiters = |which: std::ops::Range<usize>| {
        let each = which.map(|at| match at % 2 {
            0 => "\n  - actions: [{type: rate-limit, config: {capacity: 9, interval: 1h}}]",
            _ => "\n  - actions: [{type: limit-connections, config: {max: 9}}]",
        });
        rules(&format!(
            "{}\n  - actions: [{TO_A}]\n",
            each.collect::<String>()
        ))
    };
    let most = bed.cloud("tcp://", &limiters(0..64)).await;
    assert_eq!(exchange(bed.connect(&most).await, b"").await, b"a");
    for (first, reason) in [(0, CloseReason::RateLimited), (1, CloseReason::LimitPolicy)] {
        let more = bed.cloud("tcp://", &limiters(first..first + 65)).await;
        assert_reset(&mut bed.connect(&more).await).await;
        bed.closed(reason).await;
    }
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_comes_back_however_its_connection_ends() {
    let bed = Bed::start().await;
    two(&bed).await;
    bed.direct("tcp://down.internal:1", nobody().await).await;
    let limited = |then: &str| {
        rules(&format!(
            "\n  - actions: [{{type: limit-connections, config: {{max: 1}}}}]\n  - actions: [{then}]\n"
        ))
    };
    let endpoint = bed.cloud("tcp://", &limited(TO_A)).await;
    let all_over = || bed.records.metrics().count_open() == 0;
    for reset in [false, true, false] {
        let mut first = bed.connect(&endpoint).await;
        assert_eq!(greeting(&mut first, 1).await, "a");
        assert_reset(&mut bed.connect(&endpoint).await).await;
        if reset {
            first.set_zero_linger().expect("a socket");
        }
        drop(first);
        eventually("both are over", all_over).await;
    }
    assert_eq!(count(&bed, CloseReason::LimitPolicy), 3);
    // An open that fails, an answer, and a refusal behind the limit keep nothing either.
    let answers = "{type: custom-response, config: {text: hi}}";
    let down = "{type: forward-internal, config: {url: 'tcp://down.internal:1'}}";
    for (then, reason) in [
        (down, CloseReason::UpstreamRefused),
        (answers, CloseReason::PolicyResponded),
        ("{type: deny}", CloseReason::PolicyDenied),
    ] {
        let endpoint = bed.cloud("tcp://", &limited(then)).await;
        for _ in 0..3 {
            // A reset is one of the ends that are meant.
            drop(ending(&mut bed.connect(&endpoint).await).await);
            eventually("it is over", all_over).await;
        }
        assert_eq!(count(&bed, reason), 3);
    }
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deny_closes_as_its_mode_says() {
    let bed = Bed::start().await;
    let deny = |config: &str| {
        rules(&format!(
            "\n  - actions: [{{type: deny, config: {config}}}]\n"
        ))
    };
    let close = bed.cloud("tcp://", &deny("{mode: close}")).await;
    assert_eq!(ending(&mut bed.connect(&close).await).await.ok(), Some(0));
    let reset = bed.cloud("tcp://", &deny("{mode: reset}")).await;
    assert_reset(&mut bed.connect(&reset).await).await;
    let short = deny("{mode: tarpit, hold: 20ms}");
    let short = bed.cloud("tcp://", &short).await;
    assert_eq!(ending(&mut bed.connect(&short).await).await.ok(), Some(0));
    eventually("all were denied", || {
        count(&bed, CloseReason::PolicyDenied) == 3
    })
    .await;
    // Who is kept waiting for long is let go when somebody says so.
    let long = bed
        .cloud("tcp://", &deny("{mode: tarpit, hold: 30s}"))
        .await;
    let mut kept = bed.connect(&long).await;
    eventually("it waits", || bed.records.metrics().count_open() == 1).await;
    let ended = CloseReason::EndedByOperator.into();
    assert_eq!(bed.records.live().end_all(&ended), 1);
    assert_eq!(ending(&mut kept).await.ok(), Some(0));
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_fails_closes_and_never_forwards() {
    let bed = Bed::start().await;
    two(&bed).await;
    let fails = rules(&format!(
        "
  - expressions: [\"1 / (conn.client_port - conn.client_port) == 1\"]
    actions: [{{type: log, config: {{metadata: {{never: comes}}}}}}]
  - actions: [{TO_A}]
"
    ));
    let endpoint = bed.cloud("tcp://", &fails).await;
    assert_reset(&mut bed.connect(&endpoint).await).await;
    bed.closed(CloseReason::PolicyError).await;
    // A policy behind another fails for both.
    bed.cloud("tcp://fails.internal:1", &fails).await;
    let to_it = rules(&format!(
        "
  - actions:
      - {{type: forward-internal, config: {{url: 'tcp://fails.internal:1', on_error: continue}}}}
      - {TO_B}
"
    ));
    let before = bed.cloud("tcp://", &to_it).await;
    assert_reset(&mut bed.connect(&before).await).await;
    eventually("both failed", || count(&bed, CloseReason::PolicyError) == 2).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn set_limits_ends_a_silent_connection() {
    let bed = Bed::start().await;
    two(&bed).await;
    let policy = rules(&format!(
        "\n  - actions: [{{type: set-limits, config: {{idle_timeout: 50ms}}}}, {TO_A}]\n"
    ));
    let endpoint = bed.cloud("tcp://", &policy).await;
    let mut client = bed.connect(&endpoint).await;
    assert_eq!(greeting(&mut client, 1).await, "a");
    assert_reset(&mut client).await;
    bed.closed(CloseReason::IdleTimeout).await;
    bed.finish().await;
}

async fn replace(bed: &Bed, endpoint: &Endpoint, policy: String) {
    let update = EndpointUpdate {
        traffic_policy: Some(policy),
        ..EndpointUpdate::default()
    };
    bed.registry
        .update_cloud_endpoint(&bed.account, &endpoint.id, update)
        .await
        .expect("updated");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_meets_one_whole_policy_while_they_change() {
    let bed = Arc::new(Bed::start().await);
    two(&bed).await;
    // Each version has two rules. A mix of both would answer with neither, or with the wrong one.
    let version = |name: &str, right: &str, wrong: &str| {
        rules(&format!(
            "
  - actions: [{{type: set-vars, config: {{vars: [{{version: {name}}}]}}}}]
  - expressions: [\"vars.version != '{name}'\"]
    actions: [{wrong}]
  - expressions: [\"vars.version == '{name}'\"]
    actions: [{right}]
  - actions: [{{type: deny}}]
"
        ))
    };
    let versions = [version("one", TO_A, TO_B), version("two", TO_B, TO_A)];
    let endpoint = bed.cloud("tcp://", &versions[0]).await;
    let done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (at, done) = (bed.address(&endpoint), Arc::clone(&done));
            tokio::spawn(async move {
                let mut served = [0_u32; 2];
                while !done.load(Ordering::Relaxed) {
                    let answer = exchange(dial(at), b"q").await;
                    match answer.as_slice() {
                        b"aq" => served[0] += 1,
                        b"bq" => served[1] += 1,
                        other => panic!("neither version answers {other:?}"),
                    }
                }
                served
            })
        })
        .collect();
    for turn in 1..=40 {
        replace(&bed, &endpoint, versions[turn % 2].clone()).await;
        // What is decided from here on is decided by the new version.
        let answer = exchange(dial(bed.address(&endpoint)), b"q").await;
        assert_eq!(answer, [&b"aq"[..], b"bq"][turn % 2]);
    }
    done.store(true, Ordering::Relaxed);
    let mut served = [0_u32; 2];
    for client in clients {
        let of_one = client.await.expect("no wrong answer");
        served = [served[0] + of_one[0], served[1] + of_one[1]];
    }
    assert!(served[0] > 0 && served[1] > 0, "{served:?}");
    let bed = Arc::into_inner(bed).expect("nobody else has it");
    bed.finish().await;
}

/// Whoever is kept waiting must not keep a node from stopping.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_lets_go_of_whom_it_keeps_waiting() {
    use portcullis_telemetry::NodeCommands as _;
    let bed = Bed::start().await;
    let policy = rules("\n  - actions: [{type: deny, config: {mode: tarpit, hold: 30s}}]\n");
    let endpoint = bed.cloud("tcp://", &policy).await;
    let mut kept = bed.connect(&endpoint).await;
    kept.write_all(b"?").await.expect("write");
    eventually("it waits", || bed.records.metrics().count_open() == 1).await;
    let outcome = bed.edge.drain(Duration::from_secs(20)).await;
    assert_eq!(outcome.cut, 0, "{outcome:?}");
    bed.finish().await;
}

/// Otherwise a source could have as many connections kept waiting, or answered slowly, as the node takes.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_kept_waiting_counts_until_it_is_let_go() {
    use portcullis_telemetry::NodeCommands as _;
    let bed = Bed::with(|config| config.limits.connections_per_source_max = 1).await;
    let waits = "{type: deny, config: {mode: tarpit, hold: 30s}}";
    let policy = rules(&format!("\n  - actions: [{waits}]\n"));
    let endpoint = bed.cloud("tcp://", &policy).await;
    let counted = || bed.edge.endpoint_status(&endpoint.id).connections_open;
    let kept = bed.connect(&endpoint).await;
    eventually("it is counted", || counted() == 1).await;
    assert_reset(&mut bed.connect(&endpoint).await).await;
    bed.closed(CloseReason::LimitSource).await;
    assert_eq!(counted(), 1);
    let_go(&bed).await;
    assert_eq!(counted(), 0, "its place is free");
    drop(kept);
    bed.finish().await;

    let bed = Bed::start().await;
    let policy = rules(&format!(
        "\n  - actions: [{{type: limit-connections, config: {{max: 1}}}}, {waits}]\n"
    ));
    let endpoint = bed.cloud("tcp://", &policy).await;
    for round in 1..=2 {
        let both = [bed.connect(&endpoint).await, bed.connect(&endpoint).await];
        eventually("one of them has the place", || {
            count(&bed, CloseReason::LimitPolicy) == round
        })
        .await;
        let_go(&bed).await;
        drop(both);
    }
    assert_eq!(count(&bed, CloseReason::LimitPolicy), 2);
    assert_eq!(count(&bed, CloseReason::PolicyDenied), 2);
    bed.finish().await;
}

/// Ends the connections that are there.
async fn let_go(bed: &Bed) {
    bed.records
        .live()
        .end_all(&CloseReason::EndedByOperator.into());
    eventually("all are over", || bed.records.metrics().count_open() == 0).await;
}

/// Nobody gets in by a policy that was replaced before they said anything, and nobody is waited for twice.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_while_the_policy_changes_meets_the_new_one() {
    let bed = Bed::start().await;
    two(&bed).await;
    let sniffs = |then: &str| {
        let limit = "{type: rate-limit, config: {capacity: 3, interval: 1h}}";
        rules(&format!(
            "\n  - actions: [{limit}, {{type: sniff, config: {{timeout: 9s}}}}]\n  - actions: [{then}]\n"
        ))
    };
    let endpoint = bed.cloud("tcp://", &sniffs(TO_A)).await;
    let waiting = || async {
        let client = bed.connect(&endpoint).await;
        eventually("it is waited for", || {
            let live = bed.records.live().views();
            live.iter().any(|live| live.entry.is_some())
        })
        .await;
        client
    };
    let client = waiting().await;
    replace(&bed, &endpoint, sniffs(TO_B)).await;
    assert_eq!(exchange(client, b"SSH-2.0-x\r\n").await, b"bSSH-2.0-x\r\n");
    eventually("it is over", || bed.records.metrics().count_open() == 0).await;

    let mut client = waiting().await;
    replace(&bed, &endpoint, rules("\n  - actions: [{type: deny}]\n")).await;
    client.write_all(b"SSH-2.0-x\r\n").await.expect("write");
    assert_eq!(ending(&mut client).await.ok(), Some(0));
    bed.closed(CloseReason::PolicyDenied).await;
    eventually("it is over", || bed.records.metrics().count_open() == 0).await;

    // A token was taken once by each, whatever changed meanwhile.
    replace(&bed, &endpoint, sniffs(TO_A)).await;
    let client = waiting().await;
    bed.direct("tcp://c.internal:1", echo("c").await).await;
    assert_eq!(exchange(client, b"SSH-2.0-x\r\n").await, b"aSSH-2.0-x\r\n");
    assert_reset(&mut bed.connect(&endpoint).await).await;
    bed.closed(CloseReason::RateLimited).await;
    bed.finish().await;
}
