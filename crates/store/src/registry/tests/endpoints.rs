//! Cloud endpoints, pools, and the snapshot's indexes.

use portcullis_model::EndpointType;

use super::*;
use crate::requests::{BoundUpdate, EndpointUpdate, NewAddress, NewCloudEndpoint};

fn cloud(url: &str) -> NewCloudEndpoint {
    NewCloudEndpoint {
        url: url.into(),
        traffic_policy: DENY.into(),
        ..NewCloudEndpoint::default()
    }
}

fn pooled(url: &str) -> BindSpec {
    BindSpec {
        pooling_enabled: true,
        ..spec(url)
    }
}

#[tokio::test]
async fn a_cloud_endpoint_may_be_random_and_keeps_its_address() {
    let bed = Bed::new().await;
    let made = bed
        .registry
        .create_cloud_endpoint(&bed.account, cloud("tcp://"))
        .await
        .expect("made")
        .value;
    assert_eq!(
        (made.kind, made.url.host(), made.region.as_str()),
        (EndpointType::Cloud, HOST, "eu")
    );
    let again = Registry::open(Arc::clone(&bed.store), settings(), Clock::system())
        .await
        .expect("opens again");
    assert_eq!(
        again
            .snapshot()
            .endpoint(&bed.account, &made.id)
            .map(|entry| entry.url.clone()),
        Some(made.url.clone())
    );
    again
        .delete_endpoint(&bed.account, &made.id)
        .await
        .expect("deleted");
    assert_eq!(
        code(again.delete_endpoint(&bed.account, &made.id).await),
        Code::EndpointNotFound
    );
    let other = new_account(&again, "other", None).await;
    let wish = NewAddress {
        port: Some(made.url.port()),
        ..NewAddress::default()
    };
    assert_eq!(
        code(again.reserve_address(&other, wish).await),
        Code::AddressResting
    );
}

#[tokio::test]
async fn a_cloud_endpoint_s_policy_must_end_every_connection() {
    let bed = Bed::new().await;
    for text in [
        "",
        "on_tcp_connect:\n  - actions:\n      - type: restrict-ips\n        config: { allow: [10.0.0.0/8] }\n",
    ] {
        let new = NewCloudEndpoint {
            traffic_policy: text.into(),
            ..cloud("tcp://a.internal:1")
        };
        assert_eq!(
            code(bed.registry.create_cloud_endpoint(&bed.account, new).await),
            Code::PolicyNotTerminating
        );
    }
    let new = NewCloudEndpoint {
        traffic_policy: "x".repeat(70_000),
        ..cloud("tcp://a.internal:1")
    };
    assert_eq!(
        code(bed.registry.create_cloud_endpoint(&bed.account, new).await),
        Code::PolicyTooLarge
    );
}

#[tokio::test]
async fn a_cloud_endpoint_changes_and_moves() {
    let bed = Bed::new().await;
    let made = bed
        .registry
        .create_cloud_endpoint(&bed.account, cloud("tcp://a.internal:1"))
        .await
        .expect("made")
        .value;
    bed.clock.advance(std::time::Duration::from_secs(5));
    let update = EndpointUpdate {
        url: Some("tcp://b.internal:2".into()),
        description: Some("d".into()),
        ..EndpointUpdate::default()
    };
    let moved = bed
        .registry
        .update_cloud_endpoint(&bed.account, &made.id, update)
        .await
        .expect("moved")
        .value;
    assert_eq!(
        (moved.url.to_string().as_str(), moved.description.as_str()),
        ("tcp://b.internal:2", "d")
    );
    assert!(moved.updated_at > moved.created_at);
    let snapshot = bed.registry.snapshot();
    assert!(snapshot.internal(&bed.account, "a.internal", 1).is_none());
    assert!(snapshot.internal(&bed.account, "b.internal", 2).is_some());
    let taken = bed
        .registry
        .create_cloud_endpoint(&bed.account, cloud("tcp://a.internal:1"))
        .await;
    taken.expect("the old URL is free");
    let back = EndpointUpdate {
        url: Some("tcp://a.internal:1".into()),
        ..EndpointUpdate::default()
    };
    assert_eq!(
        code(
            bed.registry
                .update_cloud_endpoint(&bed.account, &made.id, back)
                .await
        ),
        Code::EndpointConflict
    );
    let empty = EndpointUpdate::default();
    assert_eq!(
        code(
            bed.registry
                .update_cloud_endpoint(&bed.account, &made.id, empty)
                .await
        ),
        Code::ApiEmptyUpdate
    );
    let scheme = EndpointUpdate {
        url: Some("https://b.internal".into()),
        ..EndpointUpdate::default()
    };
    assert!(
        bed.registry
            .update_cloud_endpoint(&bed.account, &made.id, scheme)
            .await
            .is_err()
    );
    let public = EndpointUpdate {
        url: Some("tcp://".into()),
        ..EndpointUpdate::default()
    };
    let public = bed
        .registry
        .update_cloud_endpoint(&bed.account, &made.id, public)
        .await
        .expect("moved")
        .value;
    assert!(
        bed.registry
            .snapshot()
            .public(HOST, public.url.port())
            .is_some()
    );
}

#[tokio::test]
async fn an_agent_s_endpoint_is_the_agent_s_to_change() {
    let bed = Bed::new().await;
    let session = bed.session().await;
    let endpoint = bed
        .bind(&session, "tcp://a.internal:1")
        .await
        .expect("bound");
    assert_eq!(
        code(
            bed.registry
                .delete_endpoint(&bed.account, &endpoint.id)
                .await
        ),
        Code::EndpointReadOnly
    );
    let update = EndpointUpdate {
        metadata: Some("m".into()),
        ..EndpointUpdate::default()
    };
    let changed = bed
        .registry
        .update_cloud_endpoint(&bed.account, &endpoint.id, update)
        .await;
    assert_eq!(code(changed), Code::EndpointReadOnly);
}

#[tokio::test]
async fn a_pool_forms_only_when_all_agree() {
    let bed = Bed::new().await;
    let session = bed.session().await;
    let url = "tcp://a.internal:1";
    let alone = bed.bind(&session, url).await.expect("bound");
    assert_eq!(code(bed.bind(&session, url).await), Code::EndpointConflict);
    assert_eq!(
        code(bed.registry.bind_endpoint(&session, pooled(url)).await),
        Code::PoolingThisOn
    );
    let on = BoundUpdate {
        pooling_enabled: Some(true),
        ..BoundUpdate::default()
    };
    bed.registry
        .update_bound_endpoint(&session, &alone.id, on)
        .await
        .expect("alone, so it may");
    assert_eq!(code(bed.bind(&session, url).await), Code::PoolingThisOff);
    let second = bed
        .registry
        .bind_endpoint(&session, pooled(url))
        .await
        .expect("pooled")
        .value;
    let cloudy = NewCloudEndpoint {
        pooling_enabled: true,
        ..cloud(url)
    };
    bed.registry
        .create_cloud_endpoint(&bed.account, cloudy)
        .await
        .expect("types mix");
    let pool = bed
        .registry
        .snapshot()
        .internal(&bed.account, "a.internal", 1)
        .cloned()
        .expect("a pool");
    let ids: Vec<_> = pool
        .members
        .iter()
        .map(|member| member.id.clone())
        .collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(ids[..2], [alone.id, second.id.clone()], "oldest first");
    let off = BoundUpdate {
        pooling_enabled: Some(false),
        ..BoundUpdate::default()
    };
    assert_eq!(
        code(
            bed.registry
                .update_bound_endpoint(&session, &second.id, off)
                .await
        ),
        Code::PoolingThisOff
    );
}

#[tokio::test]
async fn wildcards_and_exact_names_are_different_pools() {
    let bed = Bed::new().await;
    let session = bed.session().await;
    let exact = bed
        .bind(&session, "tcp://a.db.internal:1")
        .await
        .expect("bound");
    let near = bed
        .bind(&session, "tcp://*.db.internal:1")
        .await
        .expect("bound");
    let far = bed
        .bind(&session, "tcp://*.internal:1")
        .await
        .expect("bound");
    let snapshot = bed.registry.snapshot();
    let found = |host: &str| {
        snapshot
            .internal(&bed.account, host, 1)
            .map(|pool| pool.members[0].id.clone())
    };
    assert_eq!(found("a.db.internal"), Some(exact.id));
    assert_eq!(found("b.db.internal"), Some(near.id));
    assert_eq!(found("web.internal"), Some(far.id));
    assert!(snapshot.internal(&bed.account, "web.internal", 2).is_none());
}

#[tokio::test]
async fn a_write_answers_when_the_snapshot_shows_it() {
    let bed = Bed::new().await;
    let mut snapshots = bed.registry.watch();
    let written = bed
        .registry
        .create_cloud_endpoint(&bed.account, cloud("tcp://a.internal:1"))
        .await
        .expect("made");
    assert!(bed.registry.snapshot().revision() >= written.revision);
    let old = bed.registry.snapshot();
    bed.registry
        .delete_endpoint(&bed.account, &written.value.id)
        .await
        .expect("deleted");
    assert!(
        old.endpoint(&bed.account, &written.value.id).is_some(),
        "a snapshot never changes"
    );
    let seen = snapshots
        .wait_for(|snapshot| snapshot.revision() > written.revision)
        .await
        .expect("follows")
        .clone();
    assert!(seen.endpoint(&bed.account, &written.value.id).is_none());
    assert!(
        bed.registry
            .at_revision(written.revision)
            .await
            .expect("reached")
            .revision()
            >= written.revision
    );
}
