//! The listeners: binds what the snapshot says and only ports that have endpoints, follows every change,
//! and tries again what could not be bound. Closing a listener leaves its connections alone.
//!
//! Must never: await anything of a connection.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use portcullis_model::{Code, EndpointId, Error};
use portcullis_net::accept::{self, AcceptObserver, AcceptOptions};
use portcullis_net::listen::{ListenOptions, listen};
use portcullis_net::task;
use portcullis_store::{Listen, Snapshot};
use portcullis_telemetry::Records;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::connection;
use crate::defaults::{LISTEN_RETRY, LISTEN_RETRY_CONTESTED, LISTENERS_BROKEN_MAX, POLICY_SWEEP};
use crate::handle::on;
use crate::health;
use crate::node::Node;
use crate::status::ListenState;
use plan::{all_of, is_contested, plan};

mod plan;

struct Open {
    stop: CancellationToken,
    accepting: JoinHandle<()>,
}

struct Failed {
    error: Error,
    again: Instant,
}

struct Listeners {
    node: Arc<Node>,
    open: BTreeMap<Listen, Open>,
    failed: BTreeMap<Listen, Failed>,
    /// Where accept loops say that their socket broke.
    broken: mpsc::Sender<Broken>,
}

/// An accept loop that ended by itself, and why.
type Broken = (Listen, std::io::Error);

/// Follows the snapshots until the node drains; then every listener is closed.
pub(crate) async fn run(node: Arc<Node>, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    let draining = node.draining.clone();
    let (broken, mut breaking) = mpsc::channel(LISTENERS_BROKEN_MAX);
    let mut listeners = Listeners {
        node,
        open: BTreeMap::new(),
        failed: BTreeMap::new(),
        broken,
    };
    let mut sweep = tokio::time::interval(POLICY_SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        let wanted = snapshot.listens();
        listeners.converge(&wanted).await;
        listeners.publish(&wanted);
        let known = |endpoint: &EndpointId| snapshot.endpoint_by_id(endpoint).is_some();
        listeners.node.status.retain(known);
        health::count(&listeners.node);
        listeners.node.admission.retain(known);
        drop(snapshot);
        let again = listeners.failed.values().map(|failed| failed.again).min();
        tokio::select! {
            biased;
            () = draining.cancelled() => break,
            changed = snapshots.changed() => if changed.is_err() { break },
            _ = sweep.tick() => {
                listeners.node.policy_state.sweep();
                listeners.node.bandwidths.sweep();
            }
            Some((listen, error)) = breaking.recv() => listeners.broke(listen, &error, &wanted),
            () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
        }
    }
    listeners.converge(&BTreeSet::new()).await;
    listeners.publish(&BTreeSet::new());
}

impl Listeners {
    async fn converge(&mut self, wanted: &BTreeSet<Listen>) {
        self.failed.retain(|listen, _| wanted.contains(listen));
        // A socket on all addresses that fails makes room for the dedicated ones of its port: that is
        // a second round, and there is no third.
        for _ in 0..2 {
            let now = Instant::now();
            let resting = self
                .failed
                .iter()
                .filter(|(_, failed)| failed.again > now)
                .map(|(listen, _)| *listen);
            let held = self.open.keys().copied().collect();
            let plan = plan(wanted, &held, &resting.collect());
            for listen in plan.close {
                self.close(listen).await;
            }
            for listen in plan.open {
                self.open(listen, wanted);
            }
        }
    }

    fn open(&mut self, listen_on: Listen, wanted: &BTreeSet<Listen>) {
        let ip = listen_on.ip.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        let at = SocketAddr::new(ip, listen_on.port);
        match on(&self.node.data, || listen(at, ListenOptions::default())) {
            Ok(listener) => {
                self.node.config.network.try_apply(&listener);
                self.failed.remove(&listen_on);
                let stop = CancellationToken::new();
                let accepting = accept_clients(Arc::clone(&self.node), listener, stop.clone());
                let broken = self.broken.clone();
                let accepting = task::spawn_on(&self.node.data, "accept", async move {
                    if let Err(error) = accepting.await
                        && broken.send((listen_on, error)).await.is_err()
                    {
                        tracing::debug!(
                            port = listen_on.port,
                            "listener broke while all are closed"
                        );
                    }
                });
                self.open.insert(listen_on, Open { stop, accepting });
                tracing::debug!(ip = ?listen_on.ip, port = listen_on.port, "listening");
            }
            Err(error) => self.note_failure(listen_on, error, wanted),
        }
    }

    /// An accept loop ended by itself, which only a broken socket makes it do.
    fn broke(&mut self, listen: Listen, error: &std::io::Error, wanted: &BTreeSet<Listen>) {
        if self.open.remove(&listen).is_some() {
            let error = Error::new(Code::BindFailed, format!("the listener broke: {error}"));
            self.note_failure(listen, error, wanted);
        }
    }

    fn note_failure(&mut self, listen: Listen, error: Error, wanted: &BTreeSet<Listen>) {
        let pause = pause(&listen, wanted);
        let again = Instant::now() + pause;
        if self
            .failed
            .get(&listen)
            .is_none_or(|failed| failed.error != error)
        {
            tracing::warn!(port = listen.port, %error, ?pause, "cannot listen; trying again");
        }
        self.failed.insert(listen, Failed { error, again });
    }

    /// Closes a listener, and waits until its socket is gone: another may be about to take its place.
    async fn close(&mut self, listen: Listen) {
        if let Some(open) = self.open.remove(&listen) {
            open.stop.cancel();
            if let Err(error) = open.accepting.await {
                tracing::warn!(%error, port = listen.port, "accept loop ended badly");
            }
            tracing::debug!(ip = ?listen.ip, port = listen.port, "no longer listening");
        }
    }

    fn publish(&self, wanted: &BTreeSet<Listen>) {
        let state = |listen: &Listen| {
            if self.open.contains_key(listen) || self.open.contains_key(&all_of(listen.port)) {
                return Some((*listen, ListenState::Open));
            }
            self.failed
                .get(listen)
                .map(|failed| (*listen, ListenState::Failed(failed.error.clone())))
        };
        let states: HashMap<Listen, ListenState> = wanted.iter().filter_map(state).collect();
        self.node
            .records
            .metrics()
            .set_listeners(self.open.len(), self.failed.len());
        self.node.status.set_listens(states);
    }
}

fn pause(listen: &Listen, wanted: &BTreeSet<Listen>) -> Duration {
    if is_contested(listen, wanted) {
        LISTEN_RETRY_CONTESTED
    } else {
        LISTEN_RETRY
    }
}

/// One listener's accept loop: the node's cap before the spawn, the story in a task of its own.
async fn accept_clients(
    node: Arc<Node>,
    listener: tokio::net::TcpListener,
    stop: CancellationToken,
) -> std::io::Result<()> {
    // Where the socket is on one address, that is the connection's; else each is asked.
    let bound = listener.local_addr().ok();
    let bound = bound.filter(|bound| !bound.ip().is_unspecified());
    let options = AcceptOptions {
        permits: Arc::clone(&node.permits),
        shutdown: stop,
        observer: Arc::new(Observer(node.records.clone())),
    };
    accept::run(listener, options, move |stream, peer, permit| {
        let Some(at) = bound.or_else(|| stream.local_addr().ok()) else {
            return; // reset between accept and here: there is no connection to tell of
        };
        let at = SocketAddr::new(at.ip().to_canonical(), at.port());
        drop(task::spawn(
            "connection",
            connection::serve(Arc::clone(&node), stream, at, peer, permit),
        ));
    })
    .await
}

struct Observer(Records);

impl AcceptObserver for Observer {
    fn shed(&self) {
        self.0.metrics().accept_shed.inc();
    }
    fn peer_error(&self, _error: &std::io::Error) {
        self.0.metrics().accept_error("peer");
    }
    fn backoff(&self, error: &std::io::Error, pause: Duration) {
        self.0.metrics().accept_error("resources");
        tracing::warn!(%error, ?pause, "accepting waits for descriptors or memory");
    }
}
