//! The read buffer of a runtime thread, shared by all connections that it relays.
//!
//! Must never: be held across an await; what is left in it belongs to nobody.

use std::cell::Cell;

use crate::defaults::RELAY_READ_BYTES;

thread_local! {
    static SCRATCH: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Runs `work` with the thread's buffer. Used within itself it makes another buffer.
pub(super) fn with<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer = SCRATCH
        .take()
        .unwrap_or_else(|| vec![0; RELAY_READ_BYTES].into_boxed_slice());
    let result = work(&mut buffer);
    SCRATCH.set(Some(buffer));
    result
}
