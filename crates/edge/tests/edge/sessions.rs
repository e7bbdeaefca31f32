//! Agent sessions: who gets in, who stays, and what a lost one takes with it.

use std::time::Duration;

use portcullis_model::{Code, Endpoint, Secret};
use portcullis_net::control::{Reader, Writer};
use portcullis_net::tls;
use portcullis_proto::message::{Bind, ChannelHello, EdgeMessage, FirstMessage};
use portcullis_telemetry::{CloseReason, NodeCommands as _};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::agent::{Agent, Identity, Manner, dial};
use crate::bed::{self, Bed, assert_reset, echo, ending, eventually, exchange, greeting, soon};

fn record(bed: &Bed, bound: &portcullis_proto::message::Bound) -> Endpoint {
    bed.registry
        .snapshot()
        .endpoint_by_id(&bound.endpoint_id)
        .expect("in the snapshot")
        .record()
        .clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_peers_cost_no_agent_anything_and_are_closed_in_time() {
    let bed = Bed::with(|config| {
        config.limits.agent_hello_timeout = Duration::from_millis(500);
        config.limits.agent_pending_per_source_max = 8;
    })
    .await;
    let (_, token) = bed.credential().await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(
            TcpStream::connect(bed.edge.agent_addr())
                .await
                .expect("open"),
        );
    }
    let begun = Instant::now();
    let agent = Agent::connect(&bed, &Identity::new(1, token)).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    for stream in &mut silent {
        let mut byte = [0];
        let end = soon("the silent peer is closed", stream.read(&mut byte)).await;
        assert!(matches!(end, Ok(0) | Err(_)));
    }
    eventually("their slots are free", || {
        bed.records.metrics().agent_pending.get() == 0
    })
    .await;
    agent.goodbye().await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_source_cannot_take_every_slot() {
    let bed = Bed::with(|config| config.limits.agent_pending_per_source_max = 2).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(
            TcpStream::connect(bed.edge.agent_addr())
                .await
                .expect("open"),
        );
    }
    eventually("both wait", || {
        bed.records.metrics().agent_pending.get() == 2
    })
    .await;
    let mut third = bed::dial(bed.edge.agent_addr());
    assert_reset(&mut third).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_revoked_tokens_are_refused_alike() {
    let bed = Bed::start().await;
    let (revoked, token) = bed.credential().await;
    bed.registry
        .delete_credential(&bed.account, &revoked)
        .await
        .expect("deleted");
    let unknown = Secret::new(token.expose().replace(&token.expose()[30..34], "AAAA"));
    let mut answers = Vec::new();
    for token in [token, unknown] {
        let refused = Agent::try_connect(&bed, &Identity::new(1, token))
            .await
            .err()
            .expect("refused");
        answers.push(refused);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].code, Code::AuthtokenUnknown);
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_a_credential_ends_its_session_and_connections_within_a_second() {
    let bed = Bed::start().await;
    let (credential, token) = bed.credential().await;
    let mut agent = Agent::connect(&bed, &Identity::new(1, token)).await;
    let bound = agent.bind("tcp://", echo("e").await).await;
    let mut client = bed.connect(&record(&bed, &bound)).await;
    greeting(&mut client, 1).await;
    let begun = Instant::now();
    bed.registry
        .delete_credential(&bed.account, &credential)
        .await
        .expect("deleted");
    match agent.hear().await {
        EdgeMessage::Error(fatal) => {
            assert_eq!(fatal.code, Code::CredentialRevoked);
            assert!(!fatal.retry);
        }
        other => panic!("{other:?}"),
    }
    assert_reset(&mut client).await;
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    bed.closed(CloseReason::CredentialRevoked).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_higher_generation_takes_over_at_once() {
    let bed = Bed::start().await;
    let (_, token) = bed.credential().await;
    let identity = Identity::new(1, token);
    let mut old = Agent::connect(&bed, &identity).await;
    let bound = old.bind("tcp://", echo("old").await).await;
    let endpoint = record(&bed, &bound);
    let mut client = bed.connect(&endpoint).await;
    greeting(&mut client, 3).await;

    let mut new = Agent::connect(
        &bed,
        &Identity {
            generation: 2,
            ..identity
        },
    )
    .await;
    match old.hear().await {
        EdgeMessage::Error(fatal) => {
            assert_eq!((fatal.code, fatal.retry), (Code::AgentFenced, true))
        }
        other => panic!("{other:?}"),
    }
    assert_reset(&mut client).await;
    bed.closed(CloseReason::AgentLost).await;
    let again = new.bind("tcp://", echo("new").await).await;
    assert_eq!(again.url, bound.url, "a random address is given again");
    assert_eq!(
        exchange(bed.connect(&record(&bed, &again)).await, b"").await,
        b"new"
    );
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_agents_connections_are_reset() {
    let bed = Bed::start().await;
    let (_, token) = bed.credential().await;
    let mut agent = Agent::connect(&bed, &Identity::new(1, token)).await;
    let bound = agent.bind("tcp://", echo("e").await).await;
    let mut client = bed.connect(&record(&bed, &bound)).await;
    greeting(&mut client, 1).await;
    let session = agent.session.clone();
    drop(agent);
    assert_reset(&mut client).await;
    bed.closed(CloseReason::AgentLost).await;
    eventually("the session is off the registry", || {
        bed.registry.snapshot().session_by_id(&session).is_none()
    })
    .await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_stops_a_session_that_allows_it() {
    let bed = Bed::start().await;
    let (_, token) = bed.credential().await;
    let mut identity = Identity::new(1, token);
    let mut agent = Agent::connect(&bed, &identity).await;
    bed.edge
        .stop_session(&agent.session, true)
        .await
        .expect("it is here");
    match agent.hear().await {
        EdgeMessage::Stop(stop) => {
            assert_eq!((stop.code, stop.restart), (Code::AgentStopped, true))
        }
        other => panic!("{other:?}"),
    }
    let id = agent.session.clone();
    agent.goodbye().await;
    eventually("the session has ended", || {
        bed.registry.snapshot().session_by_id(&id).is_none()
    })
    .await;
    let gone = bed.edge.stop_session(&id, false).await;
    assert_eq!(gone.map_err(|error| error.code), Err(Code::SessionNotFound));

    identity.remote_management = false;
    identity.generation += 1;
    let agent = Agent::connect(&bed, &identity).await;
    let refused = bed.edge.stop_session(&agent.session, false).await;
    assert_eq!(
        refused.map_err(|error| error.code),
        Err(Code::RemoteManagementOff)
    );
    agent.goodbye().await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_needs_its_sessions_mac() {
    let bed = Bed::start().await;
    let (_, token) = bed.credential().await;
    let agent = Agent::connect(&bed, &Identity::new(1, token)).await;
    let client = tls::client_config(&bed.trust).expect("tls");
    let stream = dial(bed.edge.agent_addr(), &client).await;
    // The right key and session, over the exporter of another TLS connection.
    let other = dial(bed.edge.agent_addr(), &client).await;
    let exporter = tls::exporter(&other).expect("handshake is complete");
    let mac = portcullis_proto::handshake::channel_mac(&agent.key, &agent.session, 77, &exporter);
    let hello = ChannelHello {
        session_id: agent.session.clone(),
        channel: 77,
        mac,
    };
    let (reader, writer) = tokio::io::split(stream);
    Writer::new(writer)
        .send(&FirstMessage::from(hello))
        .await
        .expect("sent");
    let answer = soon("the refusal", Reader::new(reader).next::<EdgeMessage>())
        .await
        .expect("an answer");
    match answer {
        Some(EdgeMessage::Error(fatal)) => assert_eq!(fatal.code, Code::SessionNotFound),
        other => panic!("{other:?}"),
    }
    drop(other);
    agent.goodbye().await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_changes_the_policy_in_place() {
    let bed = Bed::start().await;
    let (_, token) = bed.credential().await;
    let mut agent = Agent::connect(&bed, &Identity::new(1, token)).await;
    let bound = agent.bind("tcp://", echo("e").await).await;
    let endpoint = record(&bed, &bound);
    let mut before = bed.connect(&endpoint).await;
    greeting(&mut before, 1).await;
    let mut update = portcullis_proto::message::Update::of(bound.endpoint_id.clone());
    update.req = 1_000;
    update.traffic_policy = Some("on_tcp_connect: [{actions: [{type: deny}]}]".to_owned());
    agent.say(update).await;
    assert!(matches!(agent.hear().await, EdgeMessage::Updated(_)));
    let mut after = bed.connect(&endpoint).await;
    assert_eq!(ending(&mut after).await.ok(), Some(0));
    bed.closed(CloseReason::PolicyDenied).await;
    assert_eq!(exchange(before, b"goes on").await, b"goes on");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_lost_before_its_verdict_is_not_tried_again_elsewhere() {
    let bed = Bed::start().await;
    let (_, token) = bed.credential().await;
    bed.reserve(9_800).await;
    let pooled = || Bind {
        url: "tcp://edge.test:9800".to_owned(),
        pooling_enabled: true,
        ..Bind::default()
    };
    let mute = Agent::connect_as(&bed, &Identity::new(1, token), Manner::NeverAnswers).await;
    let mut mute = mute.expect("welcome");
    let bound = mute
        .bind_with(pooled(), bed::nobody().await)
        .await
        .expect("bound");
    let mut client = bed.connect(&record(&bed, &bound)).await;
    eventually("the open is on its way", || {
        bed.edge
            .connections()
            .first()
            .is_some_and(|view| view.session.as_ref() == Some(&mute.session))
    })
    .await;
    // Another member is there now, and must not get what the first may have had.
    bed.direct_with("tcp://edge.test:9800", echo("e").await, |spec| {
        spec.pooling_enabled = true
    })
    .await;
    drop(mute);
    assert_reset(&mut client).await;
    bed.closed(CloseReason::AgentLostUnknown).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_never_answers_or_brings_no_channel_costs_its_clients_the_deadline_only() {
    let bed = Bed::start().await;
    let (_, token) = bed.credential().await;
    let cases = [
        (Manner::NeverAnswers, CloseReason::UpstreamTimeout),
        (Manner::BringsNoChannels, CloseReason::NoChannel),
    ];
    for (seed, (manner, reason)) in (1..).zip(cases) {
        let agent = Agent::connect_as(&bed, &Identity::new(seed, token.clone()), manner).await;
        let mut agent = agent.expect("welcome");
        let mut bind = Bind {
            url: "tcp://".to_owned(),
            ..Bind::default()
        };
        bind.limits.connect_timeout_ms = Some(300);
        let bound = agent
            .bind_with(bind, bed::nobody().await)
            .await
            .expect("bound");
        let mut client = bed.connect(&record(&bed, &bound)).await;
        assert_reset(&mut client).await;
        bed.closed(reason).await;
    }
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_while_its_open_waits_gives_its_place_back() {
    let bed = Bed::start().await;
    let (_, token) = bed.credential().await;
    let agent = Agent::connect_as(&bed, &Identity::new(1, token), Manner::NeverAnswers).await;
    let mut agent = agent.expect("welcome");
    let bound = agent.bind("tcp://", bed::nobody().await).await;
    let client = bed.connect(&record(&bed, &bound)).await;
    eventually("the open waits", || bed.records.live().count() == 1).await;
    portcullis_net::socket::reset_on_drop(&client);
    drop(client);
    let begun = Instant::now();
    bed.closed(CloseReason::ClientReset).await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "well before the deadline of ten seconds"
    );
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_a_session_resets_its_connections_with_the_operators_reason() {
    let bed = Bed::start().await;
    let (_, token) = bed.credential().await;
    let mut agent = Agent::connect(&bed, &Identity::new(1, token)).await;
    let bound = agent.bind("tcp://", echo("e").await).await;
    let mut client = bed.connect(&record(&bed, &bound)).await;
    greeting(&mut client, 1).await;
    bed.edge
        .stop_session(&agent.session, false)
        .await
        .expect("it is here");
    assert!(matches!(agent.hear().await, EdgeMessage::Stop(_)));
    agent.goodbye().await;
    assert_reset(&mut client).await;
    bed.closed(CloseReason::SessionStopped).await;
    bed.finish().await;
}
