//! IP policies and their rules: a network stands once in a policy, and what an endpoint uses stays.
//!
//! Every write to a policy or its rules writes the policy's own record too: that it did not change
//! meanwhile is then all a write has to guard, however many rules there are.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use portcullis_model::access::{IpAction, IpNet, IpPolicy, IpPolicyRule, IpRestriction};
use portcullis_model::id::{IpPolicyId, IpPolicyRuleId};
use portcullis_model::{AccountId, Code, Error};
use portcullis_policy::cidr;

use super::draft::Draft;
use super::{Registry, Written, certificates};
use crate::requests::{IpPolicyUpdate, IpRuleSpec, IpRuleUpdate, NewIpPolicy, NewIpRule};
use crate::{defaults, keys, validate};

impl Registry {
    /// Makes an IP policy, with its rules where some are given.
    ///
    /// # Errors
    /// `PTC_ACCOUNT_NOT_FOUND`, `PTC_IP_POLICY_LIMIT`, `PTC_IP_RULE_…`, lengths.
    pub async fn create_ip_policy(
        &self,
        account: &AccountId,
        new: NewIpPolicy,
    ) -> Result<Written<IpPolicy>, Error> {
        let rules = read_rules(&new.rules)?;
        self.write(account.as_str(), |draft| {
            create(draft, account, &new, &rules)
        })
        .await
    }

    /// Changes an IP policy; with `rules` all of its rules at once.
    ///
    /// # Errors
    /// `PTC_IP_POLICY_NOT_FOUND`, `PTC_API_EMPTY_UPDATE`, `PTC_IP_RULE_…`, lengths.
    pub async fn update_ip_policy(
        &self,
        account: &AccountId,
        id: &IpPolicyId,
        update: IpPolicyUpdate,
    ) -> Result<Written<IpPolicy>, Error> {
        validate::not_empty(&update)?;
        let rules = update.rules.as_deref().map(read_rules).transpose()?;
        self.write(account.as_str(), |draft| {
            change(draft, account, id, &update, rules.as_ref())
        })
        .await
    }

    /// Deletes an IP policy and its rules.
    ///
    /// # Errors
    /// `PTC_IP_POLICY_NOT_FOUND`, `PTC_IP_POLICY_IN_USE`.
    pub async fn delete_ip_policy(
        &self,
        account: &AccountId,
        id: &IpPolicyId,
    ) -> Result<Written<()>, Error> {
        self.write(account.as_str(), |draft| delete(draft, account, id))
            .await
    }

    /// Makes a rule of an IP policy.
    ///
    /// # Errors
    /// `PTC_IP_POLICY_NOT_FOUND`, `PTC_IP_RULE_…`, lengths.
    pub async fn create_ip_rule(
        &self,
        account: &AccountId,
        new: NewIpRule,
    ) -> Result<Written<IpPolicyRule>, Error> {
        let cidr = read_cidr(&new.cidr)?;
        self.write(account.as_str(), |draft| {
            create_rule(draft, account, &new, cidr)
        })
        .await
    }

    /// Changes a rule.
    ///
    /// # Errors
    /// `PTC_API_NOT_FOUND`, `PTC_API_EMPTY_UPDATE`, `PTC_IP_RULE_…`, lengths.
    pub async fn update_ip_rule(
        &self,
        account: &AccountId,
        id: &IpPolicyRuleId,
        update: IpRuleUpdate,
    ) -> Result<Written<IpPolicyRule>, Error> {
        validate::not_empty(&update)?;
        let cidr = update.cidr.as_deref().map(read_cidr).transpose()?;
        self.write(account.as_str(), |draft| {
            change_rule(draft, account, id, &update, cidr)
        })
        .await
    }

    /// Deletes a rule.
    ///
    /// # Errors
    /// `PTC_API_NOT_FOUND`, `PTC_IP_RULE_LAST`.
    pub async fn delete_ip_rule(
        &self,
        account: &AccountId,
        id: &IpPolicyRuleId,
    ) -> Result<Written<()>, Error> {
        self.write(account.as_str(), |draft| delete_rule(draft, account, id))
            .await
    }
}

fn create(
    draft: &mut Draft<'_>,
    account: &AccountId,
    new: &NewIpPolicy,
    rules: &BTreeMap<IpNet, IpAction>,
) -> Result<IpPolicy, Error> {
    draft.account(account)?;
    validate::texts(&new.description, &new.metadata)?;
    let most = defaults::IP_POLICIES_MAX;
    if draft.snapshot.ip_policies(account).count() >= most {
        let message = format!("the account has {most} IP policies, as many as the server allows");
        return Err(Error::new(Code::IpPolicyLimit, message));
    }
    let policy = IpPolicy {
        id: draft.id(IpPolicyId::new)?,
        account: account.clone(),
        description: new.description.clone(),
        metadata: new.metadata.clone(),
        created_at: draft.now,
    };
    replace_rules(draft, &policy, rules)?;
    draft.put(keys::ip_policy(account, &policy.id), &policy)?;
    Ok(policy)
}

fn change(
    draft: &mut Draft<'_>,
    account: &AccountId,
    id: &IpPolicyId,
    update: &IpPolicyUpdate,
    rules: Option<&BTreeMap<IpNet, IpAction>>,
) -> Result<IpPolicy, Error> {
    let mut policy = touch(draft, account, id)?.clone();
    let into = (&mut policy.description, &mut policy.metadata);
    validate::set_texts(update.description.as_ref(), update.metadata.as_ref(), into)?;
    if let Some(rules) = rules {
        replace_rules(draft, &policy, rules)?;
    }
    draft.put(keys::ip_policy(account, id), &policy)?;
    Ok(policy)
}

fn delete(draft: &mut Draft<'_>, account: &AccountId, id: &IpPolicyId) -> Result<(), Error> {
    find(draft, account, id)?;
    let snapshot = draft.snapshot;
    let users = snapshot.endpoints_that_use(account, |uses| uses.ip_policies.contains(id));
    if let Some(users) = certificates::named(users) {
        let message = format!("the traffic policies of these endpoints use {id}: {users}");
        return Err(Error::new(Code::IpPolicyInUse, message));
    }
    if let Some(users) = restrictions(draft, account, id, |_| true) {
        let message = format!("these IP restrictions use {id}: {users}");
        return Err(Error::new(Code::IpPolicyInUse, message));
    }
    // What begins to use it meanwhile is new or changed.
    draft.nothing_new(keys::owned("endpoint", account));
    draft.nothing_new(keys::owned("ipx", account));
    draft.unchanged(keys::ip_policy(account, id));
    forget(draft, account, id);
    Ok(())
}

/// The IP restrictions of a kind that use the policy, as a message names them.
fn restrictions(
    draft: &Draft<'_>,
    account: &AccountId,
    id: &IpPolicyId,
    counts: impl Fn(&IpRestriction) -> bool,
) -> Option<String> {
    let named: Vec<String> = draft
        .snapshot
        .restrictions_that_use(account, id)
        .filter(|restriction| counts(restriction))
        .take(defaults::USERS_SHOWN)
        .map(|restriction| format!("{} ({})", restriction.id, restriction.kind.as_str()))
        .collect();
    (!named.is_empty()).then(|| named.join(", "))
}

/// Refuses to take the last rule of a policy while an enforced IP restriction uses it: a policy without
/// rules lets nobody in.
fn check_last(draft: &mut Draft<'_>, account: &AccountId, id: &IpPolicyId) -> Result<(), Error> {
    if let Some(users) = restrictions(draft, account, id, |restriction| restriction.enforced) {
        let message = format!(
            "{id} would have no rule left and let nobody in, and these enforced IP restrictions use it: {users}"
        );
        return Err(Error::new(Code::IpRuleLast, message));
    }
    // What begins to use or to enforce it meanwhile is new or changed.
    draft.nothing_new(keys::owned("ipx", account));
    Ok(())
}

/// Deletes an IP policy with its rules, whoever uses it.
pub(super) fn forget(draft: &mut Draft<'_>, account: &AccountId, id: &IpPolicyId) {
    let snapshot = draft.snapshot;
    for rule in snapshot.ip_rules_of(id) {
        draft.delete(keys::ip_rule(account, id, &rule.id));
    }
    draft.delete(keys::ip_policy(account, id));
}

/// Sees that IP policies that a traffic policy uses stay until it is written; names those that are not there.
pub(super) fn guard(
    draft: &mut Draft<'_>,
    account: &AccountId,
    used: &BTreeSet<IpPolicyId>,
) -> Vec<String> {
    let mut absent = Vec::new();
    for id in used {
        match draft.snapshot.ip_policy(account, id) {
            Some(_) => draft.still(keys::ip_policy(account, id)),
            None => absent.push(format!("the IP policy {id}")),
        }
    }
    absent
}

fn create_rule(
    draft: &mut Draft<'_>,
    account: &AccountId,
    new: &NewIpRule,
    cidr: IpNet,
) -> Result<IpPolicyRule, Error> {
    touch(draft, account, &new.policy)?;
    validate::texts(&new.description, &new.metadata)?;
    let count = draft.snapshot.ip_rule_count(&new.policy);
    check_count(draft, account, &new.policy, count + 1)?;
    check_duplicate(draft, &new.policy, cidr, None)?;
    let rule = IpPolicyRule {
        id: draft.id(IpPolicyRuleId::new)?,
        account: account.clone(),
        policy: new.policy.clone(),
        cidr,
        action: new.action,
        description: new.description.clone(),
        metadata: new.metadata.clone(),
        created_at: draft.now,
    };
    draft.put(keys::ip_rule(account, &rule.policy, &rule.id), &rule)?;
    Ok(rule)
}

fn change_rule(
    draft: &mut Draft<'_>,
    account: &AccountId,
    id: &IpPolicyRuleId,
    update: &IpRuleUpdate,
    cidr: Option<IpNet>,
) -> Result<IpPolicyRule, Error> {
    let mut rule = find_rule(draft, account, id)?.clone();
    touch(draft, account, &rule.policy)?;
    let into = (&mut rule.description, &mut rule.metadata);
    validate::set_texts(update.description.as_ref(), update.metadata.as_ref(), into)?;
    if let Some(cidr) = cidr {
        check_duplicate(draft, &rule.policy, cidr, Some(id))?;
        rule.cidr = cidr;
    }
    draft.put(keys::ip_rule(account, &rule.policy, id), &rule)?;
    Ok(rule)
}

fn delete_rule(
    draft: &mut Draft<'_>,
    account: &AccountId,
    id: &IpPolicyRuleId,
) -> Result<(), Error> {
    let rule = find_rule(draft, account, id)?;
    touch(draft, account, &rule.policy)?;
    if draft.snapshot.ip_rule_count(&rule.policy) == 1 {
        check_last(draft, account, &rule.policy)?;
    }
    draft.delete(keys::ip_rule(account, &rule.policy, id));
    Ok(())
}

fn find<'a>(
    draft: &Draft<'a>,
    account: &AccountId,
    id: &IpPolicyId,
) -> Result<&'a IpPolicy, Error> {
    let policy = draft.snapshot.ip_policy(account, id);
    policy.map(|policy| &**policy).ok_or_else(|| {
        Error::new(
            Code::IpPolicyNotFound,
            format!("no IP policy {id} in this account"),
        )
    })
}

fn find_rule<'a>(
    draft: &Draft<'a>,
    account: &AccountId,
    id: &IpPolicyRuleId,
) -> Result<&'a IpPolicyRule, Error> {
    let rule = draft.snapshot.ip_rule(account, id);
    rule.map(|rule| &**rule).ok_or_else(|| {
        Error::new(
            Code::ApiNotFound,
            format!("no IP policy rule {id} in this account"),
        )
    })
}

/// The policy, which this write guards and writes again, so that no other write to it or its rules
/// judged by what this one changes.
fn touch<'a>(
    draft: &mut Draft<'a>,
    account: &AccountId,
    id: &IpPolicyId,
) -> Result<&'a IpPolicy, Error> {
    let policy = find(draft, account, id)?;
    draft.unchanged(keys::ip_policy(account, id));
    draft.put(keys::ip_policy(account, id), policy)?;
    Ok(policy)
}

/// Makes a policy's rules these. A rule that stays keeps its id and texts; one whose action is another
/// is a new one.
fn replace_rules(
    draft: &mut Draft<'_>,
    policy: &IpPolicy,
    wanted: &BTreeMap<IpNet, IpAction>,
) -> Result<(), Error> {
    let (account, id) = (&policy.account, &policy.id);
    check_count(draft, account, id, wanted.len())?;
    let snapshot = draft.snapshot;
    if wanted.is_empty() && snapshot.ip_rule_count(id) > 0 {
        check_last(draft, account, id)?;
    }
    for old in snapshot.ip_rules_of(id) {
        if wanted.get(&old.cidr) != Some(&old.action) {
            draft.delete(keys::ip_rule(account, id, &old.id));
        }
    }
    for (cidr, action) in wanted {
        let known = snapshot.ip_rule_for(id, cidr);
        if known.is_some_and(|rule| rule.action == *action) {
            continue;
        }
        let rule = IpPolicyRule {
            id: draft.id(IpPolicyRuleId::new)?,
            account: account.clone(),
            policy: id.clone(),
            cidr: *cidr,
            action: *action,
            description: String::new(),
            metadata: String::new(),
            created_at: draft.now,
        };
        draft.put(keys::ip_rule(account, id, &rule.id), &rule)?;
    }
    Ok(())
}

/// Whether a policy may have so many rules. Writes of one account go one after the other on a node, and
/// that two nodes might together exceed the account's sum by a few is no harm.
fn check_count(
    draft: &Draft<'_>,
    account: &AccountId,
    id: &IpPolicyId,
    rules: usize,
) -> Result<(), Error> {
    check_policy_count(rules)?;
    let snapshot = draft.snapshot;
    let others: usize = snapshot
        .ip_policies(account)
        .filter(|policy| policy.id != *id)
        .map(|policy| snapshot.ip_rule_count(&policy.id))
        .sum();
    let most = defaults::ACCOUNT_IP_RULES_MAX;
    if others + rules > most {
        let message = format!(
            "the account's IP policies would have {} rules together; at most {most} are allowed",
            others + rules
        );
        return Err(Error::new(Code::IpRuleLimit, message));
    }
    Ok(())
}

fn check_policy_count(rules: usize) -> Result<(), Error> {
    let most = defaults::IP_POLICY_RULES_MAX;
    if rules > most {
        let message = format!("the IP policy would have {rules} rules; at most {most} are allowed");
        return Err(Error::new(Code::IpRuleLimit, message));
    }
    Ok(())
}

fn check_duplicate(
    draft: &Draft<'_>,
    policy: &IpPolicyId,
    cidr: IpNet,
    but: Option<&IpPolicyRuleId>,
) -> Result<(), Error> {
    match draft.snapshot.ip_rule_for(policy, &cidr) {
        Some(rule) if Some(&rule.id) != but => Err(Error::new(
            Code::IpRuleDuplicate,
            format!(
                "{policy} has a rule for {cidr} already: {}, which says {}",
                rule.id,
                rule.action.as_str()
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

/// Reads many rules, and finds all that is wrong with them.
fn read_rules(specs: &[IpRuleSpec]) -> Result<BTreeMap<IpNet, IpAction>, Error> {
    // Before they are read: what is too much anyway costs no more than its bytes.
    check_policy_count(specs.len())?;
    let mut rules = BTreeMap::new();
    let mut problems: Vec<Error> = Vec::new();
    let mut count = 0_usize;
    for (place, spec) in specs.iter().enumerate() {
        let read = read_cidr(&spec.cidr).and_then(|cidr| match rules.entry(cidr) {
            Entry::Vacant(free) => {
                free.insert(spec.action);
                Ok(())
            }
            Entry::Occupied(_) => Err(Error::new(
                Code::IpRuleDuplicate,
                format!("{cidr} stands in the list already"),
            )),
        });
        let Err(error) = read else { continue };
        count += 1;
        if problems.len() < defaults::IP_RULE_PROBLEMS_SHOWN {
            let message = format!("rules[{place}].cidr: {}", error.message);
            problems.push(Error::new(error.code, message));
        }
    }
    let Some(first) = problems.first() else {
        return Ok(rules);
    };
    let code = first.code;
    let more = match count - problems.len() {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let messages: Vec<String> = problems.into_iter().map(|error| error.message).collect();
    Err(Error::new(code, format!("{}{more}", messages.join("; "))))
}

fn read_cidr(text: &str) -> Result<IpNet, Error> {
    cidr::parse(text).map_err(|message| Error::new(fault(text), message))
}

/// Which of ngrok's causes a refused CIDR has.
fn fault(text: &str) -> Code {
    if text.parse::<IpAddr>().is_ok() {
        return Code::IpRuleMaskMissing;
    }
    match text.parse::<IpNet>() {
        Ok(net) if net.trunc() != net => Code::IpRuleNotBase,
        Ok(_) | Err(_) => Code::IpRuleInvalid,
    }
}
