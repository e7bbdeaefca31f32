//! Ending an open from elsewhere: the control connection brought `abort`.
//!
//! Must never: reach an open other than the one it was made for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;

use futures_util::task::AtomicWaker;

/// The flag of one open, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Abort {
    set: AtomicBool,
    waiting: AtomicWaker,
}

impl Abort {
    /// Whether it was set; if not, the caller is woken when it is.
    pub(super) fn poll(&self, cx: &Context<'_>) -> bool {
        self.waiting.register(cx.waker());
        self.set.load(Ordering::Acquire)
    }

    pub(super) fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }
}

/// Ends one open of a channel from elsewhere.
#[derive(Debug, Clone)]
pub struct AbortHandle(pub(super) Arc<Abort>);

impl AbortHandle {
    /// The peer gave the open up and dropped the channel: the stream fails like a reset, and our end
    /// of the channel is dropped too. Does nothing once the open is over.
    pub fn abort(&self) {
        self.0.set.store(true, Ordering::Release);
        self.0.waiting.wake();
    }
}
