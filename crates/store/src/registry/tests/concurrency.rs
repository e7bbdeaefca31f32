//! Many writers at once, in one node and in two nodes on one store.

use std::collections::BTreeSet;

use super::*;
use crate::requests::{NewAddress, NewApiKey};

/// A second node on the same store: its writes don't queue behind the first one's.
async fn second_node(bed: &Bed) -> Registry {
    let settings = Settings::new("node-2", "eu", HOST);
    Registry::open(Arc::clone(&bed.store), settings, Clock::system())
        .await
        .expect("opens")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_port_goes_to_one_of_many_accounts_on_two_nodes() {
    let bed = Bed::new().await;
    let nodes = [bed.registry.clone(), second_node(&bed).await];
    let mut tasks = Vec::new();
    for n in 0..40_usize {
        let account = new_account(&bed.registry, &format!("a{n}"), None).await;
        let registry = nodes[n % 2].clone();
        tasks.push(tokio::spawn(async move {
            let wish = NewAddress {
                port: Some(5432),
                ..NewAddress::default()
            };
            registry
                .reserve_address(&account, wish)
                .await
                .map_err(|error| error.code)
        }));
    }
    let mut winners = 0;
    for task in tasks {
        match task.await.expect("task") {
            Ok(_) => winners += 1,
            Err(code) => assert_eq!(code, Code::AddressTaken),
        }
    }
    assert_eq!(winners, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_draws_of_many_writers_never_meet() {
    let mut narrow = settings();
    narrow.hosts[0].ports = "20000-20059".parse().expect("ports");
    let bed = Bed::with(narrow.clone()).await;
    narrow.node = "node-2".into();
    let second = Registry::open(Arc::clone(&bed.store), narrow, Clock::system())
        .await
        .expect("opens");
    let nodes = [bed.registry.clone(), second];
    let mut tasks = Vec::new();
    for n in 0..60_usize {
        let account = new_account(&bed.registry, &format!("a{n}"), None).await;
        let registry = nodes[n % 2].clone();
        tasks.push(tokio::spawn(async move {
            registry
                .reserve_address(&account, NewAddress::default())
                .await
                .expect("drawn")
                .value
                .port
        }));
    }
    let mut ports = BTreeSet::new();
    for task in tasks {
        assert!(
            ports.insert(task.await.expect("task")),
            "a port was given twice"
        );
    }
    assert_eq!(ports.len(), 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn quotas_hold_against_many_writers_on_two_nodes() {
    let mut settings = settings();
    settings.plans.insert(
        "default".into(),
        Plan {
            endpoints_max: Some(5),
            ..Plan::default()
        },
    );
    let bed = Bed::with(settings.clone()).await;
    settings.node = "node-2".into();
    let second = Registry::open(Arc::clone(&bed.store), settings, Clock::system())
        .await
        .expect("opens");
    let nodes = [bed.registry.clone(), second];
    let mut tasks = Vec::new();
    for n in 0..20_u8 {
        let registry = nodes[usize::from(n) % 2].clone();
        let session = registry
            .open_session(session_of(&bed.credential, n, 1))
            .await
            .expect("opens")
            .value
            .session
            .id;
        tasks.push(tokio::spawn(async move {
            let url = format!("tcp://n{n}.internal:1");
            registry
                .bind_endpoint(&session, spec(&url))
                .await
                .map_err(|error| error.code)
        }));
    }
    let mut bound = 0;
    for task in tasks {
        match task.await.expect("task") {
            Ok(_) => bound += 1,
            Err(code) => assert_eq!(code, Code::EndpointLimit),
        }
    }
    assert_eq!(bound, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_url_without_pooling_is_bound_once() {
    let bed = Bed::new().await;
    let second = second_node(&bed).await;
    let nodes = [bed.registry.clone(), second];
    let mut tasks = Vec::new();
    for n in 0..16_u8 {
        let registry = nodes[usize::from(n) % 2].clone();
        let session = registry
            .open_session(session_of(&bed.credential, n, 1))
            .await
            .expect("opens")
            .value
            .session
            .id;
        tasks.push(tokio::spawn(async move {
            registry
                .bind_endpoint(&session, spec("tcp://db.internal:1"))
                .await
                .is_ok()
        }));
    }
    let mut bound = 0;
    for task in tasks {
        bound += usize::from(task.await.expect("task"));
    }
    assert_eq!(bound, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_admins_cannot_delete_each_other_s_last_key() {
    for _ in 0..10 {
        let bed = Bed::new().await;
        let second = second_node(&bed).await;
        let admin = || NewApiKey {
            admin: true,
            ..NewApiKey::default()
        };
        let one = bed
            .registry
            .create_api_key(&bed.account, admin())
            .await
            .expect("a key")
            .value
            .0;
        let written = bed
            .registry
            .create_api_key(&bed.account, admin())
            .await
            .expect("a key");
        let two = written.value.0;
        second
            .at_revision(written.revision)
            .await
            .expect("caught up");
        let (first, other) = tokio::join!(
            bed.registry.delete_api_key(&bed.account, &one.id),
            second.delete_api_key(&bed.account, &two.id)
        );
        assert_eq!(u8::from(first.is_ok()) + u8::from(other.is_ok()), 1);
        assert_eq!(
            bed.registry
                .snapshot()
                .admin_keys()
                .count()
                .max(second.snapshot().admin_keys().count()),
            1
        );
    }
}
