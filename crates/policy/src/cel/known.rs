//! Expressions that are in use: the same text is compiled once, however many policies have it. Reading one takes
//! about a tenth of a millisecond and its tree some kilobytes, and policies of many endpoints repeat each other.
//!
//! Must never: keep more than a few that nobody uses, or make one policy wait while another's is read.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use super::{Compiled, Fault};

/// So many of the last ones are kept though nobody uses them: a document is read to be checked, and again to be used.
const RECENT_MAX: usize = 256;
/// Fewer are not worth looking through.
const SWEPT_FROM: usize = 1024;

static KNOWN: LazyLock<Known> = LazyLock::new(Known::default);

#[derive(Default)]
struct Known {
    hasher: RandomState,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    by_text: HashMap<u64, Weak<Compiled>>,
    /// How many there may be before those that are gone are looked for.
    sweep_at: usize,
    recent: VecDeque<Arc<Compiled>>,
}

/// The expression of a text, compiled now or before.
pub(super) fn compiled(text: &str) -> Result<Arc<Compiled>, Fault> {
    let hash = KNOWN.hasher.hash_one(text);
    if let Some(known) = KNOWN.find(hash, text) {
        return Ok(known);
    }
    // Outside of the lock. Two at once: the later one is found from then on.
    let compiled = Arc::new(Compiled::compile(text)?);
    let mut table = KNOWN.table();
    table.by_text.insert(hash, Arc::downgrade(&compiled));
    table.recent.push_back(Arc::clone(&compiled));
    let oldest = match table.recent.len() > RECENT_MAX {
        true => table.recent.pop_front(),
        false => None,
    };
    table.sweep();
    drop(table);
    drop(oldest); // a tree of its own, perhaps; not under the lock
    Ok(compiled)
}

impl Known {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another text may have the same hash.
    fn find(&self, hash: u64, text: &str) -> Option<Arc<Compiled>> {
        let known = self.table().by_text.get(&hash)?.upgrade()?;
        (known.text == text).then_some(known)
    }
}

impl Table {
    fn sweep(&mut self) {
        if self.by_text.len() > self.sweep_at.max(SWEPT_FROM) {
            self.by_text.retain(|_, known| known.strong_count() > 0);
            self.sweep_at = self.by_text.len() * 2;
            self.by_text.shrink_to(self.sweep_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_compiled_once_while_it_is_in_use_and_forgotten_then() {
        let text = "conn.client_port == 4711 && conn.server_port != 4712";
        let one = compiled(text).expect("it compiles");
        assert!(Arc::ptr_eq(&one, &compiled(text).expect("again")));
        assert_ne!(
            one.text,
            compiled("conn.client_port == 4713").expect("another").text
        );
        let weak = Arc::downgrade(&one);
        drop(one);
        compiled(text).expect("it is checked and then used");
        assert_eq!(weak.strong_count(), 1, "one of the last");
        for n in 0..RECENT_MAX {
            compiled(&format!("conn.client_port == {n}")).expect("another");
        }
        assert_eq!(weak.strong_count(), 0, "nobody uses it");
        compiled(text).expect("anew");

        let mut table = Table::default();
        for n in 0..3 * SWEPT_FROM as u64 {
            table.by_text.insert(n, Weak::new());
            table.sweep();
            assert!(table.by_text.len() <= SWEPT_FROM);
        }
    }

    #[test]
    fn what_is_wrong_is_not_remembered() {
        for _ in 0..2 {
            compiled("conn.").expect_err("no expression");
        }
    }
}
