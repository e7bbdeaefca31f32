//! Ports for servers under test: blocks that no two tests of a run share, below the range from which
//! the kernel draws ports for outgoing connections, and free at the time of asking.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// First port that is handed out.
const FIRST: u16 = 10_240;
/// Handed-out ports end below this; Linux draws outgoing ports from 32,768 on.
const LAST: u16 = 32_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A block of `count` consecutive ports, all free a moment ago.
///
/// # Panics
/// When the machine has no such block.
pub fn block(count: u16) -> std::ops::RangeInclusive<u16> {
    // Runs beside each other (a developer's and CI's) start at different places.
    let start = u16::try_from(std::process::id() % 97).expect("below 97") * 200;
    for _ in 0..2_000 {
        let offset = NEXT.fetch_add(count, Ordering::Relaxed);
        let first = FIRST + (start + offset) % (LAST - FIRST - count);
        let range = first..=first + count - 1;
        if range.clone().all(is_free) {
            return range;
        }
    }
    panic!("no {count} consecutive free ports");
}

/// One free port.
pub fn one() -> u16 {
    *block(1).start()
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("::", port)).is_ok()
}
