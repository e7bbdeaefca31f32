//! The registry: every write of a resource, each one transaction whose guards are the rules.
//!
//! Owns: the snapshot, the node's lease, the sweep of rested addresses. Must never: answer a write
//! before the local snapshot shows it.

use std::sync::Arc;

use portcullis_model::{
    Account, AccountId, AddrId, ApiKey, ApiKeyId, Code, Credential, CredentialId, Endpoint, EndpointId, Error,
    ReservedAddr, Secret, SessionId, TunnelSession,
};

use crate::clock::Clock;
use crate::kv::Store;
use crate::requests::*;
use crate::settings::Settings;
use crate::snapshot::Snapshot;

/// What a write made, and the revision from which readers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written<T> {
    /// The record as written.
    pub value: T,
    /// The store's revision (`Portcullis-Revision`).
    pub revision: u64,
}

/// What the first start made. The secrets are there only then.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// The first account.
    pub account: Arc<Account>,
    /// The first admin API key.
    pub admin_key: Option<Secret>,
    /// The authtoken of the first credential, for the join string.
    pub authtoken: Option<Secret>,
    /// Whether this was the first start.
    pub first: bool,
}

/// A session that was opened, and those it takes the place of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedSession {
    /// The new session.
    pub session: TunnelSession,
    /// Sessions that ended with it; their endpoints are already gone.
    pub superseded: Vec<Superseded>,
}

/// A session that another took the place of, and what its agent is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superseded {
    /// The session.
    pub session: SessionId,
    /// `PTC_AGENT_FENCED`, or `PTC_AGENT_DUPLICATE` when the older process wins.
    pub code: Code,
}

/// The registry of one node. Cloning it is cheap; all clones are the same registry.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<()>,
}

fn later<T>() -> Result<T, Error> {
    Err(Error::internal("not built yet"))
}

impl Registry {
    /// Reads everything, takes the node's lease, removes what an earlier run of this node left, and
    /// starts to follow the store.
    ///
    /// # Errors
    /// `PTC_STORE_…` when the store fails or holds what cannot be read, `PTC_CONFIG_INVALID`.
    pub async fn open(store: Arc<dyn Store>, settings: Settings, clock: Clock) -> Result<Self, Error> {
        let _x = (store, settings, clock);
        later()
    }

    /// Everything as of now. Never waits.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        let _x = &self.inner;
        unreachable!()
    }

    /// The snapshots from now on; a slow reader sees the newest only.
    pub fn watch(&self) -> tokio::sync::watch::Receiver<Arc<Snapshot>> {
        unreachable!()
    }

    /// The first snapshot of at least this revision (`Portcullis-Revision` of a read).
    ///
    /// # Errors
    /// `PTC_STORE_UNAVAILABLE` when the registry stops following the store meanwhile.
    pub async fn at_revision(&self, revision: u64) -> Result<Arc<Snapshot>, Error> {
        let _x = revision;
        later()
    }

    /// Ends what this node holds (sessions, agent and direct endpoints) and its lease.
    ///
    /// # Errors
    /// `PTC_STORE_…`.
    pub async fn close(&self) -> Result<(), Error> {
        later()
    }

    /// Makes the first account, admin key and credential when there is none; else finds the account.
    ///
    /// # Errors
    /// `PTC_STORE_…`.
    pub async fn bootstrap(&self) -> Result<Bootstrap, Error> {
        later()
    }

    /// Makes an account.
    ///
    /// # Errors
    /// `PTC_NAME_INVALID`, `PTC_ACCOUNT_EXISTS`, `PTC_PLAN_UNKNOWN`, lengths, `PTC_STORE_…`.
    pub async fn create_account(&self, new: NewAccount) -> Result<Written<Account>, Error> {
        let _x = new;
        later()
    }

    /// Changes an account.
    ///
    /// # Errors
    /// As [`Self::create_account`], `PTC_ACCOUNT_NOT_FOUND`, `PTC_API_EMPTY_UPDATE`.
    pub async fn update_account(&self, id: &AccountId, update: AccountUpdate) -> Result<Written<Account>, Error> {
        let _x = (id, update);
        later()
    }

    /// Deletes an account; with `force` everything it owns as well.
    ///
    /// # Errors
    /// `PTC_ACCOUNT_NOT_FOUND`, `PTC_ACCOUNT_NOT_EMPTY`, `PTC_LAST_ADMIN_KEY`.
    pub async fn delete_account(&self, id: &AccountId, force: bool) -> Result<Written<()>, Error> {
        let _x = (id, force);
        later()
    }

    /// Makes an API key; its token is in the answer and nowhere else.
    ///
    /// # Errors
    /// `PTC_ACCOUNT_NOT_FOUND`, lengths.
    pub async fn create_api_key(&self, account: &AccountId, new: NewApiKey) -> Result<Written<(ApiKey, Secret)>, Error> {
        let _x = (account, new);
        later()
    }

    /// Changes an API key.
    ///
    /// # Errors
    /// `PTC_API_NOT_FOUND`, `PTC_API_EMPTY_UPDATE`, lengths.
    pub async fn update_api_key(&self, account: &AccountId, id: &ApiKeyId, update: ApiKeyUpdate) -> Result<Written<ApiKey>, Error> {
        let _x = (account, id, update);
        later()
    }

    /// Deletes an API key.
    ///
    /// # Errors
    /// `PTC_API_NOT_FOUND`, `PTC_LAST_ADMIN_KEY`.
    pub async fn delete_api_key(&self, account: &AccountId, id: &ApiKeyId) -> Result<Written<()>, Error> {
        let _x = (account, id);
        later()
    }

    /// Finds the API key of a token.
    ///
    /// # Errors
    /// `PTC_API_KEY_MALFORMED`, `PTC_API_KEY_UNKNOWN`, `PTC_API_KEY_IS_AUTHTOKEN`.
    pub fn authenticate_api_key(&self, token: &str) -> Result<Arc<ApiKey>, Error> {
        let _x = token;
        later()
    }

    /// Makes a credential; its token is in the answer and nowhere else.
    ///
    /// # Errors
    /// `PTC_ACL_SYNTAX`, `PTC_ACCOUNT_NOT_FOUND`, lengths.
    pub async fn create_credential(&self, account: &AccountId, new: NewCredential) -> Result<Written<(Credential, Secret)>, Error> {
        let _x = (account, new);
        later()
    }

    /// Changes a credential.
    ///
    /// # Errors
    /// `PTC_API_NOT_FOUND`, `PTC_API_EMPTY_UPDATE`, `PTC_ACL_SYNTAX`, lengths.
    pub async fn update_credential(&self, account: &AccountId, id: &CredentialId, update: CredentialUpdate) -> Result<Written<Credential>, Error> {
        let _x = (account, id, update);
        later()
    }

    /// Deletes a credential, with the sessions that came with it and their endpoints.
    ///
    /// # Errors
    /// `PTC_API_NOT_FOUND`.
    pub async fn delete_credential(&self, account: &AccountId, id: &CredentialId) -> Result<Written<()>, Error> {
        let _x = (account, id);
        later()
    }

    /// Finds the credential of an authtoken.
    ///
    /// # Errors
    /// `PTC_AUTHTOKEN_MISSING`, `PTC_AUTHTOKEN_MALFORMED`, `PTC_AUTHTOKEN_UNKNOWN`, `PTC_ACCOUNT_SUSPENDED`.
    pub fn authenticate_credential(&self, token: &str) -> Result<Arc<Credential>, Error> {
        let _x = token;
        later()
    }

    /// Reserves an address.
    ///
    /// # Errors
    /// `PTC_ADDRESS_…`, `PTC_TCP_NOT_ALLOWED`, lengths.
    pub async fn reserve_address(&self, account: &AccountId, new: NewAddress) -> Result<Written<ReservedAddr>, Error> {
        let _x = (account, new);
        later()
    }

    /// Changes an address's texts.
    ///
    /// # Errors
    /// `PTC_API_NOT_FOUND`, `PTC_API_EMPTY_UPDATE`, lengths.
    pub async fn update_address(&self, account: &AccountId, id: &AddrId, update: AddressUpdate) -> Result<Written<ReservedAddr>, Error> {
        let _x = (account, id, update);
        later()
    }

    /// Releases an address, which then rests.
    ///
    /// # Errors
    /// `PTC_API_NOT_FOUND`, `PTC_ADDRESS_IN_USE`.
    pub async fn release_address(&self, account: &AccountId, id: &AddrId) -> Result<Written<()>, Error> {
        let _x = (account, id);
        later()
    }

    /// Makes a cloud endpoint.
    ///
    /// # Errors
    /// `PTC_URL_…`, `PTC_ADDRESS_…`, `PTC_POLICY_…`, `PTC_POOLING_…`, `PTC_ENDPOINT_…`, lengths.
    pub async fn create_cloud_endpoint(&self, account: &AccountId, new: NewCloudEndpoint) -> Result<Written<Endpoint>, Error> {
        let _x = (account, new);
        later()
    }

    /// Changes a cloud endpoint.
    ///
    /// # Errors
    /// As creation, and `PTC_ENDPOINT_NOT_FOUND`, `PTC_ENDPOINT_READ_ONLY`, `PTC_API_EMPTY_UPDATE`.
    pub async fn update_cloud_endpoint(&self, account: &AccountId, id: &EndpointId, update: EndpointUpdate) -> Result<Written<Endpoint>, Error> {
        let _x = (account, id, update);
        later()
    }

    /// Deletes a cloud endpoint.
    ///
    /// # Errors
    /// `PTC_ENDPOINT_NOT_FOUND`, `PTC_ENDPOINT_READ_ONLY`.
    pub async fn delete_endpoint(&self, account: &AccountId, id: &EndpointId) -> Result<Written<()>, Error> {
        let _x = (account, id);
        later()
    }

    /// Opens a session of an agent that authenticated. A stale session of the same installation ends
    /// with it.
    ///
    /// # Errors
    /// `PTC_CREDENTIAL_REVOKED`, `PTC_AGENT_DUPLICATE`, `PTC_SESSION_LIMIT`, `PTC_SESSION_METADATA_TOO_LONG`.
    pub async fn open_session(&self, new: NewSession) -> Result<Written<OpenedSession>, Error> {
        let _x = new;
        later()
    }

    /// Closes a session and its endpoints; fine if it is gone already.
    ///
    /// # Errors
    /// `PTC_STORE_…`.
    pub async fn close_session(&self, id: &SessionId) -> Result<Written<()>, Error> {
        let _x = id;
        later()
    }

    /// Brings an endpoint of a session online.
    ///
    /// # Errors
    /// `PTC_SESSION_NOT_FOUND`, `PTC_URL_…`, `PTC_ADDRESS_…`, `PTC_CREDENTIAL_ACL…`, `PTC_POLICY_…`,
    /// `PTC_POOLING_…`, `PTC_ENDPOINT_…`, lengths.
    pub async fn bind_endpoint(&self, session: &SessionId, spec: BindSpec) -> Result<Written<Endpoint>, Error> {
        let _x = (session, spec);
        later()
    }

    /// Changes an endpoint of a session in place.
    ///
    /// # Errors
    /// `PTC_ENDPOINT_NOT_FOUND`, `PTC_POLICY_…`, `PTC_POOLING_…`, lengths.
    pub async fn update_bound_endpoint(&self, session: &SessionId, id: &EndpointId, update: BoundUpdate) -> Result<Written<Endpoint>, Error> {
        let _x = (session, id, update);
        later()
    }

    /// Takes an endpoint of a session offline; fine if it is gone already.
    ///
    /// # Errors
    /// `PTC_STORE_…`.
    pub async fn unbind_endpoint(&self, session: &SessionId, id: &EndpointId) -> Result<Written<()>, Error> {
        let _x = (session, id);
        later()
    }

    /// Brings an endpoint online whose upstream the edge dials itself; it lives as long as this node.
    ///
    /// # Errors
    /// As [`Self::bind_endpoint`].
    pub async fn bind_direct(&self, account: &AccountId, spec: DirectSpec) -> Result<Written<Endpoint>, Error> {
        let _x = (account, spec);
        later()
    }
}
