//! The registry's clock: the system's, or one that a test moves.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use portcullis_model::Timestamp;

/// Tells the time of day.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(Arc::new(|| Timestamp::from(jiff::Timestamp::now())))
    }

    /// A clock that stands until its handle moves it.
    pub fn manual(start: Timestamp) -> (Self, ManualClock) {
        let millis = Arc::new(AtomicI64::new(start.unix_millis()));
        let handle = ManualClock(Arc::clone(&millis));
        (
            Self(Arc::new(move || {
                Timestamp::from_unix_millis(millis.load(Ordering::Acquire))
            })),
            handle,
        )
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// Moves a manual clock.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(
            i64::try_from(by.as_millis()).unwrap_or(i64::MAX),
            Ordering::AcqRel,
        );
    }
}
