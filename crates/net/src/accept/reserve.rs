//! One spare descriptor of the process, so that connections can be taken and reset when there is no
//! other: their clients learn at once instead of waiting in a queue that nobody serves.
//!
//! Must never: be used for anything else.

use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::net::TcpListener;

use crate::defaults::ACCEPT_SHED_MAX;
use crate::socket::reset_on_drop;

static SPARE: Mutex<Option<File>> = Mutex::new(None);

/// Puts the spare descriptor aside, while there are some.
pub(super) fn prepare() {
    refill(&mut lock());
}

/// Gives the spare descriptor up to reset what waits at a listener; how many that were.
pub(super) fn shed(listener: &TcpListener) -> usize {
    let mut spare = lock();
    if spare.take().is_none() {
        refill(&mut spare); // somebody else was faster the last time
        return 0;
    }
    let mut cx = Context::from_waker(Waker::noop());
    let mut count = 0;
    while count < ACCEPT_SHED_MAX {
        let Poll::Ready(Ok((stream, _))) = listener.poll_accept(&mut cx) else {
            break;
        };
        reset_on_drop(&stream);
        count += 1;
    }
    refill(&mut spare);
    count
}

fn lock() -> MutexGuard<'static, Option<File>> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Without a descriptor there is no spare this time; the next pause tries again.
fn refill(spare: &mut Option<File>) {
    if spare.is_none() {
        *spare = File::open("/dev/null").ok();
    }
}
