//! Binding, changing and closing endpoints.

use std::time::Duration;

use portcullis_agent::{EndpointOptions, EndpointState, EndpointUpdate};
use portcullis_model::health::Probe;
use portcullis_model::{Binding, Code, Error, HealthCheck, OnChange, PoolStrategy};
use portcullis_proto::AgentMessage;
use portcullis_proto::message::{Bind, StopEndpoint};

use crate::edge::{FakeEdge, closed_port, soon};
use crate::{builder, connect, status};

fn bind(message: &AgentMessage) -> Option<Bind> {
    match message {
        AgentMessage::Bind(bind) => Some(bind.clone()),
        _ => None,
    }
}

#[tokio::test]
async fn everything_asked_for_reaches_the_server() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let options = EndpointOptions::at("tcp://edge.test:20001")
        .name("db")
        .binding(Binding::Public)
        .description("the database")
        .metadata("m")
        .pooling(true)
        .allow("10.0.0.0/8");
    let forwarder = agent.forward(options, "5432").await.expect("bound");
    assert_eq!(forwarder.url(), "tcp://edge.test:20001");
    let asked = edge.session(0).await.heard("the bind", bind).await;
    assert_eq!(
        (asked.name.as_str(), asked.url.as_str()),
        ("db", "tcp://edge.test:20001")
    );
    assert_eq!(
        (asked.description.as_str(), asked.metadata.as_str()),
        ("the database", "m")
    );
    assert!(asked.pooling_enabled && asked.traffic_policy.contains("restrict-ips"));
    assert_eq!(asked.upstream_url, forwarder.upstream());
    let now = status(&agent, "online", |status| {
        status
            .endpoints
            .first()
            .is_some_and(|e| e.state == EndpointState::Online)
    })
    .await;
    assert_eq!(now.endpoints[0].url, "tcp://edge.test:20001");
}

#[tokio::test]
async fn endpoints_without_a_name_are_numbered_and_names_are_unique() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let first = agent
        .forward(EndpointOptions::new(), "1")
        .await
        .expect("bound");
    let second = agent
        .forward(EndpointOptions::new(), "2")
        .await
        .expect("bound");
    assert_eq!((first.name(), second.name()), ("endpoint", "endpoint-2"));
    assert_ne!(first.url(), second.url());
    let taken = agent
        .forward(EndpointOptions::new().name("endpoint"), "3")
        .await
        .expect_err("taken");
    assert_eq!(taken.code, Code::EndpointConflict);
}

#[tokio::test]
async fn a_refused_bind_carries_the_servers_code() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    edge.script(|script| {
        script.refuse_bind = Some(Error::new(Code::AddressTaken, "taken by another"))
    });
    let error = soon("the refusal", agent.forward(EndpointOptions::new(), "80"))
        .await
        .expect_err("refused");
    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::AddressTaken, "taken by another")
    );
    assert!(agent.endpoints().is_empty(), "nothing is left of it");
    // What is offered stays, shows the refusal, and is tried again.
    agent
        .offer(EndpointOptions::new().name("db"), "80")
        .expect("offered");
    let refused = |status: &portcullis_agent::Status| {
        status
            .endpoints
            .iter()
            .any(|e| e.state == EndpointState::Refused)
    };
    let shown = status(&agent, "the refusal", refused).await;
    assert_eq!(
        shown.endpoints[0].error.as_ref().expect("shown").code,
        Code::AddressTaken
    );
    edge.script(|script| script.refuse_bind = None);
    edge.session(0).await.cut().await;
    status(&agent, "bound at last", |status| {
        status.endpoints[0].state == EndpointState::Online
    })
    .await;
}

#[tokio::test]
async fn local_checks_come_before_the_server() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let code = async |options: EndpointOptions, upstream: &str| {
        agent
            .forward(options, upstream)
            .await
            .expect_err("refused")
            .code
    };
    assert_eq!(
        code(EndpointOptions::at("https://example.com"), "80").await,
        Code::UrlScheme
    );
    assert_eq!(
        code(EndpointOptions::new(), "not an upstream").await,
        Code::UpstreamInvalid
    );
    assert_eq!(
        code(EndpointOptions::new().allow("10.1.2.3/8"), "80").await,
        Code::PolicyCidr
    );
    let listening = agent
        .listen(EndpointOptions::new().metadata("m".repeat(5000)))
        .await
        .expect_err("too long");
    assert_eq!(listening.code, Code::ConfigInvalid);
}

#[tokio::test]
async fn an_update_changes_an_endpoint_in_place() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let forwarder = agent
        .forward(EndpointOptions::new().name("db"), "80")
        .await
        .expect("bound");
    let id = forwarder.id();
    let update = |text: &str| EndpointUpdate {
        description: Some(text.to_owned()),
        ..EndpointUpdate::default()
    };
    soon("the update", agent.update("db", update("new")))
        .await
        .expect("changed");
    let sent = |message: &AgentMessage| match message {
        AgentMessage::Update(update) => update.description.clone(),
        _ => None,
    };
    assert_eq!(edge.session(0).await.heard("the update", sent).await, "new");
    assert_eq!(forwarder.id(), id, "it was not bound anew");
    edge.script(|script| script.refuse_update = Some(Error::of(Code::PolicyInvalid)));
    let error = soon("the refusal", agent.update("db", update("newer")))
        .await
        .expect_err("refused");
    assert_eq!(error.code, Code::PolicyInvalid);
    let missing = agent
        .update("other", update("x"))
        .await
        .expect_err("unknown");
    assert_eq!(missing.code, Code::EndpointNotFound);
}

#[tokio::test]
async fn dropping_a_forwarder_unbinds_and_closing_waits_for_it() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let session = edge.session(0).await;
    let dropped = agent
        .forward(EndpointOptions::new().name("a"), "80")
        .await
        .expect("bound");
    let id = dropped.id().expect("bound");
    drop(dropped);
    let unbound = |message: &AgentMessage| match message {
        AgentMessage::Unbind(unbind) => Some(unbind.endpoint_id.clone()),
        _ => None,
    };
    assert_eq!(session.heard("the unbind", unbound).await, id);
    let closed = agent
        .forward(EndpointOptions::new().name("b"), "80")
        .await
        .expect("bound");
    soon("the close", closed.close()).await;
    let unbinds = |message: &AgentMessage| matches!(message, AgentMessage::Unbind(_)).then_some(());
    session
        .heard("the second unbind", {
            let mut left = 2;
            move |message| {
                left -= i32::from(unbinds(message).is_some());
                (left == 0).then_some(())
            }
        })
        .await;
    assert!(agent.endpoints().is_empty());
}

#[tokio::test]
async fn an_endpoint_that_the_server_stops_tells_its_holder_why() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let forwarder = agent
        .forward(EndpointOptions::new().name("db"), "80")
        .await
        .expect("bound");
    let stop = StopEndpoint {
        endpoint_id: forwarder.id().expect("bound"),
        code: Code::AddressForeign,
        message: "the address was given away".into(),
    };
    edge.session(0).await.say(stop).await;
    let why = soon("the reason", forwarder.closed()).await;
    assert_eq!(why.code, Code::AddressForeign);
    let shown = agent.endpoint("db").expect("still listed");
    assert_eq!(shown.state, EndpointState::Closed);
}

#[tokio::test]
async fn endpoints_wait_for_the_first_session() {
    let edge = FakeEdge::start().await;
    let fatal = portcullis_proto::message::Fatal {
        code: Code::ServerDraining,
        message: String::new(),
        retry: true,
    };
    edge.script(|script| script.refuse_hello = Some(fatal));
    let agent = builder(&edge).start().expect("started");
    let waiting = tokio::spawn({
        let agent = agent.clone();
        async move {
            agent
                .forward(EndpointOptions::new().name("db"), &closed_port().await)
                .await
        }
    });
    status(&agent, "pending", |status| {
        status.endpoints.len() == 1 && status.attempts > 0
    })
    .await;
    edge.script(|script| script.refuse_hello = None);
    let forwarder = soon("the bind", waiting)
        .await
        .expect("no panic")
        .expect("bound");
    assert!(forwarder.id().is_some());
}

#[tokio::test]
async fn the_server_is_told_how_an_upstream_fares_and_a_new_session_all_of_it() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let at = closed_port().await;
    let check = HealthCheck {
        interval: Duration::from_millis(500),
        rise: 1,
        ..HealthCheck::new(Probe::Tcp)
    };
    let options = EndpointOptions::new()
        .name("db")
        .weight(3)
        .pool_strategy(PoolStrategy::Weighted)
        .on_change(OnChange::Drain)
        .health(check);
    let forwarder = agent.forward(options, &at).await.expect("bound");
    let asked = edge.session(0).await.heard("the bind", bind).await;
    assert_eq!((asked.pool.weight, asked.on_change), (3, OnChange::Drain));
    assert_eq!(asked.pool.strategy, PoolStrategy::Weighted);
    let told = |healthy: bool| {
        move |message: &AgentMessage| match message {
            AgentMessage::Health(report) if report.healthy == healthy => Some(report.clone()),
            _ => None,
        }
    };
    let first = edge.session(0).await;
    let report = first.heard("the failure", told(false)).await;
    assert_eq!(Some(&report.endpoint_id), forwarder.id().as_ref());
    assert!(
        report.reason.starts_with("tcp: ") && report.failures >= 1,
        "{report:?}"
    );
    assert_eq!(report.code, Some(Code::UpstreamUnhealthy));
    let shown = status(&agent, "unhealthy", |status| {
        let health = status.endpoints.first().and_then(|e| e.health.as_ref());
        health.is_some_and(|health| !health.healthy)
    })
    .await;
    assert!(shown.endpoints[0].health_check.is_some());
    first.cut().await;
    let second = edge.session(1).await;
    second.heard("the failure once more", told(false)).await;
    let at = at.trim_start_matches("tcp://");
    let _upstream = tokio::net::TcpListener::bind(at).await.expect("the port");
    let report = second.heard("the rise", told(true)).await;
    assert_eq!((report.failures, report.code), (0, None));
}

#[tokio::test]
async fn a_listener_has_no_upstream_to_check() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let options = EndpointOptions::new().health(HealthCheck::new(Probe::Tcp));
    let error = agent.listen(options).await.expect_err("refused");
    assert_eq!(error.code, Code::HealthInvalid);
    let options = EndpointOptions::new().health(HealthCheck::new(Probe::Tls));
    let error = agent.forward(options, "unix:/run/x.sock").await;
    assert_eq!(
        error.map(drop).expect_err("refused").code,
        Code::HealthInvalid
    );
}
