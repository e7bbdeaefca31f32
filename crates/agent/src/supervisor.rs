//! Keeps one session up, for ever: starts it, starts the next when it ends, and lets the session of
//! a draining server finish beside its successor.
//!
//! Owns the back-off and the decision to give up. Must never: touch a socket.

use std::sync::Arc;

use portcullis_model::{Code, Error};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::defaults;
use crate::session::{self, Ended};
use crate::shared::{self, Shared};

/// What a session tells its supervisor while it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The server welcomed it.
    Up(u64),
    /// The server is going; a successor is needed.
    Draining(u64),
}

/// Runs an agent until it is stopped or no further attempt can help.
pub(crate) async fn run(shared: Arc<Shared>) {
    let error = Supervisor::new(Arc::clone(&shared)).supervise().await;
    match &error {
        Some(error) => {
            tracing::error!(code = %error.code, error = %error.message, "the agent has stopped")
        }
        None => tracing::info!("the agent has stopped"),
    }
    shared.end(error);
}

struct Supervisor {
    shared: Arc<Shared>,
    sessions: JoinSet<Ended>,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    backoff: Backoff,
    last_number: u64,
    /// The session that serves, or is being made; draining ones are not.
    current: Option<Current>,
    /// When the next attempt is due, while there is no current session.
    retry_at: Instant,
}

struct Current {
    number: u64,
    up_since: Option<Instant>,
}

impl Supervisor {
    fn new(shared: Arc<Shared>) -> Self {
        let (sender, events) = mpsc::channel(defaults::SESSION_QUEUE);
        let backoff = Backoff::new(shared.settings.backoff_first, shared.settings.backoff_max);
        Self {
            shared,
            sessions: JoinSet::new(),
            events,
            sender,
            backoff,
            last_number: 0,
            current: None,
            retry_at: Instant::now(),
        }
    }

    /// Returns why the agent ended, or nothing when it was told to.
    async fn supervise(mut self) -> Option<Error> {
        let error = loop {
            tokio::select! {
                biased; // the order to stop first; events before ends, so that an end knows whether it was up
                () = self.shared.stop.cancelled() => break None,
                Some(event) = self.events.recv() => self.hear(event),
                Some(joined) = self.sessions.join_next() => {
                    if let Some(error) = self.ended(joined) {
                        break Some(error);
                    }
                }
                () = tokio::time::sleep_until(self.retry_at), if self.current.is_none() => self.connect(),
            }
        };
        self.shared.stop.cancel();
        // Each ends within its goodbye's time-out.
        while self.sessions.join_next().await.is_some() {}
        error
    }

    fn connect(&mut self) {
        self.last_number += 1;
        let number = self.last_number;
        self.shared.connecting();
        let session = session::run(Arc::clone(&self.shared), number, self.sender.clone());
        // The set is the handle: it is joined above.
        self.sessions.spawn(session);
        self.current = Some(Current {
            number,
            up_since: None,
        });
    }

    fn hear(&mut self, event: Event) {
        match (event, &mut self.current) {
            (Event::Up(number), Some(current)) if current.number == number => {
                current.up_since = Some(Instant::now());
                self.shared.newest_up.send_replace(number);
            }
            (Event::Draining(number), Some(current)) if current.number == number => {
                // All agents of the server are told at once: the jitter spreads them.
                self.current = None;
                self.backoff.reset();
                self.retry_at = Instant::now() + self.backoff.next();
            }
            // Of a session that is not the current one any more.
            (Event::Up(_) | Event::Draining(_), _) => {}
        }
    }

    /// Takes note of a session's end; an error ends the agent.
    fn ended(&mut self, joined: Result<Ended, tokio::task::JoinError>) -> Option<Error> {
        let ended = match joined {
            Ok(ended) => ended,
            // A session that panicked: its number is lost, and the current one is the likely one.
            Err(error) => Ended {
                number: self.current.as_ref().map_or(0, |current| current.number),
                error: Error::internal(error),
                retry: true,
                at_once: false,
            },
        };
        let current = self
            .current
            .take_if(|current| current.number == ended.number)?;
        if !ended.retry {
            return Some(ended.error);
        }
        self.schedule(&current, ended);
        None
    }

    fn schedule(&mut self, current: &Current, ended: Ended) {
        let lived = current.up_since.map(|since| since.elapsed());
        if lived.is_some_and(|lived| lived >= defaults::BACKOFF_RESET_AFTER) || ended.at_once {
            self.backoff.reset();
        }
        let wait = if ended.at_once {
            std::time::Duration::ZERO
        } else {
            self.backoff.next()
        };
        self.retry_at = Instant::now() + wait;
        let Error {
            code,
            message,
            internal,
        } = &ended.error;
        let attempts = self.backoff.attempts();
        if *code == Code::AgentStopped {
            tracing::info!(%code, "the server asked for a new session");
        } else {
            tracing::warn!(%code, error = message, internal, attempts, retry_in = ?wait, "the session is down");
        }
        self.shared
            .reconnecting(ended.error, attempts, shared::now().plus(wait));
    }
}
