//! Secrets are sealed with the master key of the data directory.

use std::sync::Arc;

use portcullis_model::{Error, Sealed, Secret};
use portcullis_net::seal::MasterKey;
use portcullis_store::{Registry, Sealer};

/// The master key as the store asks for it.
#[derive(Debug)]
pub(super) struct Seals(pub(super) Arc<MasterKey>);

impl Sealer for Seals {
    fn seal(&self, plain: &[u8], place: &str) -> Result<Sealed, Error> {
        Ok(Sealed::new(&self.0.seal_for(plain, place)?))
    }

    fn open(&self, sealed: &Sealed, place: &str) -> Result<Secret<Vec<u8>>, Error> {
        self.0.open_for(&sealed.bytes().unwrap_or_default(), place)
    }

    fn is_newest(&self, sealed: &Sealed) -> bool {
        self.0.is_newest(&sealed.bytes().unwrap_or_default())
    }
}

/// Seals anew what an older master key sealed.
pub(super) async fn reseal(registry: &Registry) -> Result<(), Error> {
    let count = registry.reseal_secrets().await?;
    if count > 0 {
        tracing::info!(count, "secrets are sealed with the newest master key");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;

    use portcullis_store::{Clock, MemoryStore, NewSecret, NewVault, Settings, Store, VaultOf};

    async fn open(store: &Arc<dyn Store>, key: &Path) -> Registry {
        let key = MasterKey::load_or_create(key).unwrap();
        let mut settings = Settings::new("node-1", "eu", "edge.example.com");
        settings.sealer = Some(Arc::new(Seals(Arc::new(key))));
        let opened = Registry::open(Arc::clone(store), settings, Clock::system());
        opened.await.unwrap()
    }

    #[tokio::test]
    async fn secrets_outlive_the_key_that_sealed_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let store: Arc<dyn Store> = Arc::new(MemoryStore::open().unwrap());
        let first = open(&store, &path).await;
        let account = first.bootstrap().await.unwrap().account.id.clone();
        let vault = NewVault {
            name: "v".to_owned(),
            ..NewVault::default()
        };
        first.create_vault(&account, vault).await.unwrap();
        let secret = NewSecret {
            vault: VaultOf::Name("v".to_owned()),
            name: "s".to_owned(),
            value: Secret::new("hunter2".to_owned()),
            description: String::new(),
            metadata: String::new(),
            by: None,
        };
        first.create_secret(&account, secret).await.unwrap();
        let read = |registry: &Registry| registry.snapshot().secret(&account, "v", "s");
        assert_eq!(read(&first).as_deref(), Some("hunter2"));

        MasterKey::add(&path).unwrap();
        let second = open(&store, &path).await;
        assert_eq!(
            read(&second).as_deref(),
            Some("hunter2"),
            "before it is sealed anew"
        );
        reseal(&second).await.unwrap();
        // The older key may go now.
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[bytes.len() - 32..]).unwrap();
        let third = open(&store, &path).await;
        assert_eq!(read(&third).as_deref(), Some("hunter2"));
        std::fs::remove_file(&path).unwrap();
        let without = open(&store, &path).await;
        assert_eq!(read(&without), None, "another key does not open it");
    }
}
