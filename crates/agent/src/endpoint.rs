//! An endpoint as the agent holds it: what was asked for, where it stands, where its bytes go.
//!
//! Must never: talk to the server; the session does.

use std::sync::Arc;

use portcullis_model::{EndpointId, Error};

/// One endpoint of the agent, for as long as it is wanted, over all sessions.
#[derive(Debug)]
pub(crate) struct LocalEndpoint {
    name: String,
}

impl LocalEndpoint {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
    pub(crate) fn url(&self) -> String {
        String::new()
    }
    pub(crate) fn id(&self) -> Option<EndpointId> {
        None
    }
    pub(crate) fn upstream(&self) -> String {
        String::new()
    }
    pub(crate) async fn closed(&self) -> Error {
        std::future::pending().await
    }
}
