//! How endpoints fare on this node: whether their listeners are open, and the last open that failed.
//!
//! Must never: decide anything by itself; routing reads it, the API shows it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_model::{EndpointId, Error, Timestamp};
use portcullis_store::Listen;
use portcullis_telemetry::{EndpointState, UpstreamFailure};
use tokio::sync::watch;
use tokio::time::Instant;

/// The state of one listening address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListenState {
    /// Connections are accepted.
    Open,
    /// It could not be bound, and is tried again.
    Failed(Error),
}

struct Failure {
    shown: UpstreamFailure,
    since: Instant,
}

/// The board. Entries of endpoints that are gone are swept with every new snapshot.
#[derive(Default)]
pub(crate) struct StatusBoard {
    listens: Mutex<HashMap<Listen, ListenState>>,
    failures: Mutex<HashMap<EndpointId, Failure>>,
    /// How many failures there are: hardly ever any, and then nobody has to look.
    failing: AtomicUsize,
    /// Counts the changes of `listens`.
    changes: watch::Sender<u64>,
}

impl StatusBoard {
    /// Replaces what is known of listening addresses.
    pub(crate) fn set_listens(&self, listens: HashMap<Listen, ListenState>) {
        *self.listens.lock().unwrap_or_else(PoisonError::into_inner) = listens;
        self.changes.send_modify(|count| *count += 1);
    }

    /// Tells of every change of listening addresses from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The state of an endpoint that needs these addresses: the worst of theirs.
    pub(crate) fn state_of(&self, needed: &[Listen]) -> EndpointState {
        let listens = self.listens.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = EndpointState::Programmed;
        for listen in needed {
            match listens.get(listen) {
                Some(ListenState::Failed(error)) => return EndpointState::Failed(error.clone()),
                Some(ListenState::Open) => {}
                None => state = EndpointState::Pending,
            }
        }
        state
    }

    /// An open of the endpoint's upstream worked.
    pub(crate) fn opened(&self, endpoint: &EndpointId) {
        if self.any_fails() {
            self.change_failures(|failures| drop(failures.remove(endpoint)));
        }
    }

    /// An open of the endpoint's upstream failed.
    pub(crate) fn failed(&self, endpoint: &EndpointId, error: &Error) {
        let at = Timestamp::from(jiff::Timestamp::now());
        let failure = Failure {
            shown: UpstreamFailure {
                error: error.clone(),
                at,
            },
            since: Instant::now(),
        };
        self.change_failures(|failures| drop(failures.insert(endpoint.clone(), failure)));
    }

    /// The last failed open since the last that worked.
    pub(crate) fn last_failure(&self, endpoint: &EndpointId) -> Option<UpstreamFailure> {
        let failures = self.failures();
        failures.get(endpoint).map(|failure| failure.shown.clone())
    }

    /// Whether the last open failed, less than `rest` ago.
    pub(crate) fn rests(&self, endpoint: &EndpointId, rest: Duration) -> bool {
        self.any_fails()
            && self
                .failures()
                .get(endpoint)
                .is_some_and(|failure| failure.since.elapsed() < rest)
    }

    /// Forgets endpoints that are gone.
    pub(crate) fn retain(&self, alive: impl Fn(&EndpointId) -> bool) {
        self.change_failures(|failures| failures.retain(|endpoint, _| alive(endpoint)));
    }

    fn any_fails(&self) -> bool {
        self.failing.load(Ordering::Relaxed) > 0
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<EndpointId, Failure>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_failures(&self, change: impl FnOnce(&mut HashMap<EndpointId, Failure>)) {
        let mut failures = self.failures();
        change(&mut failures);
        self.failing.store(failures.len(), Ordering::Relaxed);
    }
}
