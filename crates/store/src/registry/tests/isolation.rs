//! One account never sees, changes, binds or deletes what is another's: every resource.

use super::*;
use crate::requests::{
    AddressUpdate, ApiKeyUpdate, CredentialUpdate, EndpointUpdate, NewAddress, NewApiKey,
    NewCloudEndpoint,
};

#[tokio::test]
async fn another_account_s_ids_are_not_found() {
    let bed = Bed::new().await;
    let registry = &bed.registry;
    let (other, _) = bed.stranger().await;
    let mine = &bed.account;
    let session = bed.session().await;
    let bound = bed
        .bind(&session, "tcp://db.internal:5432")
        .await
        .expect("bound");
    let new = NewCloudEndpoint {
        url: "tcp://".into(),
        traffic_policy: DENY.into(),
        ..NewCloudEndpoint::default()
    };
    let cloud = registry
        .create_cloud_endpoint(mine, new)
        .await
        .expect("made")
        .value;
    let addr = registry
        .reserve_address(mine, NewAddress::default())
        .await
        .expect("reserved")
        .value;
    let key = registry
        .create_api_key(mine, NewApiKey::default())
        .await
        .expect("a key")
        .value
        .0;

    let snapshot = registry.snapshot();
    assert!(
        snapshot.endpoint(&other, &bound.id).is_none()
            && snapshot.endpoint(mine, &bound.id).is_some()
    );
    assert!(snapshot.endpoint(&other, &cloud.id).is_none());
    assert!(
        snapshot.address(&other, &addr.id).is_none() && snapshot.address(mine, &addr.id).is_some()
    );
    assert!(
        snapshot.api_key(&other, &key.id).is_none() && snapshot.api_key(mine, &key.id).is_some()
    );
    assert!(snapshot.credential(&other, &bed.credential.id).is_none());
    assert!(
        snapshot.session(&other, &session).is_none() && snapshot.session(mine, &session).is_some()
    );
    assert!(
        snapshot.internal(&other, "db.internal", 5432).is_none(),
        "names are the account's own"
    );
    assert_eq!(
        snapshot.endpoints(&other).count() + snapshot.addresses(&other).count(),
        0
    );
    assert_eq!(
        (
            snapshot.credentials(&other).count(),
            snapshot.sessions(&other).count()
        ),
        (1, 1)
    );
    assert_eq!(snapshot.api_keys(&other).count(), 0);

    let text = || Some("x".to_owned());
    let update = EndpointUpdate {
        metadata: text(),
        ..EndpointUpdate::default()
    };
    assert_eq!(
        code(
            registry
                .update_cloud_endpoint(&other, &cloud.id, update)
                .await
        ),
        Code::EndpointNotFound
    );
    assert_eq!(
        code(registry.delete_endpoint(&other, &cloud.id).await),
        Code::EndpointNotFound
    );
    assert_eq!(
        code(registry.delete_endpoint(&other, &bound.id).await),
        Code::EndpointNotFound
    );
    let update = AddressUpdate {
        metadata: text(),
        ..AddressUpdate::default()
    };
    assert_eq!(
        code(registry.update_address(&other, &addr.id, update).await),
        Code::ApiNotFound
    );
    assert_eq!(
        code(registry.release_address(&other, &addr.id).await),
        Code::ApiNotFound
    );
    let update = ApiKeyUpdate {
        metadata: text(),
        ..ApiKeyUpdate::default()
    };
    assert_eq!(
        code(registry.update_api_key(&other, &key.id, update).await),
        Code::ApiNotFound
    );
    assert_eq!(
        code(registry.delete_api_key(&other, &key.id).await),
        Code::ApiNotFound
    );
    let update = CredentialUpdate {
        metadata: text(),
        ..CredentialUpdate::default()
    };
    assert_eq!(
        code(
            registry
                .update_credential(&other, &bed.credential.id, update)
                .await
        ),
        Code::ApiNotFound
    );
    assert_eq!(
        code(registry.delete_credential(&other, &bed.credential.id).await),
        Code::ApiNotFound
    );
}

#[tokio::test]
async fn internal_names_may_be_the_same_in_two_accounts() {
    let bed = Bed::new().await;
    let (other, theirs) = bed.stranger().await;
    let session = bed.session().await;
    let mine = bed
        .bind(&session, "tcp://db.internal:5432")
        .await
        .expect("bound");
    let foreign = bed
        .bind(&theirs, "tcp://db.internal:5432")
        .await
        .expect("bound");
    let snapshot = bed.registry.snapshot();
    let member = |account| {
        snapshot
            .internal(account, "db.internal", 5432)
            .map(|pool| pool.members[0].id.clone())
    };
    assert_eq!(member(&bed.account), Some(mine.id));
    assert_eq!(member(&other), Some(foreign.id));
}

#[tokio::test]
async fn the_same_agent_id_in_two_accounts_is_two_installations() {
    let bed = Bed::new().await;
    let other = new_account(&bed.registry, "other", None).await;
    let credential = new_credential(&bed.registry, &other, &[]).await;
    let mine = bed.open(&bed.credential, 1, 1).await.expect("opens");
    let mut new = session_of(&credential, 1, 9);
    new.agent_secret = Secret::new("another".into());
    let theirs = bed.registry.open_session(new).await.expect("opens").value;
    assert!(theirs.superseded.is_empty());
    assert!(
        bed.registry
            .snapshot()
            .session(&bed.account, &mine.session.id)
            .is_some()
    );
}

#[tokio::test]
async fn a_session_cannot_touch_another_session_s_endpoint() {
    let bed = Bed::new().await;
    let (_, theirs) = bed.stranger().await;
    let session = bed.session().await;
    let endpoint = bed
        .bind(&session, "tcp://db.internal:5432")
        .await
        .expect("bound");
    bed.registry
        .unbind_endpoint(&theirs, &endpoint.id)
        .await
        .expect("nothing happens");
    assert!(
        bed.registry
            .snapshot()
            .endpoint(&bed.account, &endpoint.id)
            .is_some()
    );
}
