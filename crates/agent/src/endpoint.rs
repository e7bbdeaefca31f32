//! An endpoint as the agent holds it: what was asked for, where it stands, where its bytes go.
//! It outlives sessions; each session binds it anew.
//!
//! Must never: talk to the server; the session reconciles what is wanted with what is bound.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use portcullis_model::endpoint::ProxyVersion;
use portcullis_model::health::Health;
use portcullis_model::{Binding, EndpointId, Error};
use portcullis_net::upstream::Upstream;
use portcullis_proto::message;
use tokio::sync::{mpsc, watch};

use crate::conn::Conn;
use crate::options::{EndpointOptions, EndpointUpdate};
use crate::stats::Stats;
use crate::status::{EndpointState, EndpointStatus};
use crate::termination::Terminating;

/// Where the bytes of an endpoint go.
#[derive(Debug)]
pub(crate) enum Sink {
    /// To an upstream that is dialled for each connection.
    Forward(Upstream),
    /// To a [`crate::Listener`].
    Queue(mpsc::Sender<Conn>),
    /// Nowhere any more.
    Closed,
}

/// Where an endpoint stands, for those who wait for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    pub(crate) state: EndpointState,
    pub(crate) id: Option<EndpointId>,
    pub(crate) url: Option<String>,
    pub(crate) binding: Option<Binding>,
    /// Why the server refused it, or why it is closed.
    pub(crate) error: Option<Error>,
    /// The revision of the options that the server has, and its answer to it.
    pub(crate) applied: u64,
    pub(crate) update_error: Option<Error>,
}

/// What is asked of the server; `revision` counts the changes.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) options: EndpointOptions,
    pub(crate) upstream: String,
    pub(crate) revision: u64,
}

/// One endpoint of the agent, for as long as it is wanted.
#[derive(Debug)]
pub(crate) struct LocalEndpoint {
    name: String,
    /// Order of creation, unique in the agent.
    pub(crate) number: u64,
    wanted: Mutex<Wanted>,
    sink: ArcSwap<Sink>,
    tls: Option<Terminating>,
    place: watch::Sender<Place>,
    pub(crate) stats: Arc<Stats>,
    upstream_error: Mutex<Option<Error>>,
    health: Mutex<Option<Health>>,
    /// Sessions that have it bound, or are about to.
    holders: watch::Sender<usize>,
}

/// A session's hold on an endpoint.
#[derive(Debug)]
pub(crate) struct Hold(Arc<LocalEndpoint>);

impl Hold {
    pub(crate) fn on(endpoint: &Arc<LocalEndpoint>) -> Self {
        endpoint.holders.send_modify(|holders| *holders += 1);
        Self(Arc::clone(endpoint))
    }
}

impl std::ops::Deref for Hold {
    type Target = LocalEndpoint;
    fn deref(&self) -> &LocalEndpoint {
        &self.0
    }
}

impl Hold {
    pub(crate) fn endpoint(&self) -> &Arc<LocalEndpoint> {
        &self.0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.holders.send_modify(|holders| *holders -= 1);
    }
}

impl LocalEndpoint {
    pub(crate) fn new(number: u64, options: EndpointOptions, upstream: String, sink: Sink) -> Self {
        Self {
            name: options.name.clone(),
            number,
            tls: options.tls_termination.clone().map(Terminating::new),
            wanted: Mutex::new(Wanted {
                options,
                upstream,
                revision: 1,
            }),
            sink: ArcSwap::from_pointee(sink),
            place: watch::Sender::new(Place::default()),
            stats: Arc::default(),
            upstream_error: Mutex::new(None),
            health: Mutex::new(None),
            holders: watch::Sender::new(0),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The URL it has, else the one asked for.
    pub(crate) fn url(&self) -> String {
        let url = self.place.borrow().url.clone();
        url.unwrap_or_else(|| self.wanted().options.url.clone())
    }

    pub(crate) fn id(&self) -> Option<EndpointId> {
        self.place.borrow().id.clone()
    }

    pub(crate) fn upstream(&self) -> String {
        self.wanted().upstream.clone()
    }

    /// The PROXY header that its upstream gets.
    pub(crate) fn proxy_protocol(&self) -> Option<ProxyVersion> {
        self.wanted().options.proxy_protocol
    }

    /// The TLS of its clients that is terminated here.
    pub(crate) fn tls(&self) -> Option<&Terminating> {
        self.tls.as_ref()
    }

    pub(crate) fn sink(&self) -> Arc<Sink> {
        self.sink.load_full()
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        // Only whole values are stored under it.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wanted_now(&self) -> Wanted {
        self.wanted().clone()
    }

    pub(crate) fn revision(&self) -> u64 {
        self.wanted().revision
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.place.borrow().state == EndpointState::Closed
    }

    pub(crate) fn place(&self) -> watch::Receiver<Place> {
        self.place.subscribe()
    }

    /// Changes where it stands, unless it is closed: nothing comes after that.
    pub(crate) fn set_place(&self, change: impl FnOnce(&mut Place)) {
        self.place.send_if_modified(|place| {
            if place.state == EndpointState::Closed {
                return false;
            }
            change(place);
            true
        });
    }

    /// Closes it for good. The first reason stays.
    pub(crate) fn close(&self, why: Error) {
        self.set_place(|place| {
            place.state = EndpointState::Closed;
            place.error = Some(why);
        });
        self.sink.store(Arc::new(Sink::Closed));
    }

    /// The session that gave it `id` is gone. The URL stays: it is likely to come back. A successor
    /// may have placed it anew already.
    pub(crate) fn unplaced(&self, id: &EndpointId) {
        self.set_place(|place| {
            if place.id.as_ref() == Some(id) {
                place.state = EndpointState::Pending;
                place.id = None;
            }
        });
    }

    /// Waits until no session holds it.
    pub(crate) async fn unheld(&self) {
        let mut holders = self.holders.subscribe();
        // The sender is a field of `self`: it cannot be gone while this waits.
        holders.wait_for(|holders| *holders == 0).await.ok();
    }

    /// Waits until the server has answered to a revision.
    pub(crate) async fn applied(&self, revision: u64) -> Result<(), Error> {
        let mut place = self.place();
        let settled = |place: &Place| {
            place.applied >= revision
                || matches!(place.state, EndpointState::Closed | EndpointState::Refused)
        };
        let answer = place.wait_for(settled).await;
        match answer.map(|place| {
            if place.applied >= revision {
                place.update_error.clone()
            } else {
                place.error.clone()
            }
        }) {
            Ok(None) => Ok(()),
            Ok(Some(error)) => Err(error),
            Err(_) => Err(Error::internal(
                "an endpoint was dropped while it was changed",
            )),
        }
    }

    /// Waits until it is closed.
    pub(crate) async fn closed(&self) -> Error {
        let mut place = self.place();
        let closed = place
            .wait_for(|place| place.state == EndpointState::Closed)
            .await;
        let error = closed.ok().and_then(|place| place.error.clone());
        error.unwrap_or_else(|| Error::internal("an endpoint closed without a reason"))
    }

    /// Waits for the first verdict: bound, refused or closed.
    pub(crate) async fn bound(&self) -> Result<(), Error> {
        let mut place = self.place();
        let settled = place
            .wait_for(|place| place.state != EndpointState::Pending)
            .await;
        match settled.map(|place| (place.state, place.error.clone())) {
            Ok((EndpointState::Online, _)) => Ok(()),
            Ok((_, Some(error))) => Err(error),
            Ok((_, None)) | Err(_) => {
                Err(Error::internal("an endpoint was refused without a reason"))
            }
        }
    }

    /// Changes what is wanted and returns the revision to wait for.
    pub(crate) fn change(&self, update: EndpointUpdate, sink: Option<Upstream>) -> u64 {
        let mut wanted = self.wanted();
        wanted.options.apply(&update);
        if let Some(upstream) = update.upstream {
            wanted.upstream = upstream;
        }
        if let Some(upstream) = sink {
            self.sink.store(Arc::new(Sink::Forward(upstream)));
        }
        wanted.revision += 1;
        wanted.revision
    }

    pub(crate) fn set_upstream_error(&self, error: Option<Error>) {
        *self
            .upstream_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// How the upstream fares by its checks.
    pub(crate) fn health(&self) -> Option<Health> {
        self.health
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Replaces what the checks say.
    pub(crate) fn set_health(&self, health: Health) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = Some(health);
    }

    /// What is checked now, and how it is spoken to; `None` where there is no upstream.
    pub(crate) fn checked(&self) -> Option<(Upstream, Option<ProxyVersion>)> {
        match &*self.sink() {
            Sink::Forward(upstream) => Some((upstream.clone(), self.proxy_protocol())),
            Sink::Queue(_) | Sink::Closed => None,
        }
    }

    pub(crate) fn status(&self) -> EndpointStatus {
        let Wanted {
            options, upstream, ..
        } = self.wanted_now();
        let place = self.place.borrow().clone();
        EndpointStatus {
            name: options.name,
            id: place.id,
            url: place.url.unwrap_or(options.url),
            binding: place.binding.or(options.binding),
            upstream,
            proxy_protocol: options.proxy_protocol,
            description: options.description,
            metadata: options.metadata,
            pooling_enabled: options.pooling_enabled,
            traffic_policy: options.traffic_policy,
            state: place.state,
            error: place.error,
            upstream_error: self
                .upstream_error
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            on_change: options.on_change,
            pool: options.pool,
            health_check: options.health,
            health: self.health(),
            connections: self.stats.snapshot(),
        }
    }
}

impl Wanted {
    /// The bind request. The policy was checked when it was taken.
    pub(crate) fn bind(&self) -> Result<message::Bind, Error> {
        let options = &self.options;
        Ok(message::Bind {
            req: 0,
            name: options.name.clone(),
            url: options.url.clone(),
            binding: options.binding,
            pooling_enabled: options.pooling_enabled,
            description: options.description.clone(),
            metadata: options.metadata.clone(),
            traffic_policy: options.policy_document()?,
            upstream_url: self.upstream.clone(),
            proxy_protocol: options.proxy_protocol,
            limits: options.limits,
            ephemeral: options.ephemeral,
            on_change: options.on_change,
            pool: options.pool,
        })
    }

    /// The update request: everything that may change, as it is now.
    pub(crate) fn update(&self, id: EndpointId) -> Result<message::Update, Error> {
        let options = &self.options;
        Ok(message::Update {
            req: 0,
            endpoint_id: id,
            description: Some(options.description.clone()),
            metadata: Some(options.metadata.clone()),
            traffic_policy: Some(options.policy_document()?),
            pooling_enabled: Some(options.pooling_enabled),
            upstream_url: Some(self.upstream.clone()),
            on_change: Some(options.on_change),
            pool: Some(options.pool),
        })
    }
}
