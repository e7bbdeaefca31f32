//! Which endpoint an OPEN is for, within one session.
//!
//! Must never: outlive its session; another session has other ids.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use portcullis_model::EndpointId;
use tokio::sync::watch;

use crate::defaults;
use crate::endpoint::LocalEndpoint;

/// The endpoints that a session has bound, by the server's ids.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    // A map of pointers is whole at any time, so a poisoned lock is still good.
    map: RwLock<HashMap<EndpointId, Arc<LocalEndpoint>>>,
    version: watch::Sender<u64>,
}

impl Routes {
    pub(crate) fn insert(&self, id: EndpointId, endpoint: &Arc<LocalEndpoint>) {
        self.map
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, Arc::clone(endpoint));
        self.version.send_modify(|version| *version += 1);
    }

    pub(crate) fn remove(&self, id: &EndpointId) {
        self.map
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
    }

    fn get(&self, id: &EndpointId) -> Option<Arc<LocalEndpoint>> {
        self.map
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }

    /// The endpoint; an OPEN may overtake the answer to the bind, so an unknown id is waited for.
    pub(crate) async fn find(&self, id: &EndpointId) -> Option<Arc<LocalEndpoint>> {
        if let Some(endpoint) = self.get(id) {
            return Some(endpoint);
        }
        let mut version = self.version.subscribe();
        let known = version.wait_for(|_| self.get(id).is_some());
        // Whether it came or the time is over: the map says.
        tokio::time::timeout(defaults::ROUTE_WAIT, known).await.ok();
        self.get(id)
    }
}
