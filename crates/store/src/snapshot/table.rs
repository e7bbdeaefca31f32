//! A map that is cheap to clone and copies itself when it is changed while shared.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::RangeBounds;
use std::sync::Arc;

/// Records by id. Cloning is one reference count; a change copies the map's spine, not the records.
#[derive(Debug)]
pub(crate) struct Table<K, V>(Arc<BTreeMap<K, Arc<V>>>);

impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Ord + Clone, V> Table<K, V> {
    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&Arc<V>>
    where
        K: Borrow<Q>,
    {
        self.0.get(key)
    }

    pub(crate) fn values(&self) -> impl DoubleEndedIterator<Item = &Arc<V>> {
        self.0.values()
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &Arc<V>)> {
        self.0.iter()
    }

    pub(crate) fn range(&self, range: impl RangeBounds<K>) -> impl Iterator<Item = (&K, &Arc<V>)> {
        self.0.range(range)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> (Arc<V>, Option<Arc<V>>) {
        let value = Arc::new(value);
        let old = Arc::make_mut(&mut self.0).insert(key, Arc::clone(&value));
        (value, old)
    }

    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
    {
        if !self.0.contains_key(key) {
            return None;
        }
        Arc::make_mut(&mut self.0).remove(key)
    }
}
