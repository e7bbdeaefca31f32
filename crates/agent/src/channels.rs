//! The links of one session: keeps as many carriers and idle channels as the server asks. A carrier's
//! task starts one for each client connection; a channel's serves one after another.
//!
//! Never closes an idle channel by itself: an OPEN may be on its way on it. Must never: outlive the
//! session.

use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portcullis_model::{Code, Error, SessionId};
use portcullis_net::carrier::{Carrier, Flow};
use portcullis_net::channel::{
    AbortHandle, AgentOpening, Begun, Channel, Exchange, LinkStream, OpenHeader, Resumed, Settling,
};
use portcullis_net::control::Writer;
use portcullis_net::socket::TcpConn;
use portcullis_net::tls;
use portcullis_proto::defaults::{CARRIERS_MAX, PLAIN_MAGIC};
use portcullis_proto::handshake::{channel_mac, plain_mac};
use portcullis_proto::message::{Abort, ChannelHello};
use portcullis_proto::{FirstMessage, Leg, LinkKind, SessionKey};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

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
    moves: bool,
    /// The opens in progress, by channel.
    opens: Mutex<HashMap<u64, (u32, AbortHandle)>>,
    /// What the windows of the carriers share.
    flow: Arc<Flow>,
    /// The carriers that live.
    carriers: Mutex<Vec<Carrier>>,
    /// The tasks of the carriers' opens.
    carried: TaskTracker,
}

/// What the server wants to be kept ready.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) idle_channels: u32,
    pub(crate) carriers: u32,
}

/// Takes an open off the list of those in progress when dropped.
pub(crate) struct Registered(Arc<Context>, u64);

impl Drop for Registered {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

impl Exchange for Context {
    /// A channel that a connection moved to: from here on it serves others.
    fn give_back(self: Arc<Self>, settling: Settling) {
        let carried = self.carried.clone();
        carried.spawn(async move {
            let number = settling.channel();
            let finished = connection::settle(&self, settling.finish()).await;
            self.leave(number);
            if let Some(channel) = finished {
                serve_on(self, channel, None).await.ok(); // it has served
            }
        });
    }
}

impl Context {
    /// Lets an `abort` from the control connection, and the end of the session, reach the open. On a
    /// carrier a reset always passes, and the session's end ends the carrier.
    pub(crate) fn register(self: &Arc<Self>, opening: &AgentOpening) -> Option<Registered> {
        if opening.is_on_carrier() {
            return None;
        }
        self.enter(opening.channel(), opening.open(), opening.abort_handle());
        Some(Registered(Arc::clone(self), opening.channel()))
    }

    fn enter(&self, channel: u64, open: u32, handle: AbortHandle) {
        if self.token.is_cancelled() {
            handle.abort(); // whoever ended the others has not seen it
        }
        let mut opens = self.opens.lock().unwrap_or_else(PoisonError::into_inner);
        opens.insert(channel, (open, handle));
    }

    /// Whether the edge moves connections: it does with an agent that it asked for carriers.
    pub(crate) fn moves(&self) -> bool {
        self.moves
    }

    /// A channel's open is over.
    pub(crate) fn leave(&self, channel: u64) {
        let mut opens = self.opens.lock().unwrap_or_else(PoisonError::into_inner);
        opens.remove(&channel);
    }

    /// The connection that a leg is of.
    fn connection_at(&self, leg: Leg) -> Option<AbortHandle> {
        let opens = self.opens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((open, handle)) = opens.get(&leg.link) {
            return (*open == leg.open).then(|| handle.clone());
        }
        drop(opens);
        let carriers = self.carriers.lock().unwrap_or_else(PoisonError::into_inner);
        let carrier = carriers.iter().find(|carrier| carrier.id() == leg.link)?;
        carrier.handle(leg.open)
    }

    /// A connection goes on at another leg: gives it that.
    fn resume(self: &Arc<Self>, resumed: Resumed) {
        let (from, at) = (resumed.from(), resumed.at());
        let connection = self.connection_at(from);
        if !resumed.is_on_carrier() {
            self.enter(at.link, at.open, resumed.abort_handle());
        }
        if let Some(settling) = resumed.hand_to(connection.as_ref()) {
            Arc::clone(self).give_back(settling);
        }
    }

    /// Ends everything: connections in progress are reset.
    fn end(&self) {
        self.token.cancel();
        let opens = self.opens.lock().unwrap_or_else(PoisonError::into_inner);
        opens.values().for_each(|(_, handle)| handle.abort());
        drop(opens);
        let carriers = self.carriers.lock().unwrap_or_else(PoisonError::into_inner);
        carriers.iter().for_each(Carrier::kill);
        drop(carriers);
        self.carried.close();
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
    /// On their way, and alive.
    carriers: AtomicU64,
    /// Open channels, idle or not.
    channels: AtomicU64,
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
    carriers: u64,
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
        wanted: Wanted,
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
            moves: wanted.carriers > 0,
            opens: Mutex::default(),
            flow: Arc::default(),
            carriers: Mutex::default(),
            carried: TaskTracker::new(),
        };
        Self {
            context: Arc::new(context),
            tasks: JoinSet::new(),
            opening: Arc::new(Semaphore::new(defaults::CHANNELS_OPENING_MAX)),
            idle_min: u64::from(wanted.idle_channels).min(defaults::CHANNELS_IDLE_MAX),
            carriers: u64::from(wanted.carriers.min(CARRIERS_MAX)),
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
                    tracing::debug!(%error, internal = error.internal, ?wait, "a link failed");
                    self.retry_at = Some(Instant::now() + wait);
                }
            }
            () = self.context.counts.changed.notified() => {}
            () = retry => self.retry_at = None,
        }
    }

    /// Opens carriers and channels until enough are there or on their way.
    pub(crate) fn fill(&mut self) {
        if self.retry_at.is_some() {
            return;
        }
        let counts = Arc::clone(&self.context.counts);
        let carriers = counts.carriers.load(Ordering::Acquire);
        for _ in carriers..self.carriers {
            self.last_number += 1;
            counts.carriers.fetch_add(1, Ordering::AcqRel);
            let (context, opening) = (Arc::clone(&self.context), Arc::clone(&self.opening));
            self.tasks.spawn(carry(context, opening, self.last_number));
        }
        let ready = counts.idle.load(Ordering::Acquire);
        if ready > 0 {
            self.backoff.reset();
        }
        let coming = counts.opening.load(Ordering::Acquire);
        self.open(self.idle_min.saturating_sub(ready + coming));
    }

    /// Opens so many channels, within the limits.
    pub(crate) fn open(&mut self, count: u64) {
        let coming = self.context.counts.opening.load(Ordering::Acquire);
        let there = self.context.counts.channels.load(Ordering::Acquire);
        let room = (defaults::CHANNELS_MAX as u64).saturating_sub(there + coming);
        let room = room.min(defaults::CHANNELS_COMING_MAX.saturating_sub(coming));
        for _ in 0..count.min(room) {
            self.last_number += 1;
            // Counted here and not in the task, so that the next `fill` sees it.
            self.context.counts.opening.fetch_add(1, Ordering::AcqRel);
            let (context, opening) = (Arc::clone(&self.context), Arc::clone(&self.opening));
            self.tasks.spawn(run(context, opening, self.last_number));
        }
    }

    /// Notes a round trip of the session.
    pub(crate) fn note_round_trip(&self, took: Duration) {
        self.context.flow.note_round_trip(took);
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
        self.context.end();
        let all = async {
            while self.tasks.join_next().await.is_some() {}
            self.context.carried.wait().await;
        };
        if tokio::time::timeout(defaults::RESET_WAIT, all)
            .await
            .is_err()
        {
            tracing::warn!(
                left = self.tasks.len() + self.context.carried.len(),
                "connections were dropped: they did not end in time"
            );
        }
    }
}

/// One channel's life: open, then one connection after another.
async fn run(context: Arc<Context>, opening: Arc<Semaphore>, number: u64) -> Result<(), Error> {
    let counts = Arc::clone(&context.counts);
    let mut channel = {
        let _opening = Counted(&counts.opening, &counts.changed);
        tokio::select! {
            biased; // the end first
            () = context.token.cancelled() => return Ok(()),
            opened = open(&context, &opening, number) => opened?,
        }
    };
    channel.keep(Place::new(&context));
    serve_on(context, channel, Some(Instant::now())).await
}

/// Serves one connection after another on a channel, until it ends or a connection takes it along. `since`
/// is when it was opened, if it has served nobody yet.
async fn serve_on(
    context: Arc<Context>,
    mut channel: Channel,
    mut since: Option<Instant>,
) -> Result<(), Error> {
    let counts = Arc::clone(&context.counts);
    loop {
        let idle = counts.enter(&counts.idle);
        let begun = tokio::select! {
            biased; // the end first
            () = context.token.cancelled() => return Ok(()),
            begun = channel.begun() => begun,
        };
        let _busy = counts.enter(&counts.busy);
        drop(idle);
        let served = match begun {
            Ok(Begun::Open(header, first, open)) => {
                connection::serve(Arc::clone(&context), header, first, open).await
            }
            Ok(Begun::Resumed(resumed)) => {
                context.resume(resumed); // the connection gives it back
                return Ok(());
            }
            // The edge may close idle channels as it likes, but not at once.
            Err(error) => {
                let useless = |since: Instant| since.elapsed() < defaults::CHANNEL_USELESS_BEFORE;
                return if since.is_some_and(useless) {
                    Err(error)
                } else {
                    Ok(())
                };
            }
        };
        since = None;
        match served {
            Some(free) => channel = free,
            None => return Ok(()),
        }
    }
}

/// A channel's place among those of the session.
struct Place(Arc<Counts>);

impl Place {
    fn new(context: &Context) -> Self {
        context.counts.channels.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(&context.counts))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.channels.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One carrier's life.
async fn carry(context: Arc<Context>, opening: Arc<Semaphore>, number: u64) -> Result<(), Error> {
    let counts = Arc::clone(&context.counts);
    let _there = Counted(&counts.carriers, &counts.changed);
    let stream = tokio::select! {
        biased; // the end first
        () = context.token.cancelled() => return Ok(()),
        stream = connect(&context, &opening, number, LinkKind::Carrier) => stream?,
    };
    let since = Instant::now();
    let (carrier, task) = Carrier::agent(number, stream, &context.flow);
    let _listed = Listed::new(&context, carrier);
    let serving = Arc::clone(&context);
    let ended = task.run(move |begun| serve(&serving, begun)).await;
    match ended {
        Err(error) if since.elapsed() < defaults::CHANNEL_USELESS_BEFORE => Err(error),
        Err(error) => {
            tracing::debug!(carrier = number, %error, internal = error.internal, "a carrier ended");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Starts the task of what begins on a carrier.
fn serve(context: &Arc<Context>, begun: Begun) {
    let (header, first, opening) = match begun {
        Begun::Open(header, first, opening) => (header, first, opening),
        Begun::Resumed(resumed) => return context.resume(resumed),
    };
    let serving = Arc::clone(context);
    context.counts.busy.fetch_add(1, Ordering::AcqRel);
    context
        .carried
        .spawn(serve_one(serving, header, first, opening));
}

/// Serves a connection that began on a carrier; a channel that it came to goes on serving others.
async fn serve_one(context: Arc<Context>, header: OpenHeader, first: Bytes, opening: AgentOpening) {
    let busy = Busy(Arc::clone(&context));
    let channel = connection::serve(Arc::clone(&context), header, first, opening).await;
    drop(busy);
    if let Some(channel) = channel {
        Box::pin(serve_on(context, channel, None)).await.ok(); // it has served
    }
}

/// One of those that are served. Whoever waits for the last one looks by itself, so nobody is told.
struct Busy(Arc<Context>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.counts.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A carrier on the list of those that live.
struct Listed<'c>(&'c Context, u64);

impl<'c> Listed<'c> {
    fn new(context: &'c Context, carrier: Carrier) -> Self {
        let number = carrier.id();
        let mut carriers = context
            .carriers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if context.token.is_cancelled() {
            carrier.kill(); // whoever ended the others has not seen it
        }
        carriers.push(carrier);
        drop(carriers);
        Self(context, number)
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        let mut carriers = self
            .0
            .carriers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        carriers.retain(|carrier| carrier.id() != self.1);
    }
}

/// Connects a channel.
async fn open(context: &Context, opening: &Semaphore, number: u64) -> Result<Channel, Error> {
    let stream = connect(context, opening, number, LinkKind::Channel).await?;
    Ok(Channel::agent(number, stream))
}

/// Connects, and says what the connection is for and whose it is.
async fn connect(
    context: &Context,
    opening: &Semaphore,
    number: u64,
    kind: LinkKind,
) -> Result<LinkStream, Error> {
    // The semaphore is never closed; waiting for it is bounded by the others' deadlines.
    let _permit = opening.acquire().await.map_err(Error::internal)?;
    let deadline = Instant::now() + context.shared.settings.connect_timeout;
    let said = timeout_at(deadline, say(context, number, kind, deadline)).await;
    said.map_err(|_| {
        Error::new(
            Code::ServerUnreachable,
            "the server did not take the connection in time",
        )
    })?
}

/// Dials, and says what the link is. Without TLS the session's key proves it alone.
async fn say(
    context: &Context,
    number: u64,
    kind: LinkKind,
    deadline: Instant,
) -> Result<LinkStream, Error> {
    let settings = &context.shared.settings;
    let (key, session) = (&context.key, &context.session);
    let first = |mac| {
        let hello = ChannelHello {
            session_id: session.clone(),
            channel: number,
            mac,
        };
        match kind {
            LinkKind::Channel => FirstMessage::Channel(hello),
            LinkKind::Carrier => FirstMessage::Carrier(hello),
        }
    };
    if settings.plain_channels {
        let mut conn = TcpConn::new(dial::connect_plain(settings, deadline).await?);
        let broke = |source| {
            Error::new(Code::ServerUnreachable, "the connection broke").with_internal(source)
        };
        conn.write_all(&PLAIN_MAGIC).await.map_err(broke)?;
        let mut writer = Writer::new(conn);
        let mac = plain_mac(key, session, number, kind);
        writer.send(&first(mac)).await?;
        return Ok(writer.into_inner().into());
    }
    let stream = dial::connect(settings, deadline).await?;
    let exporter = tls::exporter(&stream)?;
    let mac = channel_mac(key, session, number, &exporter);
    let mut writer = Writer::new(stream);
    writer.send(&first(mac)).await?;
    Ok(writer.into_inner().into())
}
