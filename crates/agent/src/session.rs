//! One session with the server: connect, hello, bind what is wanted, keep channels ready, heartbeats,
//! until it ends one way or another. The rules of the conversation are `proto`'s `AgentMachine`; this
//! actor feeds it and does what it says. See `session/LIFECYCLE.md`.
//!
//! Owns the control connection, the bindings and the channels. Must never: decide whether another
//! session follows; the supervisor does.

mod greeting;
mod reconcile;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use portcullis_model::{Code, Error};
use portcullis_net::control::{ControlError, Reader, Writer};
use portcullis_net::tls;
use portcullis_proto::EdgeMessage;
use portcullis_proto::message::{Abort, Welcome};
use portcullis_proto::session::{Action, AgentAction, AgentEvent, AgentMachine, Cause, Ending};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use self::greeting::Control;
use crate::bindings::Bindings;
use crate::channels::{Channels, Wanted};
use crate::defaults;
use crate::routes::Routes;
use crate::shared::{self, Shared};
use crate::status::SessionInfo;
use crate::supervisor::Event;

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
        greeted = greeting::greet(&shared) => greeted,
    };
    match greeted {
        Ok(Control {
            reader,
            writer,
            machine,
            start,
        }) => {
            Actor::new(shared, number, events, writer, machine, start)
                .run(reader)
                .await
        }
        Err(error) => Ended {
            number,
            error,
            retry: true,
            at_once: false,
        },
    }
}

/// What the actor waits for.
enum Input {
    Stop,
    Flushed(Result<(), Error>),
    Message(Result<Option<EdgeMessage>, ControlError>),
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
        let drain = self
            .draining_since
            .map(|_| Instant::now() + defaults::DRAIN_CHECK);
        let far = Instant::now() + defaults::DRAIN_MAX;
        [machine, rebind, drain]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(far)
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
                return Err(lost(Error::new(
                    Code::ServerUnreachable,
                    "the server closed the connection",
                )));
            }
            Input::Message(Err(ControlError::Codec(error))) => {
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
                Action::Send(message) => self
                    .writer
                    .queue(&message)
                    .map_err(|error| lost(error.into()))?,
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
            AgentEvent::Abort(Abort { channel, open }) => {
                if let Some(channels) = &self.channels {
                    channels.abort(channel, open);
                }
                Ok(())
            }
            AgentEvent::Latency(latency) => {
                if let Some(channels) = &self.channels {
                    channels.note_round_trip(latency);
                }
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
        if self.shared.settings.plain_channels && !welcome.plain_links {
            // Going on with TLS would hide that one of the two sides is not set up as its user thinks.
            return Err(Ending {
                cause: Cause::Local,
                error: Error::of(Code::PlainRefused),
                retry: false,
            });
        }
        let Welcome {
            session_id,
            session_key,
            node,
            region,
            account,
            server_version,
            public_host,
            ..
        } = welcome;
        tracing::info!(session = %session_id, node, region, %account, server_version, "online");
        if self.shared.settings.plain_channels {
            tracing::warn!(
                "clients' bytes go to the server without TLS: whoever is on the way can read and change them"
            );
        }
        let (shared, routes) = (&self.shared, &self.routes);
        let wanted = Wanted {
            idle_channels: welcome.channels_idle_min,
            carriers: welcome.carriers,
        };
        let aborts = self.abort_sender.clone();
        self.channels = Some(Channels::new(
            shared,
            routes,
            session_id.clone(),
            session_key,
            wanted,
            aborts,
        ));
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
        // Until the first heartbeat: from the hello to its answer.
        self.shared.latency(self.now());
        self.reconcile()
    }

    fn fill(&mut self) {
        // A draining edge opens nothing new: its channels are left as they are.
        if let Some(channels) = self
            .channels
            .as_mut()
            .filter(|_| self.draining_since.is_none())
        {
            channels.fill();
        }
    }

    /// A draining session ends when its connections have, and its successor is up or not coming.
    fn finish_drain(&mut self) -> Result<(), Ending> {
        let Some(since) = self.draining_since else {
            return Ok(());
        };
        let drained = since.elapsed();
        let idle = self.channels.as_ref().is_none_or(Channels::are_idle);
        let succeeded = *self.shared.newest_up.borrow() > self.number
            || drained >= defaults::DRAIN_SUCCESSOR_WAIT;
        let settled = drained >= defaults::DRAIN_CHECK;
        if (idle && succeeded && settled) || drained >= defaults::DRAIN_MAX {
            for action in self.machine.goodbye("drained") {
                match action {
                    Action::Send(message) => self
                        .writer
                        .queue(&message)
                        .map_err(|error| lost(error.into()))?,
                    Action::Close(ending) => return Err(ending),
                    Action::Event(_) => {}
                }
            }
        }
        Ok(())
    }

    async fn end(mut self, ending: Ending) -> Ended {
        // What waits is the goodbye; a server that hangs doesn't get it.
        if ending.cause != Cause::Lost
            && timeout(defaults::GOODBYE_TIMEOUT, self.writer.close())
                .await
                .is_err()
        {
            tracing::debug!("the server did not take the goodbye in time");
        }
        self.bindings.end();
        self.shared.status_changed();
        if let Some(channels) = self.channels {
            channels.end().await;
        }
        let at_once =
            ending.cause == Cause::Peer && ending.retry && ending.error.code == Code::AgentStopped;
        Ended {
            number: self.number,
            error: ending.error,
            retry: ending.retry,
            at_once,
        }
    }
}

fn lost(error: Error) -> Ending {
    Ending {
        cause: Cause::Lost,
        error,
        retry: true,
    }
}
