//! What every part of a node shares: configuration, registry, records, and the counts and tables.
//!
//! Must never: hold a socket or a task.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_model::EndpointId;
use portcullis_model::id::ENTROPY_BYTES;
use portcullis_net::RelayLimits;
use portcullis_net::resolve::Resolver;
use portcullis_store::Registry;
use portcullis_telemetry::{EndpointState, Records};
use rand::Rng as _;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Admission, Sources};
use crate::cancel::Cancels;
use crate::config::EdgeConfig;
use crate::pace::Bandwidths;
use crate::places::Places;
use crate::policy_state::PolicyState;
use crate::sessions::Sessions;
use crate::status::StatusBoard;
use crate::terminate::Terminators;
use crate::upstreams::Upstreams;

/// A node's shared parts.
pub(crate) struct Node {
    pub(crate) config: EdgeConfig,
    /// Where bytes move: accept loops, connections, and the I/O of agents' links. Everything else, TLS
    /// handshakes of agents included, is on [`Self::control`].
    pub(crate) data: Handle,
    /// Where sessions, handshakes and the following of the registry run.
    pub(crate) control: Handle,
    pub(crate) registry: Registry,
    pub(crate) records: Records,
    pub(crate) admission: Admission,
    /// What policies count.
    pub(crate) policy_state: Arc<PolicyState>,
    /// The flows of `limit-bandwidth`.
    pub(crate) bandwidths: Bandwidths,
    /// Ways of terminating TLS, ready to use.
    pub(crate) terminators: Terminators,
    /// Keys of PostgreSQL backends.
    pub(crate) cancels: Arc<Cancels>,
    /// Clients that a policy keeps waiting before it closes.
    pub(crate) tarpits: Semaphore,
    pub(crate) status: StatusBoard,
    pub(crate) sessions: Sessions,
    /// The silences of connections whose endpoint has no limits of its own.
    pub(crate) relay_limits: Arc<RelayLimits>,
    pub(crate) resolver: Resolver,
    pub(crate) upstreams: Upstreams,
    /// Where addresses are, and whose.
    pub(crate) places: Arc<Places>,
    /// Client connections that may be alive at once.
    pub(crate) permits: Arc<Semaphore>,
    /// Unauthenticated connections on the agent port that may be alive at once.
    pub(crate) agent_permits: Arc<Semaphore>,
    /// The same by source.
    pub(crate) agent_sources: Sources,
    /// Cancelled when the node stops taking clients and sessions.
    pub(crate) draining: CancellationToken,
    /// Cancelled when everything ends.
    pub(crate) stopped: CancellationToken,
    /// What holds listening sockets for clients.
    pub(crate) accepting: TaskTracker,
    /// What holds listening sockets, the agent port's among them.
    pub(crate) listening: TaskTracker,
}

impl Node {
    /// Whether connections from this address begin with a PROXY header that is believed.
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.config
            .trusted_proxies
            .iter()
            .any(|network| network.contains(&peer))
    }

    /// How an endpoint is served here.
    pub(crate) fn state_of(&self, endpoint: &EndpointId) -> EndpointState {
        let snapshot = self.registry.snapshot();
        match snapshot.endpoint_by_id(endpoint) {
            Some(endpoint) => self.status.state_of(&snapshot.listens_of(endpoint)),
            None => EndpointState::Pending,
        }
    }

    /// How an endpoint is served here once its listeners have been tried; `Pending` if that takes longer
    /// than `timeout`.
    pub(crate) async fn settled(&self, endpoint: &EndpointId, timeout: Duration) -> EndpointState {
        let settled = async {
            let mut changes = self.status.changes();
            loop {
                match self.state_of(endpoint) {
                    EndpointState::Pending => {}
                    state => return state,
                }
                if changes.changed().await.is_err() {
                    return EndpointState::Pending;
                }
            }
        };
        tokio::time::timeout(timeout, settled)
            .await
            .unwrap_or(EndpointState::Pending)
    }

    /// The random part of a new connection's id.
    pub(crate) fn entropy(&self) -> [u8; ENTROPY_BYTES] {
        let mut entropy = [0; ENTROPY_BYTES];
        rand::rng().fill_bytes(&mut entropy);
        entropy
    }
}
