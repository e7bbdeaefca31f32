//! What one session has bound, and the next step for each endpoint: what is wanted and what the
//! server has are compared, and the difference is asked for. Levels, not events: whatever is missed
//! once is seen the next time.
//!
//! Must never: do I/O; the session sends what is decided here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use portcullis_model::health::Health;
use portcullis_model::{EndpointId, Error};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::defaults;
use crate::endpoint::{Hold, LocalEndpoint};

/// Where an endpoint stands within the session.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// Not asked for, until the time given.
    Waiting(Instant),
    /// Asked for; the revision it was asked with.
    Binding(u64),
    /// Served; the revision that the server has.
    Bound(EndpointId, u64),
    /// Served, and a change asked for; the revision of the change.
    Updating(EndpointId, u64),
    /// Given up; the answer is awaited.
    Leaving(EndpointId),
}

#[derive(Debug)]
struct Held {
    endpoint: Hold,
    stage: Stage,
    backoff: Backoff,
    /// What the server was told of its health.
    told: Option<Told>,
}

/// What is told of an endpoint's health: whether it is healthy, the failures in a row, why.
type Told = (bool, u32, Option<Error>);

/// What to ask the server for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Bind it.
    Bind,
    /// Change it.
    Update(EndpointId),
    /// Give it up.
    Unbind(EndpointId),
}

/// What an answer meant.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Refused a bind, an update or an unbind.
    BindRefused(Arc<LocalEndpoint>),
    /// The server has this revision.
    Updated(Arc<LocalEndpoint>, u64),
    /// It is gone from the server.
    Unbound(Arc<LocalEndpoint>, EndpointId),
}

/// The endpoints of one session.
#[derive(Debug, Default)]
pub(crate) struct Bindings {
    held: BTreeMap<u64, Held>,
    /// Requests without an answer, and whose they are.
    requests: HashMap<u64, u64>,
    /// When [`Self::due`] was asked last: what was due then is not waited for again.
    looked_at: Option<Instant>,
}

impl Bindings {
    /// Takes new endpoints in and drops closed ones that the server doesn't have.
    pub(crate) fn sync(&mut self, wanted: &[Arc<LocalEndpoint>]) {
        let now = Instant::now();
        for endpoint in wanted {
            if !endpoint.is_closed() && !self.held.contains_key(&endpoint.number) {
                let held = Held {
                    endpoint: Hold::on(endpoint),
                    stage: Stage::Waiting(now),
                    backoff: Backoff::new(defaults::REBIND_FIRST, defaults::REBIND_MAX),
                    told: None,
                };
                self.held.insert(endpoint.number, held);
            }
        }
        self.held.retain(|_, held| {
            !(held.endpoint.is_closed() && matches!(held.stage, Stage::Waiting(_)))
        });
    }

    /// Endpoints that need a step now, in order of their creation.
    pub(crate) fn due(&mut self) -> Vec<(u64, Arc<LocalEndpoint>, Step)> {
        let now = Instant::now();
        self.looked_at = Some(now);
        let step = |held: &Held| match &held.stage {
            Stage::Waiting(at) if *at <= now && !held.endpoint.is_closed() => Some(Step::Bind),
            Stage::Bound(id, _) if held.endpoint.is_closed() => Some(Step::Unbind(id.clone())),
            Stage::Bound(id, has) if held.endpoint.revision() > *has => {
                Some(Step::Update(id.clone()))
            }
            _ => None,
        };
        let due = |(number, held): (&u64, &Held)| {
            step(held).map(|step| (*number, Arc::clone(held.endpoint.endpoint()), step))
        };
        self.held.iter().filter_map(due).collect()
    }

    /// What the server does not know yet of the health of endpoints that it has; it is told by this.
    pub(crate) fn untold(&mut self) -> Vec<(EndpointId, Health)> {
        let mut untold = Vec::new();
        for held in self.held.values_mut() {
            let (Stage::Bound(id, _) | Stage::Updating(id, _)) = &held.stage else {
                continue;
            };
            let Some(health) = held.endpoint.health() else {
                continue;
            };
            let tells = (health.healthy, health.failures, health.reason.clone());
            if held.told.as_ref() != Some(&tells) {
                held.told = Some(tells);
                untold.push((id.clone(), health));
            }
        }
        untold
    }

    /// When the next refused bind is due again. Those that were due at the last look and could not be
    /// sent wait for an answer to make room, not for the time.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let waiting = |held: &Held| match held.stage {
            Stage::Waiting(at) => {
                Some(at).filter(|at| self.looked_at.is_none_or(|looked| *at > looked))
            }
            _ => None,
        };
        self.held.values().filter_map(waiting).min()
    }

    /// A step was sent as request `req`, for `revision` of what is wanted.
    pub(crate) fn asked(&mut self, number: u64, req: u64, step: Step, revision: u64) {
        let Some(held) = self.held.get_mut(&number) else {
            return;
        };
        self.requests.insert(req, number);
        held.stage = match step {
            Step::Bind => Stage::Binding(revision),
            Step::Update(id) => Stage::Updating(id, revision),
            Step::Unbind(id) => Stage::Leaving(id),
        };
    }

    /// A bind could not even be sent; it is tried again later.
    pub(crate) fn postpone(&mut self, number: u64) {
        if let Some(held) = self.held.get_mut(&number) {
            held.stage =
                Stage::Waiting(Instant::now() + defaults::REBIND_FIRST + held.backoff.next());
        }
    }

    /// An update can never be sent; the server stays with what it has.
    pub(crate) fn skip(&mut self, number: u64, id: &EndpointId, revision: u64) {
        if let Some(held) = self.held.get_mut(&number) {
            held.stage = Stage::Bound(id.clone(), revision);
        }
    }

    /// The bind `req` was accepted: the endpoint and the revision that the server has.
    pub(crate) fn bound(&mut self, req: u64, id: &EndpointId) -> Option<(Arc<LocalEndpoint>, u64)> {
        let held = self.held.get_mut(&self.requests.remove(&req)?)?;
        let Stage::Binding(revision) = held.stage else {
            return None;
        };
        held.stage = Stage::Bound(id.clone(), revision);
        held.backoff.reset();
        Some((Arc::clone(held.endpoint.endpoint()), revision))
    }

    /// An update or unbind was carried out, or any request refused.
    pub(crate) fn answered(&mut self, req: u64) -> Option<Outcome> {
        let number = self.requests.remove(&req)?;
        let held = self.held.get_mut(&number)?;
        let endpoint = Arc::clone(held.endpoint.endpoint());
        match held.stage.clone() {
            Stage::Binding(_) => {
                self.postpone(number);
                Some(Outcome::BindRefused(endpoint))
            }
            Stage::Updating(id, revision) => {
                held.stage = Stage::Bound(id, revision);
                Some(Outcome::Updated(endpoint, revision))
            }
            // A refused unbind means that the server doesn't have it.
            Stage::Leaving(id) => {
                self.held.remove(&number);
                Some(Outcome::Unbound(endpoint, id))
            }
            Stage::Waiting(_) | Stage::Bound(..) => None,
        }
    }

    /// The server took an endpoint offline.
    pub(crate) fn stopped(&mut self, id: &EndpointId) -> Option<Arc<LocalEndpoint>> {
        let has = |held: &Held| matches!(&held.stage, Stage::Bound(bound, _) | Stage::Updating(bound, _) | Stage::Leaving(bound) if bound == id);
        let number = self
            .held
            .iter()
            .find(|(_, held)| has(held))
            .map(|(number, _)| *number)?;
        let held = self.held.remove(&number)?;
        Some(Arc::clone(held.endpoint.endpoint()))
    }

    /// The session is over: its endpoints lose the ids it gave them.
    pub(crate) fn end(self) {
        for held in self.held.into_values() {
            if let Stage::Bound(id, _) | Stage::Updating(id, _) = &held.stage {
                held.endpoint.unplaced(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use portcullis_model::Code;

    use super::*;
    use crate::endpoint::Sink;
    use crate::options::{EndpointOptions, EndpointUpdate};

    fn endpoint(number: u64) -> Arc<LocalEndpoint> {
        let options = EndpointOptions::new().name(format!("e{number}"));
        Arc::new(LocalEndpoint::new(
            number,
            options,
            String::new(),
            Sink::Closed,
        ))
    }

    fn id(byte: u8) -> EndpointId {
        EndpointId::new(1_700_000_000, [byte; 16])
    }

    fn steps(bindings: &mut Bindings) -> Vec<(u64, Step)> {
        bindings
            .due()
            .into_iter()
            .map(|(number, _, step)| (number, step))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_is_bound_changed_and_given_up() {
        let (mut bindings, wanted) = (Bindings::default(), endpoint(1));
        bindings.sync(&[Arc::clone(&wanted)]);
        assert_eq!(steps(&mut bindings), [(1, Step::Bind)]);
        bindings.asked(1, 10, Step::Bind, wanted.revision());
        assert_eq!(steps(&mut bindings), [], "it waits for the answer");
        assert_eq!(
            bindings.bound(10, &id(1)).map(|(_, revision)| revision),
            Some(1)
        );
        assert_eq!(steps(&mut bindings), []);

        wanted.change(EndpointUpdate::default(), None);
        assert_eq!(steps(&mut bindings), [(1, Step::Update(id(1)))]);
        bindings.asked(1, 11, Step::Update(id(1)), wanted.revision());
        assert!(matches!(
            bindings.answered(11),
            Some(Outcome::Updated(_, 2))
        ));

        wanted.close(Error::of(Code::EndpointNotFound));
        bindings.sync(&[]);
        assert_eq!(steps(&mut bindings), [(1, Step::Unbind(id(1)))]);
        bindings.asked(1, 12, Step::Unbind(id(1)), wanted.revision());
        assert!(matches!(bindings.answered(12), Some(Outcome::Unbound(_, gone)) if gone == id(1)));
        wanted.unheld().await;
    }

    #[tokio::test(start_paused = true)]
    async fn health_is_told_once_bound_and_when_it_changes() {
        let (mut bindings, wanted) = (Bindings::default(), endpoint(1));
        let health = |failures| Health {
            healthy: failures < 3,
            reason: (failures > 0).then(|| portcullis_model::health::failure("tcp: refused")),
            since: portcullis_model::Timestamp::from_unix_millis(0),
            checked_at: portcullis_model::Timestamp::from_unix_millis(i64::from(failures)),
            failures,
        };
        wanted.set_health(health(0));
        bindings.sync(&[Arc::clone(&wanted)]);
        bindings.asked(1, 10, Step::Bind, 1);
        assert_eq!(bindings.untold(), [], "the server does not have it yet");
        assert!(bindings.bound(10, &id(1)).is_some());
        assert_eq!(bindings.untold(), [(id(1), health(0))]);
        assert_eq!(bindings.untold(), [], "it knows");
        for failures in [1, 2, 3] {
            wanted.set_health(health(failures));
            assert_eq!(bindings.untold(), [(id(1), health(failures))]);
        }
        assert_eq!(bindings.untold(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn closed_while_the_bind_is_on_its_way_means_unbind_after_the_answer() {
        let (mut bindings, wanted) = (Bindings::default(), endpoint(1));
        bindings.sync(&[Arc::clone(&wanted)]);
        bindings.asked(1, 10, Step::Bind, 1);
        wanted.close(Error::of(Code::EndpointNotFound));
        bindings.sync(&[]);
        assert_eq!(steps(&mut bindings), []);
        assert!(bindings.bound(10, &id(1)).is_some());
        assert_eq!(steps(&mut bindings), [(1, Step::Unbind(id(1)))]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_bind_is_tried_again_later_unless_it_is_closed() {
        let (mut bindings, wanted) = (Bindings::default(), endpoint(1));
        bindings.sync(&[Arc::clone(&wanted)]);
        assert_eq!(steps(&mut bindings), [(1, Step::Bind)]);
        assert_eq!(
            bindings.next_deadline(),
            None,
            "what was due at the last look waits for an answer"
        );
        bindings.asked(1, 10, Step::Bind, 1);
        assert!(matches!(
            bindings.answered(10),
            Some(Outcome::BindRefused(_))
        ));
        let again = bindings.next_deadline().expect("later");
        assert!(again >= Instant::now() + defaults::REBIND_FIRST);
        assert_eq!(steps(&mut bindings), []);
        tokio::time::advance(again - Instant::now() + Duration::from_millis(1)).await;
        assert_eq!(steps(&mut bindings), [(1, Step::Bind)]);
        wanted.close(Error::of(Code::EndpointNotFound));
        bindings.sync(&[]);
        assert_eq!(steps(&mut bindings), []);
        wanted.unheld().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_session_takes_its_ids_but_not_a_successors() {
        let wanted = endpoint(1);
        let place = |id: &EndpointId| {
            let id = id.clone();
            wanted.set_place(|place| {
                place.state = crate::status::EndpointState::Online;
                place.id = Some(id);
            });
        };
        let bound = |req, id: &EndpointId| {
            let mut bindings = Bindings::default();
            bindings.sync(&[Arc::clone(&wanted)]);
            bindings.asked(1, req, Step::Bind, 1);
            bindings.bound(req, id).expect("asked for");
            bindings
        };
        let (old, new) = (bound(1, &id(1)), bound(1, &id(2)));
        place(&id(2));
        old.end();
        assert_eq!(wanted.id(), Some(id(2)));
        new.end();
        assert_eq!(wanted.id(), None);
    }
}
