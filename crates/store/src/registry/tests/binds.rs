//! What agents may bind, and where random addresses stay.

use std::time::Duration;

use super::*;
use crate::requests::{BoundUpdate, DirectSpec, NewAddress};

#[tokio::test]
async fn a_random_address_stays_with_agent_and_name() {
    let bed = Bed::new().await;
    let session = bed.session().await;
    let first = bed.bind(&session, "").await.expect("bound");
    let named = BindSpec {
        name: "db".into(),
        ..spec("tcp://")
    };
    let second = bed
        .registry
        .bind_endpoint(&session, named.clone())
        .await
        .expect("bound")
        .value;
    assert_ne!(first.url, second.url);
    bed.registry
        .unbind_endpoint(&session, &first.id)
        .await
        .expect("unbound");
    bed.registry.close_session(&session).await.expect("closed");
    bed.clock.advance(Duration::from_secs(23 * 3600));
    bed.registry.sweep().await.expect("sweeps");
    let session = bed
        .open(&bed.credential, 1, 2)
        .await
        .expect("opens")
        .session
        .id;
    assert_eq!(
        bed.bind(&session, "tcp://").await.expect("bound").url,
        first.url
    );
    assert_eq!(
        bed.registry
            .bind_endpoint(&session, named)
            .await
            .expect("bound")
            .value
            .url,
        second.url
    );
    bed.registry.close_session(&session).await.expect("closed");
    bed.clock.advance(Duration::from_secs(25 * 3600));
    bed.registry.sweep().await.expect("sweeps");
    assert!(
        bed.registry
            .snapshot()
            .port_claim(HOST, first.url.port())
            .is_none(),
        "rested long enough"
    );
}

#[tokio::test]
async fn an_ephemeral_address_is_not_given_again_but_rests() {
    let mut settings = settings();
    settings.hosts[0].ports = "20000-20001".parse().expect("ports");
    let bed = Bed::with(settings).await;
    let (other, theirs) = bed.stranger().await;
    let session = bed.session().await;
    let spec = BindSpec {
        ephemeral: true,
        ..spec("tcp://")
    };
    let first = bed
        .registry
        .bind_endpoint(&session, spec.clone())
        .await
        .expect("bound")
        .value;
    bed.registry
        .unbind_endpoint(&session, &first.id)
        .await
        .expect("unbound");
    let second = bed
        .registry
        .bind_endpoint(&session, spec)
        .await
        .expect("bound")
        .value;
    assert_ne!(first.url, second.url);
    assert_eq!(
        code(bed.bind(&theirs, "tcp://").await),
        Code::AddressExhausted,
        "the first rests"
    );
    let wish = NewAddress {
        port: Some(first.url.port()),
        ..NewAddress::default()
    };
    assert_eq!(
        code(bed.registry.reserve_address(&other, wish).await),
        Code::AddressResting
    );
}

#[tokio::test]
async fn an_agent_may_name_its_own_random_address_in_full() {
    let bed = Bed::new().await;
    let (_, theirs) = bed.stranger().await;
    let session = bed.session().await;
    let first = bed.bind(&session, "tcp://").await.expect("bound");
    let url = first.url.to_string();
    bed.registry
        .unbind_endpoint(&session, &first.id)
        .await
        .expect("unbound");
    assert_eq!(code(bed.bind(&theirs, &url).await), Code::AddressForeign);
    let second_agent = bed
        .open(&bed.credential, 2, 1)
        .await
        .expect("opens")
        .session
        .id;
    assert_eq!(
        code(bed.bind(&second_agent, &url).await),
        Code::AddressNotReserved
    );
    assert_eq!(
        bed.bind(&session, &url).await.expect("its own").url,
        first.url
    );
}

#[tokio::test]
async fn a_public_url_needs_a_reservation() {
    let bed = Bed::new().await;
    let (other, _) = bed.stranger().await;
    let session = bed.session().await;
    let refusal = bed
        .bind(&session, "tcp://edge.example.com:5432")
        .await
        .expect_err("not reserved");
    assert_eq!(refusal.code, Code::AddressNotReserved);
    assert!(
        refusal
            .message
            .contains("--host edge.example.com --port 5432"),
        "{refusal}"
    );
    let elsewhere = bed
        .bind(&session, "tcp://db.example.org:5432")
        .await
        .expect_err("not ours");
    assert_eq!(elsewhere.code, Code::AddressHostUnknown);
    let wish = NewAddress {
        port: Some(5432),
        ..NewAddress::default()
    };
    bed.registry
        .reserve_address(&other, wish)
        .await
        .expect("reserved");
    assert_eq!(
        code(bed.bind(&session, "tcp://edge.example.com:5432").await),
        Code::AddressForeign
    );
}

#[tokio::test]
async fn a_host_without_a_port_means_its_only_address() {
    let bed = Bed::new().await;
    let session = bed.session().await;
    assert_eq!(
        code(bed.bind(&session, "tcp://edge.example.com").await),
        Code::AddressNotReserved
    );
    let wish = |port| NewAddress {
        port: Some(port),
        ..NewAddress::default()
    };
    bed.registry
        .reserve_address(&bed.account, wish(7001))
        .await
        .expect("reserved");
    let endpoint = bed
        .bind(&session, "tcp://Edge.Example.com")
        .await
        .expect("bound");
    assert_eq!(endpoint.url.to_string(), "tcp://edge.example.com:7001");
    bed.registry
        .reserve_address(&bed.account, wish(7002))
        .await
        .expect("reserved");
    let refusal = bed
        .bind(&session, "tcp://edge.example.com")
        .await
        .expect_err("two");
    assert_eq!(refusal.code, Code::UrlAmbiguous);
    assert!(
        refusal.message.contains(":7001") && refusal.message.contains(":7002"),
        "{refusal}"
    );
}

#[tokio::test]
async fn the_credential_s_rules_hold() {
    let bed = Bed::new().await;
    let wish = |port| NewAddress {
        port: Some(port),
        ..NewAddress::default()
    };
    for port in [7001, 7002] {
        bed.registry
            .reserve_address(&bed.account, wish(port))
            .await
            .expect("reserved");
    }
    let narrow = new_credential(
        &bed.registry,
        &bed.account,
        &["bind:edge.example.com:7001", "bind:*.db.internal:5432"],
    )
    .await;
    let session = bed.open(&narrow, 3, 1).await.expect("opens").session.id;
    bed.bind(&session, "tcp://edge.example.com:7001")
        .await
        .expect("allowed");
    bed.bind(&session, "tcp://a.db.internal:5432")
        .await
        .expect("allowed");
    assert_eq!(
        code(bed.bind(&session, "tcp://edge.example.com:7002").await),
        Code::CredentialAcl
    );
    assert_eq!(
        code(bed.bind(&session, "tcp://web.internal:80").await),
        Code::CredentialAcl
    );
    assert_eq!(
        code(bed.bind(&session, "tcp://").await),
        Code::CredentialAclRandom
    );
}

#[tokio::test]
async fn kubernetes_needs_an_operator() {
    let bed = Bed::new().await;
    let session = bed.session().await;
    let spec = BindSpec {
        binding: Some(portcullis_model::Binding::Kubernetes),
        ..spec("tcp://web.shop:80")
    };
    assert_eq!(
        code(bed.registry.bind_endpoint(&session, spec).await),
        Code::NoOperator
    );
}

#[tokio::test]
async fn quotas_count_endpoints_of_the_account_and_of_the_session() {
    let bed = Bed::with_plan(Plan {
        endpoints_max: Some(2),
        ..Plan::default()
    })
    .await;
    let session = bed.session().await;
    bed.bind(&session, "tcp://a.internal:1")
        .await
        .expect("bound");
    bed.bind(&session, "tcp://a.internal:2")
        .await
        .expect("bound");
    assert_eq!(
        code(bed.bind(&session, "tcp://a.internal:3").await),
        Code::EndpointLimit
    );
    let mut settings = settings();
    settings.session_endpoints_max = 1;
    let bed = Bed::with(settings).await;
    let session = bed.session().await;
    bed.bind(&session, "tcp://a.internal:1")
        .await
        .expect("bound");
    assert_eq!(
        code(bed.bind(&session, "tcp://a.internal:2").await),
        Code::SessionEndpointLimit
    );
}

#[tokio::test]
async fn a_bound_endpoint_changes_in_place() {
    let bed = Bed::new().await;
    let session = bed.session().await;
    let endpoint = bed.bind(&session, "tcp://").await.expect("bound");
    let update = BoundUpdate {
        traffic_policy: Some(DENY.into()),
        metadata: Some("m".into()),
        ..BoundUpdate::default()
    };
    let changed = bed
        .registry
        .update_bound_endpoint(&session, &endpoint.id, update)
        .await
        .expect("changed")
        .value;
    assert_eq!(
        (changed.id, changed.url, changed.metadata.as_str()),
        (endpoint.id.clone(), endpoint.url, "m")
    );
    let snapshot = bed.registry.snapshot();
    let entry = snapshot
        .endpoint(&bed.account, &endpoint.id)
        .expect("there");
    assert!(entry.policy().expect("compiles").is_some());
    let bad = BoundUpdate {
        traffic_policy: Some("on_tcp_connect: 7".into()),
        ..BoundUpdate::default()
    };
    assert!(
        bed.registry
            .update_bound_endpoint(&session, &endpoint.id, bad)
            .await
            .is_err()
    );
    let (_, theirs) = bed.stranger().await;
    let update = BoundUpdate {
        metadata: Some("x".into()),
        ..BoundUpdate::default()
    };
    assert_eq!(
        code(
            bed.registry
                .update_bound_endpoint(&theirs, &endpoint.id, update)
                .await
        ),
        Code::EndpointNotFound
    );
}

#[tokio::test]
async fn a_direct_endpoint_needs_no_reservation_and_comes_back() {
    let bed = Bed::new().await;
    let (other, theirs) = bed.stranger().await;
    let direct = |port| DirectSpec {
        port: Some(port),
        upstream: "tcp://127.0.0.1:5432".into(),
        ..DirectSpec::default()
    };
    let endpoint = bed
        .registry
        .bind_direct(&bed.account, direct(20_001))
        .await
        .expect("bound")
        .value;
    assert_eq!(endpoint.url.to_string(), "tcp://edge.example.com:20001");
    assert_eq!(
        code(bed.registry.bind_direct(&other, direct(20_001)).await),
        Code::AddressTaken
    );
    assert_eq!(
        code(bed.bind(&theirs, "tcp://edge.example.com:20001").await),
        Code::AddressForeign
    );
    assert_eq!(
        code(bed.registry.bind_direct(&bed.account, direct(20_001)).await),
        Code::EndpointConflict
    );
    let again = Registry::open(Arc::clone(&bed.store), settings(), Clock::system())
        .await
        .expect("opens again");
    assert!(
        again
            .snapshot()
            .endpoint(&bed.account, &endpoint.id)
            .is_none()
    );
    again
        .bind_direct(&bed.account, direct(20_001))
        .await
        .expect("bound again");
}

#[tokio::test]
async fn direct_endpoints_come_together_and_one_that_is_refused_holds_up_none() {
    let bed = Bed::new().await;
    let direct = |port: u16| DirectSpec {
        name: format!("port {port}"),
        port: Some(port),
        upstream: "tcp://127.0.0.1:5432".into(),
        ..DirectSpec::default()
    };
    let before = bed.registry.snapshot().revision();
    let together = (20_001..=20_200).map(direct).collect();
    let outcomes = bed.registry.bind_directs(&bed.account, together).await;
    assert!(outcomes.iter().all(Result::is_ok));
    let snapshot = bed.registry.snapshot();
    assert_eq!(snapshot.revision(), before + 1, "one write");
    assert!(snapshot.public(HOST, 20_200).is_some());
    // The second of two at one place, one that stands already, and one that is drawn.
    let drawn = DirectSpec {
        port: None,
        url: "tcp://".into(),
        ..direct(0)
    };
    let mixed = vec![direct(20_300), direct(20_300), direct(20_001), drawn];
    let outcomes = bed.registry.bind_directs(&bed.account, mixed).await;
    let ports: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| outcome.map(|endpoint| endpoint.url.port()))
        .collect();
    assert_eq!(ports[0], Ok(20_300));
    for refused in &ports[1..3] {
        assert_eq!(code(refused.clone()), Code::EndpointConflict);
    }
    assert!(ports[3].is_ok());
}

#[tokio::test]
async fn a_direct_random_address_is_kept_by_name() {
    let bed = Bed::new().await;
    let spec = DirectSpec {
        name: "db".into(),
        upstream: "tcp://127.0.0.1:5432".into(),
        ..DirectSpec::default()
    };
    let first = bed
        .registry
        .bind_direct(&bed.account, spec.clone())
        .await
        .expect("bound")
        .value;
    let again = Registry::open(Arc::clone(&bed.store), settings(), Clock::system())
        .await
        .expect("opens again");
    assert_eq!(
        again
            .bind_direct(&bed.account, spec)
            .await
            .expect("bound")
            .value
            .url,
        first.url
    );
}

#[tokio::test]
async fn agents_that_come_under_new_names_do_not_take_the_range_from_others() {
    let mut settings = settings();
    settings.hosts[0].ports = "20000-20079".parse().expect("ports");
    let bed = Bed::with(settings).await;
    let (_, theirs) = bed.stranger().await;
    for agent in 1..=100 {
        let opened = bed.open(&bed.credential, agent, 1).await.expect("opens");
        let session = opened.session.id;
        bed.bind(&session, "tcp://").await.expect("bound");
        let closed = bed.registry.close_session(&session).await;
        closed.expect("closed");
    }
    bed.bind(&theirs, "tcp://")
        .await
        .expect("something is left");
}
