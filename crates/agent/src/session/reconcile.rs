//! How a session asks for what is wanted, and takes the answers.
//!
//! Must never: wait for an answer; it arrives as an event.

use portcullis_model::Error;
use portcullis_proto::message::{Bound, HealthReport};
use portcullis_proto::session::{Action, AgentAction, Ending, NotSent};

use super::{Actor, lost};
use crate::bindings::{Outcome, Step};
use crate::endpoint::LocalEndpoint;
use crate::status::EndpointState;

impl Actor {
    /// Asks the server for the difference between what is wanted and what it has.
    pub(super) fn reconcile(&mut self) -> Result<(), Ending> {
        if !self.machine.is_established() {
            return Ok(());
        }
        if self.serves() {
            self.bindings.sync(&self.shared.endpoints());
        }
        for (number, endpoint, step) in self.bindings.due() {
            if step == Step::Bind && !self.serves() {
                continue;
            }
            match self.ask(&endpoint, &step) {
                Ok((req, revision, actions)) => {
                    self.bindings.asked(number, req, step, revision);
                    for action in actions {
                        if let Action::Send(message) = action {
                            self.writer
                                .queue(&message)
                                .map_err(|error| lost(error.into()))?;
                        }
                    }
                }
                // The answers that are awaited make room, and reconcile again.
                Err(NotAsked::Later) => break,
                Err(NotAsked::Refused(error)) => self.not_asked(number, &endpoint, &step, error),
            }
        }
        self.tell_health()
    }

    /// Tells the server what it does not know yet of upstreams' health, if it wants to know.
    fn tell_health(&mut self) -> Result<(), Ending> {
        for (endpoint_id, health) in self.bindings.untold() {
            let age = crate::shared::now().since(health.since);
            let report = HealthReport {
                endpoint_id,
                healthy: health.healthy,
                failures: health.failures,
                age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
                code: health.reason.as_ref().map(|error| error.code),
                reason: health.reason.map(|error| error.message).unwrap_or_default(),
            };
            for action in self.machine.health(report) {
                if let Action::Send(message) = action {
                    self.writer
                        .queue(&message)
                        .map_err(|error| lost(error.into()))?;
                }
            }
        }
        Ok(())
    }

    fn ask(
        &mut self,
        endpoint: &LocalEndpoint,
        step: &Step,
    ) -> Result<(u64, u64, Vec<AgentAction>), NotAsked> {
        let (now, wanted) = (self.now(), endpoint.wanted_now());
        let (req, actions) = match step {
            Step::Bind => self.machine.bind(now, wanted.bind()?)?,
            Step::Update(id) => self.machine.update(now, wanted.update(id.clone())?)?,
            Step::Unbind(id) => self.machine.unbind(now, id.clone())?,
        };
        Ok((req, wanted.revision, actions))
    }

    /// A request that no server would see: too large for a message.
    fn not_asked(&mut self, number: u64, endpoint: &LocalEndpoint, step: &Step, error: Error) {
        match step {
            Step::Bind => {
                self.bindings.postpone(number);
                refused(endpoint, error);
            }
            Step::Update(id) => {
                let revision = endpoint.revision();
                self.bindings.skip(number, id, revision);
                endpoint.set_place(|place| {
                    place.applied = revision;
                    place.update_error = Some(error);
                });
            }
            Step::Unbind(_) => tracing::error!(endpoint = endpoint.name(), %error, "cannot unbind"),
        }
        self.shared.status_changed();
    }

    pub(super) fn bound(&mut self, bound: &Bound) {
        let Some((endpoint, revision)) = self.bindings.bound(bound.req, &bound.endpoint_id) else {
            return;
        };
        self.routes.insert(bound.endpoint_id.clone(), &endpoint);
        let (url, upstream) = (bound.url.to_string(), endpoint.upstream());
        tracing::info!(endpoint = endpoint.name(), url, upstream, "endpoint online");
        endpoint.set_place(|place| {
            place.state = EndpointState::Online;
            place.id = Some(bound.endpoint_id.clone());
            place.url = Some(url);
            place.binding = Some(bound.binding);
            place.error = None;
            place.applied = revision;
            place.update_error = None;
        });
        self.shared.status_changed();
    }

    pub(super) fn answered(&mut self, req: u64, error: Option<Error>) {
        match self.bindings.answered(req) {
            Some(Outcome::BindRefused(endpoint)) => {
                refused(
                    &endpoint,
                    error.unwrap_or_else(|| Error::internal("a bind was answered like an update")),
                );
            }
            Some(Outcome::Updated(endpoint, revision)) => endpoint.set_place(|place| {
                place.applied = revision;
                place.update_error = error;
            }),
            Some(Outcome::Unbound(endpoint, id)) => {
                tracing::info!(endpoint = endpoint.name(), "endpoint closed");
                self.routes.remove(&id);
            }
            None => {}
        }
        self.shared.status_changed();
    }
}

/// Why a step was not sent.
enum NotAsked {
    /// Too many requests wait for answers, or the session is ending.
    Later,
    /// It can never be sent like this.
    Refused(Error),
}

impl From<NotSent> for NotAsked {
    fn from(not_sent: NotSent) -> Self {
        match not_sent {
            NotSent::TooLarge(_) => Self::Refused(not_sent.into()),
            NotSent::NotEstablished | NotSent::Draining | NotSent::TooMany(_) => Self::Later,
        }
    }
}

impl From<Error> for NotAsked {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

fn refused(endpoint: &LocalEndpoint, error: Error) {
    tracing::warn!(endpoint = endpoint.name(), code = %error.code, error = error.message, "endpoint refused");
    endpoint.set_place(|place| {
        place.state = EndpointState::Refused;
        place.error = Some(error);
    });
}
