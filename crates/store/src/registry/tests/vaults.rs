//! Vaults and secrets: names, places, keys, and that nothing of a value gets out.

use super::*;
use crate::kv::{Op, Txn};
use crate::requests::{NewSecret, NewVault, SecretUpdate, VaultOf, VaultUpdate};
use crate::sealer::Sealer;
use crate::{defaults, keys};
use portcullis_model::id::{SecretId, VaultId};
use portcullis_model::{ApiKeyId, Sealed, Vault, VaultSecret};

/// What no text may hold.
const VALUE: &str = "correct horse battery staple";

/// Seals by turning bits, and keeps what the real one keeps: the key and the place. Keys 1 to `newest` open.
#[derive(Debug)]
struct Fake {
    newest: u8,
}

impl Sealer for Fake {
    fn seal(&self, plain: &[u8], place: &str) -> Result<Sealed, Error> {
        let turned: Vec<u8> = plain.iter().map(|byte| byte ^ 0xa5).collect();
        let parts = (self.newest, place, turned);
        let bytes = serde_json::to_vec(&parts).map_err(Error::internal)?;
        Ok(Sealed::new(&bytes))
    }

    fn open(&self, sealed: &Sealed, place: &str) -> Result<Secret<Vec<u8>>, Error> {
        let read = || {
            let bytes = sealed.bytes()?;
            let (key, of, turned): (u8, String, Vec<u8>) = serde_json::from_slice(&bytes).ok()?;
            (of == place && key <= self.newest).then_some(turned)
        };
        let turned = read().ok_or_else(|| Error::of(Code::SecretSealed))?;
        Ok(Secret::new(turned.iter().map(|byte| byte ^ 0xa5).collect()))
    }

    fn is_newest(&self, sealed: &Sealed) -> bool {
        let bytes = sealed.bytes().unwrap_or_default();
        let parts: Option<(u8, String, Vec<u8>)> = serde_json::from_slice(&bytes).ok();
        parts.is_some_and(|(key, _, _)| key == self.newest)
    }
}

pub(super) fn with_key(newest: u8) -> Settings {
    let mut settings = settings();
    settings.sealer = Some(Arc::new(Fake { newest }));
    settings
}

fn new_vault(name: &str) -> NewVault {
    NewVault {
        name: name.into(),
        ..NewVault::default()
    }
}

fn new_secret(vault: &VaultId, name: &str, value: &str) -> NewSecret {
    NewSecret {
        vault: VaultOf::Id(vault.clone()),
        name: name.into(),
        value: Secret::new(value.into()),
        description: String::new(),
        metadata: String::new(),
        by: None,
    }
}

impl Bed {
    async fn vault(&self, name: &str) -> Vault {
        let made = self.registry.create_vault(&self.account, new_vault(name));
        made.await.expect("a vault").value
    }

    async fn secret(&self, vault: &VaultId, name: &str, value: &str) -> VaultSecret {
        let new = new_secret(vault, name, value);
        let made = self.registry.create_secret(&self.account, new);
        made.await.expect("a secret").value
    }

    fn read(&self, vault: &str, name: &str) -> Option<Arc<str>> {
        self.registry.snapshot().secret(&self.account, vault, name)
    }
}

#[tokio::test]
async fn policies_find_a_value_by_its_names() {
    let bed = Bed::with(with_key(1)).await;
    let vault = bed.vault("prod/db").await;
    let secret = bed.secret(&vault.id, "pass.word_1", VALUE).await;
    assert_eq!(bed.read("prod/db", "pass.word_1").as_deref(), Some(VALUE));
    for (vault, name) in [("prod", "pass.word_1"), ("prod/db", "pass"), ("", "")] {
        assert_eq!(bed.read(vault, name), None);
    }
    let (other, _) = bed.stranger().await;
    let snapshot = bed.registry.snapshot();
    assert_eq!(snapshot.secret(&other, "prod/db", "pass.word_1"), None);

    // A new value is read at once, under new names as well.
    let by = ApiKeyId::new(1_700_000_000, [4; 16]);
    let update = SecretUpdate {
        name: Some("other".into()),
        value: Some(Secret::new("changed".into())),
        ..SecretUpdate::default()
    };
    let registry = &bed.registry;
    bed.clock.advance(std::time::Duration::from_secs(1));
    let changed = registry
        .update_secret(&bed.account, &secret.id, update, Some(&by))
        .await
        .expect("changed")
        .value;
    assert!(changed.updated_at > secret.updated_at && changed.created_at == secret.created_at);
    assert_eq!(
        (changed.created_by, changed.last_updated_by),
        (None, Some(by))
    );
    let update = VaultUpdate {
        name: Some("test".into()),
        ..VaultUpdate::default()
    };
    registry
        .update_vault(&bed.account, &vault.id, update, None)
        .await
        .expect("changed");
    assert_eq!(bed.read("test", "other").as_deref(), Some("changed"));
    assert_eq!(bed.read("prod/db", "other"), None);
    assert_eq!(bed.read("test", "pass.word_1"), None);
    // Names that were given up are free.
    let again = bed.vault("prod/db").await;
    bed.secret(&again.id, "other", "b").await;
    bed.secret(&vault.id, "pass.word_1", "a").await;
    assert_eq!(bed.read("test", "pass.word_1").as_deref(), Some("a"));
}

#[tokio::test]
async fn nothing_of_a_value_is_stored_or_printed() {
    let bed = Bed::with(with_key(1)).await;
    let vault = bed.vault("v").await;
    let new = new_secret(&vault.id, "s", VALUE);
    let update = SecretUpdate {
        value: Some(Secret::new(VALUE.into())),
        ..SecretUpdate::default()
    };
    let printed = format!("{new:?} {update:?}");
    let made = bed.registry.create_secret(&bed.account, new).await;
    let made = made.expect("made");
    let snapshot = bed.registry.snapshot();
    let printed = format!("{printed} {made:?} {snapshot:?}");
    assert!(printed.contains(made.value.id.as_str()), "{printed}");
    assert!(!printed.contains(VALUE), "{printed}");
    for entry in bed.store.list("").await.expect("list").entries {
        let text = String::from_utf8_lossy(&entry.value);
        assert!(!text.contains(VALUE), "{}: {text}", entry.key);
    }
}

#[tokio::test]
async fn names_are_checked_and_unique() {
    let bed = Bed::with(with_key(1)).await;
    let (registry, account) = (&bed.registry, &bed.account);
    let long = "x".repeat(129);
    for (name, vault, secret) in [
        ("", Code::VaultNameMissing, Code::SecretNameMissing),
        ("a b", Code::VaultNameInvalid, Code::SecretNameInvalid),
        (&long, Code::VaultNameTooLong, Code::SecretNameTooLong),
        ("taken", Code::VaultExists, Code::SecretExists),
    ] {
        if name == "taken" {
            bed.vault("taken").await;
        }
        let refused = registry.create_vault(account, new_vault(name)).await;
        assert_eq!(code(refused), vault, "{name}");
        let inside = registry.snapshot();
        let inside = match inside.vault_by_name(account, "inside") {
            Some(vault) => vault.id.clone(),
            None => bed.vault("inside").await.id,
        };
        if name == "taken" {
            bed.secret(&inside, "taken", "x").await;
        }
        let refused = registry
            .create_secret(account, new_secret(&inside, name, "x"))
            .await;
        assert_eq!(code(refused), secret, "{name}");
    }
    // The same name in another vault, and in another account.
    let second = bed.vault("second").await;
    bed.secret(&second.id, "taken", "x").await;
    let (other, _) = bed.stranger().await;
    registry
        .create_vault(&other, new_vault("taken"))
        .await
        .expect("their own");
    // A name that keeps is no clash with itself.
    let update = VaultUpdate {
        name: Some("second".into()),
        description: Some("d".into()),
        ..VaultUpdate::default()
    };
    registry
        .update_vault(account, &second.id, update, None)
        .await
        .expect("the same name");
    let update = VaultUpdate {
        name: Some("taken".into()),
        ..VaultUpdate::default()
    };
    let refused = registry.update_vault(account, &second.id, update, None);
    assert_eq!(code(refused.await), Code::VaultExists);
    let refused = registry.update_vault(account, &second.id, VaultUpdate::default(), None);
    assert_eq!(code(refused.await), Code::ApiEmptyUpdate);
}

#[tokio::test]
async fn values_and_vaults_are_checked() {
    let bed = Bed::with(with_key(1)).await;
    let (registry, account) = (&bed.registry, &bed.account);
    let vault = bed.vault("v").await;
    let make = |new: NewSecret| registry.create_secret(account, new);
    let most = "x".repeat(defaults::SECRET_BYTES_MAX);
    bed.secret(&vault.id, "most", &most).await;
    let more = format!("{most}x");
    let refused = make(new_secret(&vault.id, "more", &more)).await;
    assert_eq!(code(refused), Code::SecretValueTooLong);
    let refused = make(new_secret(&vault.id, "none", "")).await;
    assert_eq!(code(refused), Code::SecretValueMissing);
    let by_name = |name: &str| NewSecret {
        vault: VaultOf::Name(name.into()),
        ..new_secret(&vault.id, "named", "x")
    };
    assert_eq!(code(make(by_name("w")).await), Code::SecretVaultName);
    assert_eq!(
        make(by_name("v")).await.expect("made").value.vault,
        vault.id
    );
    let unknown = VaultId::new(1_700_000_000, [9; 16]);
    let refused = make(new_secret(&unknown, "s", "x")).await;
    assert_eq!(code(refused), Code::SecretVaultNotFound);
    let (other, _) = bed.stranger().await;
    let refused = registry.create_secret(&other, new_secret(&vault.id, "s", "x"));
    assert_eq!(code(refused.await), Code::SecretVaultNotFound);

    for n in 0..defaults::VAULT_SECRETS_MAX - 2 {
        bed.secret(&vault.id, &format!("n{n}"), "x").await;
    }
    let refused = make(new_secret(&vault.id, "one.more", "x")).await;
    assert_eq!(code(refused), Code::SecretLimit);
    for n in 1..defaults::VAULTS_MAX {
        bed.vault(&format!("n{n}")).await;
    }
    let refused = registry.create_vault(account, new_vault("one.more")).await;
    assert_eq!(code(refused), Code::VaultLimit);
}

#[tokio::test]
async fn another_account_s_are_not_found() {
    let bed = Bed::with(with_key(1)).await;
    let vault = bed.vault("v").await;
    let secret = bed.secret(&vault.id, "s", VALUE).await;
    let (other, _) = bed.stranger().await;
    let registry = &bed.registry;
    let text = Some("mine".to_owned());
    let update = VaultUpdate {
        metadata: text.clone(),
        ..VaultUpdate::default()
    };
    let refused = registry.update_vault(&other, &vault.id, update, None).await;
    assert_eq!(code(refused), Code::ApiNotFound);
    let update = SecretUpdate {
        metadata: text,
        ..SecretUpdate::default()
    };
    let refused = registry
        .update_secret(&other, &secret.id, update, None)
        .await;
    assert_eq!(code(refused), Code::ApiNotFound);
    let refused = registry.delete_secret(&other, &secret.id).await;
    assert_eq!(code(refused), Code::ApiNotFound);
    let refused = registry.delete_vault(&other, &vault.id).await;
    assert_eq!(code(refused), Code::ApiNotFound);
    let snapshot = registry.snapshot();
    assert!(snapshot.vault(&other, &vault.id).is_none());
    assert!(snapshot.vault_secret(&other, &secret.id).is_none());
    assert_eq!(snapshot.vaults(&other).count(), 0);
    assert_eq!(snapshot.vault_secrets(&other).count(), 0);
}

#[tokio::test]
async fn a_vault_goes_when_it_is_empty_and_an_account_takes_all_with_it() {
    let bed = Bed::with(with_key(1)).await;
    let (registry, account) = (&bed.registry, &bed.account);
    let vault = bed.vault("v").await;
    let secret = bed.secret(&vault.id, "s", "x").await;
    let refused = registry.delete_vault(account, &vault.id).await;
    assert_eq!(code(refused), Code::VaultNotEmpty);
    registry
        .delete_secret(account, &secret.id)
        .await
        .expect("deleted");
    assert_eq!(bed.read("v", "s"), None);
    registry
        .delete_vault(account, &vault.id)
        .await
        .expect("empty");
    let vault = bed.vault("v").await;
    bed.secret(&vault.id, "s", "x").await;
    let refused = registry.delete_account(account, false).await;
    assert!(refused.expect_err("not empty").message.contains("1 vaults"));
    registry
        .delete_account(account, true)
        .await
        .expect("by force");
    let left = bed.store.list("").await.expect("list").entries;
    let of_account = |key: &str| key.contains(account.as_str());
    let left: Vec<_> = left.iter().filter(|entry| of_account(&entry.key)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(bed.read("v", "s"), None);
}

#[tokio::test]
async fn a_value_in_another_s_place_does_not_open() {
    let bed = Bed::with(with_key(1)).await;
    let vault = bed.vault("v").await;
    let one = bed.secret(&vault.id, "one", VALUE).await;
    let two = bed.secret(&vault.id, "two", "x").await;
    // Whoever can write the database puts the value of one where they may read: nothing opens.
    let forged = VaultSecret {
        value: one.value,
        ..two
    };
    let op = Op::Put {
        key: keys::vault_secret(&bed.account, &forged.id),
        value: serde_json::to_vec(&forged).expect("plain data"),
        lease: None,
    };
    let txn = Txn {
        guards: Vec::new(),
        ops: vec![op],
    };
    bed.store.txn(txn).await.expect("written");
    let revision = bed.store.revision().await.expect("a revision");
    bed.registry.at_revision(revision).await.expect("seen");
    assert_eq!(bed.read("v", "two"), None);
    assert_eq!(bed.read("v", "one").as_deref(), Some(VALUE));
    // The record stays, so that it can be set anew.
    let snapshot = bed.registry.snapshot();
    let entry = snapshot.vault_secret(&bed.account, &forged.id);
    assert!(!entry.expect("the record").is_open());
    let update = SecretUpdate {
        value: Some(Secret::new("again".into())),
        ..SecretUpdate::default()
    };
    let update = bed
        .registry
        .update_secret(&bed.account, &forged.id, update, None);
    update.await.expect("set anew");
    assert_eq!(bed.read("v", "two").as_deref(), Some("again"));
}

#[tokio::test]
async fn a_new_key_seals_anew_what_the_old_one_sealed() {
    let bed = Bed::with(with_key(1)).await;
    let vault = bed.vault("v").await;
    let count = defaults::RESEAL_PER_WRITE_MAX + 3;
    for n in 0..count {
        bed.secret(&vault.id, &format!("n{n}"), &format!("value {n}"))
            .await;
    }
    let (other, _) = bed.stranger().await;
    let theirs = bed.registry.create_vault(&other, new_vault("t")).await;
    let theirs = new_secret(&theirs.expect("made").value.id, "s", "theirs");
    let made = bed.registry.create_secret(&other, theirs).await;
    let untouched = made.expect("made").value;
    assert_eq!(bed.registry.reseal_secrets().await.expect("nothing"), 0);

    let open = |newest| Registry::open(Arc::clone(&bed.store), with_key(newest), Clock::system());
    let second = open(2).await.expect("opens");
    assert_eq!(second.reseal_secrets().await.expect("sealed"), count + 1);
    assert_eq!(second.reseal_secrets().await.expect("nothing"), 0);
    let snapshot = second.snapshot();
    for n in 0..count {
        let value = snapshot.secret(&bed.account, "v", &format!("n{n}"));
        assert_eq!(value.as_deref(), Some(&*format!("value {n}")));
    }
    let resealed = snapshot.vault_secret(&other, &untouched.id).expect("there");
    assert_eq!(
        resealed.updated_at, untouched.updated_at,
        "no change of its"
    );
    assert_ne!(resealed.value, untouched.value);
    // Without its key nothing opens, nothing is lost, and nothing loops.
    let without = open(1).await.expect("opens all the same");
    assert_eq!(without.reseal_secrets().await.expect("nothing"), 0);
    assert_eq!(without.snapshot().secret(&bed.account, "v", "n1"), None);
    assert_eq!(
        without.snapshot().vault_secrets(&bed.account).count(),
        count
    );
}

#[tokio::test]
async fn without_a_key_there_are_vaults_but_no_secrets() {
    let bed = Bed::new().await;
    let vault = bed.vault("v").await;
    let new = new_secret(&vault.id, "s", "x");
    let refused = bed.registry.create_secret(&bed.account, new).await;
    assert_eq!(code(refused), Code::SecretSealed);
    let unknown = SecretId::new(1_700_000_000, [9; 16]);
    let refused = bed.registry.delete_secret(&bed.account, &unknown).await;
    assert_eq!(code(refused), Code::ApiNotFound);
}
