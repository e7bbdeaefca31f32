//! Shutting down in two phases: first nothing new is accepted and what runs may finish; then, at a
//! deadline, what still runs is told to end.
//!
//! Must never: end anything by itself; it only tells.

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The one who drains. Cheap to clone; all clones are the same drain.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    stopping: CancellationToken,
    forced: CancellationToken,
    alive: TaskTracker,
}

/// Held by everything that must end before the drain is over; dropping it is the end.
#[derive(Debug)]
pub struct DrainGuard {
    stopping: CancellationToken,
    forced: CancellationToken,
    _alive: TaskTrackerToken,
}

impl Drain {
    /// A drain that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers something that lives.
    pub fn guard(&self) -> DrainGuard {
        DrainGuard {
            stopping: self.stopping.clone(),
            forced: self.forced.clone(),
            _alive: self.alive.token(),
        }
    }

    /// Cancelled when nothing new may begin.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Cancelled when what still runs must end.
    pub fn forced(&self) -> &CancellationToken {
        &self.forced
    }

    /// How many guards are held.
    pub fn alive(&self) -> usize {
        self.alive.len()
    }

    /// First phase: nothing new begins.
    pub fn begin(&self) {
        self.stopping.cancel();
        self.alive.close();
    }

    /// Waits until every guard is dropped, or until `deadline`; then the second phase begins. The
    /// answer is how many guards were still held.
    pub async fn wait(&self, deadline: Instant) -> usize {
        self.begin();
        let left = match tokio::time::timeout_at(deadline, self.alive.wait()).await {
            Ok(()) => 0,
            Err(_) => self.alive.len(),
        };
        self.force();
        left
    }

    /// Second phase: what still runs must end now.
    pub fn force(&self) {
        self.begin();
        self.forced.cancel();
    }

    /// Waits until every guard is dropped, however long it takes; bounded by what the holders do
    /// when they are forced.
    pub async fn finished(&self) {
        self.alive.wait().await;
    }
}

impl DrainGuard {
    /// Cancelled when nothing new may begin.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Cancelled when the holder must end.
    pub fn forced(&self) -> &CancellationToken {
        &self.forced
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn drain_waits_for_guards_and_then_forces() {
        let drain = Drain::new();
        let (quick, slow) = (drain.guard(), drain.guard());
        assert_eq!(drain.alive(), 2);
        let waiter = drain.clone();
        let wait = crate::task::spawn("wait", async move {
            waiter.wait(Instant::now() + Duration::from_secs(30)).await
        });
        quick.stopping().cancelled().await;
        assert!(!quick.forced().is_cancelled());
        drop(quick);
        assert_eq!(wait.await.unwrap(), 1, "one guard outlives the deadline");
        assert!(slow.forced().is_cancelled());
        drop(slow);
        drain.finished().await;
    }

    #[tokio::test(start_paused = true)]
    async fn drain_ends_at_once_when_nothing_lives() {
        let drain = Drain::new();
        let begun = Instant::now();
        assert_eq!(drain.wait(begun + Duration::from_secs(30)).await, 0);
        assert_eq!(Instant::now(), begun);
    }
}
