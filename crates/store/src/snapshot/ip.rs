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

use super::{EndpointEntry, Snapshot, Table};

/// The rules of one policy, and what was made of them.
#[derive(Debug, Default)]
pub(super) struct RulesOf {
    by_cidr: Table<IpNet, IpPolicyRule>,
    /// Made when it is first asked for after a change; 100,000 networks take some ten milliseconds.
    sets: OnceLock<Arc<IpSets>>,
}

/// A copy is there to be changed, so it starts without the sets.
impl Clone for RulesOf {
    fn clone(&self) -> Self {
        Self {
            by_cidr: self.by_cidr.clone(),
            sets: OnceLock::new(),
        }
    }
}

impl RulesOf {
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
        self.ip_policies
            .get(id)
            .filter(|policy| policy.account == *account)
    }

    /// The account's IP policies, oldest first.
    pub fn ip_policies<'a>(
        &'a self,
        account: &'a AccountId,
    ) -> impl DoubleEndedIterator<Item = &'a Arc<IpPolicy>> {
        self.ip_policies
            .values()
            .filter(move |policy| policy.account == *account)
    }

    /// A rule of an IP policy of the account.
    pub fn ip_rule(&self, account: &AccountId, id: &IpPolicyRuleId) -> Option<&Arc<IpPolicyRule>> {
        self.ip_rules
            .get(id)
            .filter(|rule| rule.account == *account)
    }

    /// The account's rules of all its IP policies, oldest first; those before an id where one is given.
    pub fn ip_rules<'a>(
        &'a self,
        account: &'a AccountId,
        before: Option<&IpPolicyRuleId>,
    ) -> impl DoubleEndedIterator<Item = &'a Arc<IpPolicyRule>> {
        let end = before.map_or(Bound::Unbounded, |id| Bound::Excluded(id.clone()));
        self.ip_rules
            .range((Bound::Unbounded, end))
            .map(|(_, rule)| rule)
            .filter(move |rule| rule.account == *account)
    }

    /// How many rules an IP policy has; 0 where there is none such.
    pub fn ip_rule_count(&self, policy: &IpPolicyId) -> usize {
        self.ip_rules_of
            .get(policy)
            .map_or(0, |rules| rules.by_cidr.len())
    }

    /// The networks of an IP policy of the account. Never waits for a writer; the first who asks after a
    /// change makes the sets, and whoever asks meanwhile waits for that.
    pub fn ip_sets(&self, account: &AccountId, id: &IpPolicyId) -> Option<Arc<IpSets>> {
        static NONE: LazyLock<Arc<IpSets>> = LazyLock::new(Arc::default);
        self.ip_policy(account, id)?;
        let rules = self.ip_rules_of.get(id);
        Some(rules.map_or_else(|| Arc::clone(&NONE), |rules| Arc::clone(rules.sets())))
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

    /// The account's endpoints whose traffic policy uses an IP policy.
    pub(crate) fn users_of_ip_policy<'a>(
        &'a self,
        account: &'a AccountId,
        id: &'a IpPolicyId,
    ) -> impl Iterator<Item = &'a Arc<EndpointEntry>> {
        self.endpoints(account).filter(move |endpoint| {
            let policy = endpoint.policy().ok().flatten();
            policy.is_some_and(|policy| policy.uses().ip_policies.contains(id))
        })
    }

    pub(super) fn put_ip_rule(&mut self, rule: IpPolicyRule) {
        let (rule, old) = self.ip_rules.insert(rule.id.clone(), rule);
        if let Some(old) = old {
            self.forget_network(&old);
        }
        if self.ip_rules_of.get(&rule.policy).is_none() {
            self.ip_rules_of
                .insert(rule.policy.clone(), RulesOf::default());
        }
        if let Some(rules) = self.ip_rules_of.get_mut(&rule.policy) {
            rules.by_cidr.insert(rule.cidr, Arc::clone(&rule));
            rules.sets = OnceLock::new();
        }
    }

    pub(super) fn delete_ip_rule(&mut self, id: &str) {
        if let Some(old) = id.parse().ok().and_then(|id| self.ip_rules.remove(&id)) {
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
            rules.sets = OnceLock::new();
        }
        if rules.by_cidr.len() == 0 {
            self.ip_rules_of.remove(&old.policy);
        }
    }
}
