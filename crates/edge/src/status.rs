//! How endpoints fare on this node: whether their listeners are open, the last open that failed, what
//! their checks say.
//!
//! Must never: decide anything by itself; routing reads it, the API shows it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_model::health::Health;
use portcullis_model::{EndpointId, Error, Timestamp};
use portcullis_store::Listen;
use portcullis_telemetry::{EndpointHealth, EndpointState, HealthState, UpstreamFailure};
use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) mod ejection;

use ejection::Ejection;

/// The state of one listening address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListenState {
    /// Connections are accepted.
    Open,
    /// It could not be bound, and is tried again.
    Failed(Error),
}

/// What is known of one endpoint's upstream.
#[derive(Default)]
struct Fare {
    /// The last failed open since the last that worked.
    failure: Option<UpstreamFailure>,
    /// When the first of them failed.
    failing_since: Option<Timestamp>,
    ejection: Ejection,
    /// By its checks, if it has any.
    health: Option<Health>,
}

impl Fare {
    /// Whether anything speaks against it.
    fn is_troubled(&self) -> bool {
        self.failure.is_some() || self.is_unhealthy()
    }

    /// Forgets that opens failed.
    fn forgive(&mut self) {
        self.failure = None;
        self.failing_since = None;
        self.ejection = Ejection::default();
    }

    fn is_unhealthy(&self) -> bool {
        self.health.as_ref().is_some_and(|health| !health.healthy)
    }
}

/// How promising an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing is known against it.
    Well,
    /// Opens failed; others go first until then.
    Ejected(Instant),
    /// Its checks fail.
    Unhealthy,
}

/// The board. Entries of endpoints that are gone are swept with every new snapshot.
#[derive(Default)]
pub(crate) struct StatusBoard {
    listens: Mutex<HashMap<Listen, ListenState>>,
    fares: Mutex<HashMap<EndpointId, Fare>>,
    /// Of how many something is known that speaks against them: hardly ever of any, and then nobody has
    /// to look.
    troubled: AtomicUsize,
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
        if !self.any_troubled() {
            return;
        }
        self.change(endpoint, Fare::forgive);
    }

    /// An open of the endpoint's upstream failed. For how long it is passed over, if it is from now on.
    pub(crate) fn failed(&self, endpoint: &EndpointId, error: &Error) -> Option<Duration> {
        let at = Timestamp::from(jiff::Timestamp::now());
        self.change(endpoint, |fare| {
            fare.failure = Some(UpstreamFailure {
                error: error.clone(),
                at,
            });
            fare.failing_since.get_or_insert(at);
            fare.ejection.failed(Instant::now())
        })
    }

    /// Replaces what checks say. Whether it turned healthy or unhealthy by that; one that begins healthy
    /// turns nothing.
    pub(crate) fn checked(&self, endpoint: &EndpointId, health: Health) -> bool {
        self.change(endpoint, |fare| {
            let before = !fare.is_unhealthy();
            let turned = before != health.healthy;
            if turned && health.healthy {
                // It answers again: what opens said before is over, and nobody has to try it first.
                fare.forgive();
            }
            fare.health = Some(health);
            turned
        })
    }

    /// The last failed open since the last that worked.
    pub(crate) fn last_failure(&self, endpoint: &EndpointId) -> Option<UpstreamFailure> {
        let fares = self.fares();
        fares.get(endpoint).and_then(|fare| fare.failure.clone())
    }

    /// How promising the endpoint is.
    pub(crate) fn standing(&self, endpoint: &EndpointId) -> Standing {
        if !self.any_troubled() {
            return Standing::Well;
        }
        let fares = self.fares();
        let Some(fare) = fares.get(endpoint) else {
            return Standing::Well;
        };
        match fare.ejection.until(Instant::now()) {
            _ if fare.is_unhealthy() => Standing::Unhealthy,
            Some(until) => Standing::Ejected(until),
            None => Standing::Well,
        }
    }

    /// The same for people.
    pub(crate) fn health_of(&self, endpoint: &EndpointId) -> EndpointHealth {
        let fares = self.fares();
        fares.get(endpoint).map(shown).unwrap_or_default()
    }

    /// How many are unhealthy.
    pub(crate) fn count_unhealthy(&self) -> usize {
        self.fares()
            .values()
            .filter(|fare| fare.is_unhealthy())
            .count()
    }

    /// Forgets endpoints that are gone.
    pub(crate) fn retain(&self, alive: impl Fn(&EndpointId) -> bool) {
        let mut fares = self.fares();
        fares.retain(|endpoint, _| alive(endpoint));
        let troubled = fares.values().filter(|fare| fare.is_troubled()).count();
        self.troubled.store(troubled, Ordering::Relaxed);
    }

    fn any_troubled(&self) -> bool {
        self.troubled.load(Ordering::Relaxed) > 0
    }

    fn fares(&self) -> MutexGuard<'_, HashMap<EndpointId, Fare>> {
        self.fares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes one entry, and keeps the count beside it right. One that says nothing is not kept.
    fn change<T>(&self, endpoint: &EndpointId, change: impl FnOnce(&mut Fare) -> T) -> T {
        let mut fares = self.fares();
        let mut fare = fares.remove(endpoint).unwrap_or_default();
        let before = fare.is_troubled();
        let result = change(&mut fare);
        match (before, fare.is_troubled()) {
            (false, true) => {
                self.troubled.fetch_add(1, Ordering::Relaxed);
            }
            (true, false) => {
                self.troubled.fetch_sub(1, Ordering::Relaxed);
            }
            (true, true) | (false, false) => {}
        }
        if fare.is_troubled() || fare.health.is_some() {
            fares.insert(endpoint.clone(), fare);
        }
        result
    }
}

fn shown(fare: &Fare) -> EndpointHealth {
    let now = Instant::now();
    let ejected = fare.ejection.until(now).map(|until| {
        Timestamp::from(jiff::Timestamp::now()).plus(until.saturating_duration_since(now))
    });
    let checks = fare.health.as_ref();
    let (state, reason, since) = match (checks, &fare.failure) {
        (Some(health), _) if !health.healthy => (
            HealthState::Unhealthy,
            health.reason.clone(),
            Some(health.since),
        ),
        (_, Some(failure)) => (
            HealthState::Degraded,
            Some(failure.error.clone()),
            fare.failing_since,
        ),
        (Some(health), None) if health.is_shaky() => (
            HealthState::Degraded,
            health.reason.clone(),
            Some(health.checked_at),
        ),
        (health, None) => (HealthState::Online, None, health.map(|health| health.since)),
    };
    EndpointHealth {
        state,
        reason,
        since,
        checked_at: checks.map(|health| health.checked_at),
        consecutive_failures: checks
            .map_or(0, |health| health.failures)
            .max(fare.ejection.failures()),
        ejected_until: ejected,
    }
}

#[cfg(test)]
mod tests {
    use portcullis_model::Code;
    use portcullis_model::health::failure;

    use super::*;

    fn id(seed: u8) -> EndpointId {
        EndpointId::new(1_700_000_000, [seed; 16])
    }

    fn health(healthy: bool) -> Health {
        let now = Timestamp::from_unix_millis(7);
        Health {
            healthy,
            reason: (!healthy).then(|| failure("redis: gone")),
            since: now,
            checked_at: now,
            failures: if healthy { 0 } else { 3 },
        }
    }

    #[tokio::test(start_paused = true)]
    async fn opens_and_checks_make_one_standing() {
        let board = StatusBoard::default();
        assert_eq!(board.standing(&id(1)), Standing::Well);
        assert!(!board.checked(&id(1), health(true)), "it begins healthy");
        assert!(board.checked(&id(1), health(false)));
        assert!(!board.checked(&id(1), health(false)), "it was already");
        assert_eq!(board.standing(&id(1)), Standing::Unhealthy);
        assert_eq!(board.standing(&id(2)), Standing::Well);
        let shown = board.health_of(&id(1));
        assert_eq!(shown.state, HealthState::Unhealthy);
        assert_eq!(shown.reason.expect("told").code, Code::UpstreamUnhealthy);
        assert_eq!(shown.consecutive_failures, 3);

        assert!(
            board
                .failed(&id(1), &Error::of(Code::UpstreamRefused))
                .is_some()
        );
        assert_eq!(
            board.standing(&id(1)),
            Standing::Unhealthy,
            "checks go first"
        );
        assert!(board.checked(&id(1), health(true)));
        assert_eq!(board.standing(&id(1)), Standing::Well, "it answers again");
        board.failed(&id(1), &Error::of(Code::UpstreamRefused));
        assert!(matches!(board.standing(&id(1)), Standing::Ejected(_)));
        let shown = board.health_of(&id(1));
        assert_eq!(shown.state, HealthState::Degraded);
        assert!(shown.ejected_until.is_some());
        board.opened(&id(1));
        assert_eq!(board.standing(&id(1)), Standing::Well);
        assert_eq!(board.health_of(&id(1)).state, HealthState::Online);
        assert_eq!(board.troubled.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_ejected_one_is_tried_again_and_gone_ones_are_forgotten() {
        let board = StatusBoard::default();
        let refused = Error::of(Code::UpstreamRefused);
        let rest = board.failed(&id(1), &refused).expect("ejected");
        assert_eq!(board.failed(&id(1), &refused), None);
        tokio::time::advance(rest).await;
        assert_eq!(board.standing(&id(1)), Standing::Well);
        assert_eq!(board.failed(&id(1), &refused), Some(rest * 2));
        board.checked(&id(2), health(false));
        assert_eq!(board.count_unhealthy(), 1);
        board.retain(|endpoint| *endpoint == id(1));
        assert_eq!(
            (
                board.count_unhealthy(),
                board.troubled.load(Ordering::Relaxed)
            ),
            (0, 1)
        );
        board.retain(|_| false);
        assert_eq!(board.standing(&id(1)), Standing::Well);
    }
}
