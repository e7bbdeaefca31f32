//! Waiting for states.

use std::future::Future;
use std::time::{Duration, Instant};

/// Time between two looks at a state.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a test waits for a state unless it says otherwise: ten times what a busy machine needs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Looks until `look` gives a value; fails the test with `what` after [`PATIENCE`].
///
/// # Panics
/// When the state does not come in time.
pub async fn eventually<T, F>(what: &str, look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    within(PATIENCE, what, look).await
}

/// Looks until `look` gives a value; fails the test with `what` after `patience`.
///
/// # Panics
/// When the state does not come in time.
pub async fn within<T, F>(patience: Duration, what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = look().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} for: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
