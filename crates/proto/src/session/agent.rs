//! The agent's end of a session: waits for the welcome, matches answers to requests, answers and
//! sends heartbeats, and tells the actor what the edge wants.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_model::{Code, EndpointId, Error};

use super::pulse::{Beat, Pulse};
use super::{Action, Cause, Ending, NotSent};
use crate::codec::{self, CodecError};
use crate::defaults::{
    CARRIERS_MAX, CHANNELS_IDLE_MIN_MAX, HANDSHAKE_TIMEOUT, NEED_CHANNELS_MAX, REQUEST_TIMEOUT,
    REQUESTS_PENDING_MAX,
};
use crate::handshake::{Heartbeat, VersionRange};
use crate::message::{
    self, Abort, AgentMessage, Bind, Bound, EdgeMessage, Goodbye, HealthReport, Hello, Unbind,
    Update, Welcome,
};

/// What the agent's actor is to do.
pub type AgentAction = Action<AgentMessage, AgentEvent>;

/// What the agent's actor should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentEvent {
    /// The session is established.
    Welcome(Welcome),
    /// A bind was accepted.
    Bound(Bound),
    /// An update was carried out.
    Updated {
        /// The request.
        req: u64,
    },
    /// An unbind was carried out.
    Unbound {
        /// The request.
        req: u64,
    },
    /// A request was refused.
    Refused {
        /// The request.
        req: u64,
        /// Why.
        error: Error,
    },
    /// The edge wants so many more channels; at most [`NEED_CHANNELS_MAX`].
    NeedChannels(u32),
    /// The edge took an endpoint offline.
    EndpointStopped {
        /// The endpoint.
        endpoint_id: EndpointId,
        /// Why.
        error: Error,
    },
    /// The edge is going: open a new session, let this one finish, then say [`AgentMachine::goodbye`].
    Drain(Error),
    /// Drop a channel: its RESET cannot be delivered.
    Abort(Abort),
    /// The round trip of a heartbeat.
    Latency(Duration),
}

/// What an agent's session goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentSettings {
    /// Versions that the hello offered.
    pub versions: VersionRange,
    /// From the hello to the welcome.
    pub handshake_timeout: Duration,
    /// From a request to its answer.
    pub request_timeout: Duration,
}

impl AgentSettings {
    /// The defaults, with the versions that `hello` offers.
    pub fn of(hello: &Hello) -> Self {
        Self {
            versions: hello.versions,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
        }
    }
}

#[derive(Debug, Clone)]
enum State {
    /// Hello was sent; until the deadline.
    Greeting(Duration),
    Established(Pulse),
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Bind,
    Update,
    Unbind,
}

impl Request {
    fn word(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Update => "update",
            Self::Unbind => "unbind",
        }
    }
}

/// The agent's end of a session.
#[derive(Debug, Clone)]
pub struct AgentMachine {
    settings: AgentSettings,
    state: State,
    draining: bool,
    /// Whether the edge takes `health`.
    takes_health: bool,
    last_req: u64,
    /// By number, so also by age: all have the same time-out.
    pending: BTreeMap<u64, (Request, Duration)>,
}

impl AgentMachine {
    /// A session whose hello was just sent.
    pub fn new(now: Duration, settings: AgentSettings) -> Self {
        let state = State::Greeting(now + settings.handshake_timeout);
        Self {
            settings,
            state,
            draining: false,
            takes_health: false,
            last_req: 0,
            pending: BTreeMap::new(),
        }
    }

    /// Whether the welcome has come and the session has not ended.
    pub fn is_established(&self) -> bool {
        matches!(self.state, State::Established(_))
    }

    /// Whether the edge has said `drain`.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether the session is over.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// When [`Self::handle_timeout`] is to be called at the latest; `None` when the session is over.
    pub fn next_deadline(&self) -> Option<Duration> {
        match &self.state {
            State::Greeting(deadline) => Some(*deadline),
            State::Established(pulse) => {
                let request = self.pending.values().next().map(|(_, deadline)| *deadline);
                let beat = pulse.next_deadline();
                Some(request.map_or(beat, |at| at.min(beat)))
            }
            State::Closed => None,
        }
    }

    /// Asks for an endpoint; its `req` is set here and returned.
    ///
    /// # Errors
    /// When nothing was sent; the session goes on.
    pub fn bind(
        &mut self,
        now: Duration,
        mut bind: Bind,
    ) -> Result<(u64, Vec<AgentAction>), NotSent> {
        bind.req = self.last_req + 1;
        self.request(now, Request::Bind, bind.req, bind.into())
    }

    /// Changes an endpoint; its `req` is set here and returned.
    ///
    /// # Errors
    /// When nothing was sent; the session goes on.
    pub fn update(
        &mut self,
        now: Duration,
        mut update: Update,
    ) -> Result<(u64, Vec<AgentAction>), NotSent> {
        update.req = self.last_req + 1;
        self.request(now, Request::Update, update.req, update.into())
    }

    /// Gives an endpoint up; the number of the request is returned.
    ///
    /// # Errors
    /// When nothing was sent; the session goes on.
    pub fn unbind(
        &mut self,
        now: Duration,
        endpoint_id: EndpointId,
    ) -> Result<(u64, Vec<AgentAction>), NotSent> {
        let req = self.last_req + 1;
        self.request(
            now,
            Request::Unbind,
            req,
            Unbind { req, endpoint_id }.into(),
        )
    }

    /// Tells the edge to drop a channel whose RESET cannot be delivered.
    pub fn abort(&mut self, channel: u64, open: u32) -> Vec<AgentAction> {
        if !self.is_established() {
            return Vec::new();
        }
        vec![Action::Send(Abort { channel, open }.into())]
    }

    /// Tells how an upstream fares, where the edge wants to know.
    pub fn health(&mut self, report: HealthReport) -> Vec<AgentAction> {
        if !self.is_established() || !self.takes_health {
            return Vec::new();
        }
        vec![Action::Send(report.into())]
    }

    /// Ends the session on purpose.
    pub fn goodbye(&mut self, reason: &str) -> Vec<AgentAction> {
        if self.is_closed() {
            return Vec::new();
        }
        let error = Error::new(Code::AgentStopped, reason);
        self.end(Cause::Local, error, false)
    }

    /// What the edge said could not be read.
    pub fn handle_undecodable(&mut self, error: CodecError) -> Vec<AgentAction> {
        if self.is_closed() {
            Vec::new()
        } else {
            self.end(Cause::Violation, error.into(), true)
        }
    }

    /// Takes a message of the edge.
    pub fn handle_message(&mut self, now: Duration, message: EdgeMessage) -> Vec<AgentAction> {
        match &mut self.state {
            State::Closed => Vec::new(),
            State::Greeting(_) => self.greeted(now, message),
            State::Established(pulse) => {
                pulse.alive();
                self.established(now, message)
            }
        }
    }

    /// Does what is due at `now`; nothing when nothing is.
    pub fn handle_timeout(&mut self, now: Duration) -> Vec<AgentAction> {
        match &mut self.state {
            State::Closed => Vec::new(),
            State::Greeting(deadline) if now < *deadline => Vec::new(),
            State::Greeting(_) => self.lost("the server did not answer the hello in time"),
            State::Established(pulse) => {
                let beat = pulse.due(now);
                if beat == Beat::Lost {
                    return self.lost("the server gave no sign of life");
                }
                if let Some((req, (request, _))) = self
                    .pending
                    .first_key_value()
                    .filter(|(_, (_, at))| now >= *at)
                {
                    let words =
                        format!("the server did not answer {} {req} in time", request.word());
                    return self.lost(&words);
                }
                match beat {
                    Beat::Send(nonce) => vec![Action::Send(message::Heartbeat { nonce }.into())],
                    Beat::Rest | Beat::Lost => Vec::new(),
                }
            }
        }
    }

    fn request(
        &mut self,
        now: Duration,
        request: Request,
        req: u64,
        message: AgentMessage,
    ) -> Result<(u64, Vec<AgentAction>), NotSent> {
        if !self.is_established() {
            return Err(NotSent::NotEstablished);
        }
        if self.draining && request == Request::Bind {
            return Err(NotSent::Draining);
        }
        if self.pending.len() >= REQUESTS_PENDING_MAX {
            return Err(NotSent::TooMany(self.pending.len()));
        }
        codec::encode(&message)?;
        self.last_req = req;
        self.pending
            .insert(req, (request, now + self.settings.request_timeout));
        Ok((req, vec![Action::Send(message)]))
    }

    fn greeted(&mut self, now: Duration, message: EdgeMessage) -> Vec<AgentAction> {
        match message {
            EdgeMessage::Welcome(welcome) => self.welcomed(now, welcome),
            EdgeMessage::Error(fatal) => self.end(Cause::Peer, fatal.error(), fatal.retry),
            other => self.violation(&format!(
                "`{}` came before `welcome`",
                message::Message::kind(&other)
            )),
        }
    }

    fn welcomed(&mut self, now: Duration, mut welcome: Welcome) -> Vec<AgentAction> {
        if !self.settings.versions.contains(welcome.version) {
            let VersionRange { min, max } = self.settings.versions;
            let words = format!(
                "the server chose protocol version {}, {min} to {max} were offered",
                welcome.version
            );
            return self.end(
                Cause::Violation,
                Error::new(Code::VersionUnsupported, words),
                false,
            );
        }
        match Heartbeat::from_millis(
            welcome.heartbeat_interval_ms,
            welcome.heartbeat_tolerance_ms,
        ) {
            Ok(heartbeat) => {
                self.state = State::Established(Pulse::new(now, heartbeat));
                welcome.channels_idle_min = welcome.channels_idle_min.min(CHANNELS_IDLE_MIN_MAX);
                welcome.carriers = welcome.carriers.min(CARRIERS_MAX);
                self.takes_health = welcome.health;
                vec![Action::Event(AgentEvent::Welcome(welcome))]
            }
            Err(error) => self.violation(&error.message),
        }
    }

    fn established(&mut self, now: Duration, message: EdgeMessage) -> Vec<AgentAction> {
        let event = match message {
            EdgeMessage::Bound(bound) => {
                return self.answered(bound.req, Some(Request::Bind), AgentEvent::Bound(bound));
            }
            EdgeMessage::Updated(message::Updated { req }) => {
                return self.answered(req, Some(Request::Update), AgentEvent::Updated { req });
            }
            EdgeMessage::Unbound(message::Unbound { req }) => {
                return self.answered(req, Some(Request::Unbind), AgentEvent::Unbound { req });
            }
            EdgeMessage::Refused(refused) => {
                let event = AgentEvent::Refused {
                    req: refused.req,
                    error: refused.error(),
                };
                return self.answered(refused.req, None, event);
            }
            EdgeMessage::Heartbeat(beat) => {
                return vec![Action::Send(
                    message::HeartbeatAck { nonce: beat.nonce }.into(),
                )];
            }
            EdgeMessage::HeartbeatAck(ack) => return self.acked(now, ack.nonce),
            EdgeMessage::Stop(stop) => {
                return self.end(
                    Cause::Peer,
                    Error::new(stop.code, stop.message),
                    stop.restart,
                );
            }
            EdgeMessage::Error(fatal) => return self.end(Cause::Peer, fatal.error(), fatal.retry),
            EdgeMessage::Welcome(_) => return self.violation("`welcome` came twice"),
            EdgeMessage::NeedChannels(need) => {
                AgentEvent::NeedChannels(need.count.min(NEED_CHANNELS_MAX))
            }
            EdgeMessage::StopEndpoint(stop) => AgentEvent::EndpointStopped {
                endpoint_id: stop.endpoint_id,
                error: Error::new(stop.code, stop.message),
            },
            EdgeMessage::Drain(drain) => {
                self.draining = true;
                AgentEvent::Drain(Error::new(drain.code, drain.message))
            }
            EdgeMessage::Abort(abort) => AgentEvent::Abort(abort),
        };
        vec![Action::Event(event)]
    }

    fn answered(
        &mut self,
        req: u64,
        expected: Option<Request>,
        event: AgentEvent,
    ) -> Vec<AgentAction> {
        match self.pending.remove(&req) {
            Some((request, _)) if expected.is_none_or(|expected| expected == request) => {
                vec![Action::Event(event)]
            }
            Some((request, _)) => self.violation(&format!(
                "{} {req} got the answer to another request",
                request.word()
            )),
            None => self.violation(&format!(
                "an answer to request {req}, which does not wait for one"
            )),
        }
    }

    fn acked(&mut self, now: Duration, nonce: u64) -> Vec<AgentAction> {
        let State::Established(pulse) = &mut self.state else {
            return Vec::new();
        };
        match pulse.answered(now, nonce) {
            Ok(Some(latency)) => vec![Action::Event(AgentEvent::Latency(latency))],
            Ok(None) => Vec::new(),
            Err(()) => self.violation(&format!(
                "an answer to heartbeat {nonce}, which was never sent"
            )),
        }
    }

    fn lost(&mut self, words: &str) -> Vec<AgentAction> {
        self.end(
            Cause::Lost,
            Error::new(Code::ServerUnreachable, words),
            true,
        )
    }

    /// Retry: the server may be restarted or upgraded; the back-off bounds what a hopeless one costs.
    fn violation(&mut self, words: &str) -> Vec<AgentAction> {
        self.end(
            Cause::Violation,
            Error::new(Code::ProtocolViolation, words),
            true,
        )
    }

    fn end(&mut self, cause: Cause, error: Error, retry: bool) -> Vec<AgentAction> {
        let established = self.is_established();
        self.state = State::Closed;
        self.pending.clear();
        let close = Action::Close(Ending {
            cause,
            error: error.clone(),
            retry,
        });
        if !established || cause == Cause::Lost {
            return vec![close];
        }
        let reason = format!("{}: {}", error.code, crate::frame::clip(&error.message));
        vec![Action::Send(Goodbye { reason }.into()), close]
    }
}
