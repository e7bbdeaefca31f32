//! Named tasks: a panic in one is logged with its name instead of vanishing in a handle that nobody
//! awaits.
//!
//! Must never: keep a task alive or swallow its result.

use std::future::Future;

use tokio::task::JoinHandle;

/// Starts a task of the runtime. `name` says what it does, such as `accept`.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(async move {
        let guard = PanicNote(name);
        let output = future.await;
        drop(guard);
        output
    })
}

/// Logs when it is dropped by a panic.
struct PanicNote(&'static str);

impl Drop for PanicNote {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.0, "task panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_and_panic_reach_the_handle() {
        assert_eq!(spawn("answer", async { 42 }).await.unwrap(), 42);
        assert!(
            spawn("panics", async { panic!("on purpose") })
                .await
                .unwrap_err()
                .is_panic()
        );
    }
}
