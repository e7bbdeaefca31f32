//! What ends a connection from outside, with a reason. It is a part of the connection's entry, so that
//! a connection costs no allocation for what hardly ever happens.
//!
//! Must never: have two who wait at a time; the connection's own task is the only one.

use std::future::poll_fn;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use crate::close::Ended;

/// Ends a connection from outside. The first reason stands.
#[derive(Debug, Default)]
pub struct KillSwitch {
    /// Boxed: most connections end by themselves.
    why: OnceLock<Box<Ended>>,
    waker: AtomicWaker,
}

impl KillSwitch {
    /// Ends the connection. The first call's reason is the one that is recorded.
    pub fn kill(&self, why: impl Into<Ended>) {
        // A later reason loses on purpose: the connection ends only once.
        self.why.get_or_init(|| Box::new(why.into()));
        self.waker.wake();
    }

    /// Whether somebody has ended it.
    pub fn is_killed(&self) -> bool {
        self.why.get().is_some()
    }

    /// The reason, once killed.
    pub fn why(&self) -> Option<Ended> {
        self.why.get().map(|why| Ended::clone(why))
    }

    /// Ready once killed. Only the waker of the last call is woken.
    pub fn poll_killed(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_killed() {
            return Poll::Ready(());
        }
        self.waker.register(cx.waker());
        // Again: the kill may have come in between, and found the old waker.
        match self.is_killed() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Waits until somebody ends the connection.
    ///
    /// # Cancel safety
    /// May be dropped and called again at any time, by one task.
    pub fn killed(&self) -> impl Future<Output = ()> + Send + '_ {
        poll_fn(|cx| self.poll_killed(cx))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::close::CloseReason;

    #[tokio::test]
    async fn a_kill_wakes_who_waits_and_the_first_reason_stands() {
        let switch = Arc::new(KillSwitch::default());
        let waits = tokio::spawn({
            let switch = Arc::clone(&switch);
            async move { switch.killed().await }
        });
        tokio::task::yield_now().await;
        assert!(!switch.is_killed());
        switch.kill(CloseReason::EndedByOperator);
        switch.kill(CloseReason::Drained);
        waits.await.expect("woken");
        assert_eq!(
            switch.why().map(|why| why.reason),
            Some(CloseReason::EndedByOperator)
        );
    }
}
