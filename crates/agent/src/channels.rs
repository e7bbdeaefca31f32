//! The data channels of one session: keeps as many idle ones ready as the server asks, and runs a
//! task for each, which serves one client connection after another.
//!
//! Never closes an idle channel by itself: an OPEN may be on its way on it. Must never: outlive the
//! session.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use portcullis_model::{Error, SessionId};
use portcullis_net::channel::{AbortHandle, AgentOpening, Channel};
use portcullis_net::control::Writer;
use portcullis_net::tls;
use portcullis_proto::handshake::channel_mac;
use portcullis_proto::message::{Abort, ChannelHello};
use portcullis_proto::{FirstMessage, SessionKey};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::routes::Routes;
use crate::shared::Shared;
use crate::{connection, defaults, dial};

/// What the channels of a session share.
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) routes: Arc<Routes>,
    /// Cancelled when the session is over: connections are reset.
    pub(crate) token: CancellationToken,
    session: SessionId,
    key: SessionKey,
    counts: Arc<Counts>,
    aborts: mpsc::Sender<Abort>,
    /// The opens in progress, by channel.
    opens: Mutex<HashMap<u64, (u32, AbortHandle)>>,
}

/// Takes an open off the list of those in progress when dropped.
pub(crate) struct Registered<'c>(&'c Context, u64);

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.0
            .opens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.1);
    }
}

impl Context {
    /// Lets an `abort` from the control connection reach the open.
    pub(crate) fn register(&self, opening: &AgentOpening) -> Registered<'_> {
        let entry = (opening.open(), opening.abort_handle());
        let mut opens = self.opens.lock().unwrap_or_else(PoisonError::into_inner);
        opens.insert(opening.channel(), entry);
        Registered(self, opening.channel())
    }

    /// Has the session tell the edge that a channel is dropped.
    pub(crate) async fn abort(&self, channel: u64, open: u32) {
        tokio::select! {
            biased; // a session that is over tells nothing any more
            () = self.token.cancelled() => {}
            sent = self.aborts.send(Abort { channel, open }) => {
                // The session holds the receiver until it cancels the token.
                sent.ok();
            }
        }
    }
}

/// How many channels are in which state.
#[derive(Debug, Default)]
struct Counts {
    opening: AtomicU64,
    idle: AtomicU64,
    busy: AtomicU64,
    changed: Notify,
}

/// One in a count, for as long as it lives.
struct Counted<'c>(&'c AtomicU64, &'c Notify);

impl Counts {
    fn enter<'c>(&'c self, count: &'c AtomicU64) -> Counted<'c> {
        count.fetch_add(1, Ordering::AcqRel);
        Counted(count, &self.changed)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
        self.1.notify_one();
    }
}

/// The channels of one session.
pub(crate) struct Channels {
    context: Arc<Context>,
    tasks: JoinSet<Result<(), Error>>,
    opening: Arc<Semaphore>,
    idle_min: u64,
    last_number: u64,
    backoff: Backoff,
    retry_at: Option<Instant>,
}

impl Channels {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        routes: &Arc<Routes>,
        session: SessionId,
        key: SessionKey,
        idle_min: u32,
        aborts: mpsc::Sender<Abort>,
    ) -> Self {
        let context = Context {
            shared: Arc::clone(shared),
            routes: Arc::clone(routes),
            token: CancellationToken::new(),
            session,
            key,
            counts: Arc::default(),
            aborts,
            opens: Mutex::default(),
        };
        Self {
            context: Arc::new(context),
            tasks: JoinSet::new(),
            opening: Arc::new(Semaphore::new(defaults::CHANNELS_OPENING_MAX)),
            idle_min: u64::from(idle_min).min(defaults::CHANNELS_IDLE_MAX),
            last_number: 0,
            backoff: Backoff::new(defaults::CHANNEL_RETRY_FIRST, defaults::CHANNEL_RETRY_MAX),
            retry_at: None,
        }
    }

    /// Waits until there may be something to do for [`Self::fill`].
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn changed(&mut self) {
        let retry = async {
            match self.retry_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased; // ends first: they decide whether to wait
            Some(joined) = self.tasks.join_next() => {
                let failed = joined.map_err(Error::internal).and_then(|outcome| outcome);
                if let Err(error) = failed {
                    let wait = self.backoff.next();
                    tracing::debug!(%error, internal = error.internal, ?wait, "a data channel failed");
                    self.retry_at = Some(Instant::now() + wait);
                }
            }
            () = self.context.counts.changed.notified() => {}
            () = retry => self.retry_at = None,
        }
    }

    /// Opens channels until enough are idle or on their way.
    pub(crate) fn fill(&mut self) {
        if self.retry_at.is_some() {
            return;
        }
        let counts = &self.context.counts;
        let ready = counts.idle.load(Ordering::Acquire);
        if ready > 0 {
            self.backoff.reset();
        }
        let coming = counts.opening.load(Ordering::Acquire);
        self.open(self.idle_min.saturating_sub(ready + coming));
    }

    /// Opens so many channels, within the limits.
    pub(crate) fn open(&mut self, count: u64) {
        let room = (defaults::CHANNELS_MAX as u64).saturating_sub(self.tasks.len() as u64);
        let coming = self.context.counts.opening.load(Ordering::Acquire);
        let room = room.min(defaults::CHANNELS_COMING_MAX.saturating_sub(coming));
        for _ in 0..count.min(room) {
            self.last_number += 1;
            // Counted here and not in the task, so that the next `fill` sees it.
            self.context.counts.opening.fetch_add(1, Ordering::AcqRel);
            let (context, opening) = (Arc::clone(&self.context), Arc::clone(&self.opening));
            self.tasks.spawn(run(context, opening, self.last_number));
        }
    }

    /// Whether no client connection is being served.
    pub(crate) fn are_idle(&self) -> bool {
        self.context.counts.busy.load(Ordering::Acquire) == 0
    }

    /// The edge dropped a channel: its open ends like a reset.
    pub(crate) fn abort(&self, channel: u64, open: u32) {
        let opens = self
            .context
            .opens
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((_, handle)) = opens.get(&channel).filter(|(current, _)| *current == open) {
            handle.abort();
        }
    }

    /// Ends all: connections in progress are reset.
    pub(crate) async fn end(mut self) {
        self.context.token.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(defaults::RESET_WAIT, all)
            .await
            .is_err()
        {
            tracing::warn!(
                left = self.tasks.len(),
                "channels were dropped: they did not end in time"
            );
        }
    }
}

/// One channel's life: open, then one connection after another.
async fn run(context: Arc<Context>, opening: Arc<Semaphore>, number: u64) -> Result<(), Error> {
    let counts = Arc::clone(&context.counts);
    let opened = {
        let _opening = Counted(&counts.opening, &counts.changed);
        tokio::select! {
            biased; // the end first
            () = context.token.cancelled() => return Ok(()),
            opened = open(&context, &opening, number) => opened?,
        }
    };
    let since = Instant::now();
    let mut channel = opened;
    let mut served = false;
    loop {
        let idle = counts.enter(&counts.idle);
        let accepted = tokio::select! {
            biased; // the end first
            () = context.token.cancelled() => return Ok(()),
            accepted = channel.accept() => accepted,
        };
        let _busy = counts.enter(&counts.busy);
        drop(idle);
        let (header, first, open) = match accepted {
            Ok(accepted) => accepted,
            // The edge may close idle channels as it likes, but not at once.
            Err(error) if !served && since.elapsed() < defaults::CHANNEL_USELESS_BEFORE => {
                return Err(error);
            }
            Err(_) => return Ok(()),
        };
        served = true;
        match connection::serve(&context, header, first, open).await {
            Some(free) => channel = free,
            None => return Ok(()),
        }
    }
}

/// Connects a channel and says whose it is.
async fn open(context: &Context, opening: &Semaphore, number: u64) -> Result<Channel, Error> {
    // The semaphore is never closed; waiting for it is bounded by the others' deadlines.
    let _permit = opening.acquire().await.map_err(Error::internal)?;
    let deadline = Instant::now() + context.shared.settings.connect_timeout;
    let stream = dial::connect(&context.shared.settings, deadline).await?;
    let exporter = tls::exporter(&stream)?;
    let mac = channel_mac(&context.key, &context.session, number, &exporter);
    let hello = ChannelHello {
        session_id: context.session.clone(),
        channel: number,
        mac,
    };
    let mut writer = Writer::new(stream);
    let late = || {
        Error::new(
            portcullis_model::Code::ServerUnreachable,
            "the server did not take the channel in time",
        )
    };
    timeout_at(deadline, writer.send(&FirstMessage::Channel(hello)))
        .await
        .map_err(|_| late())??;
    Ok(Channel::agent(number, writer.into_inner()))
}
