//! What the parts of one agent share: settings, identity, the table of endpoints, the status board.
//!
//! Owns the answers to "what is wanted" and "are we ending". Must never: hold a lock across an await.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_model::{Code, Error, Timestamp};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::agent::Stopped;
use crate::defaults;
use crate::endpoint::{LocalEndpoint, Sink};
use crate::identity::Identity;
use crate::options::EndpointOptions;
use crate::settings::Settings;
use crate::stats::Stats;
use crate::status::{SessionInfo, SessionState, Status};

/// The common ground of an agent's tasks.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) identity: Identity,
    pub(crate) total: Arc<Stats>,
    /// Ends everything, at once.
    pub(crate) stop: CancellationToken,
    endpoints: Mutex<Vec<Arc<LocalEndpoint>>>,
    next_endpoint: AtomicU64,
    /// Counts changes of what is wanted; sessions watch it.
    changed: watch::Sender<u64>,
    /// The number of the newest session that is up.
    pub(crate) newest_up: watch::Sender<u64>,
    /// How the first attempt went.
    pub(crate) first: watch::Sender<Option<Result<(), Error>>>,
    stopped: watch::Sender<Option<Stopped>>,
    board: Mutex<Board>,
    board_changed: Notify,
    status: watch::Sender<Status>,
}

/// The part of the status that is not computed from endpoints.
#[derive(Debug, Default)]
struct Board {
    state: SessionState,
    error: Option<Error>,
    attempts: u32,
    retry_at: Option<Timestamp>,
    session: Option<SessionInfo>,
    latency: Option<Duration>,
    local_api: Option<String>,
}

/// The present, for status and logs.
pub(crate) fn now() -> Timestamp {
    Timestamp::from(jiff::Timestamp::now())
}

impl Shared {
    pub(crate) fn new(settings: Settings, identity: Identity) -> Self {
        Self {
            settings,
            identity,
            total: Arc::default(),
            stop: CancellationToken::new(),
            endpoints: Mutex::default(),
            next_endpoint: AtomicU64::new(0),
            changed: watch::Sender::new(0),
            newest_up: watch::Sender::new(0),
            first: watch::Sender::new(None),
            stopped: watch::Sender::new(None),
            board: Mutex::default(),
            board_changed: Notify::new(),
            status: watch::Sender::new(Status::default()),
        }
    }

    fn table(&self) -> MutexGuard<'_, Vec<Arc<LocalEndpoint>>> {
        // A list of pointers is whole at any time.
        self.endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an endpoint to those that are wanted, with a name of its own.
    ///
    /// # Errors
    /// A name that is taken, or too many endpoints.
    pub(crate) fn add(
        &self,
        mut options: EndpointOptions,
        upstream: String,
        sink: Sink,
    ) -> Result<Arc<LocalEndpoint>, Error> {
        if self.stop.is_cancelled() {
            return Err(self.why_stopped());
        }
        let mut table = self.table();
        if table.len() >= defaults::ENDPOINTS_MAX {
            let max = defaults::ENDPOINTS_MAX;
            return Err(Error::new(
                Code::SessionEndpointLimit,
                format!("this agent has {max} endpoints; no more are possible"),
            ));
        }
        let taken = |name: &str| table.iter().any(|endpoint| endpoint.name() == name);
        if options.name.is_empty() {
            let numbered = (2_u64..).map(|number| format!("endpoint-{number}"));
            let free = std::iter::once("endpoint".to_owned())
                .chain(numbered)
                .find(|name| !taken(name));
            options.name = free.unwrap_or_default();
        } else if taken(&options.name) {
            let what = format!(
                "this agent already has an endpoint named `{}`",
                options.name
            );
            return Err(Error::new(Code::EndpointConflict, what));
        }
        let number = self.next_endpoint.fetch_add(1, Ordering::Relaxed) + 1;
        let endpoint = Arc::new(LocalEndpoint::new(number, options, upstream, sink));
        table.push(Arc::clone(&endpoint));
        drop(table);
        self.wants_changed();
        Ok(endpoint)
    }

    /// Takes an endpoint off the table and closes it; sessions that serve it unbind it.
    pub(crate) fn remove(&self, endpoint: &Arc<LocalEndpoint>, why: Error) {
        self.table().retain(|other| !Arc::ptr_eq(other, endpoint));
        endpoint.close(why);
        self.wants_changed();
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<LocalEndpoint>> {
        self.table()
            .iter()
            .find(|endpoint| endpoint.name() == name)
            .cloned()
    }

    pub(crate) fn endpoints(&self) -> Vec<Arc<LocalEndpoint>> {
        self.table().clone()
    }

    /// Closes every endpoint, for the end of the agent.
    pub(crate) fn close_all(&self, why: &Error) {
        for endpoint in self.endpoints() {
            endpoint.close(why.clone());
        }
        self.wants_changed();
    }

    /// Tells sessions to reconcile.
    pub(crate) fn wants_changed(&self) {
        self.changed.send_modify(|version| *version += 1);
        self.board_changed.notify_one();
    }

    pub(crate) fn watch_wants(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Something shown by the status has changed.
    pub(crate) fn status_changed(&self) {
        self.board_changed.notify_one();
    }

    fn board(&self, change: impl FnOnce(&mut Board)) {
        change(&mut self.board.lock().unwrap_or_else(PoisonError::into_inner));
        self.board_changed.notify_one();
    }

    /// A session is up.
    pub(crate) fn online(&self, session: SessionInfo) {
        self.board(|board| {
            *board = Board {
                state: SessionState::Online,
                session: Some(session),
                local_api: board.local_api.take(),
                ..Board::default()
            };
        });
        // Whoever waits for the first session finds it in the status.
        self.publish();
        self.settle_first(Ok(()));
    }

    /// The session is gone or could not be made; another attempt follows at `retry_at`.
    pub(crate) fn reconnecting(&self, error: Error, attempts: u32, retry_at: Timestamp) {
        let failed = error.clone();
        self.board(|board| {
            board.state = SessionState::Reconnecting;
            board.error = Some(error);
            board.attempts = attempts;
            board.retry_at = Some(retry_at);
            board.session = None;
            board.latency = None;
        });
        self.settle_first(Err(failed));
    }

    /// An attempt begins.
    pub(crate) fn connecting(&self) {
        self.board(|board| board.retry_at = None);
    }

    pub(crate) fn latency(&self, latency: Duration) {
        self.board(|board| board.latency = Some(latency));
    }

    pub(crate) fn local_api(&self, addr: Option<String>) {
        self.board(|board| board.local_api = addr);
    }

    fn settle_first(&self, outcome: Result<(), Error>) {
        self.first.send_if_modified(|first| {
            let open = first.is_none();
            if open {
                *first = Some(outcome);
            }
            open
        });
    }

    /// The agent has ended; the first reason stays.
    pub(crate) fn end(&self, error: Option<Error>) {
        let reason = error
            .clone()
            .unwrap_or_else(|| Error::new(Code::AgentStopped, "the agent was shut down"));
        self.stop.cancel();
        self.close_all(&reason);
        self.board(|board| {
            board.state = SessionState::Stopped;
            board.error.clone_from(&error);
            board.retry_at = None;
            board.session = None;
            board.latency = None;
        });
        self.publish();
        self.settle_first(Err(reason));
        self.stopped.send_if_modified(|stopped| {
            let open = stopped.is_none();
            if open {
                *stopped = Some(Stopped { error });
            }
            open
        });
    }

    pub(crate) async fn stopped(&self) -> Stopped {
        let mut stopped = self.stopped.subscribe();
        let ended = stopped.wait_for(Option::is_some).await;
        ended
            .ok()
            .and_then(|stopped| stopped.clone())
            .unwrap_or(Stopped { error: None })
    }

    fn why_stopped(&self) -> Error {
        let stopped = self.stopped.borrow().clone();
        let error = stopped.and_then(|stopped| stopped.error);
        error.unwrap_or_else(|| Error::new(Code::AgentStopped, "the agent was shut down"))
    }

    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Puts the present on the status channel.
    pub(crate) fn publish(&self) {
        let endpoints = self
            .endpoints()
            .iter()
            .map(|endpoint| endpoint.status())
            .collect();
        let board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        let status = Status {
            state: board.state,
            error: board.error.clone(),
            attempts: board.attempts,
            retry_at: board.retry_at,
            server: self.settings.server.address.clone(),
            session: board.session.clone(),
            latency: board.latency,
            agent_id: Some(self.identity.agent_id.clone()),
            local_api: board.local_api.clone(),
            endpoints,
            connections: self.total.snapshot(),
        };
        drop(board);
        self.status.send_if_modified(|old| {
            let differs = *old != status;
            if differs {
                *old = status;
            }
            differs
        });
    }

    /// Publishes at each change, and computes rates once per interval, until the agent has ended.
    pub(crate) async fn keep_publishing(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(defaults::STATUS_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = tokio::time::Instant::now();
        loop {
            tokio::select! {
                biased; // the end first, then what is new, then the clock
                () = self.stop.cancelled() => return,
                () = self.board_changed.notified() => {}
                now = ticks.tick() => {
                    let elapsed = now.saturating_duration_since(last);
                    last = now;
                    self.total.tick(elapsed);
                    for endpoint in self.endpoints() {
                        endpoint.stats.tick(elapsed);
                    }
                }
            }
            self.publish();
        }
    }
}
