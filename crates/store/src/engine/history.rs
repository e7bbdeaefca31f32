//! The latest changes, kept in memory for watches: bounded by count and by bytes.

use std::collections::VecDeque;

use crate::defaults;
use crate::error::StoreError;
use crate::kv::Change;

/// Changes of consecutive revisions.
#[derive(Debug)]
pub(super) struct History {
    /// The revision of the first element of `revisions`.
    oldest: u64,
    revisions: VecDeque<(usize, Vec<Change>)>,
    bytes: usize,
}

impl History {
    pub(super) fn starting_after(revision: u64) -> Self {
        Self {
            oldest: revision + 1,
            revisions: VecDeque::new(),
            bytes: 0,
        }
    }

    pub(super) fn push(&mut self, changes: Vec<Change>) {
        let size = changes.iter().map(size_of_change).sum();
        self.bytes += size;
        self.revisions.push_back((size, changes));
        let full = |history: &Self| {
            history.revisions.len() > defaults::HISTORY_REVISIONS_MAX
                || history.bytes > defaults::HISTORY_BYTES_MAX
        };
        while full(self) && self.revisions.len() > 1 {
            if let Some((size, _)) = self.revisions.pop_front() {
                self.bytes -= size;
                self.oldest += 1;
            }
        }
    }

    pub(super) fn check(&self, from: u64) -> Result<(), StoreError> {
        if from < self.oldest {
            return Err(StoreError::Compacted {
                wanted: from,
                oldest: self.oldest,
            });
        }
        Ok(())
    }

    /// Changes under a prefix from a revision on, and the revision to ask from next.
    pub(super) fn since(&self, from: u64, prefix: &str) -> Result<(Vec<Change>, u64), StoreError> {
        self.check(from)?;
        let skip = usize::try_from(from - self.oldest).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        let mut next = from;
        for (_, changes) in self.revisions.iter().skip(skip) {
            found.extend(
                changes
                    .iter()
                    .filter(|change| change.key.starts_with(prefix))
                    .cloned(),
            );
            next += 1;
            if found.len() >= defaults::WATCH_BATCH_MAX {
                break;
            }
        }
        Ok((found, next))
    }
}

fn size_of_change(change: &Change) -> usize {
    // The fixed part of a change with its entry: four strings' worth of headers and the numbers.
    128 + change.key.len()
        + change
            .entry
            .as_ref()
            .map_or(0, |entry| entry.key.len() + entry.value.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deletion(revision: u64) -> Vec<Change> {
        vec![Change {
            revision,
            key: format!("k{revision}"),
            entry: None,
        }]
    }

    #[test]
    fn keeps_a_bounded_tail_and_says_what_is_gone() {
        let mut history = History::starting_after(5);
        let last = 6 + defaults::HISTORY_REVISIONS_MAX as u64 + 10;
        (6..=last).for_each(|revision| history.push(deletion(revision)));
        assert!(matches!(
            history.since(6, ""),
            Err(StoreError::Compacted {
                wanted: 6,
                oldest: 17
            })
        ));
        let (changes, next) = history.since(last, "").expect("kept");
        assert_eq!((changes.len(), next), (1, last + 1));
        assert_eq!(
            history.since(last + 1, "").expect("nothing yet"),
            (Vec::new(), last + 1)
        );
    }
}
