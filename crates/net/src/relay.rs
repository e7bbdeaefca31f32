//! The hot loop: moves bytes between a client and an upstream, both ways, until both directions
//! ended, one side broke, a limit was reached or someone ended it.
//!
//! Bytes are read into a buffer of the runtime's thread; a connection has memory of its own only
//! while the other side does not take them all, so an idle one costs none. Bulk between two plain
//! sockets is not copied at all: `relay/splice.rs`.
//!
//! Must never: log, lock, look anything up, or allocate while bytes flow freely.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

#[cfg(doc)]
use crate::defaults::RELAY_SETTLED_AFTER;

mod direction;
mod pipe;
mod scratch;
mod silence;
mod splice;

pub use pipe::PipesInUse;
pub use splice::Plain;
pub(crate) use splice::is_impossible;

use direction::{Broken, Direction};
use silence::{Rules, Silence};

/// One side of a relay.
pub trait RelayIo: AsyncRead + AsyncWrite + Unpin + Send {
    /// From now on the end of this side is a reset (RST, RESET), not a clean end.
    fn reset(&mut self);

    /// Ready when the peer reset the connection or it died, even while nobody reads from it. The
    /// relay asks whenever it does not read: while the other side is clogged, and after the end of
    /// this side's bytes.
    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error>;

    /// Whether its drop, behind the peer's end, ends our bytes as cleanly as a shutdown: true of a plain
    /// socket, and it spares a short connection a system call.
    fn drop_ends(&self) -> bool {
        false
    }

    /// The relay has lasted a while ([`RELAY_SETTLED_AFTER`]): time for what a short connection goes
    /// without.
    fn settle(&mut self) {}

    /// Whether [`Self::poll_read_two`] fills its second buffer.
    fn reads_two(&self) -> bool {
        false
    }

    /// Reads for TLS, whose peer sends nothing urgent: into two buffers with one call, the first of them first.
    /// The second may be empty, and is for who does not say that it fills it.
    fn poll_read_two(
        &mut self,
        cx: &mut Context<'_>,
        first: &mut [u8],
        _second: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(first);
        Pin::new(self)
            .poll_read(cx, &mut buf)
            .map_ok(|()| buf.filled().len())
    }

    /// The way past memory, when nothing but frames stands between a socket and the bytes. Between two of
    /// them bulk is spliced. It may come and go with what the stream runs over.
    fn plain(&mut self) -> Option<&mut dyn Plain> {
        None
    }
}

/// What the relays of this process have of pipes, for whoever watches.
pub fn pipes_in_use() -> PipesInUse {
    pipe::pool().in_use()
}

/// Whose side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The one that connected to us.
    Client,
    /// The one that we connected to.
    Upstream,
}

impl Side {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Upstream,
            Self::Upstream => Self::Client,
        }
    }
}

/// How long a relay may be silent, and how long it may last. `None` is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RelayLimits {
    /// No byte in either direction.
    pub idle: Option<Duration>,
    /// No byte from the client.
    pub client_idle: Option<Duration>,
    /// No byte from the upstream.
    pub server_idle: Option<Duration>,
    /// No byte after one direction has ended.
    pub half_close: Option<Duration>,
    /// From the start of the counters, however many bytes move. It is no silence, but the same timer keeps it.
    pub lifetime: Option<Duration>,
}

/// What a relay has moved, for whoever watches it live. Bytes count when the other side's socket
/// took them.
#[derive(Debug)]
pub struct Counters {
    /// Bytes from the client that were written to the upstream.
    pub from_client: AtomicU64,
    /// Bytes from the upstream that were written to the client.
    pub from_upstream: AtomicU64,
    /// Those of either side that were spliced, not copied.
    spliced: AtomicU64,
    start: Instant,
    /// Microseconds from `start` to the first byte, plus one; 0 is not yet.
    first_from_client: AtomicU64,
    first_from_upstream: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

impl Counters {
    /// Counters whose clock starts now: at accept.
    pub fn new() -> Self {
        Self {
            from_client: AtomicU64::new(0),
            from_upstream: AtomicU64::new(0),
            spliced: AtomicU64::new(0),
            start: Instant::now(),
            first_from_client: AtomicU64::new(0),
            first_from_upstream: AtomicU64::new(0),
        }
    }

    /// Bytes that came from a side.
    pub fn from(&self, side: Side) -> u64 {
        self.cell(side).0.load(Ordering::Relaxed)
    }

    /// When the first byte of a side was passed on, from the start of the counters.
    pub fn first_byte_from(&self, side: Side) -> Option<Duration> {
        self.cell(side)
            .1
            .load(Ordering::Relaxed)
            .checked_sub(1)
            .map(Duration::from_micros)
    }

    /// Bytes of either side that went from socket to socket without being copied.
    pub fn spliced(&self) -> u64 {
        self.spliced.load(Ordering::Relaxed)
    }

    fn add_spliced(&self, bytes: usize) {
        if bytes > 0 {
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            self.spliced.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// When the counters were made.
    pub fn start(&self) -> Instant {
        self.start
    }

    /// Accounts for bytes of a side that were passed on: the relay does, and who sends a client's
    /// first bytes ahead of the relay.
    pub fn add(&self, from: Side, bytes: u64) {
        let (total, first) = self.cell(from);
        if bytes > 0 && total.fetch_add(bytes, Ordering::Relaxed) == 0 {
            let micros = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX - 1);
            first.store(micros + 1, Ordering::Relaxed);
        }
    }

    fn cell(&self, side: Side) -> (&AtomicU64, &AtomicU64) {
        match side {
            Side::Client => (&self.from_client, &self.first_from_client),
            Side::Upstream => (&self.from_upstream, &self.first_from_upstream),
        }
    }
}

/// How a relay ended. After anything but `Finished` both sides have been told to reset.
#[derive(Debug)]
pub enum RelayEnd {
    /// Both directions came to their end.
    Finished {
        /// Whose bytes ended first.
        first: Side,
    },
    /// One side reset the connection.
    Reset {
        /// Which.
        by: Side,
    },
    /// One side failed otherwise.
    Failed {
        /// Which.
        side: Side,
        /// How.
        source: io::Error,
    },
    /// Neither direction moved a byte for `idle`.
    Idle,
    /// The client sent nothing for `client_idle`.
    ClientIdle,
    /// The upstream sent nothing for `server_idle`.
    ServerIdle,
    /// Nothing moved for `half_close` after one direction had ended.
    HalfCloseIdle,
    /// It lasted for `lifetime`.
    LifetimeOver,
    /// Somebody ended it.
    Killed,
}

impl From<Broken> for RelayEnd {
    fn from(Broken { side, source }: Broken) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
        match source.kind() {
            // The last three are what a write finds after the reset was taken notice of elsewhere.
            ConnectionReset | BrokenPipe | ConnectionAborted | NotConnected => {
                Self::Reset { by: side }
            }
            _ => Self::Failed { side, source },
        }
    }
}

/// A relay at work: all that it keeps between two polls, which is what an idle connection costs. Both
/// sides, the limits and the counters are its owner's, and must be the same with every poll.
pub struct Relay {
    up: Direction,
    down: Direction,
    silence: Silence,
}

impl Relay {
    /// Begins now, with nothing moved.
    pub fn new(limits: &RelayLimits, counters: &Counters) -> Self {
        let rules = Rules {
            limits,
            start: counters.start,
        };
        Self {
            up: Direction::new(Side::Client),
            down: Direction::new(Side::Upstream),
            silence: Silence::new(rules),
        }
    }

    /// Moves what can be moved now; ready when both directions ended, or something else ended it. The
    /// end of one side's bytes shuts the write half of the other; whatever cuts the connection short
    /// makes a reset of both. Not to be polled behind its end; both sides are to be dropped then, which may
    /// be what ends the bytes of one.
    ///
    /// What ends it from outside is its owner's to watch: [`Self::cut`].
    pub fn poll<C: RelayIo, U: RelayIo>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut C,
        upstream: &mut U,
        limits: &RelayLimits,
        counters: &Counters,
    ) -> Poll<RelayEnd> {
        let Self { up, down, silence } = self;
        if let Err(broken) = turn(cx, (up, client), (down, upstream), counters) {
            return Poll::Ready(Self::cut(client, upstream, broken.into()));
        }
        if up.is_done() && down.is_done() {
            return Poll::Ready(RelayEnd::Finished {
                first: silence.first_end(),
            });
        }
        let rules = Rules {
            limits,
            start: counters.start,
        };
        let end = silence.poll(cx, rules, up, down);
        if silence.take_settled() {
            client.settle();
            upstream.settle();
        }
        end.map(|end| Self::cut(client, upstream, end))
    }

    /// Makes a reset of both sides, for this reason.
    pub fn cut<C: RelayIo, U: RelayIo>(
        client: &mut C,
        upstream: &mut U,
        end: RelayEnd,
    ) -> RelayEnd {
        client.reset();
        upstream.reset();
        end
    }
}

/// Relays until both directions ended, or something else ended it: [`Relay`] as a future.
///
/// # Cancel safety
/// Dropping the future loses bytes in flight: cancel `kill` instead.
pub async fn relay<C: RelayIo, U: RelayIo>(
    client: &mut C,
    upstream: &mut U,
    limits: &RelayLimits,
    counters: &Counters,
    kill: &CancellationToken,
) -> RelayEnd {
    let mut relay = Relay::new(limits, counters);
    let mut killed = pin!(kill.cancelled());
    poll_fn(|cx| match killed.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(Relay::cut(client, upstream, RelayEnd::Killed)),
        Poll::Pending => relay.poll(cx, client, upstream, limits, counters),
    })
    .await
}

/// Moves what can be moved now, both ways, and then looks for broken sides that nobody reads.
fn turn<C: RelayIo, U: RelayIo>(
    cx: &mut Context<'_>,
    (up, client): (&mut Direction, &mut C),
    (down, upstream): (&mut Direction, &mut U),
    counters: &Counters,
) -> Result<(), Broken> {
    if let Err(broken) = up.advance(cx, client, upstream, counters, down.is_done()) {
        if broken.side == Side::Upstream {
            down.last_words(cx, upstream, client, counters);
        }
        return Err(broken);
    }
    down.advance(cx, upstream, client, counters, up.is_done())?;
    if up.is_done() && down.is_done() {
        return Ok(());
    }
    up.watch(cx, client)?;
    down.watch(cx, upstream)
}

#[cfg(test)]
mod splice_tests;
#[cfg(test)]
mod tests;
