//! The edge's end of a session: chooses the version, hands requests to the actor and its answers
//! back, answers and sends heartbeats, and stops or drains the agent.

use std::collections::BTreeSet;
use std::time::Duration;

use portcullis_model::{AccountId, Binding, Code, EndpointId, EndpointUrl, Error, SessionId};

use super::pulse::{Beat, Pulse};
use super::{Action, Cause, Ending};
use crate::codec::CodecError;
use crate::defaults::{
    HANDSHAKE_TIMEOUT, NEED_CHANNELS_MAX, REQUESTS_PENDING_MAX, STOP_TIMEOUT, VERSIONS,
};
use crate::frame::clip;
use crate::handshake::{Heartbeat, SessionKey, VersionRange, choose_version};
use crate::message::{
    self, Abort, AgentMessage, Bind, Bound, Drain, EdgeMessage, Fatal, HealthReport, Hello,
    NeedChannels, Refused, Stop, StopEndpoint, Unbind, Update, Welcome,
};

/// What the edge's actor is to do.
pub type EdgeAction = Action<EdgeMessage, EdgeEvent>;

/// What the edge's actor should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EdgeEvent {
    /// Answer with [`EdgeMachine::bound`] or [`EdgeMachine::refused`].
    Bind(Bind),
    /// Answer with [`EdgeMachine::updated`] or [`EdgeMachine::refused`].
    Update(Update),
    /// Answer with [`EdgeMachine::unbound`] or [`EdgeMachine::refused`].
    Unbind(Unbind),
    /// Drop a channel: its RESET cannot be delivered.
    Abort(Abort),
    /// How an upstream fares, by the agent's checks.
    Health(HealthReport),
    /// The round trip of a heartbeat.
    Latency(Duration),
}

/// What an edge's sessions go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeSettings {
    /// Versions that this side speaks.
    pub versions: VersionRange,
    /// From the hello to the end of the authentication.
    pub handshake_timeout: Duration,
    /// From `stop` to closing an agent that does not go by itself.
    pub stop_timeout: Duration,
}

impl Default for EdgeSettings {
    fn default() -> Self {
        Self {
            versions: VERSIONS,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            stop_timeout: STOP_TIMEOUT,
        }
    }
}

/// What a welcome says besides version and heartbeats, which the machine knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WelcomeSpec {
    /// The session.
    pub session_id: SessionId,
    /// 32 fresh random bytes.
    pub session_key: SessionKey,
    /// This node.
    pub node: String,
    /// Its region.
    pub region: String,
    /// The credential's account.
    pub account: AccountId,
    /// Version of the server.
    pub server_version: String,
    /// Idle data channels that the agent is to keep ready.
    pub channels_idle_min: u32,
    /// Carriers that the agent is to keep, if it knows any.
    pub carriers: u32,
    /// Whether carriers and channels without TLS are taken.
    pub plain_links: bool,
    /// The node's public host name.
    pub public_host: String,
}

#[derive(Debug, Clone)]
enum State {
    /// The hello was read; the actor authenticates until the deadline.
    Authenticating(Duration),
    Established(Pulse),
    /// `stop` was sent; closed at the deadline.
    Stopping(Duration, Box<Error>),
    Closed,
}

/// The edge's end of a session.
#[derive(Debug, Clone)]
pub struct EdgeMachine {
    settings: EdgeSettings,
    version: u16,
    heartbeat: Heartbeat,
    state: State,
    draining: bool,
    /// Whether the agent knows carriers.
    carriers: bool,
    last_req: u64,
    pending: BTreeSet<u64>,
}

impl EdgeMachine {
    /// A session whose hello was just read.
    ///
    /// # Errors
    /// `PTC_VERSION_UNSUPPORTED` or `PTC_HEARTBEAT_INVALID`: send [`Fatal`] without retry and close.
    pub fn accept(now: Duration, hello: &Hello, settings: EdgeSettings) -> Result<Self, Error> {
        let version = choose_version(settings.versions, hello.versions)?;
        let heartbeat =
            Heartbeat::from_millis(hello.heartbeat_interval_ms, hello.heartbeat_tolerance_ms)?;
        Ok(Self {
            settings,
            version,
            heartbeat,
            state: State::Authenticating(now + settings.handshake_timeout),
            draining: false,
            carriers: hello.carriers,
            last_req: 0,
            pending: BTreeSet::new(),
        })
    }

    /// The version that both sides speak.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Whether the welcome was sent and the session neither stops nor has ended.
    pub fn is_established(&self) -> bool {
        matches!(self.state, State::Established(_))
    }

    /// Whether `drain` was sent.
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
            State::Authenticating(deadline) | State::Stopping(deadline, _) => Some(*deadline),
            State::Established(pulse) => Some(pulse.next_deadline()),
            State::Closed => None,
        }
    }

    /// The agent is who it says it is: the session begins.
    pub fn welcome(&mut self, now: Duration, spec: WelcomeSpec) -> Vec<EdgeAction> {
        if !matches!(self.state, State::Authenticating(_)) {
            return Vec::new();
        }
        self.state = State::Established(Pulse::new(now, self.heartbeat));
        let welcome = Welcome {
            version: self.version,
            session_id: spec.session_id,
            session_key: spec.session_key,
            node: spec.node,
            region: spec.region,
            account: spec.account,
            server_version: spec.server_version,
            heartbeat_interval_ms: self.heartbeat.interval_ms(),
            heartbeat_tolerance_ms: self.heartbeat.tolerance_ms(),
            channels_idle_min: spec.channels_idle_min,
            carriers: if self.carriers { spec.carriers } else { 0 },
            plain_links: spec.plain_links,
            health: true,
            public_host: spec.public_host,
        };
        vec![Action::Send(welcome.into())]
    }

    /// Ends the session with an error: a refused authentication, or anything the agent must be told.
    pub fn fail(&mut self, error: Error, retry: bool) -> Vec<EdgeAction> {
        if self.is_closed() {
            Vec::new()
        } else {
            self.end(Cause::Local, error, retry)
        }
    }

    /// Answers a bind.
    pub fn bound(
        &mut self,
        req: u64,
        endpoint_id: EndpointId,
        url: EndpointUrl,
        binding: Binding,
        region: String,
    ) -> Vec<EdgeAction> {
        self.answer(
            req,
            Bound {
                req,
                endpoint_id,
                url,
                binding,
                region,
            }
            .into(),
        )
    }

    /// Answers an update.
    pub fn updated(&mut self, req: u64) -> Vec<EdgeAction> {
        self.answer(req, message::Updated { req }.into())
    }

    /// Answers an unbind.
    pub fn unbound(&mut self, req: u64) -> Vec<EdgeAction> {
        self.answer(req, message::Unbound { req }.into())
    }

    /// Answers any request with an error.
    pub fn refused(&mut self, req: u64, error: &Error) -> Vec<EdgeAction> {
        self.answer(req, Refused::new(req, error).into())
    }

    /// Asks the agent for more channels.
    pub fn need_channels(&mut self, count: u32) -> Vec<EdgeAction> {
        self.tell(
            NeedChannels {
                count: count.min(NEED_CHANNELS_MAX),
            }
            .into(),
        )
    }

    /// Tells the agent that an endpoint was taken offline.
    pub fn stop_endpoint(&mut self, endpoint_id: EndpointId, error: &Error) -> Vec<EdgeAction> {
        self.tell(
            StopEndpoint {
                endpoint_id,
                code: error.code,
                message: clip(&error.message),
            }
            .into(),
        )
    }

    /// Tells the agent to drop a channel whose RESET cannot be delivered.
    pub fn abort(&mut self, channel: u64, open: u32) -> Vec<EdgeAction> {
        self.tell(Abort { channel, open }.into())
    }

    /// Tells the agent to open a new session and to let this one finish; binds are refused from now on.
    pub fn drain(&mut self, error: &Error) -> Vec<EdgeAction> {
        if self.draining {
            return Vec::new();
        }
        self.draining = self.is_established();
        self.tell(
            Drain {
                code: error.code,
                message: clip(&error.message),
            }
            .into(),
        )
    }

    /// Ends the session: the agent goes, or comes back anew with `restart`. The connection is closed
    /// when the agent has said goodbye, or after [`EdgeSettings::stop_timeout`].
    pub fn stop(&mut self, now: Duration, error: Error, restart: bool) -> Vec<EdgeAction> {
        match &self.state {
            State::Established(_) => {
                let stop = Stop {
                    code: error.code,
                    message: clip(&error.message),
                    restart,
                };
                self.state = State::Stopping(now + self.settings.stop_timeout, Box::new(error));
                self.pending.clear();
                vec![Action::Send(stop.into())]
            }
            State::Authenticating(_) => self.end(Cause::Local, error, restart),
            State::Stopping(..) | State::Closed => Vec::new(),
        }
    }

    /// What the agent said could not be read.
    pub fn handle_undecodable(&mut self, error: CodecError) -> Vec<EdgeAction> {
        if self.is_closed() {
            Vec::new()
        } else {
            self.end(Cause::Violation, error.into(), true)
        }
    }

    /// Takes a message of the agent.
    pub fn handle_message(&mut self, now: Duration, message: AgentMessage) -> Vec<EdgeAction> {
        match &mut self.state {
            State::Closed => Vec::new(),
            State::Authenticating(_) => self.violation(&format!(
                "`{}` came before `welcome`",
                message::Message::kind(&message)
            )),
            State::Stopping(_, error) => {
                let error = (**error).clone();
                // What the agent asked before it read `stop` is void.
                if matches!(message, AgentMessage::Goodbye(_)) {
                    self.close(Cause::Local, error)
                } else {
                    Vec::new()
                }
            }
            State::Established(pulse) => {
                pulse.alive();
                self.established(now, message)
            }
        }
    }

    /// Does what is due at `now`; nothing when nothing is.
    pub fn handle_timeout(&mut self, now: Duration) -> Vec<EdgeAction> {
        match &mut self.state {
            State::Authenticating(deadline) if now >= *deadline => {
                let words = "the agent could not be authenticated in time";
                self.end(
                    Cause::Local,
                    Error::new(Code::ServerUnreachable, words),
                    true,
                )
            }
            State::Stopping(deadline, error) if now >= *deadline => {
                let error = (**error).clone();
                self.close(Cause::Local, error)
            }
            State::Authenticating(_) | State::Stopping(..) | State::Closed => Vec::new(),
            State::Established(pulse) => match pulse.due(now) {
                Beat::Rest => Vec::new(),
                Beat::Send(nonce) => vec![Action::Send(message::Heartbeat { nonce }.into())],
                Beat::Lost => {
                    let words = "the agent gave no sign of life";
                    self.close(Cause::Lost, Error::new(Code::ServerUnreachable, words))
                }
            },
        }
    }

    fn established(&mut self, now: Duration, message: AgentMessage) -> Vec<EdgeAction> {
        match message {
            AgentMessage::Bind(bind) => {
                if self.draining && bind.req > self.last_req {
                    self.last_req = bind.req;
                    let error = Error::of(Code::ServerDraining);
                    return vec![Action::Send(Refused::new(bind.req, &error).into())];
                }
                self.asked(bind.req, EdgeEvent::Bind(bind))
            }
            AgentMessage::Update(update) => self.asked(update.req, EdgeEvent::Update(update)),
            AgentMessage::Unbind(unbind) => self.asked(unbind.req, EdgeEvent::Unbind(unbind)),
            AgentMessage::Heartbeat(beat) => vec![Action::Send(
                message::HeartbeatAck { nonce: beat.nonce }.into(),
            )],
            AgentMessage::HeartbeatAck(ack) => self.acked(now, ack.nonce),
            AgentMessage::Abort(abort) => vec![Action::Event(EdgeEvent::Abort(abort))],
            AgentMessage::Health(report) => vec![Action::Event(EdgeEvent::Health(report))],
            AgentMessage::Goodbye(goodbye) => {
                let words = if goodbye.reason.is_empty() {
                    "the agent said goodbye"
                } else {
                    // The agent names its code in front, which this error says once more.
                    let code = format!("{}: ", Code::AgentStopped);
                    let reason = goodbye.reason.as_str();
                    reason.strip_prefix(&code).unwrap_or(reason)
                };
                self.close(Cause::Peer, Error::new(Code::AgentStopped, clip(words)))
            }
        }
    }

    /// Requests count up, so that an answer can belong to one only.
    fn asked(&mut self, req: u64, event: EdgeEvent) -> Vec<EdgeAction> {
        if req <= self.last_req {
            return self.violation(&format!(
                "request {req} came behind request {}",
                self.last_req
            ));
        }
        self.last_req = req;
        if self.pending.len() >= REQUESTS_PENDING_MAX {
            let words = format!(
                "{} requests wait for their answers already",
                self.pending.len()
            );
            let error = Error::new(Code::ApiConcurrency, words);
            return vec![Action::Send(Refused::new(req, &error).into())];
        }
        self.pending.insert(req);
        vec![Action::Event(event)]
    }

    /// An answer whose request is gone, because the session stops or has ended, is dropped.
    fn answer(&mut self, req: u64, message: EdgeMessage) -> Vec<EdgeAction> {
        if self.pending.remove(&req) {
            self.tell(message)
        } else {
            Vec::new()
        }
    }

    fn tell(&mut self, message: EdgeMessage) -> Vec<EdgeAction> {
        if self.is_established() {
            vec![Action::Send(message)]
        } else {
            Vec::new()
        }
    }

    fn acked(&mut self, now: Duration, nonce: u64) -> Vec<EdgeAction> {
        let State::Established(pulse) = &mut self.state else {
            return Vec::new();
        };
        match pulse.answered(now, nonce) {
            Ok(Some(latency)) => vec![Action::Event(EdgeEvent::Latency(latency))],
            Ok(None) => Vec::new(),
            Err(()) => self.violation(&format!(
                "an answer to heartbeat {nonce}, which was never sent"
            )),
        }
    }

    /// Retry, as on the agent's side: an upgrade may mend it, and back-off bounds the cost.
    fn violation(&mut self, words: &str) -> Vec<EdgeAction> {
        self.end(
            Cause::Violation,
            Error::new(Code::ProtocolViolation, words),
            true,
        )
    }

    /// Ends with a last word to the agent.
    fn end(&mut self, cause: Cause, error: Error, retry: bool) -> Vec<EdgeAction> {
        let mut actions = vec![Action::Send(Fatal::new(&error, retry).into())];
        actions.extend(self.close(cause, error));
        if let Some(Action::Close(ending)) = actions.last_mut() {
            ending.retry = retry;
        }
        actions
    }

    fn close(&mut self, cause: Cause, error: Error) -> Vec<EdgeAction> {
        self.state = State::Closed;
        self.pending.clear();
        vec![Action::Close(Ending {
            cause,
            error,
            retry: false,
        })]
    }
}
