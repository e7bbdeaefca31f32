//! The data channels of a session: idle ones in a pool, opens that wait for one, and how to abort
//! those that carry a connection.
//!
//! Owns: the idle channels. Must never: hand out a channel that it knows to be dead, or hold its lock
//! across a wait.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_model::{Code, Error};
use portcullis_net::channel::{AbortHandle, Channel, Finished};
use portcullis_telemetry::Records;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::Instant;

use super::demand::Demand;
use crate::defaults::{CHANNEL_QUIET_SWEEPS, CHANNEL_WAITERS_MAX, CHANNELS_PER_SESSION_MAX};

/// The pool of one session.
pub(crate) struct Channels {
    inner: Mutex<Inner>,
    /// Told when the agent should be asked for more.
    wanted: Notify,
    places: Arc<Semaphore>,
    records: Records,
}

struct Inner {
    /// The last one in is the first one out: what is at the bottom is not needed.
    idle: Vec<Channel>,
    waiters: VecDeque<oneshot::Sender<Channel>>,
    /// The open that a channel carries.
    carrying: HashMap<u64, (u32, AbortHandle)>,
    demand: Demand,
    closed: bool,
}

impl Channels {
    pub(crate) fn new(records: Records) -> Self {
        let inner = Inner {
            idle: Vec::new(),
            waiters: VecDeque::new(),
            carrying: HashMap::new(),
            demand: Demand::new(Instant::now()),
            closed: false,
        };
        Self {
            inner: Mutex::new(inner),
            wanted: Notify::new(),
            places: Arc::new(Semaphore::new(CHANNELS_PER_SESSION_MAX)),
            records,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A channel for an open; waits for one when none is idle. The caller bounds the wait.
    ///
    /// # Errors
    /// `PTC_AGENT_LOST` when the session ends, `PTC_NO_CHANNEL` when too many wait.
    ///
    /// # Cancel safety
    /// A channel that comes just when the future is dropped is dropped with it; the pool asks for another.
    pub(crate) async fn take(&self) -> Result<Channel, Error> {
        let waiting = {
            let mut inner = self.lock();
            if inner.closed {
                return Err(lost());
            }
            inner.demand.opened(Instant::now());
            if let Some(channel) = self.take_idle(&mut inner) {
                drop(inner);
                self.wanted.notify_one();
                return Ok(channel);
            }
            inner.waiters.retain(|waiter| !waiter.is_closed());
            if inner.waiters.len() >= CHANNEL_WAITERS_MAX {
                return Err(Error::of(Code::NoChannel));
            }
            let (sender, waiting) = oneshot::channel();
            inner.waiters.push_back(sender);
            waiting
        };
        self.records.metrics().channel_waits.inc();
        self.wanted.notify_one();
        waiting.await.map_err(|_| lost())
    }

    fn take_idle(&self, inner: &mut Inner) -> Option<Channel> {
        while let Some(mut channel) = inner.idle.pop() {
            self.records.metrics().channels_idle.dec();
            if channel.is_alive() {
                return Some(channel);
            }
        }
        None
    }

    /// An idle channel, if there is one, for a connection that has one of a carrier's already and so need
    /// not wait. What was not there is asked for, and an open that comes `again` is not one more.
    pub(crate) fn take_now(&self, again: bool) -> Option<Channel> {
        let mut inner = self.lock();
        if inner.closed {
            return None;
        }
        if !again {
            inner.demand.opened(Instant::now());
        }
        let channel = self.take_idle(&mut inner);
        drop(inner);
        self.wanted.notify_one();
        channel
    }

    /// Takes a channel that the agent opened.
    ///
    /// # Errors
    /// `PTC_AGENT_LOST` when the session has ended, `PTC_NO_CHANNEL` when it has too many.
    pub(crate) fn add(&self, mut channel: Channel) -> Result<(), Error> {
        let full = || {
            Error::new(
                Code::NoChannel,
                "the session has as many channels as it may",
            )
        };
        let place = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| full())?;
        if self.lock().closed {
            return Err(lost());
        }
        self.lock().demand.came(Instant::now());
        self.records.metrics().channels_opened.inc();
        channel.keep(place);
        self.put(channel);
        Ok(())
    }

    /// Takes back a channel that is free again. One too many is closed.
    pub(crate) fn put(&self, mut channel: Channel) {
        let mut inner = self.lock();
        if inner.closed {
            return;
        }
        while let Some(waiter) = inner.waiters.pop_front() {
            match waiter.send(channel) {
                Ok(()) => return,
                Err(back) => channel = back,
            }
        }
        // Twice the target, so that a rate that wavers does not close and open channels all the time.
        let most = usize::try_from(inner.demand.target(Instant::now())).unwrap_or(0) * 2;
        if inner.idle.len() < most {
            inner.idle.push(channel);
            self.records.metrics().channels_idle.inc();
        }
    }

    /// A channel carries an open from here on.
    pub(crate) fn began(&self, channel: u64, open: u32, abort: AbortHandle) {
        self.lock().carrying.insert(channel, (open, abort));
    }

    /// A channel's open is over.
    pub(crate) fn over(&self, channel: u64) {
        self.lock().carrying.remove(&channel);
    }

    /// What becomes of a channel whose open is over.
    pub(crate) fn finished(&self, channel: u64, finished: Finished) -> Option<(u64, u32)> {
        self.over(channel);
        match finished {
            Finished::Reusable(channel) => self.put(channel),
            Finished::Abort { channel, open } => return Some((channel, open)),
            Finished::Closed | Finished::Settled => {}
        }
        None
    }

    /// The agent gave an open up and could not tell so on its channel.
    pub(crate) fn aborted(&self, channel: u64, open: u32) {
        if let Some((current, abort)) = self.lock().carrying.get(&channel)
            && *current == open
        {
            abort.abort();
        }
    }

    /// Notes a round trip of the session.
    pub(crate) fn note_round_trip(&self, took: Duration) {
        self.lock().demand.note_round_trip(took);
    }

    /// Waits until the agent should be asked for channels.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// How many to ask for now.
    pub(crate) fn ask(&self) -> u32 {
        let mut inner = self.lock();
        let (idle, waiting) = (inner.idle.len(), inner.waiters.len());
        inner.demand.ask(Instant::now(), idle, waiting)
    }

    /// Has connections leave their channels that have moved nothing for a while.
    pub(crate) fn call_quiet(&self) {
        let inner = self.lock();
        for (_, handle) in inner.carrying.values() {
            if handle.quiet_turns() == CHANNEL_QUIET_SWEEPS {
                handle.leave();
            }
        }
    }

    /// Drops idle channels that died, the surplus of a rate that has fallen, and opens that no longer
    /// wait.
    pub(crate) fn sweep(&self) {
        let mut inner = self.lock();
        inner.waiters.retain(|waiter| !waiter.is_closed());
        let before = inner.idle.len();
        inner.idle.retain_mut(Channel::is_alive);
        let most = usize::try_from(inner.demand.target(Instant::now())).unwrap_or(0) * 2;
        let surplus = inner.idle.len().saturating_sub(most);
        inner.idle.drain(..surplus);
        let gone = i64::try_from(before - inner.idle.len()).unwrap_or(0);
        self.records.metrics().channels_idle.dec_by(gone);
    }

    /// Ends the pool: idle channels are dropped, waiting opens fail.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.waiters.clear();
        let idle = i64::try_from(inner.idle.len()).unwrap_or(0);
        inner.idle.clear();
        self.records.metrics().channels_idle.dec_by(idle);
    }

    /// Whether the session has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }
}

fn lost() -> Error {
    Error::new(Code::AgentLost, "the agent's session has ended")
}

#[cfg(test)]
mod tests {
    use portcullis_net::TcpConn;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::defaults::{CHANNELS_IDLE_MIN, CHANNELS_PEAK_WINDOW, SESSION_SWEEP};

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Both ends of a channel.
    async fn pair(id: u64) -> (Channel, Channel) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
        let address = listener.local_addr().expect("address");
        let (far, near) = tokio::join!(TcpStream::connect(address), listener.accept());
        let near = TcpConn::new(near.expect("accepted").0);
        let far = TcpConn::new(far.expect("connected"));
        (Channel::edge(id, near), Channel::agent(id, far))
    }

    /// An edge's end that knows that the agent's is gone.
    async fn dead(id: u64) -> Channel {
        let (mut near, far) = pair(id).await;
        drop(far);
        let death = tokio::time::timeout(PATIENCE, near.dead()).await;
        death.expect("it dies");
        near
    }

    fn idle(pool: &Channels) -> i64 {
        pool.records.metrics().channels_idle.get()
    }

    #[tokio::test]
    async fn a_dead_idle_channel_is_not_handed_out() {
        let pool = Channels::new(Records::new());
        let (near, _far) = pair(1).await;
        pool.add(near).expect("room");
        pool.add(dead(2).await).expect("room");
        assert_eq!(idle(&pool), 2);
        let taken = pool.take_now(false).expect("one that lives");
        assert_eq!(taken.id(), 1, "it was below the dead one");
        assert!(pool.take_now(false).is_none());
        assert_eq!(idle(&pool), 0);
    }

    #[tokio::test]
    async fn an_open_that_finds_only_dead_channels_waits_for_the_next() {
        let pool = Channels::new(Records::new());
        pool.add(dead(1).await).expect("room");
        let (near, _far) = pair(2).await;
        let open = tokio::time::timeout(PATIENCE, pool.take());
        let (taken, added) = tokio::join!(open, async { pool.add(near) });
        added.expect("room");
        assert_eq!(taken.expect("in time").expect("a channel").id(), 2);
        assert_eq!(pool.records.metrics().channel_waits.get(), 1);
    }

    #[tokio::test]
    async fn dead_idle_channels_are_swept_out_and_asked_for_again() {
        let pool = Channels::new(Records::new());
        let (near, _far) = pair(1).await;
        pool.add(near).expect("room");
        let (near, far) = pair(2).await;
        pool.add(near).expect("room");
        assert_eq!(pool.ask(), 0);
        drop(far);
        let swept = async {
            while idle(&pool) == 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                pool.sweep();
            }
        };
        let swept = tokio::time::timeout(PATIENCE, swept).await;
        swept.expect("the dead one is swept out");
        assert_eq!(idle(&pool), 1);
        assert_eq!(pool.ask(), 1);
    }

    #[tokio::test]
    async fn the_pool_shrinks_when_the_rate_has_fallen() {
        let pool = Channels::new(Records::new());
        let mut fars = Vec::new();
        let mut nears = Vec::new();
        for id in 0..20 {
            let (near, far) = pair(id).await;
            fars.push(far);
            nears.push(near);
        }
        tokio::time::pause();
        for _ in 0..20 {
            assert!(pool.take_now(false).is_none());
        }
        assert_eq!(
            pool.ask(),
            20 - CHANNELS_IDLE_MIN,
            "those come by themselves"
        );
        for near in nears {
            pool.add(near).expect("room");
        }
        tokio::time::advance(CHANNELS_PEAK_WINDOW).await;
        pool.sweep();
        assert_eq!((idle(&pool), pool.ask()), (20, 0), "a burst may come again");
        let mut before = 20;
        for _ in 0..5 {
            tokio::time::advance(SESSION_SWEEP).await;
            pool.sweep();
            assert!(idle(&pool) <= before);
            before = idle(&pool);
        }
        assert_eq!(before, 2 * i64::from(CHANNELS_IDLE_MIN));
        assert_eq!(pool.ask(), 0);
        let (near, _far) = pair(20).await;
        pool.put(near);
        assert_eq!(idle(&pool), before, "one too many is closed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_asks_again_is_not_one_more() {
        let pool = Channels::new(Records::new());
        for turn in 0..100 {
            assert!(pool.take_now(turn > 0).is_none());
        }
        assert_eq!(pool.ask(), 0, "the first channels come by themselves");
        assert!((0..10).all(|_| pool.take_now(false).is_none()));
        assert_eq!(pool.ask(), 11 - CHANNELS_IDLE_MIN);
    }

    #[tokio::test(start_paused = true)]
    async fn the_pool_knows_the_sessions_round_trip() {
        let asked = async |round_trip: u64| {
            let pool = Channels::new(Records::new());
            pool.note_round_trip(Duration::from_millis(round_trip));
            for _ in 0..100 {
                tokio::time::advance(Duration::from_millis(4)).await;
                assert!(pool.take_now(false).is_none());
            }
            pool.ask()
        };
        assert_eq!(asked(1).await, 13 - CHANNELS_IDLE_MIN);
        assert_eq!(asked(50).await, 47 - CHANNELS_IDLE_MIN);
    }
}
