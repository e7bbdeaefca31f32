//! Sessions: takeover, duplicates, revocation, quotas, and what a restart leaves.

use super::*;
use crate::requests::BoundUpdate;

#[tokio::test]
async fn a_newer_run_takes_over_in_one_revision_and_gets_its_address_again() {
    let bed = Bed::new().await;
    let old = bed
        .open(&bed.credential, 1, 4)
        .await
        .expect("opens")
        .session;
    let before = bed.bind(&old.id, "tcp://").await.expect("bound");
    let new = bed.open(&bed.credential, 1, 5).await.expect("takes over");
    assert_eq!(
        new.superseded,
        [super::super::Superseded {
            session: old.id.clone(),
            code: Code::AgentFenced
        }]
    );
    let snapshot = bed.registry.snapshot();
    assert!(snapshot.session(&bed.account, &old.id).is_none());
    assert!(snapshot.endpoint(&bed.account, &before.id).is_none());
    assert_eq!(
        code(bed.bind(&old.id, "tcp://").await),
        Code::SessionNotFound
    );
    let after = bed.bind(&new.session.id, "tcp://").await.expect("bound");
    assert_eq!(after.url, before.url);
    bed.registry
        .close_session(&old.id)
        .await
        .expect("closing what is gone is fine");
    assert!(
        bed.registry
            .snapshot()
            .endpoint(&bed.account, &after.id)
            .is_some()
    );
}

#[tokio::test]
async fn an_identity_needs_its_secret() {
    let bed = Bed::new().await;
    bed.session().await;
    let mut stolen = session_of(&bed.credential, 1, 9);
    stolen.agent_secret = Secret::new("guess".into());
    assert_eq!(
        code(bed.registry.open_session(stolen).await),
        Code::AgentDuplicate
    );
}

#[tokio::test]
async fn the_older_of_two_live_processes_wins() {
    let bed = Bed::new().await;
    bed.open(&bed.credential, 1, 5).await.expect("the older");
    bed.open(&bed.credential, 1, 6)
        .await
        .expect("the newer takes over once");
    let back = bed
        .open(&bed.credential, 1, 5)
        .await
        .expect("the older comes back and wins");
    assert_eq!(back.superseded[0].code, Code::AgentDuplicate);
    assert_eq!(
        code(bed.open(&bed.credential, 1, 6).await),
        Code::AgentDuplicate
    );
    bed.registry
        .close_session(&back.session.id)
        .await
        .expect("closed");
    bed.open(&bed.credential, 1, 6)
        .await
        .expect("the older has gone");
}

#[tokio::test]
async fn revoking_a_credential_ends_its_sessions_at_once() {
    let bed = Bed::new().await;
    let other = new_credential(&bed.registry, &bed.account, &[]).await;
    let stays = bed.open(&other, 2, 1).await.expect("opens").session.id;
    let kept = bed.bind(&stays, "tcp://").await.expect("bound");
    let session = bed.session().await;
    let endpoint = bed.bind(&session, "tcp://").await.expect("bound");
    let revision = bed
        .registry
        .delete_credential(&bed.account, &bed.credential.id)
        .await
        .expect("deleted")
        .revision;
    let snapshot = bed.registry.snapshot();
    assert!(snapshot.revision() >= revision);
    assert!(!snapshot.has_credential(&bed.credential.id));
    assert!(snapshot.session(&bed.account, &session).is_none());
    assert!(
        snapshot
            .public(endpoint.url.host(), endpoint.url.port())
            .is_none()
    );
    assert!(snapshot.endpoint(&bed.account, &kept.id).is_some());
    assert_eq!(
        code(bed.open(&bed.credential, 1, 2).await),
        Code::CredentialRevoked
    );
}

#[tokio::test]
async fn quotas_count_sessions_and_a_takeover_is_no_more() {
    let bed = Bed::with_plan(Plan {
        sessions_max: Some(1),
        ..Plan::default()
    })
    .await;
    bed.open(&bed.credential, 1, 1).await.expect("opens");
    assert_eq!(
        code(bed.open(&bed.credential, 2, 1).await),
        Code::SessionLimit
    );
    bed.open(&bed.credential, 1, 2)
        .await
        .expect("takes its own place");
}

#[tokio::test]
async fn closing_a_session_takes_its_endpoints_offline() {
    let bed = Bed::new().await;
    let session = bed.session().await;
    let endpoint = bed
        .bind(&session, "tcp://db.internal:5432")
        .await
        .expect("bound");
    assert!(
        bed.registry
            .snapshot()
            .internal(&bed.account, "db.internal", 5432)
            .is_some()
    );
    bed.registry.close_session(&session).await.expect("closed");
    let snapshot = bed.registry.snapshot();
    assert!(
        snapshot
            .internal(&bed.account, "db.internal", 5432)
            .is_none()
    );
    assert!(snapshot.endpoint(&bed.account, &endpoint.id).is_none());
    let update = BoundUpdate {
        pooling_enabled: Some(true),
        ..BoundUpdate::default()
    };
    assert_eq!(
        code(
            bed.registry
                .update_bound_endpoint(&session, &endpoint.id, update)
                .await
        ),
        Code::SessionNotFound
    );
    bed.registry
        .unbind_endpoint(&session, &endpoint.id)
        .await
        .expect("unbinding what is gone is fine");
}

#[tokio::test]
async fn a_node_that_starts_again_clears_what_it_left() {
    let bed = Bed::new().await;
    let session = bed.session().await;
    let endpoint = bed.bind(&session, "tcp://").await.expect("bound");
    let again = Registry::open(Arc::clone(&bed.store), settings(), Clock::system())
        .await
        .expect("opens again");
    let snapshot = again.snapshot();
    assert!(snapshot.session(&bed.account, &session).is_none());
    assert!(snapshot.endpoint(&bed.account, &endpoint.id).is_none());
    assert!(snapshot.account(&bed.account).is_some());
    let opened = again
        .open_session(session_of(&bed.credential, 1, 2))
        .await
        .expect("opens")
        .value;
    let back = again
        .bind_endpoint(&opened.session.id, spec("tcp://"))
        .await
        .expect("bound")
        .value;
    assert_eq!(back.url, endpoint.url, "the agent gets its address again");
}

#[tokio::test]
async fn a_node_that_vanishes_loses_its_sessions_to_the_others() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::open().expect("a thread"));
    let mut short = settings();
    short.lease_ttl = std::time::Duration::from_millis(300);
    let gone = Registry::open(Arc::clone(&store), short, Clock::system())
        .await
        .expect("opens");
    let account = new_account(&gone, "a", None).await;
    let credential = new_credential(&gone, &account, &[]).await;
    let session = gone
        .open_session(session_of(&credential, 1, 1))
        .await
        .expect("opens")
        .value
        .session
        .id;
    let stays = Registry::open(
        Arc::clone(&store),
        Settings::new("node-2", "eu", HOST),
        Clock::system(),
    )
    .await
    .expect("opens");
    assert!(
        stays.snapshot().session(&account, &session).is_some(),
        "another node's session is left alone"
    );
    drop(gone);
    let mut snapshots = stays.watch();
    let emptied = snapshots.wait_for(|snapshot| snapshot.session_by_id(&session).is_none());
    tokio::time::timeout(std::time::Duration::from_secs(20), emptied)
        .await
        .expect("in time")
        .expect("follows");
    assert!(stays.snapshot().has_credential(&credential.id));
}

#[tokio::test]
async fn what_an_agent_says_of_its_machine_is_bounded() {
    let bed = Bed::new().await;
    let mut new = session_of(&bed.credential, 1, 1);
    new.hostname = format!("\u{1b}[2Jbox{}", "x".repeat(60_000));
    new.os = "lin\nux".into();
    let session = bed.registry.open_session(new).await.expect("opens");
    let session = session.value.session;
    assert!(session.hostname.starts_with("[2Jbox") && session.hostname.len() == 255);
    assert_eq!(session.os, "linux");
}
