//! The node's lease: sessions and agent endpoints of a node exist as long as it says so.

use std::sync::atomic::Ordering;
use std::sync::{PoisonError, Weak};
use std::time::Duration;

use portcullis_model::{Error, Timestamp};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{Inner, Registry};
use crate::error::StoreError;
use crate::keys;
use crate::kv::{LeaseId, Op, Store, Txn};
use crate::settings::Settings;

/// What a node says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Node {
    lease: i64,
    region: String,
    started_at: Timestamp,
}

/// Ends what an earlier run of this node left behind, and takes a new lease.
pub(super) async fn take_over(store: &dyn Store, settings: &Settings) -> Result<LeaseId, Error> {
    if let Some(entry) = store.get(&keys::node(&settings.node)).await? {
        let old: Node =
            serde_json::from_slice(&entry.value).map_err(|cause| StoreError::Corrupt {
                what: format!("the record `{}`", entry.key),
                cause: cause.to_string(),
            })?;
        match store.lease_revoke(LeaseId(old.lease)).await {
            Ok(()) | Err(StoreError::LeaseGone) => {}
            Err(error) => return Err(error.into()),
        }
    }
    announce(store, settings).await
}

async fn announce(store: &dyn Store, settings: &Settings) -> Result<LeaseId, Error> {
    let lease = store.lease_grant(settings.lease_ttl).await?;
    let node = Node {
        lease: lease.0,
        region: settings.region.clone(),
        started_at: Timestamp::from(jiff::Timestamp::now()),
    };
    let value = serde_json::to_vec(&node).map_err(Error::internal)?;
    let put = Op::Put {
        key: keys::node(&settings.node),
        value,
        lease: Some(lease),
    };
    store
        .txn(Txn {
            guards: Vec::new(),
            ops: vec![put],
        })
        .await?;
    Ok(lease)
}

/// Keeps the lease alive as long as the registry lives.
pub(super) async fn keep(inner: Weak<Inner>, stop: CancellationToken, ttl: Duration) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(ttl / 3) => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        let registry = Registry { inner };
        if let Err(error) = registry.keep_lease().await {
            tracing::warn!(%error, "the node's lease could not be kept; tried again soon");
        }
    }
}

impl Registry {
    pub(super) async fn keep_lease(&self) -> Result<(), Error> {
        let lease = LeaseId(self.inner.lease.load(Ordering::Acquire));
        match self.inner.store.lease_keep_alive(lease).await {
            Ok(()) => return Ok(()),
            Err(StoreError::LeaseGone) => {}
            Err(error) => return Err(error.into()),
        }
        tracing::warn!(
            "the node's lease had ended, and its sessions with it; agents connect again"
        );
        let lease = announce(&*self.inner.store, self.snapshot().settings()).await?;
        self.inner.lease.store(lease.0, Ordering::Release);
        let directs = self
            .inner
            .directs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for (account, spec) in directs {
            let name = spec.name.clone();
            if let Err(error) = self.bind_direct(&account, spec).await {
                tracing::error!(%error, name, "a configured endpoint did not come back");
            }
        }
        Ok(())
    }
}
