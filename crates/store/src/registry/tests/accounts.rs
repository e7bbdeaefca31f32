//! Accounts, API keys, credentials and the first start.

use super::*;
use crate::requests::{AccountUpdate, ApiKeyUpdate, CredentialUpdate, NewAddress, NewApiKey};

async fn bare() -> Registry {
    let store = Arc::new(MemoryStore::open().expect("a thread"));
    Registry::open(store, settings(), Clock::system())
        .await
        .expect("opens")
}

#[tokio::test]
async fn the_first_start_makes_an_account_and_shows_its_secrets_once() {
    let registry = bare().await;
    let first = registry.bootstrap().await.expect("first start");
    let key = registry
        .authenticate_api_key(first.admin_key.expect("a key").expose())
        .expect("works");
    assert!(key.admin && key.account == first.account.id && first.first);
    let credential = registry
        .authenticate_credential(first.authtoken.expect("a token").expose())
        .expect("works");
    assert_eq!(credential.account, first.account.id);
    let second = registry.bootstrap().await.expect("second start");
    assert_eq!(second.account.id, first.account.id);
    assert!(second.admin_key.is_none() && second.authtoken.is_none() && !second.first);
}

#[tokio::test]
async fn secrets_are_stored_as_hashes() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::open().expect("a thread"));
    let registry = Registry::open(Arc::clone(&store), settings(), Clock::system())
        .await
        .expect("opens");
    let first = registry.bootstrap().await.expect("first start");
    let session = session_of(
        &new_credential(&registry, &first.account.id, &[]).await,
        1,
        1,
    );
    let agent_secret = session.agent_secret.expose().clone();
    registry.open_session(session).await.expect("opens");
    let everything: Vec<u8> = store
        .list("")
        .await
        .expect("list")
        .entries
        .into_iter()
        .flat_map(|e| e.value)
        .collect();
    let text = String::from_utf8_lossy(&everything);
    for secret in [first.admin_key, first.authtoken].into_iter().flatten() {
        let secret = Token::parse(secret.expose()).expect("a token").secret;
        assert!(!text.contains(secret.expose().as_str()));
    }
    assert!(!text.contains(&agent_secret));
}

#[tokio::test]
async fn account_names_are_unique_and_plans_known() {
    let bed = Bed::new().await;
    let again = NewAccount {
        name: "first".into(),
        ..NewAccount::default()
    };
    assert_eq!(
        code(bed.registry.create_account(again).await),
        Code::AccountExists
    );
    for bad in ["", "a/b", " pad", &"x".repeat(65)] {
        let new = NewAccount {
            name: bad.into(),
            ..NewAccount::default()
        };
        assert_eq!(
            code(bed.registry.create_account(new).await),
            Code::NameInvalid,
            "{bad:?}"
        );
    }
    let new = NewAccount {
        name: "gold".into(),
        plan: Some("gold".into()),
        ..NewAccount::default()
    };
    assert_eq!(
        code(bed.registry.create_account(new).await),
        Code::PlanUnknown
    );
    let rename = |name: &str| AccountUpdate {
        name: Some(name.into()),
        ..AccountUpdate::default()
    };
    let renamed = bed
        .registry
        .update_account(&bed.account, rename("renamed"))
        .await
        .expect("renamed")
        .value;
    assert_eq!(renamed.name, "renamed");
    new_account(&bed.registry, "first", None).await;
    assert_eq!(
        code(
            bed.registry
                .update_account(&bed.account, rename("first"))
                .await
        ),
        Code::AccountExists
    );
    assert_eq!(
        code(
            bed.registry
                .update_account(&bed.account, AccountUpdate::default())
                .await
        ),
        Code::ApiEmptyUpdate
    );
}

#[tokio::test]
async fn an_account_with_resources_goes_only_by_force_and_takes_all_with_it() {
    let bed = Bed::new().await;
    let session = bed.session().await;
    let endpoint = bed.bind(&session, "tcp://").await.expect("bound");
    let addr = bed
        .registry
        .reserve_address(&bed.account, NewAddress::default())
        .await
        .expect("reserved")
        .value;
    bed.registry
        .create_api_key(&bed.account, NewApiKey::default())
        .await
        .expect("a key");
    let refusal = bed
        .registry
        .delete_account(&bed.account, false)
        .await
        .expect_err("not empty");
    assert_eq!(refusal.code, Code::AccountNotEmpty);
    assert!(
        refusal.message.contains("1 endpoints") && refusal.message.contains("1 sessions"),
        "{refusal}"
    );
    bed.registry
        .delete_account(&bed.account, true)
        .await
        .expect("by force");
    let snapshot = bed.registry.snapshot();
    assert!(snapshot.account(&bed.account).is_none());
    assert!(
        snapshot
            .public(endpoint.url.host(), endpoint.url.port())
            .is_none()
    );
    assert!(!snapshot.has_credential(&bed.credential.id));
    let left = bed.store.list("").await.expect("list").entries;
    let left: Vec<_> = left
        .iter()
        .map(|entry| entry.key.as_str())
        .filter(|key| key.contains(bed.account.as_str()))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    // What it held rests, though it will never come back.
    let other = new_account(&bed.registry, "other", None).await;
    let wish = NewAddress {
        host: Some(addr.host),
        port: addr.port,
        ..NewAddress::default()
    };
    assert_eq!(
        code(bed.registry.reserve_address(&other, wish).await),
        Code::AddressResting
    );
    assert_eq!(
        code(bed.registry.delete_account(&bed.account, true).await),
        Code::AccountNotFound
    );
}

#[tokio::test]
async fn the_last_admin_key_stays() {
    let bed = Bed::new().await;
    let admin = NewApiKey {
        admin: true,
        ..NewApiKey::default()
    };
    let (first, token) = bed
        .registry
        .create_api_key(&bed.account, admin.clone())
        .await
        .expect("a key")
        .value;
    assert_eq!(
        code(bed.registry.delete_api_key(&bed.account, &first.id).await),
        Code::LastAdminKey
    );
    assert_eq!(
        code(bed.registry.delete_account(&bed.account, true).await),
        Code::LastAdminKey
    );
    let other = new_account(&bed.registry, "other", None).await;
    bed.registry
        .create_api_key(&other, admin)
        .await
        .expect("another");
    bed.registry
        .delete_api_key(&bed.account, &first.id)
        .await
        .expect("deleted");
    assert_eq!(
        code(
            bed.registry
                .authenticate_api_key(token.expose())
                .map(|_| ())
        ),
        Code::ApiKeyUnknown
    );
}

#[tokio::test]
async fn tokens_prove_who_holds_them() {
    let bed = Bed::new().await;
    let (key, token) = bed
        .registry
        .create_api_key(&bed.account, NewApiKey::default())
        .await
        .expect("a key")
        .value;
    assert_eq!(
        bed.registry
            .authenticate_api_key(token.expose())
            .expect("known")
            .id,
        key.id
    );
    let mut forged = token.expose().clone();
    forged.replace_range(30..32, if &forged[30..32] == "AA" { "BB" } else { "AA" });
    assert_eq!(
        code(bed.registry.authenticate_api_key(&forged)),
        Code::ApiKeyUnknown
    );
    assert_eq!(
        code(bed.registry.authenticate_api_key("nonsense")),
        Code::ApiKeyMalformed
    );
    assert_eq!(
        code(bed.registry.authenticate_api_key(&token_of_unknown())),
        Code::ApiKeyUnknown
    );
    let new = NewCredential::default();
    let (_, authtoken) = bed
        .registry
        .create_credential(&bed.account, new)
        .await
        .expect("a credential")
        .value;
    assert_eq!(
        code(bed.registry.authenticate_api_key(authtoken.expose())),
        Code::ApiKeyIsAuthtoken
    );
    let mut forged = authtoken.expose().clone();
    forged.replace_range(30..32, if &forged[30..32] == "AA" { "BB" } else { "AA" });
    assert_eq!(
        code(bed.registry.authenticate_api_key(&forged)),
        Code::ApiKeyUnknown,
        "whether a credential exists is told to nobody else"
    );
    assert_eq!(
        code(bed.registry.authenticate_credential(token.expose())),
        Code::AuthtokenUnknown
    );
    assert_eq!(
        code(bed.registry.authenticate_credential("")),
        Code::AuthtokenMissing
    );
    assert_eq!(
        code(bed.registry.authenticate_credential("pc1.x")),
        Code::AuthtokenMalformed
    );
}

#[tokio::test]
async fn texts_have_limits() {
    let bed = Bed::new().await;
    let long = "x".repeat(256);
    let new = NewCredential {
        description: long.clone(),
        ..NewCredential::default()
    };
    assert_eq!(
        code(bed.registry.create_credential(&bed.account, new).await),
        Code::DescriptionTooLong
    );
    let update = ApiKeyUpdate {
        metadata: Some("x".repeat(4097)),
        ..ApiKeyUpdate::default()
    };
    let key = bed
        .registry
        .create_api_key(&bed.account, NewApiKey::default())
        .await
        .expect("a key")
        .value
        .0;
    assert_eq!(
        code(
            bed.registry
                .update_api_key(&bed.account, &key.id, update)
                .await
        ),
        Code::MetadataTooLong
    );
    let spec = BindSpec {
        description: long,
        ..spec("tcp://")
    };
    let session = bed.session().await;
    assert_eq!(
        code(bed.registry.bind_endpoint(&session, spec).await),
        Code::DescriptionTooLong
    );
    let mut new = session_of(&bed.credential, 9, 1);
    new.metadata = "x".repeat(4097);
    assert_eq!(
        code(bed.registry.open_session(new).await),
        Code::SessionMetadataTooLong
    );
}

#[tokio::test]
async fn acl_rules_are_read_when_they_are_given() {
    let bed = Bed::new().await;
    let new = NewCredential {
        acl: vec!["nonsense".into()],
        ..NewCredential::default()
    };
    assert_eq!(
        code(bed.registry.create_credential(&bed.account, new).await),
        Code::AclSyntax
    );
    let update = CredentialUpdate {
        acl: Some(vec!["bind:".into()]),
        ..CredentialUpdate::default()
    };
    assert_eq!(
        code(
            bed.registry
                .update_credential(&bed.account, &bed.credential.id, update)
                .await
        ),
        Code::AclSyntax
    );
    let update = CredentialUpdate {
        acl: Some(vec!["bind:*.internal:5432".into()]),
        ..CredentialUpdate::default()
    };
    let changed = bed
        .registry
        .update_credential(&bed.account, &bed.credential.id, update)
        .await
        .expect("changed");
    assert_eq!(changed.value.acl.len(), 1);
    assert_eq!(
        bed.registry
            .snapshot()
            .credential(&bed.account, &bed.credential.id)
            .map(|c| c.acl.len()),
        Some(1)
    );
}
