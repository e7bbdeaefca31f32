//! One session with the server: connect, hello, bind what is wanted, keep channels ready, heartbeats,
//! until it ends one way or another. The rules of the conversation are `proto`'s `AgentMachine`; this
//! actor feeds it and does what it says.
//!
//! Owns the control connection, the bindings and the channels. Must never: decide whether another
//! session follows; the supervisor does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use portcullis_model::{Code, Error};
use portcullis_net::control::{Reader, Writer};
use portcullis_net::tls;
use portcullis_proto::defaults::VERSIONS;
use portcullis_proto::message::{Abort, Bound, Hello, Welcome};
use portcullis_proto::session::{Action, AgentAction, AgentEvent, AgentMachine, AgentSettings, Cause, Ending, NotSent};
use portcullis_proto::{EdgeMessage, FirstMessage};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::bindings::{Bindings, Outcome, Step};
use crate::channels::Channels;
use crate::endpoint::LocalEndpoint;
use crate::routes::Routes;
use crate::shared::{self, Shared};
use crate::status::{EndpointState, SessionInfo};
use crate::supervisor::Event;
use crate::{defaults, dial};

/// How a session ended, for the supervisor.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) number: u64,
    pub(crate) error: Error,
    /// Whether another attempt may help.
    pub(crate) retry: bool,
    /// The server asked for a new session: no back-off.
    pub(crate) at_once: bool,
}

/// Runs one session to its end.
pub(crate) async fn run(shared: Arc<Shared>, number: u64, events: mpsc::Sender<Event>) -> Ended {
    let greeted = tokio::select! {
        biased; // the order to stop first
        () = shared.stop.cancelled() => Err(Error::new(Code::AgentStopped, "the agent is shutting down")),
        greeted = greet(&shared) => greeted,
    };
    match greeted {
        Ok((reader, writer, machine, start)) => {
            Actor::new(shared, number, events, writer, machine, start).run(reader).await
        }
        Err(error) => Ended { number, error, retry: true, at_once: false },
    }
}

type Control = (Reader<ReadHalf<tls::Stream>>, Writer<WriteHalf<tls::Stream>>, AgentMachine, Instant);

/// Connects and says hello.
async fn greet(shared: &Shared) -> Result<Control, Error> {
    let deadline = Instant::now() + shared.settings.connect_timeout;
    let stream = dial::connect(&shared.settings, deadline).await?;
    let (reading, writing) = tokio::io::split(stream);
    let mut writer = Writer::new(writing);
    let hello = hello(shared);
    let start = Instant::now();
    let rest = deadline.saturating_duration_since(start);
    let settings = AgentSettings { handshake_timeout: rest, ..AgentSettings::of(&hello) };
    let late = || Error::new(Code::ServerUnreachable, "the server did not take the hello in time");
    timeout_at(deadline, writer.send(&FirstMessage::Hello(hello))).await.map_err(|_| late())??;
    Ok((Reader::new(reading), writer, AgentMachine::new(Duration::ZERO, settings), start))
}

fn hello(shared: &Shared) -> Hello {
    let settings = &shared.settings;
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Hello {
        versions: VERSIONS,
        authtoken: settings.server.authtoken.clone(),
        agent_id: shared.identity.agent_id.clone(),
        agent_secret: shared.identity.secret.clone(),
        generation: shared.identity.generation,
        agent_version: settings.agent_version.clone(),
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        hostname: settings.hostname.clone(),
        metadata: settings.metadata.clone(),
        heartbeat_interval_ms: millis(settings.heartbeat_interval),
        heartbeat_tolerance_ms: millis(settings.heartbeat_tolerance),
        remote_management: settings.remote_management,
    }
}

/// What the actor waits for.
enum Input {
    Stop,
    Flushed(Result<(), Error>),
    Message(Result<Option<EdgeMessage>, portcullis_net::control::ControlError>),
    Abort(Abort),
    Wants,
    Channels,
    Deadline,
}

struct Actor {
    shared: Arc<Shared>,
    number: u64,
    events: mpsc::Sender<Event>,
    writer: Writer<WriteHalf<tls::Stream>>,
    machine: AgentMachine,
    start: Instant,
    wants: watch::Receiver<u64>,
    bindings: Bindings,
    routes: Arc<Routes>,
    channels: Option<Channels>,
    aborts: mpsc::Receiver<Abort>,
    abort_sender: mpsc::Sender<Abort>,
    draining_since: Option<Instant>,
}

impl Actor {
    fn new(
        shared: Arc<Shared>,
        number: u64,
        events: mpsc::Sender<Event>,
        writer: Writer<WriteHalf<tls::Stream>>,
        machine: AgentMachine,
        start: Instant,
    ) -> Self {
        let (abort_sender, aborts) = mpsc::channel(defaults::SESSION_QUEUE);
        let wants = shared.watch_wants();
        Self {
            shared,
            number,
            events,
            writer,
            machine,
            start,
            wants,
            bindings: Bindings::default(),
            routes: Arc::default(),
            channels: None,
            aborts,
            abort_sender,
            draining_since: None,
        }
    }

    async fn run(mut self, mut reader: Reader<ReadHalf<tls::Stream>>) -> Ended {
        let ending = loop {
            let input = self.next(&mut reader).await;
            let taken = self.take(input).await;
            if let Err(ending) = taken.and_then(|()| self.finish_drain()) {
                break ending;
            }
        };
        self.end(ending).await
    }

    /// Waits for the next input.
    async fn next(&mut self, reader: &mut Reader<ReadHalf<tls::Stream>>) -> Input {
        let deadline = self.deadline();
        let channels = async {
            match &mut self.channels {
                Some(channels) => channels.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased; // the order to stop, then what frees the peer, then what it says, then our own wishes
            () = self.shared.stop.cancelled() => Input::Stop,
            flushed = self.writer.flush(), if self.writer.is_pending() => Input::Flushed(flushed.map_err(Error::from)),
            message = reader.next() => Input::Message(message),
            Some(abort) = self.aborts.recv() => Input::Abort(abort),
            // The sender is in `shared`, which this actor holds.
            Ok(()) = self.wants.changed() => Input::Wants,
            () = channels => Input::Channels,
            () = sleep_until(deadline) => Input::Deadline,
        }
    }

    /// When something is due at the latest.
    fn deadline(&self) -> Instant {
        let machine = self.machine.next_deadline().map(|at| self.start + at);
        let rebind = self.bindings.next_deadline().filter(|_| self.serves());
        let drain = self.draining_since.map(|_| Instant::now() + defaults::DRAIN_CHECK);
        let far = Instant::now() + defaults::DRAIN_MAX;
        [machine, rebind, drain].into_iter().flatten().min().unwrap_or(far)
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Whether new endpoints may be bound on this session.
    fn serves(&self) -> bool {
        self.machine.is_established() && !self.machine.is_draining()
    }

    async fn take(&mut self, input: Input) -> Result<(), Ending> {
        let actions = match input {
            Input::Stop => self.machine.goodbye("the agent is shutting down"),
            Input::Flushed(Ok(())) => return Ok(()),
            Input::Flushed(Err(error)) => return Err(lost(error)),
            Input::Message(Ok(Some(message))) => self.machine.handle_message(self.now(), message),
            Input::Message(Ok(None)) => {
                return Err(lost(Error::new(Code::ServerUnreachable, "the server closed the connection")));
            }
            Input::Message(Err(portcullis_net::control::ControlError::Codec(error))) => {
                self.machine.handle_undecodable(error)
            }
            Input::Message(Err(error)) => return Err(lost(error.into())),
            Input::Abort(Abort { channel, open }) => self.machine.abort(channel, open),
            Input::Wants => return self.reconcile(),
            Input::Channels => {
                self.fill();
                return Ok(());
            }
            Input::Deadline => {
                let actions = self.machine.handle_timeout(self.now());
                self.perform(actions).await?;
                return self.reconcile();
            }
        };
        self.perform(actions).await
    }

    /// Does what the machine says, in order.
    async fn perform(&mut self, actions: Vec<AgentAction>) -> Result<(), Ending> {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Send(message) => self.writer.queue(&message).map_err(|error| lost(error.into()))?,
                Action::Event(event) => self.on(event).await?,
                Action::Close(ending) => return Err(ending),
            }
        }
        Ok(())
    }

    async fn on(&mut self, event: AgentEvent) -> Result<(), Ending> {
        match event {
            AgentEvent::Welcome(welcome) => self.welcomed(welcome).await,
            AgentEvent::Bound(bound) => {
                self.bound(&bound);
                self.reconcile()
            }
            AgentEvent::Updated { req } | AgentEvent::Unbound { req } => {
                self.answered(req, None);
                self.reconcile()
            }
            AgentEvent::Refused { req, error } => {
                self.answered(req, Some(error));
                self.reconcile()
            }
            AgentEvent::NeedChannels(count) => {
                if let Some(channels) = &mut self.channels {
                    channels.open(u64::from(count));
                }
                Ok(())
            }
            AgentEvent::EndpointStopped { endpoint_id, error } => {
                if let Some(endpoint) = self.bindings.stopped(&endpoint_id) {
                    tracing::warn!(endpoint = endpoint.name(), %error, "the server closed an endpoint");
                    endpoint.close(error);
                }
                self.routes.remove(&endpoint_id);
                self.shared.status_changed();
                Ok(())
            }
            AgentEvent::Drain(error) => {
                tracing::info!(%error, "the server is going; this session finishes its connections");
                self.draining_since = Some(Instant::now());
                self.tell(Event::Draining(self.number)).await;
                Ok(())
            }
            AgentEvent::Abort(Abort { channel, .. }) => {
                if let Some(channels) = &self.channels {
                    channels.abort(channel);
                }
                Ok(())
            }
            AgentEvent::Latency(latency) => {
                self.shared.latency(latency);
                Ok(())
            }
        }
    }

    /// The supervisor reads until all sessions have ended.
    async fn tell(&self, event: Event) {
        if self.events.send(event).await.is_err() {
            tracing::debug!(?event, "the supervisor has ended");
        }
    }

    async fn welcomed(&mut self, welcome: Welcome) -> Result<(), Ending> {
        let Welcome { session_id, session_key, node, region, account, server_version, public_host, .. } = welcome;
        tracing::info!(session = %session_id, node, region, %account, server_version, "online");
        let (shared, routes) = (&self.shared, &self.routes);
        let idle_min = welcome.channels_idle_min;
        let aborts = self.abort_sender.clone();
        self.channels = Some(Channels::new(shared, routes, session_id.clone(), session_key, idle_min, aborts));
        self.fill();
        self.tell(Event::Up(self.number)).await;
        self.shared.online(SessionInfo {
            id: session_id,
            node,
            region,
            account: account.to_string(),
            server_version,
            public_host,
            since: shared::now(),
        });
        self.reconcile()
    }

    fn fill(&mut self) {
        // A draining edge opens nothing new: its channels are left as they are.
        if let Some(channels) = self.channels.as_mut().filter(|_| self.draining_since.is_none()) {
            channels.fill();
        }
    }

    /// Asks the server for the difference between what is wanted and what it has.
    fn reconcile(&mut self) -> Result<(), Ending> {
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
                            self.writer.queue(&message).map_err(|error| lost(error.into()))?;
                        }
                    }
                }
                // The answers that are awaited make room, and reconcile again.
                Err(NotAsked::Later) => break,
                Err(NotAsked::Refused(error)) => self.not_asked(number, &endpoint, &step, error),
            }
        }
        Ok(())
    }

    fn ask(&mut self, endpoint: &LocalEndpoint, step: &Step) -> Result<(u64, u64, Vec<AgentAction>), NotAsked> {
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

    fn bound(&mut self, bound: &Bound) {
        let Some((endpoint, revision)) = self.bindings.bound(bound.req, &bound.endpoint_id) else { return };
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

    fn answered(&mut self, req: u64, error: Option<Error>) {
        match self.bindings.answered(req) {
            Some(Outcome::BindRefused(endpoint)) => {
                refused(&endpoint, error.unwrap_or_else(|| Error::internal("a bind was answered like an update")));
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

    /// A draining session ends when its connections have, and its successor is up or not coming.
    fn finish_drain(&mut self) -> Result<(), Ending> {
        let Some(since) = self.draining_since else { return Ok(()) };
        let drained = since.elapsed();
        let idle = self.channels.as_ref().is_none_or(Channels::are_idle);
        let succeeded = *self.shared.newest_up.borrow() > self.number || drained >= defaults::DRAIN_SUCCESSOR_WAIT;
        let settled = drained >= defaults::DRAIN_CHECK;
        if (idle && succeeded && settled) || drained >= defaults::DRAIN_MAX {
            for action in self.machine.goodbye("drained") {
                match action {
                    Action::Send(message) => self.writer.queue(&message).map_err(|error| lost(error.into()))?,
                    Action::Close(ending) => return Err(ending),
                    Action::Event(_) => {}
                }
            }
        }
        Ok(())
    }

    async fn end(mut self, ending: Ending) -> Ended {
        // What waits is the goodbye; a server that hangs doesn't get it.
        if ending.cause != Cause::Lost && timeout(defaults::GOODBYE_TIMEOUT, self.writer.close()).await.is_err() {
            tracing::debug!("the server did not take the goodbye in time");
        }
        self.bindings.end();
        self.shared.status_changed();
        if let Some(channels) = self.channels {
            channels.end().await;
        }
        let at_once = ending.cause == Cause::Peer && ending.retry && ending.error.code == Code::AgentStopped;
        Ended { number: self.number, error: ending.error, retry: ending.retry, at_once }
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

fn lost(error: Error) -> Ending {
    Ending { cause: Cause::Lost, error, retry: true }
}
