//! The snapshot's IP policies: rules by id and by policy, and the sets of networks that the data path asks.
//!
//! Owns: that a change of one policy costs the others nothing. Must never: build a set anew for a policy
//! that did not change.

use std::ops::Bound;
use std::sync::{Arc, LazyLock, OnceLock};

use portcullis_model::AccountId;
use portcullis_model::access::{IpAction, IpNet, IpPolicy, IpPolicyRule};
use portcullis_model::id::{IpPolicyId, IpPolicyRuleId};
use portcullis_policy::world::IpSets;

use super::{Snapshot, Table};

/// The rules of one policy, and what was made of them.
#[derive(Debug, Default)]
pub(super) struct RulesOf {
    by_cidr: Table<IpNet, IpPolicyRule>,
    /// Made before a snapshot is published where an endpoint may ask for it; 100,000 networks take some ten
    /// milliseconds.
    sets: OnceLock<Arc<IpSets>>,
    /// Whether there were sets before the last change.
    wanted: bool,
}

/// A copy is there to be changed, so it starts without the sets.
impl Clone for RulesOf {
    fn clone(&self) -> Self {
        Self {
            by_cidr: self.by_cidr.clone(),
            sets: OnceLock::new(),
            wanted: self.is_wanted(),
        }
    }
}

/// An IP policy whose sets have to be made before the snapshot is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Touched {
    /// Its rules have changed: if there were sets.
    Rules(IpPolicyId),
    /// An endpoint uses it.
    Use(IpPolicyId),
}

impl RulesOf {
    fn is_wanted(&self) -> bool {
        self.wanted || self.sets.get().is_some()
    }

    fn change(&mut self) {
        self.wanted = self.is_wanted();
        self.sets = OnceLock::new();
    }

    fn sets(&self) -> &Arc<IpSets> {
        let of = |action: IpAction| {
            let rules = self.by_cidr.values();
            rules
                .filter(|rule| rule.action == action)
                .map(|rule| rule.cidr)
                .collect()
        };
        self.sets.get_or_init(|| {
            Arc::new(IpSets {
                allow: of(IpAction::Allow),
                deny: of(IpAction::Deny),
            })
        })
    }
}

impl Snapshot {
    /// An IP policy of the account.
    pub fn ip_policy(&self, account: &AccountId, id: &IpPolicyId) -> Option<&Arc<IpPolicy>> {
        self.ip_policies.get(account, id)
    }

    /// The account's IP policies, oldest first.
    pub fn ip_policies(
        &self,
        account: &AccountId,
    ) -> impl DoubleEndedIterator<Item = &Arc<IpPolicy>> {
        self.ip_policies.of(account)
    }

    /// A rule of an IP policy of the account.
    pub fn ip_rule(&self, account: &AccountId, id: &IpPolicyRuleId) -> Option<&Arc<IpPolicyRule>> {
        self.ip_rules.get(account, id)
    }

    /// The account's rules of all its IP policies, oldest first; those before an id where one is given.
    pub fn ip_rules<'a>(
        &'a self,
        account: &'a AccountId,
        before: Option<&IpPolicyRuleId>,
    ) -> impl DoubleEndedIterator<Item = &'a Arc<IpPolicyRule>> {
        let end = before.map_or(Bound::Unbounded, |id| Bound::Excluded(id.clone()));
        self.ip_rules.range(account, (Bound::Unbounded, end))
    }

    /// How many rules an IP policy has; 0 where there is none such.
    pub fn ip_rule_count(&self, policy: &IpPolicyId) -> usize {
        self.ip_rules_of
            .get(policy)
            .map_or(0, |rules| rules.by_cidr.len())
    }

    /// The networks of an IP policy of the account. Those that an endpoint uses are there; any others are made
    /// by the first who asks, and whoever asks meanwhile waits for that.
    pub fn ip_sets(&self, account: &AccountId, id: &IpPolicyId) -> Option<Arc<IpSets>> {
        static NONE: LazyLock<Arc<IpSets>> = LazyLock::new(Arc::default);
        self.ip_policy(account, id)?;
        let rules = self.ip_rules_of.get(id);
        Some(rules.map_or_else(|| Arc::clone(&NONE), |rules| Arc::clone(rules.sets())))
    }

    /// Whether nobody has to wait for its sets.
    #[cfg(test)]
    pub(crate) fn has_ip_sets(&self, policy: &IpPolicyId) -> bool {
        let rules = self.ip_rules_of.get(policy);
        rules.is_some_and(|rules| rules.sets.get().is_some())
    }

    /// The rules of an IP policy, by network.
    pub(crate) fn ip_rules_of(&self, policy: &IpPolicyId) -> impl Iterator<Item = &IpPolicyRule> {
        let rules = self.ip_rules_of.get(policy);
        rules
            .into_iter()
            .flat_map(|rules| rules.by_cidr.values())
            .map(|rule| &**rule)
    }

    /// The rule of an IP policy for a network.
    pub(crate) fn ip_rule_for(&self, policy: &IpPolicyId, cidr: &IpNet) -> Option<&IpPolicyRule> {
        let rule = self.ip_rules_of.get(policy)?.by_cidr.get(cidr)?;
        Some(rule)
    }

    /// Makes the sets of what the last changes touched, so that no connection has to.
    pub(super) fn make_ip_sets(&mut self) {
        for touched in std::mem::take(&mut self.touched) {
            let (id, used) = match &touched {
                Touched::Rules(id) => (id, false),
                Touched::Use(id) => (id, true),
            };
            if let Some(rules) = self.ip_rules_of.get(id)
                && (used || rules.wanted)
            {
                rules.sets();
            }
        }
    }

    /// Remembers what [`Self::make_ip_sets`] has to look at. Many rules of one policy come behind each other.
    pub(super) fn touch(&mut self, touched: Touched) {
        if self.touched.last() != Some(&touched) {
            self.touched.push(touched);
        }
    }

    pub(super) fn put_ip_rule(&mut self, rule: IpPolicyRule) {
        let (account, id) = (rule.account.clone(), rule.id.clone());
        let (rule, old) = self.ip_rules.insert(&account, id, rule);
        if let Some(old) = old {
            self.forget_network(&old);
        }
        if self.ip_rules_of.get(&rule.policy).is_none() {
            self.ip_rules_of
                .insert(rule.policy.clone(), RulesOf::default());
        }
        if let Some(rules) = self.ip_rules_of.get_mut(&rule.policy) {
            rules.by_cidr.insert(rule.cidr, Arc::clone(&rule));
            rules.change();
        }
        self.touch(Touched::Rules(rule.policy.clone()));
    }

    pub(super) fn delete_ip_rule(&mut self, account: &AccountId, id: &IpPolicyRuleId) {
        if let Some(old) = self.ip_rules.remove(account, id) {
            self.forget_network(&old);
        }
    }

    /// Takes a rule's network out of its policy, unless another rule has come for it meanwhile: the changes
    /// of one write come in the order of their keys.
    fn forget_network(&mut self, old: &IpPolicyRule) {
        let Some(rules) = self.ip_rules_of.get_mut(&old.policy) else {
            return;
        };
        let mine = rules
            .by_cidr
            .get(&old.cidr)
            .is_some_and(|rule| rule.id == old.id);
        if mine {
            rules.by_cidr.remove(&old.cidr);
            rules.change();
        }
        if rules.by_cidr.len() == 0 {
            self.ip_rules_of.remove(&old.policy);
        }
        self.touch(Touched::Rules(old.policy.clone()));
    }
}
