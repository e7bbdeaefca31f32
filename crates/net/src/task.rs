//! Named tasks: a panic in one is logged with its name instead of vanishing in a handle that nobody
//! awaits.
//!
//! Must never: keep a task alive or swallow its result.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// Starts a task of the runtime. `name` says what it does, such as `accept`.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(Named { name, future })
}

/// The same on a runtime that is not the caller's.
pub fn spawn_on<F>(runtime: &Handle, name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    runtime.spawn(Named { name, future })
}

pin_project! {
    /// A future and its task's name. An `async` block around it would hold it twice: once as what it
    /// captured, once as what it awaits; and most tasks are connections.
    struct Named<F> {
        name: &'static str,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Named<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _note = PanicNote(this.name);
        this.future.poll(cx)
    }
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

    #[test]
    fn a_name_costs_no_second_copy_of_the_future() {
        fn named<F: Future>(future: F) -> usize {
            size_of_val(&Named {
                name: "large",
                future,
            })
        }
        let large = async {
            let kept = [0_u8; 1000];
            tokio::task::yield_now().await;
            kept.len()
        };
        let alone = size_of_val(&large);
        assert!(named(large) <= alone + 16);
    }

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
