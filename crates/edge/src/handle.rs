//! Starting an edge, and what one can ask of it while it runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use portcullis_model::id::ConnectionId;
use portcullis_model::{Code, EndpointId, EndpointLimits, Error, SessionId};
use portcullis_net::listen::{ListenOptions, listen};
use portcullis_net::resolve::Resolver;
use portcullis_net::{descriptors, task};
use portcullis_store::Registry;
use portcullis_telemetry::{
    CloseReason, ConnectionView, DrainOutcome, Ended, EndpointState, EndpointStatus, NodeCommands,
    Records,
};
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Admission, Sources};
use crate::config::{EdgeConfig, Limits};
use crate::defaults::{
    CUT_TIMEOUT, DESCRIPTORS_PENDING_SHARE, DESCRIPTORS_RESERVED, SESSION_STOP_TIMEOUT, TARPITS_MAX,
};
use crate::node::Node;
use crate::pace::Bandwidths;
use crate::places::follow::{self, Follower};
use crate::sessions::{Command, Sessions};
use crate::status::StatusBoard;
use crate::terminate::Terminators;
use crate::upstreams::Upstreams;
use crate::{agents, health, limits, listeners, on_change};

/// Makes edges.
#[derive(Debug, Clone, Copy)]
pub struct Edge;

impl Edge {
    /// Opens the agent port and starts to follow the registry. Client ports open as their endpoints come.
    /// Connections are served, and bytes moved, on the runtime `data`; the rest runs on the caller's, so
    /// that neither a handshake nor the API stands in front of a client's byte. They may be the same.
    ///
    /// # Errors
    /// The agent port cannot be listened on: `PTC_PORT_TAKEN`, `PTC_PORT_NOT_PERMITTED`, `PTC_BIND_FAILED`.
    /// `PTC_CONFIG_INVALID` for socket options that the kernel does not take.
    pub async fn start(
        mut config: EdgeConfig,
        registry: Registry,
        records: Records,
        data: &Handle,
    ) -> Result<EdgeHandle, Error> {
        let port = on(data, || listen(config.agents, ListenOptions::default()))?;
        config.network.apply(&port)?;
        let agent_addr = port.local_addr().map_err(Error::internal)?;
        let connections_max = connections_max(config.limits.connections_max);
        fit_pending(&mut config.limits);
        let resolver = match config.name_servers.as_slice() {
            [] => Resolver::system()?,
            servers => Resolver::with_servers(servers)?,
        };
        let follower = Follower::start(config.places.clone(), records.clone()).await;
        let relay_limits = limits::relay(&config.limits, &EndpointLimits::default());
        let node = Arc::new(Node {
            relay_limits: Arc::new(relay_limits),
            data: data.clone(),
            control: Handle::current(),
            permits: Arc::new(Semaphore::new(connections_max)),
            agent_permits: Arc::new(Semaphore::new(config.limits.agent_pending_max)),
            agent_sources: Sources::default(),
            config,
            records,
            admission: Admission::default(),
            policy_state: Arc::default(),
            bandwidths: Bandwidths::default(),
            terminators: Terminators::default(),
            cancels: Arc::default(),
            tarpits: Semaphore::new(TARPITS_MAX),
            status: StatusBoard::default(),
            sessions: Sessions::default(),
            resolver,
            upstreams: Upstreams::default(),
            places: follower.places(),
            draining: CancellationToken::new(),
            stopped: CancellationToken::new(),
            accepting: TaskTracker::new(),
            listening: TaskTracker::new(),
            registry,
        });
        tracing::info!(%agent_addr, node = node.config.node, connections_max, "edge started");
        follow::spawn(follower, node.stopped.clone());
        let clients = listeners::run(Arc::clone(&node), node.registry.watch());
        drop(task::spawn(
            "listeners",
            node.listening
                .track_future(node.accepting.track_future(clients)),
        ));
        // Neither holds a socket of ours, so a drain waits for none: they end with it.
        let checks = health::run(Arc::clone(&node), node.registry.watch());
        drop(task::spawn("health", checks));
        let changes = on_change::run(Arc::clone(&node), node.registry.watch());
        drop(task::spawn("on change", changes));
        let agents = agents::run(Arc::clone(&node), port);
        drop(task::spawn_on(
            data,
            "agent port",
            node.listening.track_future(agents),
        ));
        Ok(EdgeHandle {
            node,
            agent_addr,
            drained: Arc::default(),
        })
    }
}

/// Makes sockets that a runtime's I/O driver watches, whoever makes them.
pub(crate) fn on<T>(runtime: &Handle, make: impl FnOnce() -> T) -> T {
    let _entered = runtime.enter();
    make()
}

/// As many connections as the configuration and the process's descriptors allow. A connection takes
/// two: the client's socket and the upstream's or its channel's.
fn connections_max(configured: usize) -> usize {
    // Without a limit that can be read the configuration stands alone; the accept loop backs off anyway.
    let possible = descriptors::limit().map_or(usize::MAX, |most| {
        // Where there are few, half of them: the reserve must not be all.
        (most - DESCRIPTORS_RESERVED.min(most / 2)) / 2
    });
    configured.min(possible.max(1)).min(Semaphore::MAX_PERMITS)
}

/// Keeps the strangers on the agent port to their share of the process's descriptors, and one source
/// to a quarter of what is left of it.
fn fit_pending(limits: &mut Limits) {
    let most = descriptors::at_most_an(DESCRIPTORS_PENDING_SHARE, limits.agent_pending_max);
    if most < limits.agent_pending_max {
        limits.agent_pending_max = most;
        let of_one = u32::try_from(most / 4).unwrap_or(u32::MAX).max(1);
        limits.agent_pending_per_source_max = limits.agent_pending_per_source_max.min(of_one);
    }
}

/// A running edge. Dropping it does not stop the edge; [`NodeCommands::drain`] does.
#[derive(Clone)]
pub struct EdgeHandle {
    node: Arc<Node>,
    agent_addr: SocketAddr,
    drained: Arc<OnceCell<DrainOutcome>>,
}

impl EdgeHandle {
    /// Where agents connect.
    pub fn agent_addr(&self) -> SocketAddr {
        self.agent_addr
    }

    /// The node's records: metrics and live connections.
    pub fn records(&self) -> &Records {
        &self.node.records
    }

    /// How an endpoint is served here once its listeners have been tried; `Pending` when `timeout` is over
    /// before.
    pub async fn settled(&self, endpoint: &EndpointId, timeout: Duration) -> EndpointState {
        self.node.settled(endpoint, timeout).await
    }

    async fn drain_once(&self, timeout: Duration) -> DrainOutcome {
        let node = &self.node;
        let closed_before = node.records.metrics().count_closed_all();
        let error = Error::of(Code::ServerDraining);
        // Agents first: they look for another node while their connections here go on.
        self.tell_sessions(&Command::Drain(error.clone()));
        node.draining.cancel();
        // Who was in a queue is accepted before its listener closes, and is waited for as well.
        node.accepting.close();
        if tokio::time::timeout(CUT_TIMEOUT, node.accepting.wait())
            .await
            .is_err()
        {
            tracing::warn!("listeners are slow to close");
        }
        let live = node.records.live();
        let mut cut = 0;
        if tokio::time::timeout(timeout, live.empty()).await.is_err() {
            cut = live.end_all(&CloseReason::Drained.into());
            if tokio::time::timeout(CUT_TIMEOUT, live.empty())
                .await
                .is_err()
            {
                tracing::warn!(
                    open = live.count(),
                    "connections did not end when they were cut"
                );
            }
        }
        self.end_sessions(error).await;
        node.stopped.cancel();
        node.listening.close();
        if tokio::time::timeout(CUT_TIMEOUT, node.listening.wait())
            .await
            .is_err()
        {
            tracing::warn!("listeners did not close in time");
        }
        let closed = node
            .records
            .metrics()
            .count_closed_all()
            .saturating_sub(closed_before);
        let cut = u64::try_from(cut).unwrap_or(u64::MAX);
        let outcome = DrainOutcome {
            finished: closed.saturating_sub(cut),
            cut,
        };
        tracing::info!(
            finished = outcome.finished,
            cut = outcome.cut,
            "edge drained"
        );
        outcome
    }

    /// In tasks: one actor that is busy must not hold up the others, nor the drain.
    fn tell_sessions(&self, command: &Command) {
        for session in self.node.sessions.all() {
            let command = command.clone();
            drop(task::spawn("tell session", async move {
                session.command(command).await
            }));
        }
    }

    async fn end_sessions(&self, error: Error) {
        let why = Ended::from(CloseReason::Drained);
        for session in self.node.sessions.all() {
            session
                .command(Command::End {
                    error: error.clone(),
                    retry: true,
                    why: why.clone(),
                })
                .await;
        }
        if tokio::time::timeout(SESSION_STOP_TIMEOUT, self.node.sessions.empty())
            .await
            .is_err()
        {
            tracing::warn!("agent sessions did not end in time");
        }
    }
}

#[async_trait]
impl NodeCommands for EdgeHandle {
    async fn stop_session(&self, id: &SessionId, restart: bool) -> Result<(), Error> {
        let session = self
            .node
            .sessions
            .find(id)
            .ok_or_else(|| Error::of(Code::SessionNotFound))?;
        if !session.remote_management {
            return Err(Error::of(Code::RemoteManagementOff));
        }
        let error = match restart {
            true => Error::new(
                Code::AgentStopped,
                "the session was restarted through the API",
            ),
            false => Error::of(Code::AgentStopped),
        };
        let why = Ended::from(CloseReason::SessionStopped);
        session
            .command(Command::Stop {
                error,
                restart,
                why,
            })
            .await;
        Ok(())
    }

    async fn end_connection(&self, id: &ConnectionId) -> Result<(), Error> {
        if self
            .node
            .records
            .live()
            .end(id, CloseReason::EndedByOperator)
        {
            Ok(())
        } else {
            Err(Error::new(
                Code::ApiNotFound,
                format!("no connection {id} is open on this node"),
            ))
        }
    }

    fn connections(&self) -> Vec<ConnectionView> {
        self.node.records.live().views()
    }

    fn endpoint_status(&self, id: &EndpointId) -> EndpointStatus {
        EndpointStatus {
            state: self.node.state_of(id),
            last_upstream_error: self.node.status.last_failure(id),
            connections_open: u64::from(self.node.admission.count_of(id)),
            health: self.node.status.health_of(id),
        }
    }

    async fn drain(&self, timeout: Duration) -> DrainOutcome {
        *self.drained.get_or_init(|| self.drain_once(timeout)).await
    }
}
