//! A session's actor: authenticates the agent, opens the session, and then does what the protocol's
//! machine, the node's commands and the registry's snapshots say, until the session ends. See
//! `session/LIFECYCLE.md`.
//!
//! Owns: the control connection. Must never: touch a client's bytes, or outlive its registry record.

use std::sync::Arc;
use std::time::Duration;

use portcullis_model::{Code, Endpoint, Error};
use portcullis_net::control::{ControlError, Reader, Writer};
use portcullis_net::tls;
use portcullis_proto::EdgeMachine;
use portcullis_proto::message::{AgentMessage, Bind, Unbind, Update};
use portcullis_proto::session::{Cause, EdgeAction, EdgeEvent, Ending};
use portcullis_store::Snapshot;
use portcullis_telemetry::{CloseReason, Ended};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::defaults::{
    SESSION_CLOSE_AGAIN, SESSION_CLOSE_TIMEOUT, SESSION_GONE_GRACE, SESSION_REQUESTS_MAX,
    SESSION_STOP_TIMEOUT,
};
use crate::health;
use crate::node::Node;
use crate::sessions::{Command, Session};

mod begin;
pub(crate) mod carriers;
pub(crate) mod channels;
mod demand;
pub(crate) mod exchange;
mod requests;
mod setup;

pub(crate) use begin::serve;

/// The actor.
struct Actor {
    node: Arc<Node>,
    session: Arc<Session>,
    machine: EdgeMachine,
    reader: Reader<ReadHalf<tls::Stream>>,
    writer: Writer<WriteHalf<tls::Stream>>,
    mailbox: mpsc::Receiver<Command>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Binds that the registry and the listeners work on.
    binding: JoinSet<(u64, Result<Endpoint, Error>)>,
    start: Instant,
    /// What the session's connections end with, once somebody has said so.
    why: Option<Ended>,
    /// When the registry was found to have dropped the session without a word.
    gone: Option<Instant>,
    /// Whether another session has taken over and this one only finishes its connections.
    finishing: bool,
    sweep: tokio::time::Interval,
}

impl Actor {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Runs until the session ends, and clears up behind it.
    async fn run(mut self) {
        let ending = loop {
            let actions = self.step().await;
            if let Some(ending) = self.perform(actions).await {
                break ending;
            }
        };
        self.end(ending).await;
    }

    /// Waits for the next thing and gives it to the machine.
    async fn step(&mut self) -> Vec<EdgeAction> {
        let deadline = self
            .machine
            .next_deadline()
            .map_or_else(Instant::now, |at| self.start + at);
        let gone = self.gone.map(|since| since + SESSION_GONE_GRACE);
        let may_read = self.binding.len() < SESSION_REQUESTS_MAX;
        tokio::select! {
            // Commands and revocation first: a chatty agent must not put them off. What is written
            // goes before what is read, so that answers do not pile up.
            biased;
            Some(command) = self.mailbox.recv() => self.command(command),
            Ok(()) = self.snapshots.changed() => self.look(),
            () = async { tokio::time::sleep_until(gone.unwrap_or_else(Instant::now)).await }, if gone.is_some() => {
                self.fenced(Code::AgentFenced)
            }
            Some(done) = self.binding.join_next() => self.bound(done),
            flushed = self.writer.flush(), if self.writer.is_pending() => match flushed {
                Ok(()) => Vec::new(),
                Err(error) => self.broken(error),
            },
            message = self.reader.next::<AgentMessage>(), if may_read => self.message(message),
            () = self.session.channels.wanted() => self.ask(),
            () = tokio::time::sleep_until(deadline) => {
                let now = self.now();
                self.machine.handle_timeout(now)
            }
            _ = self.sweep.tick() => self.sweep(),
        }
    }

    /// Does what the machine says; the ending, when it was the last.
    async fn perform(&mut self, actions: Vec<EdgeAction>) -> Option<Ending> {
        let mut queue = std::collections::VecDeque::from(actions);
        while let Some(action) = queue.pop_front() {
            match action {
                EdgeAction::Send(message) => {
                    if let Err(error) = self.writer.queue(&message) {
                        queue.extend(self.broken(error));
                    }
                }
                EdgeAction::Event(event) => queue.extend(self.event(event).await),
                EdgeAction::Close(ending) => return Some(ending),
            }
        }
        None
    }

    async fn event(&mut self, event: EdgeEvent) -> Vec<EdgeAction> {
        match event {
            EdgeEvent::Bind(bind) => self.bind(bind),
            EdgeEvent::Update(update) => self.update(update).await,
            EdgeEvent::Unbind(unbind) => self.unbind(unbind).await,
            EdgeEvent::Abort(abort) => {
                self.session.channels.aborted(abort.channel, abort.open);
                Vec::new()
            }
            EdgeEvent::Health(report) => {
                health::reported(&self.node, &self.session.id, report);
                Vec::new()
            }
            EdgeEvent::Latency(latency) => {
                tracing::trace!(session = %self.session.id, ?latency, "heartbeat");
                self.session.carriers.flow().note_round_trip(latency);
                self.session.channels.note_round_trip(latency);
                Vec::new()
            }
        }
    }

    fn message(&mut self, message: Result<Option<AgentMessage>, ControlError>) -> Vec<EdgeAction> {
        match message {
            Ok(Some(message)) => {
                let now = self.now();
                self.machine.handle_message(now, message)
            }
            Ok(None) => self.lost("the agent closed its control connection"),
            Err(ControlError::Codec(error)) => self.machine.handle_undecodable(error),
            Err(error) => self.broken(error),
        }
    }

    fn broken(&mut self, error: ControlError) -> Vec<EdgeAction> {
        self.lost(&error.to_string())
    }

    /// The connection is gone: nothing can be said to the agent any more.
    fn lost(&mut self, words: &str) -> Vec<EdgeAction> {
        let error = Error::new(Code::AgentLost, words);
        vec![EdgeAction::Close(Ending {
            cause: Cause::Lost,
            error,
            retry: true,
        })]
    }

    fn command(&mut self, command: Command) -> Vec<EdgeAction> {
        let now = self.now();
        match command {
            Command::Stop {
                error,
                restart,
                why,
            } => {
                // Stopped is stopped: what it carries must not depend on how fast the agent goes.
                self.cut(&why);
                self.why = Some(why);
                self.machine.stop(now, error, restart)
            }
            Command::End { error, .. }
                if self.machine.is_draining() && error.code == Code::AgentFenced =>
            {
                self.finishing = true;
                self.gone = None;
                Vec::new()
            }
            Command::End { error, retry, why } => {
                self.why = Some(why);
                self.machine.fail(error, retry)
            }
            Command::Drain(error) => self.machine.drain(&error),
            Command::Abort { channel, open } => self.machine.abort(channel, open),
        }
    }

    /// Looks whether the registry still has the session, and what it stands on.
    fn look(&mut self) -> Vec<EdgeAction> {
        self.snapshots.mark_unchanged();
        // Not the one that was announced: the registry may have a newer one, which the session was opened by.
        let snapshot = self.node.registry.snapshot();
        let revoked = |code: Code| (Error::of(code), Ended::from(CloseReason::CredentialRevoked));
        let (error, why) = if snapshot.account(&self.session.account).is_none() {
            revoked(Code::AccountSuspended)
        } else if !snapshot.has_credential(&self.session.credential) {
            revoked(Code::CredentialRevoked)
        } else {
            let held = snapshot.session_by_id(&self.session.id).is_some();
            self.gone = gone_since(self.gone, held || self.finishing, Instant::now());
            return Vec::new();
        };
        self.why = Some(why);
        self.machine.fail(error, false)
    }

    fn fenced(&mut self, code: Code) -> Vec<EdgeAction> {
        self.gone = None;
        let error = Error::of(code);
        self.command(Command::End {
            why: Ended::with(CloseReason::AgentLost, error.clone()),
            error,
            retry: code == Code::AgentFenced,
        })
    }

    /// Asks for what is missing: one message asks for a few hundred, and a burst may need more.
    fn ask(&mut self) -> Vec<EdgeAction> {
        let mut actions = Vec::new();
        // Each round is accounted for, so the rounds are bounded by the opens that may wait.
        loop {
            match self.session.channels.ask() {
                0 => return actions,
                count => actions.extend(self.machine.need_channels(count)),
            }
        }
    }

    /// Once in a while: dead channels go, missing ones are asked for, a finishing session ends with its
    /// last connection.
    fn sweep(&mut self) -> Vec<EdgeAction> {
        self.session.channels.sweep();
        if self.session.carries {
            self.session.channels.call_quiet();
        }
        if self.finishing && self.node.records.live().count_of_session(&self.session.id) == 0 {
            return self.machine.fail(Error::of(Code::AgentFenced), false);
        }
        self.ask()
    }

    fn bind(&mut self, bind: Bind) -> Vec<EdgeAction> {
        let (node, id, req) = (Arc::clone(&self.node), self.session.id.clone(), bind.req);
        // The set's tasks end with the actor.
        self.binding
            .spawn(async move { (req, requests::bind(&node, &id, bind).await) });
        Vec::new()
    }

    fn bound(
        &mut self,
        done: Result<(u64, Result<Endpoint, Error>), tokio::task::JoinError>,
    ) -> Vec<EdgeAction> {
        match done {
            Ok((req, Ok(endpoint))) => {
                let Endpoint {
                    id,
                    url,
                    binding,
                    region,
                    ..
                } = endpoint;
                self.machine.bound(req, id, url, binding, region)
            }
            Ok((req, Err(error))) => self.machine.refused(req, &error),
            // A bind that panicked has no answer any more; the agent must not wait for it.
            Err(error) => self.machine.fail(Error::internal(error), true),
        }
    }

    async fn update(&mut self, update: Update) -> Vec<EdgeAction> {
        let req = update.req;
        match requests::update(&self.node, &self.session.id, update).await {
            Ok(()) => self.machine.updated(req),
            Err(error) => self.machine.refused(req, &error),
        }
    }

    async fn unbind(&mut self, unbind: Unbind) -> Vec<EdgeAction> {
        match self
            .node
            .registry
            .unbind_endpoint(&self.session.id, &unbind.endpoint_id)
            .await
        {
            Ok(_) => self.machine.unbound(unbind.req),
            Err(error) => self.machine.refused(unbind.req, &error),
        }
    }

    /// Nothing new, then what runs: in this order no connection is opened on a session that ends, and
    /// none is forgotten. How many were cut.
    fn cut(&self, why: &Ended) -> usize {
        self.node.sessions.remove(&self.session.id);
        self.session.channels.close();
        self.session.carriers.close();
        self.node.records.live().end_session(&self.session.id, why)
    }

    /// Ends what the session carries, says the last word, and takes the session off the registry.
    async fn end(mut self, ending: Ending) {
        let session = &self.session;
        let why = self.why.take().unwrap_or_else(|| {
            Ended::with(
                CloseReason::AgentLost,
                Error::new(Code::AgentLost, ending.error.message.clone()),
            )
        });
        let cut = self.cut(&why);
        self.node.records.metrics().sessions_open.dec();
        tracing::info!(session = %session.id, account = %session.account, cause = ?ending.cause, error = %ending.error, cut, "session ended");
        let last_word = async {
            self.writer.flush().await?;
            self.writer.close().await
        };
        // A lost agent takes no last word.
        drop(tokio::time::timeout(SESSION_STOP_TIMEOUT, last_word).await);
        // The resets of what was cut had their time.
        self.session.carriers.kill();
        forget(&self.node, &self.session).await;
    }
}

/// Takes the session off the registry. A store that is out for longer than this is tried by nobody
/// again until the node's next start clears what it left.
async fn forget(node: &Node, session: &Session) {
    let deadline = Instant::now() + SESSION_CLOSE_TIMEOUT;
    loop {
        match node.registry.close_session(&session.id).await {
            Ok(_) => return,
            Err(error) if Instant::now() >= deadline => {
                tracing::error!(session = %session.id, %error, cause = error.internal, "session could not be taken off the registry");
                return;
            }
            Err(_) => tokio::time::sleep(SESSION_CLOSE_AGAIN).await,
        }
    }
}

/// Since when the registry does not know the session. A look may show what was before it was opened.
fn gone_since(gone: Option<Instant>, held: bool, now: Instant) -> Option<Instant> {
    match held {
        true => None,
        false => gone.or(Some(now)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_session_that_shows_after_all_is_not_gone() {
        let first = Instant::now();
        let later = first + Duration::from_millis(1);
        let gone = gone_since(None, false, first);
        assert_eq!(gone, Some(first));
        assert_eq!(gone_since(gone, false, later), Some(first), "still counted");
        assert_eq!(gone_since(gone, true, later), None);
    }
}
