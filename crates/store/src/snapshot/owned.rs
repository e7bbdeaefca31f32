//! Records of accounts, each account's apart: a list of one costs nothing for the others' records.

use std::ops::RangeBounds;
use std::sync::Arc;

use portcullis_model::AccountId;

use super::Table;

/// Records by owner and id. Cloning is one reference count.
#[derive(Debug)]
pub(super) struct Owned<I, V>(Table<AccountId, Table<I, V>>);

impl<I, V> Clone for Owned<I, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<I, V> Default for Owned<I, V> {
    fn default() -> Self {
        Self(Table::default())
    }
}

impl<I: Ord + Clone, V> Owned<I, V> {
    pub(super) fn get(&self, account: &AccountId, id: &I) -> Option<&Arc<V>> {
        self.0.get(account)?.get(id)
    }

    /// How many an account has.
    pub(super) fn count(&self, account: &AccountId) -> usize {
        self.0.get(account).map_or(0, |own| own.len())
    }

    /// An account's, in the order of their ids.
    pub(super) fn of(&self, account: &AccountId) -> impl DoubleEndedIterator<Item = &Arc<V>> {
        let own = self.0.get(account).into_iter();
        own.flat_map(|own| own.values())
    }

    /// An account's whose ids are within bounds.
    pub(super) fn range(
        &self,
        account: &AccountId,
        bounds: impl RangeBounds<I> + Clone,
    ) -> impl DoubleEndedIterator<Item = &Arc<V>> {
        let own = self.0.get(account).into_iter();
        own.flat_map(move |own| own.range(bounds.clone()))
            .map(|(_, value)| value)
    }

    /// Everyone's.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<V>> {
        self.0.values().flat_map(|own| own.values())
    }

    /// The record as it is kept, and the one that was there.
    pub(super) fn insert(
        &mut self,
        account: &AccountId,
        id: I,
        value: impl Into<Arc<V>>,
    ) -> (Arc<V>, Option<Arc<V>>) {
        let value = value.into();
        if let Some(own) = self.0.get_mut(account) {
            return own.insert(id, value);
        }
        let mut own = Table::default();
        let inserted = own.insert(id, value);
        self.0.insert(account.clone(), own);
        inserted
    }

    pub(super) fn remove(&mut self, account: &AccountId, id: &I) -> Option<Arc<V>> {
        let own = self.0.get_mut(account)?;
        let old = own.remove(id);
        if own.len() == 0 {
            self.0.remove(account);
        }
        old
    }
}

/// Account and id of a record's key behind its kind: `ACCOUNT/ID`, whatever stands between them.
pub(super) fn place<I: std::str::FromStr>(rest: &str) -> Option<(AccountId, I)> {
    let (account, _) = rest.split_once('/')?;
    let (_, id) = rest.rsplit_once('/')?;
    Some((account.parse().ok()?, id.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(n: u8) -> AccountId {
        AccountId::new(1_700_000_000, [n; 16])
    }

    #[test]
    fn each_account_has_its_own() {
        let mut owned: Owned<u32, &str> = Owned::default();
        let (one, two, none) = (account(1), account(2), account(3));
        owned.insert(&one, 2, "b");
        owned.insert(&one, 1, "a");
        owned.insert(&two, 1, "c");
        let before = owned.clone();
        let (_, old) = owned.insert(&one, 1, "d");
        assert_eq!(old.as_deref(), Some(&"a"));
        let of = |owned: &Owned<u32, &'static str>, account: &AccountId| -> Vec<&str> {
            owned.of(account).map(|value| **value).collect()
        };
        assert_eq!(of(&before, &one), ["a", "b"], "what was shared stays");
        assert_eq!(of(&owned, &one), ["d", "b"]);
        assert_eq!(of(&owned, &two), ["c"]);
        assert!(of(&owned, &none).is_empty());
        let last: Vec<&str> = owned.of(&one).rev().map(|value| **value).collect();
        assert_eq!(last, ["b", "d"]);
        assert_eq!(owned.range(&one, ..2).count(), 1);
        assert_eq!((owned.count(&one), owned.count(&none)), (2, 0));
        assert_eq!(owned.all().count(), 3);
        assert_eq!(owned.get(&two, &2), None);
        assert_eq!(owned.remove(&two, &1).as_deref(), Some(&"c"));
        assert_eq!(owned.remove(&two, &1), None);
        assert_eq!((owned.all().count(), owned.0.len()), (2, 1));
    }

    #[test]
    fn a_key_names_its_owner_and_its_record() {
        let id = account(7);
        let place = |rest: String| place::<AccountId>(&rest);
        assert_eq!(
            place(format!("{id}/x/{}", account(8))),
            Some((id, account(8)))
        );
        assert_eq!(place("x".to_owned()), None);
    }
}
