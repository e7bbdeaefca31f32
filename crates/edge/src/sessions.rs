//! The sessions connected to this node, as the rest of the node sees them.
//!
//! Must never: talk to an agent; a session's actor does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use portcullis_model::{AccountId, CredentialId, Error, SessionId};
use portcullis_proto::{OnceOnly, SessionKey};
use portcullis_telemetry::{Ended, Records};
use tokio::sync::{Notify, mpsc};

use crate::defaults::SESSION_COMMANDS_MAX;
use crate::session::carriers::Carriers;
use crate::session::channels::Channels;

/// What a session's actor is asked to do.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    /// Tell the agent to stop, or to come back anew, and end.
    Stop {
        /// What the agent is told.
        error: Error,
        /// Whether it is to come back.
        restart: bool,
        /// What its connections end with.
        why: Ended,
    },
    /// End with an error.
    End {
        /// What the agent is told.
        error: Error,
        /// Whether it may try again.
        retry: bool,
        /// What its connections end with.
        why: Ended,
    },
    /// Tell the agent to open a new session and to let this one finish.
    Drain(Error),
    /// Tell the agent to drop a channel.
    Abort {
        /// The channel's number.
        channel: u64,
        /// The open that was reset.
        open: u32,
    },
}

/// A session, as connections and commands use it.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) account: AccountId,
    pub(crate) credential: CredentialId,
    pub(crate) key: SessionKey,
    /// Numbers of its links without TLS.
    pub(crate) plain: Mutex<OnceOnly>,
    pub(crate) remote_management: bool,
    /// Whether the agent knows carriers, and takes bytes before its verdict.
    pub(crate) carries: bool,
    pub(crate) channels: Channels,
    pub(crate) carriers: Carriers,
    commands: mpsc::Sender<Command>,
}

impl Session {
    /// A session and what its actor listens to.
    pub(crate) fn new(
        id: SessionId,
        account: AccountId,
        credential: CredentialId,
        key: SessionKey,
        remote_management: bool,
        carries: bool,
        records: Records,
    ) -> (Arc<Self>, mpsc::Receiver<Command>) {
        let (commands, mailbox) = mpsc::channel(SESSION_COMMANDS_MAX);
        let carriers = Carriers::new(records.clone());
        let channels = Channels::new(records);
        let session = Self {
            id,
            account,
            credential,
            key,
            plain: Mutex::default(),
            remote_management,
            carries,
            channels,
            carriers,
            commands,
        };
        (Arc::new(session), mailbox)
    }

    /// Gives the actor a command. A session that has ended has nothing left to do.
    pub(crate) async fn command(&self, command: Command) {
        if self.commands.send(command).await.is_err() {
            tracing::debug!(session = %self.id, "command for a session that has ended");
        }
    }

    /// Has the agent told to drop a channel. When the actor's queue is full this is shed: our end of the
    /// channel is closed, and the agent finds out by itself once its direction moves or its keep-alive fails.
    pub(crate) fn abort(&self, channel: u64, open: u32) {
        if self
            .commands
            .try_send(Command::Abort { channel, open })
            .is_err()
        {
            tracing::debug!(session = %self.id, channel, open, "abort was not told");
        }
    }
}

/// The table.
#[derive(Default)]
pub(crate) struct Sessions {
    table: RwLock<HashMap<SessionId, Arc<Session>>>,
    removed: Notify,
}

impl Sessions {
    pub(crate) fn insert(&self, session: Arc<Session>) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.insert(session.id.clone(), session);
    }

    pub(crate) fn remove(&self, id: &SessionId) {
        self.table
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
        self.removed.notify_waiters();
    }

    /// Waits until no session is connected. The caller bounds it.
    pub(crate) async fn empty(&self) {
        loop {
            let removed = self.removed.notified();
            if self
                .table
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .is_empty()
            {
                return;
            }
            removed.await;
        }
    }

    pub(crate) fn find(&self, id: &SessionId) -> Option<Arc<Session>> {
        self.table
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }

    /// Whether a session is connected to this node.
    pub(crate) fn serves(&self, id: &SessionId) -> bool {
        self.table
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(id)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        self.table
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }
}
