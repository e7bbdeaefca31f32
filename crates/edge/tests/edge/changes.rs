//! Live changes: what a changed policy does to connections that are open.

use std::time::Duration;

use portcullis_model::{Endpoint, IpAction, OnChange};
use portcullis_proto::EdgeMessage;
use portcullis_proto::message::{Bind, Update};
use portcullis_store::{EndpointUpdate, IpPolicyUpdate, IpRuleSpec, NewIpPolicy};
use portcullis_telemetry::CloseReason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::agent::{Agent, Identity};
use crate::bed::{Bed, assert_reset, echo, eventually, greeting, soon};

const TO_DB: &str = "{actions: [{type: forward-internal, config: {url: 'tcp://db.internal:1'}}]}";

fn policy(first: &str) -> String {
    format!("on_tcp_connect: [{first}{TO_DB}]")
}

fn refuse(network: &str) -> String {
    policy(&format!(
        "{{actions: [{{type: restrict-ips, config: {{allow: ['0.0.0.0/0'], deny: ['{network}']}}}}]}}, "
    ))
}

/// For an endpoint that falls through.
fn deny(network: &str) -> String {
    format!(
        "on_tcp_connect: [{{actions: [{{type: restrict-ips, config: {{allow: ['0.0.0.0/0'], deny: ['{network}']}}}}]}}]"
    )
}

async fn cloud(bed: &Bed, document: &str, on_change: OnChange) -> Endpoint {
    let endpoint = bed.cloud("tcp://", document).await;
    change(bed, &endpoint, |update| update.on_change = Some(on_change)).await;
    endpoint
}

async fn change(bed: &Bed, endpoint: &Endpoint, change: impl FnOnce(&mut EndpointUpdate)) {
    let mut update = EndpointUpdate::default();
    change(&mut update);
    bed.registry
        .update_cloud_endpoint(&bed.account, &endpoint.id, update)
        .await
        .expect("updated");
}

async fn replace(bed: &Bed, endpoint: &Endpoint, document: String) {
    change(bed, endpoint, |update| {
        update.traffic_policy = Some(document)
    })
    .await;
}

async fn open(bed: &Bed, endpoint: &Endpoint) -> TcpStream {
    let mut client = bed.connect(endpoint).await;
    assert_eq!(greeting(&mut client, 1).await, "e");
    client
}

async fn still_open(client: &mut TcpStream) {
    client.write_all(b"x").await.expect("open");
    let mut heard = [0];
    soon("an echo", client.read_exact(&mut heard))
        .await
        .expect("open");
}

/// As many were decided again and stay.
async fn kept(bed: &Bed, count: u64) {
    let line = format!("portcullis_connections_reevaluated_total{{state=\"kept\"}} {count}");
    eventually(&line, || {
        bed.records
            .metrics()
            .encode()
            .expect("memory")
            .contains(&line)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reevaluate_closes_whom_the_policy_refuses_now_and_keeps_the_others() {
    let bed = Bed::start().await;
    bed.direct("tcp://db.internal:1", echo("e").await).await;
    let endpoint = cloud(&bed, &policy(""), OnChange::Reevaluate).await;
    let other = cloud(&bed, &policy(""), OnChange::Reevaluate).await;
    let (mut client, mut beside) = (open(&bed, &endpoint).await, open(&bed, &other).await);
    // A change that refuses others lets it be.
    replace(&bed, &endpoint, refuse("10.0.0.0/8")).await;
    kept(&bed, 2).await; // looked at twice, see `REEVALUATE_AGAIN`
    still_open(&mut client).await;
    replace(&bed, &endpoint, refuse("127.0.0.0/8")).await;
    assert_reset(&mut client).await;
    bed.closed(CloseReason::IpRestricted).await;
    still_open(&mut beside).await;
    replace(
        &bed,
        &other,
        "on_tcp_connect: [{actions: [{type: deny}]}]".to_owned(),
    )
    .await;
    assert_reset(&mut beside).await;
    bed.closed(CloseReason::PolicyDenied).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keep_keeps_whatever_changes() {
    let bed = Bed::start().await;
    bed.direct("tcp://db.internal:1", echo("e").await).await;
    let endpoint = cloud(&bed, &policy(""), OnChange::Keep).await;
    let watched = cloud(&bed, &policy(""), OnChange::Reevaluate).await;
    let (mut client, mut gone) = (open(&bed, &endpoint).await, open(&bed, &watched).await);
    replace(&bed, &endpoint, refuse("127.0.0.0/8")).await;
    // One that is closed says that the change before it was seen, too.
    replace(&bed, &watched, refuse("127.0.0.0/8")).await;
    assert_reset(&mut gone).await;
    still_open(&mut client).await;
    drop(client);
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ip_policy_and_a_target_count_as_the_policy_itself() {
    let bed = Bed::start().await;
    bed.direct("tcp://db.internal:1", echo("e").await).await;
    let rules = |cidr: &str| {
        let rule = |cidr: &str, action| IpRuleSpec {
            cidr: cidr.to_owned(),
            action,
        };
        vec![
            rule("0.0.0.0/0", IpAction::Allow),
            rule(cidr, IpAction::Deny),
        ]
    };
    let new = NewIpPolicy {
        rules: rules("10.0.0.0/8"),
        ..NewIpPolicy::default()
    };
    let ip = bed.registry.create_ip_policy(&bed.account, new).await;
    let ip = ip.expect("made").value.id;
    let uses = format!("{{actions: [{{type: restrict-ips, config: {{ip_policies: [{ip}]}}}}]}}, ");
    let by_ip = cloud(&bed, &policy(&uses), OnChange::Reevaluate).await;
    let hop = bed.cloud("tcp://hop.internal:1", &policy("")).await;
    let to_hop = "on_tcp_connect: [{actions: [{type: forward-internal, config: {url: 'tcp://hop.internal:1'}}]}]";
    let by_hop = cloud(&bed, to_hop, OnChange::Reevaluate).await;
    let (mut first, mut second) = (open(&bed, &by_ip).await, open(&bed, &by_hop).await);
    let update = IpPolicyUpdate {
        rules: Some(rules("127.0.0.0/8")),
        ..IpPolicyUpdate::default()
    };
    let updated = bed
        .registry
        .update_ip_policy(&bed.account, &ip, update)
        .await;
    assert!(updated.is_ok());
    assert_reset(&mut first).await;
    bed.closed(CloseReason::IpRestricted).await;
    still_open(&mut second).await;
    replace(
        &bed,
        &hop,
        "on_tcp_connect: [{actions: [{type: close-connection}]}]".to_owned(),
    )
    .await;
    assert_reset(&mut second).await;
    bed.closed(CloseReason::PolicyClosed).await;
    bed.finish().await;
}

/// Whoever asks for what was read when the connection came gets no answer, and the connection stays. What
/// counters gave it stays its own.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_any_more_closes_nothing() {
    let bed = Bed::start().await;
    bed.direct("tcp://db.internal:1", echo("e").await).await;
    let endpoint = cloud(&bed, &policy(""), OnChange::Reevaluate).await;
    let mut client = open(&bed, &endpoint).await;
    let sniffs = "{actions: [{type: sniff, config: {timeout: 1s}}]}, {expressions: [\"conn.protocol != 'ssh'\"], actions: [{type: deny}]}, ";
    replace(&bed, &endpoint, policy(sniffs)).await;
    kept(&bed, 2).await;
    let none = "{actions: [{type: limit-connections, config: {max: 1}}, {type: rate-limit, config: {capacity: 1, interval: 1h}}]}, ";
    replace(&bed, &endpoint, policy(none)).await;
    kept(&bed, 4).await;
    still_open(&mut client).await;
    let expression =
        "{expressions: [\"conn.client_ip.startsWith('127.')\"], actions: [{type: deny}]}, ";
    replace(&bed, &endpoint, policy(expression)).await;
    assert_reset(&mut client).await;
    bed.closed(CloseReason::PolicyDenied).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_closes_all_one_after_the_other() {
    let bed = Bed::with(|config| config.limits.drain_timeout = Duration::from_millis(200)).await;
    bed.direct("tcp://db.internal:1", echo("e").await).await;
    let endpoint = cloud(&bed, &policy(""), OnChange::Drain).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(open(&bed, &endpoint).await);
    }
    replace(&bed, &endpoint, refuse("10.0.0.0/8")).await;
    for client in &mut clients {
        assert_reset(client).await;
    }
    assert_eq!(
        bed.records
            .metrics()
            .count_closed(CloseReason::PolicyDrained),
        5
    );
    // New ones are not concerned.
    let mut client = open(&bed, &endpoint).await;
    still_open(&mut client).await;
    drop(client);
    bed.finish().await;
}

/// The policy of an agent's endpoint changed: its connections are looked at, whichever endpoint they came in by.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_serves_is_asked_as_well() {
    let bed = Bed::start().await;
    let (_, token) = bed.credential().await;
    let mut agent = Agent::connect(&bed, &Identity::new(1, token)).await;
    let bind = Bind {
        url: "tcp://db.internal:1".to_owned(),
        on_change: OnChange::Reevaluate,
        ..Bind::default()
    };
    let db = agent.bind_with(bind, echo("e").await).await.expect("bound");
    let entry = cloud(&bed, &policy(""), OnChange::Keep).await;
    let mut client = open(&bed, &entry).await;
    // What the entry would say now is not asked: it keeps.
    replace(&bed, &entry, refuse("127.0.0.0/8")).await;
    agent
        .say(Update {
            req: 2,
            traffic_policy: Some(deny("10.0.0.0/8")),
            ..Update::of(db.endpoint_id.clone())
        })
        .await;
    assert!(matches!(agent.hear().await, EdgeMessage::Updated(_)));
    kept(&bed, 2).await;
    still_open(&mut client).await;
    agent
        .say(Update {
            req: 3,
            traffic_policy: Some("on_tcp_connect: [{actions: [{type: deny}]}]".to_owned()),
            ..Update::of(db.endpoint_id)
        })
        .await;
    assert!(matches!(agent.hear().await, EdgeMessage::Updated(_)));
    assert_reset(&mut client).await;
    bed.closed(CloseReason::PolicyDenied).await;
    agent.goodbye().await;
    bed.finish().await;
}
