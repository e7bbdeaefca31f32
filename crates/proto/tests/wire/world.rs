//! Two session machines in one virtual time, with actors as small as they can be and a network that
//! delays, cuts messages into pieces, or swallows everything.

use std::collections::VecDeque;
use std::time::Duration;

use portcullis_model::{Code, Error};
use portcullis_proto::defaults::{HEARTBEAT_INTERVAL, HEARTBEAT_TOLERANCE};
use portcullis_proto::message::Hello;
use portcullis_proto::session::{
    Action, AgentAction, AgentEvent, AgentSettings, EdgeAction, EdgeEvent, EdgeSettings, Ending,
    WelcomeSpec,
};
use portcullis_proto::{
    AgentMachine, AgentMessage, Decoder, EdgeMachine, EdgeMessage, Message, codec,
};

use crate::samples;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MILLI: Duration = Duration::from_millis(1);
/// Longest time from the death of a peer to its detection, but for the network's delay.
pub(crate) const DETECTION: Duration = HEARTBEAT_INTERVAL.checked_add(HEARTBEAT_TOLERANCE).unwrap();

/// How a machine's actor saw the session end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The machine said so.
    Closed(Ending),
    /// The other side closed the connection without a word.
    Disconnected,
}

/// One direction of the connection: in order, each piece after the delay.
#[derive(Default)]
pub(crate) struct Pipe {
    pub(crate) delay: Duration,
    /// Swallows what is sent from now on, as a dead network does.
    pub(crate) dead: bool,
    /// Bytes, or the end of the stream.
    queue: VecDeque<(Duration, Option<Vec<u8>>)>,
    decoder: Decoder,
}

impl Pipe {
    pub(crate) fn push(&mut self, now: Duration, bytes: Option<Vec<u8>>) {
        if !self.dead {
            let earliest = self.queue.back().map_or(Duration::ZERO, |(at, _)| *at);
            self.queue
                .push_back((earliest.max(now + self.delay), bytes));
        }
    }

    /// A message in pieces of at most `piece` bytes, a microsecond apart.
    fn send<M: Message>(&mut self, now: Duration, message: &M, piece: usize) {
        let bytes = codec::encode(message).expect("the machines send what fits");
        for (at, part) in bytes.chunks(piece).enumerate() {
            self.push(now + Duration::from_micros(at as u64), Some(part.to_vec()));
        }
    }

    fn next(&self) -> Option<Duration> {
        self.queue.front().map(|(at, _)| *at)
    }

    fn pop(&mut self, now: Duration) -> Option<Option<Vec<u8>>> {
        self.queue
            .pop_front_if(|(at, _)| *at <= now)
            .map(|(_, bytes)| bytes)
    }
}

/// How the edge's actor answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Grant,
    Refuse,
    Never,
}

pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) agent: AgentMachine,
    pub(crate) edge: EdgeMachine,
    pub(crate) to_edge: Pipe,
    pub(crate) to_agent: Pipe,
    pub(crate) agent_events: Vec<(Duration, AgentEvent)>,
    pub(crate) edge_events: Vec<(Duration, EdgeEvent)>,
    pub(crate) agent_end: Option<(Duration, End)>,
    pub(crate) edge_end: Option<(Duration, End)>,
    /// Delay and kind of the edge's answers, per request in turn; the last one repeats.
    pub(crate) answers: VecDeque<(Duration, Answer)>,
    scheduled: Vec<(Duration, EdgeEvent, Answer)>,
    pub(crate) piece: usize,
    awaiting_welcome: bool,
}

impl World {
    /// Hello is on its way; the edge welcomes it when it arrives, unless told otherwise.
    pub(crate) fn new(delay: Duration) -> Self {
        Self::with(delay, &samples::hello(), EdgeSettings::default())
            .expect("the hello is acceptable")
    }

    /// As [`Self::new`] with a hello and settings; the error is the edge's refusal.
    pub(crate) fn with(
        delay: Duration,
        hello: &Hello,
        settings: EdgeSettings,
    ) -> Result<Self, Error> {
        let edge = EdgeMachine::accept(delay, hello, settings)?;
        Ok(Self {
            now: Duration::ZERO,
            agent: AgentMachine::new(Duration::ZERO, AgentSettings::of(hello)),
            edge,
            to_edge: Pipe {
                delay,
                ..Pipe::default()
            },
            to_agent: Pipe {
                delay,
                ..Pipe::default()
            },
            agent_events: Vec::new(),
            edge_events: Vec::new(),
            agent_end: None,
            edge_end: None,
            answers: [(Duration::ZERO, Answer::Grant)].into(),
            scheduled: Vec::new(),
            piece: 1000,
            awaiting_welcome: true,
        })
    }

    /// A session that is established at both ends.
    pub(crate) fn established(delay: Duration) -> Self {
        let mut world = Self::new(delay);
        world.run_for(delay * 3);
        assert!(world.agent.is_established() && world.edge.is_established());
        world.agent_events.clear();
        world
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        let mut steps = 0_u32;
        while let Some(at) = self.next_at().filter(|at| *at <= until) {
            steps = if at > self.now { 0 } else { steps + 1 };
            assert!(steps < 10_000, "time stands still at {:?}", self.now);
            self.now = at.max(self.now);
            self.tick();
        }
        self.now = until;
    }

    fn next_at(&self) -> Option<Duration> {
        let welcome = self.awaiting_welcome.then_some(self.to_edge.delay);
        let agent = self
            .agent
            .next_deadline()
            .filter(|_| self.agent_end.is_none());
        let edge = self
            .edge
            .next_deadline()
            .filter(|_| self.edge_end.is_none());
        let answer = self.scheduled.iter().map(|(at, ..)| *at).min();
        [
            self.to_edge.next(),
            self.to_agent.next(),
            welcome,
            agent,
            edge,
            answer,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn tick(&mut self) {
        if self.awaiting_welcome && self.now >= self.to_edge.delay {
            self.awaiting_welcome = false;
            let actions = self.edge.welcome(self.now, welcome_spec());
            self.edge_does(actions);
        }
        while let Some(bytes) = self.to_edge.pop(self.now) {
            self.edge_reads(bytes);
        }
        while let Some(bytes) = self.to_agent.pop(self.now) {
            self.agent_reads(bytes);
        }
        self.answer_due();
        if self.agent_end.is_none() {
            let actions = self.agent.handle_timeout(self.now);
            self.agent_does(actions);
        }
        if self.edge_end.is_none() {
            let actions = self.edge.handle_timeout(self.now);
            self.edge_does(actions);
        }
    }

    fn edge_reads(&mut self, bytes: Option<Vec<u8>>) {
        let Some(bytes) = bytes else {
            self.edge_end.get_or_insert((self.now, End::Disconnected));
            return;
        };
        let mut input = bytes.as_slice();
        loop {
            let actions = match self.to_edge.decoder.next::<AgentMessage>(&mut input) {
                Ok(Some(message)) => self.edge.handle_message(self.now, message),
                Ok(None) => return,
                Err(error) => self.edge.handle_undecodable(error),
            };
            self.edge_does(actions);
            if self.edge_end.is_some() {
                return;
            }
        }
    }

    fn agent_reads(&mut self, bytes: Option<Vec<u8>>) {
        let Some(bytes) = bytes else {
            self.agent_end.get_or_insert((self.now, End::Disconnected));
            return;
        };
        let mut input = bytes.as_slice();
        loop {
            let actions = match self.to_agent.decoder.next::<EdgeMessage>(&mut input) {
                Ok(Some(message)) => self.agent.handle_message(self.now, message),
                Ok(None) => return,
                Err(error) => self.agent.handle_undecodable(error),
            };
            self.agent_does(actions);
            if self.agent_end.is_some() {
                return;
            }
        }
    }

    pub(crate) fn agent_does(&mut self, actions: Vec<AgentAction>) {
        let last = actions.len().saturating_sub(1);
        for (at, action) in actions.into_iter().enumerate() {
            match action {
                Action::Send(message) => self.to_edge.send(self.now, &message, self.piece),
                Action::Event(event) => self.agent_events.push((self.now, event)),
                Action::Close(ending) => {
                    assert_eq!(at, last, "close is the last action");
                    assert!(self.agent.is_closed() && self.agent.next_deadline().is_none());
                    self.to_edge.push(self.now, None);
                    self.agent_end
                        .get_or_insert((self.now, End::Closed(ending)));
                }
            }
        }
    }

    pub(crate) fn edge_does(&mut self, actions: Vec<EdgeAction>) {
        let last = actions.len().saturating_sub(1);
        for (at, action) in actions.into_iter().enumerate() {
            match action {
                Action::Send(message) => self.to_agent.send(self.now, &message, self.piece),
                Action::Event(event) => {
                    self.schedule(&event);
                    self.edge_events.push((self.now, event));
                }
                Action::Close(ending) => {
                    assert_eq!(at, last, "close is the last action");
                    assert!(self.edge.is_closed() && self.edge.next_deadline().is_none());
                    self.to_agent.push(self.now, None);
                    self.edge_end.get_or_insert((self.now, End::Closed(ending)));
                }
            }
        }
    }

    fn schedule(&mut self, event: &EdgeEvent) {
        if !matches!(
            event,
            EdgeEvent::Bind(_) | EdgeEvent::Update(_) | EdgeEvent::Unbind(_)
        ) {
            return;
        }
        let (delay, answer) = if self.answers.len() > 1 {
            self.answers.pop_front()
        } else {
            self.answers.front().copied()
        }
        .expect("an answer is always set");
        self.scheduled
            .push((self.now + delay, event.clone(), answer));
    }

    fn answer_due(&mut self) {
        let due: Vec<_> = self
            .scheduled
            .extract_if(.., |(at, ..)| *at <= self.now)
            .collect();
        for (_, event, answer) in due {
            let actions = match (event, answer) {
                (_, Answer::Never) => Vec::new(),
                (EdgeEvent::Bind(bind), Answer::Grant) => {
                    let bound = samples::bound(bind.req);
                    self.edge.bound(
                        bound.req,
                        bound.endpoint_id,
                        bound.url,
                        bound.binding,
                        bound.region,
                    )
                }
                (EdgeEvent::Update(update), Answer::Grant) => self.edge.updated(update.req),
                (EdgeEvent::Unbind(unbind), Answer::Grant) => self.edge.unbound(unbind.req),
                (EdgeEvent::Bind(portcullis_proto::message::Bind { req, .. }), Answer::Refuse)
                | (
                    EdgeEvent::Update(portcullis_proto::message::Update { req, .. }),
                    Answer::Refuse,
                )
                | (
                    EdgeEvent::Unbind(portcullis_proto::message::Unbind { req, .. }),
                    Answer::Refuse,
                ) => self.edge.refused(req, &Error::of(Code::AddressTaken)),
                (EdgeEvent::Abort(_) | EdgeEvent::Health(_) | EdgeEvent::Latency(_), _) => {
                    Vec::new()
                }
            };
            self.edge_does(actions);
        }
    }
}

pub(crate) fn welcome_spec() -> WelcomeSpec {
    let welcome = samples::welcome();
    WelcomeSpec {
        session_id: welcome.session_id,
        session_key: welcome.session_key,
        node: welcome.node,
        region: welcome.region,
        account: welcome.account,
        server_version: welcome.server_version,
        channels_idle_min: welcome.channels_idle_min,
        carriers: welcome.carriers,
        plain_links: welcome.plain_links,
        public_host: welcome.public_host,
    }
}
