//! A sorted map that is cheap to clone, and of which a change copies little: the records stand in pieces,
//! and a change while the map is shared copies one piece and the list of pieces.

use std::borrow::Borrow;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use crate::defaults::TABLE_PIECE_MAX;

/// Records in the order of their ids; at most [`TABLE_PIECE_MAX`], never none.
type Piece<K, V> = Vec<(K, Arc<V>)>;

/// Records by id. Cloning is one reference count.
#[derive(Debug)]
pub(crate) struct Table<K, V> {
    pieces: Arc<Vec<Arc<Piece<K, V>>>>,
    len: usize,
}

impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        Self {
            pieces: Arc::clone(&self.pieces),
            len: self.len,
        }
    }
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            pieces: Arc::default(),
            len: 0,
        }
    }
}

impl<K: Ord + Clone, V> Table<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&Arc<V>>
    where
        K: Borrow<Q>,
    {
        let piece = self.pieces.get(self.piece_of(key))?;
        let place = place_in(piece, key).ok()?;
        piece.get(place).map(|(_, value)| value)
    }

    pub(crate) fn values(&self) -> impl DoubleEndedIterator<Item = &Arc<V>> {
        self.iter().map(|(_, value)| value)
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &Arc<V>)> {
        let pieces = self.pieces.iter().flat_map(|piece| piece.iter());
        pieces.map(|(key, value)| (key, value))
    }

    /// The records of a range, first to last; what stands before it costs nothing.
    pub(crate) fn range(
        &self,
        range: impl RangeBounds<K>,
    ) -> impl DoubleEndedIterator<Item = (&K, &Arc<V>)> {
        let first = self.start(range.start_bound());
        let last = self.end(range.end_bound());
        let pieces = self.pieces.get(first.0..).unwrap_or_default();
        // The pieces that the range touches; the first and the last are cut by the records below.
        let touched = (last.0 + usize::from(last.1 > 0)).saturating_sub(first.0);
        let pieces = pieces.get(..touched.min(pieces.len())).unwrap_or_default();
        pieces
            .iter()
            .enumerate()
            .flat_map(move |(at, piece)| {
                let from = if at == 0 { first.1 } else { 0 };
                let to = if first.0 + at == last.0 {
                    last.1
                } else {
                    piece.len()
                };
                piece.get(from..to).unwrap_or_default()
            })
            .map(|(key, value)| (key, value))
    }

    pub(crate) fn insert(&mut self, key: K, value: impl Into<Arc<V>>) -> (Arc<V>, Option<Arc<V>>) {
        let value = value.into();
        let at = self.piece_of(&key);
        let pieces = Arc::make_mut(&mut self.pieces);
        let Some(piece) = pieces.get_mut(at) else {
            pieces.push(Arc::new(vec![(key, Arc::clone(&value))]));
            self.len += 1;
            return (value, None);
        };
        let piece = Arc::make_mut(piece);
        match place_in(piece, &key) {
            Ok(place) => {
                let old = piece
                    .get_mut(place)
                    .map(|(_, old)| std::mem::replace(old, Arc::clone(&value)));
                (value, old)
            }
            Err(place) => {
                piece.insert(place, (key, Arc::clone(&value)));
                self.len += 1;
                if piece.len() > TABLE_PIECE_MAX {
                    // Ids grow with time: at the end a full piece stays full, and a new one begins.
                    let cut = if place + 1 == piece.len() {
                        place
                    } else {
                        piece.len() / 2
                    };
                    let rest = piece.split_off(cut);
                    pieces.insert(at + 1, Arc::new(rest));
                }
                (value, None)
            }
        }
    }

    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
    {
        let at = self.piece_of(key);
        let place = place_in(self.pieces.get(at)?, key).ok()?;
        let pieces = Arc::make_mut(&mut self.pieces);
        let piece = Arc::make_mut(pieces.get_mut(at)?);
        let (_, old) = piece.remove(place);
        self.len -= 1;
        if piece.is_empty() {
            pieces.remove(at);
        } else {
            // Deletions must not leave a long list of tiny pieces.
            join(pieces, at);
            at.checked_sub(1)
                .iter()
                .for_each(|before| join(pieces, *before));
        }
        Some(old)
    }

    /// The last piece that begins at or before a key; the first where none does.
    fn piece_of<Q: Ord + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        let begins_by = |piece: &Arc<Piece<K, V>>| {
            piece
                .first()
                .is_some_and(|(first, _)| first.borrow() <= key)
        };
        self.pieces.partition_point(begins_by).saturating_sub(1)
    }

    /// Piece and place of the first record within a lower bound.
    fn start(&self, bound: Bound<&K>) -> (usize, usize) {
        let (key, after) = match bound {
            Bound::Unbounded => return (0, 0),
            Bound::Included(key) => (key, 0),
            Bound::Excluded(key) => (key, 1),
        };
        let at = self.piece_of(key);
        let place = self.pieces.get(at).map_or(0, |piece| {
            place_in(piece, key).map_or_else(|place| place, |place| place + after)
        });
        (at, place)
    }

    /// Piece and place of the first record beyond an upper bound.
    fn end(&self, bound: Bound<&K>) -> (usize, usize) {
        match bound {
            Bound::Unbounded => (self.pieces.len(), 0),
            Bound::Included(key) => self.start(Bound::Excluded(key)),
            Bound::Excluded(key) => self.start(Bound::Included(key)),
        }
    }
}

impl<K: Ord + Clone, V: Clone> Table<K, V> {
    /// The record to be changed in place, copied where it is shared.
    pub(crate) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let at = self.piece_of(key);
        let place = place_in(self.pieces.get(at)?, key).ok()?;
        let piece = Arc::make_mut(&mut self.pieces).get_mut(at)?;
        let (_, value) = Arc::make_mut(piece).get_mut(place)?;
        Some(Arc::make_mut(value))
    }
}

/// Makes one piece of the one at a place and the next where they are small.
fn join<K: Clone, V>(pieces: &mut Vec<Arc<Piece<K, V>>>, at: usize) {
    let len = |at: usize| pieces.get(at).map(|piece| piece.len());
    if let (Some(one), Some(next)) = (len(at), len(at + 1))
        && one + next <= TABLE_PIECE_MAX / 2
    {
        let next = pieces.remove(at + 1);
        if let Some(piece) = pieces.get_mut(at) {
            Arc::make_mut(piece).extend(next.iter().cloned());
        }
    }
}

/// Where a key stands in a piece, else where it would.
fn place_in<K: Borrow<Q>, V, Q: Ord + ?Sized>(
    piece: &Piece<K, V>,
    key: &Q,
) -> Result<usize, usize> {
    piece.binary_search_by(|(known, _)| known.borrow().cmp(key))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_does_what_a_map_does(
            steps in prop::collection::vec((0_u16..2_000, any::<bool>()), 0..3_000),
            (low, high) in (0_u16..2_000, 0_u16..2_000),
        ) {
            let mut table = Table::default();
            let mut map = BTreeMap::new();
            for (step, (key, put)) in steps.into_iter().enumerate() {
                if put || step < 1_500 {
                    let (_, old) = table.insert(key, step);
                    prop_assert_eq!(old.map(|old| *old), map.insert(key, step));
                } else {
                    prop_assert_eq!(table.remove(&key).map(|old| *old), map.remove(&key));
                }
                prop_assert_eq!(table.get(&key).map(|found| **found), map.get(&key).copied());
            }
            prop_assert_eq!(table.len(), map.len());
            prop_assert!(table.iter().map(|(k, v)| (*k, **v)).eq(map.iter().map(|(k, v)| (*k, *v))));
            prop_assert!(table.values().rev().map(|v| **v).eq(map.values().rev().copied()));
            let (low, high) = (low.min(high), low.max(high));
            let keys = |range: &dyn Fn(&Table<u16, usize>) -> Vec<u16>| range(&table);
            prop_assert_eq!(keys(&|t| t.range(low..high).map(|(k, _)| *k).collect()),
                map.range(low..high).map(|(k, _)| *k).collect::<Vec<_>>());
            prop_assert_eq!(keys(&|t| t.range(low..=high).rev().map(|(k, _)| *k).collect()),
                map.range(low..=high).rev().map(|(k, _)| *k).collect::<Vec<_>>());
            prop_assert_eq!(keys(&|t| t.range(..high).map(|(k, _)| *k).collect()),
                map.range(..high).map(|(k, _)| *k).collect::<Vec<_>>());
            prop_assert_eq!(keys(&|t| t.range(low..).map(|(k, _)| *k).collect()),
                map.range(low..).map(|(k, _)| *k).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_change_copies_one_piece_and_leaves_the_shared_ones_alone() {
        let mut table = Table::default();
        (0..10_000_u32).for_each(|key| drop(table.insert(key, key)));
        let before = table.clone();
        table.insert(5_000, 1);
        *table.get_mut(&5_001).expect("there") = 2;
        table.remove(&5_002);
        let shared = |one: &Table<u32, u32>, other: &Table<u32, u32>| {
            let pieces = one.pieces.iter();
            pieces
                .filter(|piece| other.pieces.iter().any(|other| Arc::ptr_eq(piece, other)))
                .count()
        };
        assert_eq!(shared(&before, &table), before.pieces.len() - 1);
        let at = |table: &Table<u32, u32>, key: u32| table.get(&key).map(|value| **value);
        assert_eq!(
            (at(&before, 5_000), at(&table, 5_000)),
            (Some(5_000), Some(1))
        );
        assert_eq!(
            (at(&before, 5_001), at(&table, 5_001)),
            (Some(5_001), Some(2))
        );
        assert_eq!((at(&before, 5_002), at(&table, 5_002)), (Some(5_002), None));
        assert_eq!((before.len(), table.len()), (10_000, 9_999));
    }

    #[test]
    fn deletions_leave_no_tiny_pieces() {
        let mut table = Table::default();
        (0..10_000_u32).for_each(|key| drop(table.insert(key, ())));
        (0..10_000_u32)
            .filter(|key| key % 100 != 0)
            .for_each(|key| drop(table.remove(&key)));
        assert_eq!(table.len(), 100);
        assert!(table.pieces.len() <= 3, "{}", table.pieces.len());
    }
}
