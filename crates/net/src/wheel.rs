//! Coarse timers for connections: idle limits, half-close, establishment. One wheel per runtime thread,
//! one entry of 32 bytes per timer, and one timer of the runtime's for all of them.
//!
//! A timer fires with the first tick of [`WHEEL_TICK`] that is not before its time, so up to a tick
//! late and never early. It is made for timers that are nearly always cancelled or put off: whoever
//! puts one off leaves it armed, and arms it anew when it fires.
//!
//! Must never: be used where a tenth of a second matters.

use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::defaults::WHEEL_TICK;

mod slots;

use slots::{Key, Slots};

/// A timer; nothing until it is armed. Dropped it is cancelled.
#[derive(Default)]
pub struct Timer(Option<Place>);

/// A timer's entry in its wheel.
struct Place {
    wheel: Arc<Wheel>,
    key: Key,
    /// Which task it wakes. The wheel keeps that waker, so nothing else can have its address.
    wakes: Wakes,
}

/// A waker's data and functions.
type Wakes = (usize, usize);

fn wakes(waker: &Waker) -> Wakes {
    let vtable: *const _ = waker.vtable();
    (waker.data().addr(), vtable.addr())
}

/// The timers of a thread.
struct Wheel {
    start: Instant,
    state: Mutex<State>,
    /// Told when a timer comes before what the driver sleeps for.
    earlier: Notify,
}

struct State {
    slots: Slots<Waker>,
    /// The tick that the driver sleeps for.
    sleeps_for: u64,
}

impl Timer {
    /// Arms it, or moves it: the task is woken at `at` or up to [`WHEEL_TICK`] later. It has to look at
    /// the clock itself; a timer that was moved in the last moment may wake it in vain.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn arm(&mut self, cx: &Context<'_>, at: Instant) {
        let place = match &mut self.0 {
            Some(place) => {
                place.wake(cx.waker());
                place
            }
            none => none.insert(Place::new(cx.waker())),
        };
        place.wheel.arm(place.key, at);
    }

    /// Wakes the task of this poll, should it be another than the one that armed the timer.
    pub fn keep(&mut self, cx: &Context<'_>) {
        if let Some(place) = &mut self.0 {
            place.wake(cx.waker());
        }
    }

    /// Cancels it.
    pub fn disarm(&mut self) {
        if let Some(place) = &self.0 {
            place.wheel.lock().slots.disarm(place.key);
        }
    }
}

impl Place {
    fn new(waker: &Waker) -> Self {
        let wheel = of_thread();
        let key = wheel.lock().slots.add(waker.clone());
        Self {
            wheel,
            key,
            wakes: wakes(waker),
        }
    }

    fn wake(&mut self, waker: &Waker) {
        let wakes = wakes(waker);
        if std::mem::replace(&mut self.wakes, wakes) == wakes {
            return;
        }
        let waker = waker.clone();
        let mut state = self.wheel.lock();
        let old = state
            .slots
            .value(self.key)
            .map(|old| std::mem::replace(old, waker));
        drop(state);
        drop(old); // may be the end of a task, which may have timers
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let waker = self.wheel.lock().slots.remove(self.key);
        drop(waker); // without the lock, as above
    }
}

impl Wheel {
    fn arm(&self, key: Key, at: Instant) {
        let tick = self.tick_of(at);
        let mut state = self.lock();
        let tick = state.slots.arm(key, tick);
        let is_earlier = tick < state.sleeps_for;
        if is_earlier {
            state.sleeps_for = tick;
        }
        drop(state);
        if is_earlier {
            self.earlier.notify_one();
        }
    }

    /// The first tick that is not before a time.
    fn tick_of(&self, at: Instant) -> u64 {
        let ahead = at.saturating_duration_since(self.start).as_nanos();
        u64::try_from(ahead.div_ceil(WHEEL_TICK.as_nanos())).unwrap_or(u64::MAX / 2)
    }

    /// When a tick is; `None` beyond what the clock can say.
    fn time_of(&self, tick: u64) -> Option<Instant> {
        let ticks = u32::try_from(tick).ok()?; // 13 years
        self.start.checked_add(WHEEL_TICK.checked_mul(ticks)?)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fires what is due; the time of what comes next.
    fn turn(&self) -> Option<Instant> {
        let ticks = self.start.elapsed().as_nanos() / WHEEL_TICK.as_nanos();
        let mut due = Vec::new();
        let next = {
            let mut state = self.lock();
            let to = u64::try_from(ticks).unwrap_or(u64::MAX / 2);
            state.slots.advance(to, |waker| due.push(waker.clone()));
            let next = state.slots.next_occupied();
            state.sleeps_for = next.unwrap_or(u64::MAX);
            next
        };
        due.into_iter().for_each(Waker::wake);
        next.and_then(|tick| self.time_of(tick))
    }
}

/// Turns a wheel for as long as its runtime lives.
async fn drive(wheel: Arc<Wheel>) {
    loop {
        let earlier = wheel.earlier.notified();
        match wheel.turn() {
            None => earlier.await,
            Some(next) => tokio::select! {
                biased;
                () = tokio::time::sleep_until(next) => {}
                () = earlier => {}
            },
        }
    }
}

thread_local! {
    /// The wheel of this thread and the runtime that turns it: tests have one after another.
    static WHEEL: RefCell<Option<(Id, Arc<Wheel>)>> = const { RefCell::new(None) };
}

fn of_thread() -> Arc<Wheel> {
    let runtime = Handle::current();
    let id = runtime.id();
    WHEEL.with_borrow_mut(|slot| match slot {
        Some((of, wheel)) if *of == id => Arc::clone(wheel),
        slot => {
            let wheel = Arc::new(Wheel {
                start: Instant::now(),
                state: Mutex::new(State {
                    slots: Slots::new(),
                    sleeps_for: u64::MAX,
                }),
                earlier: Notify::new(),
            });
            drop(crate::task::spawn("wheel", drive(Arc::clone(&wheel))));
            *slot = Some((id, Arc::clone(&wheel)));
            wheel
        }
    })
}

/// Waits until a time, or up to [`WHEEL_TICK`] longer.
pub async fn sleep_until(at: Instant) {
    let mut timer = Timer::default();
    std::future::poll_fn(|cx| {
        if Instant::now() >= at {
            return Poll::Ready(());
        }
        match &timer.0 {
            None => timer.arm(cx, at),
            Some(_) => timer.keep(cx),
        }
        Poll::Pending
    })
    .await;
}

/// Runs something until a time, or up to [`WHEEL_TICK`] longer; `None` when it was not done by then. What
/// is done at once needs no timer.
///
/// # Cancel safety
/// That of `work`.
pub async fn timeout_at<F: Future>(at: Instant, work: F) -> Option<F::Output> {
    let mut work = pin!(work);
    let mut late = pin!(sleep_until(at));
    std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Pin::as_mut(&mut late).poll(cx).map(|()| None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn never_early_and_at_most_a_tick_late() {
        for millis in [0, 1, 99, 100, 101, 5_000, 299_999, 1_000_000, 90_000_000] {
            let start = Instant::now();
            let wait = Duration::from_millis(millis);
            sleep_until(start + wait).await;
            let waited = start.elapsed();
            let late = waited.checked_sub(wait).expect("not early");
            // The runtime's own timer rounds up to a millisecond.
            assert!(late <= WHEEL_TICK + SECOND / 1000, "{wait:?}: {waited:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_timers_of_one_thread_fire_in_their_order() {
        let start = Instant::now();
        let (send, mut fired) = tokio::sync::mpsc::channel(1000);
        for n in (1..=1000_u32).rev() {
            let send = send.clone();
            drop(crate::task::spawn("timer", async move {
                sleep_until(start + n * SECOND).await;
                send.send(n).await.unwrap();
            }));
        }
        for n in 1..=1000 {
            assert_eq!(fired.recv().await, Some(n));
        }
        assert!(start.elapsed() < 1001 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_earlier_later_on_is_in_time() {
        let start = Instant::now();
        let far = crate::task::spawn("far", sleep_until(start + 1000 * SECOND));
        tokio::task::yield_now().await;
        sleep_until(start + SECOND).await;
        assert!(start.elapsed() < 2 * SECOND);
        assert!(!far.is_finished());
        far.await.unwrap();
        assert!(start.elapsed() >= 1000 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn work_has_until_its_time_and_not_longer() {
        let at = Instant::now() + SECOND;
        assert_eq!(timeout_at(at, async { 1 }).await, Some(1));
        let late = timeout_at(at, std::future::pending::<()>()).await;
        assert!(late.is_none() && at.elapsed() <= WHEEL_TICK + SECOND / 1000);
        let done = timeout_at(at + 3 * SECOND, sleep_until(at + SECOND)).await;
        assert_eq!(done, Some(()));
    }

    /// A future that moves to another task between two polls.
    #[tokio::test(start_paused = true)]
    async fn the_task_that_waits_last_is_woken() {
        let mut sleep = Box::pin(sleep_until(Instant::now() + SECOND));
        let first = std::future::poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx))).await;
        assert!(first.is_pending());
        crate::testing::soon("the sleep", crate::task::spawn("other", sleep))
            .await
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_disarmed_timer_wakes_nobody() {
        let mut timer = Timer::default();
        let start = Instant::now();
        std::future::poll_fn(|cx| {
            timer.arm(cx, start + SECOND);
            Poll::Ready(())
        })
        .await;
        timer.disarm();
        let mut polls = 0;
        let wait = std::future::poll_fn(|_| {
            polls += 1;
            Poll::<()>::Pending
        });
        assert!(tokio::time::timeout(10 * SECOND, wait).await.is_err());
        assert_eq!(polls, 2, "at first, and when the timeout was over");
        timer.disarm();
    }

    #[test]
    fn every_runtime_of_a_thread_has_its_own_wheel() {
        for _ in 0..3 {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(async { sleep_until(Instant::now() + 5 * SECOND).await });
        }
    }

    #[test]
    fn a_timer_is_small() {
        assert!(size_of::<Timer>() <= 32, "{}", size_of::<Timer>());
    }
}
