//! IP restrictions: who is let in, and that what they use stays.

use std::net::IpAddr;

use portcullis_model::access::{IpAction, IpRestriction, RestrictionKind};
use portcullis_model::id::{IpPolicyId, IpPolicyRuleId, IpRestrictionId};

use super::*;
use crate::defaults;
use crate::requests::{
    IpPolicyUpdate, IpRestrictionUpdate, IpRuleSpec, NewIpPolicy, NewIpRestriction,
};

use IpAction::{Allow, Deny};
use RestrictionKind::{Agent, Api, Dashboard, Endpoints};

fn specs(rules: &[(&str, IpAction)]) -> Vec<IpRuleSpec> {
    let rules = rules.iter();
    rules
        .map(|(cidr, action)| IpRuleSpec {
            cidr: (*cidr).to_owned(),
            action: *action,
        })
        .collect()
}

fn new(kind: RestrictionKind, enforced: bool, policies: &[&IpPolicyId]) -> NewIpRestriction {
    NewIpRestriction {
        kind,
        enforced,
        policies: policies.iter().map(|id| (*id).clone()).collect(),
        description: String::new(),
        metadata: String::new(),
    }
}

impl Bed {
    async fn ip_policy(&self, rules: &[(&str, IpAction)]) -> IpPolicyId {
        let new = NewIpPolicy {
            rules: specs(rules),
            ..NewIpPolicy::default()
        };
        let made = self.registry.create_ip_policy(&self.account, new).await;
        made.expect("a policy").value.id
    }

    async fn restriction(
        &self,
        kind: RestrictionKind,
        enforced: bool,
        policies: &[&IpPolicyId],
    ) -> IpRestriction {
        let new = new(kind, enforced, policies);
        let made = self.registry.create_ip_restriction(&self.account, new);
        made.await.expect("a restriction").value
    }

    fn against(&self, kind: RestrictionKind, ip: &str) -> Option<IpRestrictionId> {
        let ip: IpAddr = ip.parse().expect("an address");
        let snapshot = self.registry.snapshot();
        snapshot.restriction_against(&self.account, kind, ip)
    }
}

#[tokio::test]
async fn each_enforced_restriction_of_a_kind_has_to_let_an_address_in() {
    let bed = Bed::new().await;
    let office = bed
        .ip_policy(&[("10.0.0.0/8", Allow), ("10.66.0.0/16", Deny)])
        .await;
    let home = bed
        .ip_policy(&[("192.0.2.0/24", Allow), ("10.77.0.0/16", Deny)])
        .await;
    assert_eq!(bed.against(Api, "203.0.113.1"), None, "none, none refused");
    let both = bed.restriction(Api, true, &[&office, &home, &office]).await;
    assert_eq!(both.policies, [office.clone(), home.clone()]);
    let id = Some(both.id.clone());
    for (ip, refused) in [
        ("10.1.2.3", false),
        ("::ffff:10.1.2.3", false),
        ("192.0.2.9", false),
        ("10.66.0.1", true),
        ("10.77.0.1", true),
        ("203.0.113.1", true),
        ("::1", true),
    ] {
        let expected = id.clone().filter(|_| refused);
        assert_eq!(bed.against(Api, ip), expected, "{ip}");
        for other in [Agent, Dashboard, Endpoints] {
            assert_eq!(bed.against(other, ip), None, "{ip}");
        }
    }
    // A second one narrows; one that is not enforced does nothing.
    let narrow = bed.restriction(Api, true, &[&home]).await.id;
    assert_eq!(bed.against(Api, "10.1.2.3"), Some(narrow.clone()));
    assert_eq!(bed.against(Api, "192.0.2.9"), None);
    let logs = bed.restriction(Agent, false, &[&home]).await.id;
    assert_eq!(bed.against(Agent, "203.0.113.1"), None);
    let (other, _) = bed.stranger().await;
    let ip = "203.0.113.1".parse().expect("an address");
    let snapshot = bed.registry.snapshot();
    assert_eq!(snapshot.restriction_against(&other, Api, ip), None);

    // Changes count at once: of the restriction, of its policies, of their rules.
    let update = |id: &IpRestrictionId, update: IpRestrictionUpdate| {
        let (registry, account, id) = (bed.registry.clone(), bed.account.clone(), id.clone());
        async move { registry.update_ip_restriction(&account, &id, update).await }
    };
    let enforced = |flag| IpRestrictionUpdate {
        enforced: Some(flag),
        ..IpRestrictionUpdate::default()
    };
    update(&narrow, enforced(false)).await.expect("changed");
    assert_eq!(bed.against(Api, "10.1.2.3"), None);
    update(&logs, enforced(true)).await.expect("changed");
    assert_eq!(bed.against(Agent, "203.0.113.1"), Some(logs.clone()));
    let policies = IpRestrictionUpdate {
        policies: Some(vec![home.clone()]),
        ..IpRestrictionUpdate::default()
    };
    update(&both.id, policies).await.expect("changed");
    assert_eq!(bed.against(Api, "10.1.2.3"), id);
    let rules = IpPolicyUpdate {
        rules: Some(specs(&[("0.0.0.0/0", Allow)])),
        ..IpPolicyUpdate::default()
    };
    bed.registry
        .update_ip_policy(&bed.account, &home, rules)
        .await
        .expect("changed");
    assert_eq!(bed.against(Api, "10.1.2.3"), None);
    assert_eq!(bed.against(Agent, "203.0.113.1"), None);
    assert_eq!(bed.against(Agent, "2001:db8::1"), Some(logs.clone()));
    let deleted = bed.registry.delete_ip_restriction(&bed.account, &logs);
    deleted.await.expect("deleted");
    assert_eq!(bed.against(Agent, "2001:db8::1"), None);
    let refused = update(&logs, enforced(true)).await;
    assert_eq!(code(refused), Code::IpRestrictionNotFound);
}

#[tokio::test]
async fn a_policy_stays_while_a_restriction_uses_it() {
    let bed = Bed::new().await;
    let (registry, account) = (&bed.registry, &bed.account);
    let policy = bed.ip_policy(&[("10.0.0.0/8", Allow)]).await;
    let made = bed.restriction(Dashboard, false, &[&policy]).await;
    let refused = registry.delete_ip_policy(account, &policy).await;
    let refused = refused.expect_err("in use");
    assert_eq!(refused.code, Code::IpPolicyInUse);
    let named = format!("{} (dashboard)", made.id);
    assert!(refused.message.contains(&named), "{}", refused.message);
    registry
        .delete_ip_restriction(account, &made.id)
        .await
        .expect("deleted");
    registry
        .delete_ip_policy(account, &policy)
        .await
        .expect("not in use");
}

#[tokio::test]
async fn an_enforced_restriction_keeps_the_last_rule_of_its_policies() {
    let bed = Bed::new().await;
    let (registry, account) = (&bed.registry, &bed.account);
    let enforce = |id: &IpRestrictionId, enforced: bool| {
        let update = IpRestrictionUpdate {
            enforced: Some(enforced),
            ..IpRestrictionUpdate::default()
        };
        let (registry, account, id) = (registry.clone(), account.clone(), id.clone());
        async move { registry.update_ip_restriction(&account, &id, update).await }
    };
    let replace = |id: &IpPolicyId, rules: &[(&str, IpAction)]| {
        let update = IpPolicyUpdate {
            rules: Some(specs(rules)),
            ..IpPolicyUpdate::default()
        };
        let (registry, account, id) = (registry.clone(), account.clone(), id.clone());
        async move { registry.update_ip_policy(&account, &id, update).await }
    };
    let rules = |id: &IpPolicyId| -> Vec<IpPolicyRuleId> {
        let snapshot = registry.snapshot();
        snapshot
            .ip_rules_of(id)
            .map(|rule| rule.id.clone())
            .collect()
    };
    for kind in [Dashboard, Api, Agent, Endpoints] {
        let policy = bed
            .ip_policy(&[("10.0.0.0/8", Allow), ("192.0.2.0/24", Allow)])
            .await;
        let made = bed.restriction(kind, true, &[&policy]).await;
        let first = rules(&policy).remove(0);
        let deleted = registry.delete_ip_rule(account, &first).await;
        deleted.expect("another is left");
        let last = rules(&policy).remove(0);
        let named = format!("{} ({})", made.id, kind.as_str());
        for refused in [
            registry.delete_ip_rule(account, &last).await.map(drop),
            replace(&policy, &[]).await.map(drop),
        ] {
            let error = refused.expect_err("the last one");
            assert_eq!(error.code, Code::IpRuleLast);
            assert!(error.message.contains(&named), "{error}");
        }
        assert_eq!(rules(&policy), [last]);
        let others = replace(&policy, &[("198.51.100.0/24", Deny)]).await;
        others.expect("one rule for another");
        let last = rules(&policy).remove(0);
        enforce(&made.id, false).await.expect("changed");
        let deleted = registry.delete_ip_rule(account, &last).await;
        deleted.expect("nothing is enforced");
        enforce(&made.id, true).await.expect("changed");
        let empty = replace(&policy, &[]).await;
        empty.expect("it has no rule to lose");
    }
}

#[tokio::test]
async fn what_a_restriction_names_is_there_and_its_own() {
    let bed = Bed::new().await;
    let (registry, account) = (&bed.registry, &bed.account);
    let policy = bed.ip_policy(&[]).await;
    let (other, _) = bed.stranger().await;
    let theirs = registry.create_ip_restriction(&other, new(Api, true, &[&policy]));
    assert_eq!(code(theirs.await), Code::IpPolicyNotFound);
    let none = registry.create_ip_restriction(account, new(Api, true, &[]));
    assert_eq!(code(none.await), Code::ApiMissingField);
    let many = vec![&policy; defaults::RESTRICTION_POLICIES_MAX + 1];
    let many = registry.create_ip_restriction(account, new(Api, true, &many));
    assert_eq!(code(many.await), Code::ApiInvalidValue);

    let made = bed.restriction(Api, false, &[&policy]).await;
    let update = |update| registry.update_ip_restriction(account, &made.id, update);
    let empty = update(IpRestrictionUpdate::default()).await;
    assert_eq!(code(empty), Code::ApiEmptyUpdate);
    let none = IpRestrictionUpdate {
        policies: Some(Vec::new()),
        ..IpRestrictionUpdate::default()
    };
    assert_eq!(code(update(none).await), Code::ApiMissingField);
    let text = IpRestrictionUpdate {
        metadata: Some("m".into()),
        ..IpRestrictionUpdate::default()
    };
    let refused = registry.update_ip_restriction(&other, &made.id, text);
    assert_eq!(code(refused.await), Code::IpRestrictionNotFound);
    let refused = registry.delete_ip_restriction(&other, &made.id).await;
    assert_eq!(code(refused), Code::IpRestrictionNotFound);
    let snapshot = registry.snapshot();
    assert!(snapshot.ip_restriction(&other, &made.id).is_none());
    assert_eq!(snapshot.ip_restrictions(&other).count(), 0);
    for _ in 1..defaults::IP_RESTRICTIONS_MAX {
        bed.restriction(Api, false, &[&policy]).await;
    }
    let more = registry.create_ip_restriction(account, new(Api, true, &[&policy]));
    assert_eq!(code(more.await), Code::IpRestrictionLimit);

    let refused = registry.delete_account(account, false).await;
    let message = refused.expect_err("not empty").message;
    assert!(message.contains("100 IP restrictions"), "{message}");
    registry
        .delete_account(account, true)
        .await
        .expect("by force");
    let left = bed.store.list("ip").await.expect("list").entries;
    assert!(left.is_empty(), "{left:?}");
}
