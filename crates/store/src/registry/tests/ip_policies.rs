//! IP policies: their rules by one write or many, what is refused, and who uses them.

use std::net::IpAddr;

use portcullis_model::access::{IpAction, IpPolicy, IpPolicyRule};
use portcullis_model::id::{IpPolicyId, IpPolicyRuleId};

use super::*;
use crate::defaults;
use crate::requests::{
    EndpointUpdate, IpPolicyUpdate, IpRuleSpec, IpRuleUpdate, NewCloudEndpoint, NewIpPolicy,
    NewIpRule,
};

fn specs(rules: &[(&str, IpAction)]) -> Vec<IpRuleSpec> {
    rules
        .iter()
        .map(|(cidr, action)| IpRuleSpec {
            cidr: (*cidr).to_owned(),
            action: *action,
        })
        .collect()
}

fn many(count: u32, first: u32) -> Vec<IpRuleSpec> {
    (first..first + count)
        .map(|n| IpRuleSpec {
            cidr: format!("{}/32", std::net::Ipv4Addr::from_bits(n)),
            action: IpAction::Allow,
        })
        .collect()
}

async fn policy(bed: &Bed, rules: Vec<IpRuleSpec>) -> Result<IpPolicy, Error> {
    let new = NewIpPolicy {
        rules,
        ..NewIpPolicy::default()
    };
    let made = bed.registry.create_ip_policy(&bed.account, new).await;
    made.map(value)
}

async fn rule(bed: &Bed, policy: &IpPolicyId, cidr: &str) -> Result<IpPolicyRule, Error> {
    let new = NewIpRule {
        policy: policy.clone(),
        cidr: cidr.to_owned(),
        action: IpAction::Deny,
        description: String::new(),
        metadata: String::new(),
    };
    bed.registry
        .create_ip_rule(&bed.account, new)
        .await
        .map(value)
}

async fn replace(bed: &Bed, id: &IpPolicyId, rules: Vec<IpRuleSpec>) -> Result<(), Error> {
    let update = IpPolicyUpdate {
        rules: Some(rules),
        ..IpPolicyUpdate::default()
    };
    let written = bed.registry.update_ip_policy(&bed.account, id, update);
    written.await.map(|_| ())
}

/// Whether an address would be let in.
fn admits(bed: &Bed, id: &IpPolicyId, ip: &str) -> bool {
    let sets = bed.registry.snapshot().ip_sets(&bed.account, id);
    let sets = sets.expect("the policy is there");
    let ip: IpAddr = ip.parse().expect("an address");
    sets.allow.contains(ip) && !sets.deny.contains(ip)
}

#[tokio::test]
async fn rules_decide_who_is_let_in() {
    let bed = Bed::new().await;
    let made = policy(&bed, Vec::new()).await.expect("made");
    assert!(!admits(&bed, &made.id, "10.1.2.3"), "nobody without a rule");
    replace(
        &bed,
        &made.id,
        specs(&[
            ("10.0.0.0/8", IpAction::Allow),
            ("2001:db8::/32", IpAction::Allow),
        ]),
    )
    .await
    .expect("replaced");
    assert!(admits(&bed, &made.id, "10.1.2.3") && admits(&bed, &made.id, "2001:db8::1"));
    let denied = rule(&bed, &made.id, "10.1.0.0/16").await.expect("made");
    assert!(!admits(&bed, &made.id, "10.1.2.3") && admits(&bed, &made.id, "10.2.2.3"));
    let update = IpRuleUpdate {
        cidr: Some("10.2.0.0/16".into()),
        ..IpRuleUpdate::default()
    };
    bed.registry
        .update_ip_rule(&bed.account, &denied.id, update)
        .await
        .expect("changed");
    assert!(admits(&bed, &made.id, "10.1.2.3") && !admits(&bed, &made.id, "10.2.2.3"));
    bed.registry
        .delete_ip_rule(&bed.account, &denied.id)
        .await
        .expect("deleted");
    assert!(admits(&bed, &made.id, "10.2.2.3"));
    let snapshot = bed.registry.snapshot();
    assert_eq!(snapshot.ip_rule_count(&made.id), 2);
    assert!(snapshot.ip_rule(&bed.account, &denied.id).is_none());

    let registry = &bed.registry;
    registry
        .delete_ip_policy(&bed.account, &made.id)
        .await
        .expect("deleted");
    let snapshot = registry.snapshot();
    assert_eq!(snapshot.ip_rules(&bed.account, None).count(), 0);
    assert!(snapshot.ip_sets(&bed.account, &made.id).is_none());
    let rest = bed.store.list("ip").await.expect("readable");
    assert!(rest.entries.is_empty(), "{rest:?}");
}

#[tokio::test]
async fn a_replacement_keeps_the_rules_that_stay() {
    let bed = Bed::new().await;
    let before = [
        ("10.0.0.0/8", IpAction::Allow),
        ("192.0.2.0/24", IpAction::Allow),
        ("198.51.100.0/24", IpAction::Deny),
    ];
    let made = policy(&bed, specs(&before)).await.expect("made");
    let ids = || -> Vec<(String, IpAction, IpPolicyRuleId)> {
        let snapshot = bed.registry.snapshot();
        let rules = snapshot.ip_rules_of(&made.id);
        rules
            .map(|rule| (rule.cidr.to_string(), rule.action, rule.id.clone()))
            .collect()
    };
    let first = ids();
    let after = [
        ("10.0.0.0/8", IpAction::Allow),
        ("192.0.2.0/24", IpAction::Deny),
        ("203.0.113.0/24", IpAction::Allow),
    ];
    replace(&bed, &made.id, specs(&after))
        .await
        .expect("replaced");
    let second = ids();
    let shown: Vec<(&str, IpAction)> = second
        .iter()
        .map(|(cidr, action, _)| (cidr.as_str(), *action))
        .collect();
    assert_eq!(shown, after);
    assert_eq!(first[0].2, second[0].2, "what stays keeps its id");
    assert_ne!(first[1].2, second[1].2, "another action is another rule");
    let snapshot = bed.registry.snapshot();
    assert!(snapshot.ip_rule(&bed.account, &first[1].2).is_none());
    assert_eq!(snapshot.ip_rules(&bed.account, None).count(), 3);
    assert!(!admits(&bed, &made.id, "192.0.2.1") && !admits(&bed, &made.id, "198.51.100.1"));

    // What a restart reads is the same.
    let again = Registry::open(Arc::clone(&bed.store), settings(), Clock::system())
        .await
        .expect("opens");
    let snapshot = again.snapshot();
    assert_eq!(snapshot.ip_rule_count(&made.id), 3);
    assert!(
        snapshot
            .ip_sets(&bed.account, &made.id)
            .expect("there")
            .deny
            .contains("192.0.2.1".parse().expect("ip"))
    );
}

#[tokio::test]
async fn networks_are_written_properly_and_stand_once() {
    let bed = Bed::new().await;
    let made = policy(&bed, Vec::new()).await.expect("made");
    for (cidr, expected, proposal) in [
        ("10.0.0.1", Code::IpRuleMaskMissing, "10.0.0.1/32"),
        ("2001:db8::1", Code::IpRuleMaskMissing, "2001:db8::1/128"),
        ("10.0.0.1/8", Code::IpRuleNotBase, "10.0.0.0/8"),
        ("2001:db8::1/32", Code::IpRuleNotBase, "2001:db8::/32"),
        ("::ffff:10.0.0.0/104", Code::IpRuleInvalid, "10.0.0.0/8"),
        ("10.0.0.0/33", Code::IpRuleInvalid, "0 to 32"),
        ("office", Code::IpRuleInvalid, "10.0.0.0/8"),
        ("", Code::IpRuleInvalid, "10.0.0.0/8"),
    ] {
        let error = rule(&bed, &made.id, cidr).await.expect_err("refused");
        assert_eq!(error.code, expected, "{cidr}: {error}");
        assert!(error.message.contains(proposal), "{cidr}: {error}");
    }
    let first = rule(&bed, &made.id, "10.0.0.0/8").await.expect("made");
    let error = rule(&bed, &made.id, "10.0.0.0/8").await.expect_err("twice");
    assert_eq!(error.code, Code::IpRuleDuplicate);
    assert!(error.message.contains(first.id.as_str()), "{error}");
    let second = rule(&bed, &made.id, "10.0.0.0/9").await.expect("made");
    let to = |cidr: &str| IpRuleUpdate {
        cidr: Some(cidr.to_owned()),
        ..IpRuleUpdate::default()
    };
    let update = bed
        .registry
        .update_ip_rule(&bed.account, &second.id, to("10.0.0.0/8"));
    assert_eq!(code(update.await), Code::IpRuleDuplicate);
    let update = bed
        .registry
        .update_ip_rule(&bed.account, &second.id, to("10.0.0.0/9"));
    update.await.expect("its own network is no duplicate");

    let wrong = specs(&[
        ("10.0.0.0/8", IpAction::Allow),
        ("10.0.0.1/8", IpAction::Deny),
        ("10.0.0.0/8", IpAction::Deny),
    ]);
    let error = replace(&bed, &made.id, wrong).await.expect_err("refused");
    assert_eq!(error.code, Code::IpRuleNotBase);
    assert!(
        error.message.contains("rules[1].cidr: `10.0.0.1/8`")
            && error.message.contains("rules[2].cidr: 10.0.0.0/8 stands"),
        "{error}"
    );
    assert_eq!(
        bed.registry.snapshot().ip_rule_count(&made.id),
        2,
        "nothing was written"
    );
    let wrong = vec![
        IpRuleSpec {
            cidr: "x".into(),
            action: IpAction::Allow
        };
        50
    ];
    let error = replace(&bed, &made.id, wrong).await.expect_err("refused");
    assert!(error.message.ends_with("and 30 more"), "{error}");
}

#[tokio::test]
async fn a_hundred_thousand_rules_come_by_one_write() {
    let bed = Bed::new().await;
    let most = u32::try_from(defaults::IP_POLICY_RULES_MAX).expect("fits");
    let base = 0x0A00_0000;
    assert_eq!(
        code(policy(&bed, many(most + 1, base)).await),
        Code::IpRuleLimit
    );
    let made = policy(&bed, many(most, base)).await.expect("made");
    let sets = || {
        bed.registry
            .snapshot()
            .ip_sets(&bed.account, &made.id)
            .expect("there")
    };
    let full = sets();
    assert_eq!(full.allow.len(), defaults::IP_POLICY_RULES_MAX);
    assert_eq!(
        code(rule(&bed, &made.id, "192.0.2.0/24").await),
        Code::IpRuleLimit
    );

    // Other policies' changes leave the sets as they are.
    let other = policy(&bed, many(10, base)).await.expect("made");
    rule(&bed, &other.id, "192.0.2.0/24").await.expect("made");
    assert!(Arc::ptr_eq(&full, &sets()));
    replace(&bed, &made.id, many(most, base + 1))
        .await
        .expect("replaced");
    let moved = sets();
    assert!(!Arc::ptr_eq(&full, &moved));
    assert!(!admits(&bed, &made.id, "10.0.0.0") && admits(&bed, &made.id, "10.0.0.1"));

    let left = u32::try_from(defaults::ACCOUNT_IP_RULES_MAX).expect("fits") - most - 11;
    let third = policy(&bed, many(left, base)).await.expect("made");
    assert_eq!(
        code(rule(&bed, &third.id, "192.0.2.0/24").await),
        Code::IpRuleLimit
    );
    let stranger = new_account(&bed.registry, "stranger", None).await;
    let rules = many(1, base);
    let new = NewIpPolicy {
        rules,
        ..NewIpPolicy::default()
    };
    bed.registry
        .create_ip_policy(&stranger, new)
        .await
        .expect("limits are an account's own");
}

#[tokio::test]
async fn an_account_has_so_many_policies() {
    let bed = Bed::new().await;
    for _ in 0..defaults::IP_POLICIES_MAX {
        policy(&bed, Vec::new()).await.expect("made");
    }
    assert_eq!(code(policy(&bed, Vec::new()).await), Code::IpPolicyLimit);
}

#[tokio::test]
async fn what_is_anothers_or_gone_is_not_found() {
    let bed = Bed::new().await;
    let made = policy(&bed, specs(&[("10.0.0.0/8", IpAction::Allow)]))
        .await
        .expect("made");
    let own = rule(&bed, &made.id, "192.0.2.0/24").await.expect("made");
    let (other, _) = bed.stranger().await;
    let registry = &bed.registry;
    let text = || Some("mine".to_owned());
    let update = || IpPolicyUpdate {
        metadata: text(),
        ..IpPolicyUpdate::default()
    };
    assert_eq!(
        code(registry.update_ip_policy(&other, &made.id, update()).await),
        Code::IpPolicyNotFound
    );
    assert_eq!(
        code(registry.delete_ip_policy(&other, &made.id).await),
        Code::IpPolicyNotFound
    );
    let update = IpRuleUpdate {
        metadata: text(),
        ..IpRuleUpdate::default()
    };
    assert_eq!(
        code(registry.update_ip_rule(&other, &own.id, update).await),
        Code::ApiNotFound
    );
    assert_eq!(
        code(registry.delete_ip_rule(&other, &own.id).await),
        Code::ApiNotFound
    );
    let new = NewIpRule {
        policy: made.id.clone(),
        cidr: "203.0.113.0/24".into(),
        action: IpAction::Allow,
        description: String::new(),
        metadata: String::new(),
    };
    assert_eq!(
        code(registry.create_ip_rule(&other, new).await),
        Code::IpPolicyNotFound
    );
    let snapshot = registry.snapshot();
    assert!(
        snapshot.ip_policy(&other, &made.id).is_none()
            && snapshot.ip_sets(&other, &made.id).is_none()
    );
    assert!(snapshot.ip_rule(&other, &own.id).is_none());
    assert_eq!(
        snapshot.ip_policies(&other).count() + snapshot.ip_rules(&other, None).count(),
        0
    );
    let empty = registry.update_ip_policy(&bed.account, &made.id, IpPolicyUpdate::default());
    assert_eq!(code(empty.await), Code::ApiEmptyUpdate);
}

#[tokio::test]
async fn an_account_takes_its_policies_along() {
    let bed = Bed::new().await;
    let account = new_account(&bed.registry, "second", None).await;
    let new = NewIpPolicy {
        rules: many(3, 0),
        ..NewIpPolicy::default()
    };
    bed.registry
        .create_ip_policy(&account, new)
        .await
        .expect("made");
    let kept = bed
        .registry
        .delete_account(&account, false)
        .await
        .expect_err("not empty");
    assert!(kept.message.contains("1 IP policies"), "{kept}");
    bed.registry
        .delete_account(&account, true)
        .await
        .expect("deleted");
    let rest = bed.store.list("ip").await.expect("readable");
    assert!(rest.entries.is_empty(), "{rest:?}");
}

#[tokio::test]
async fn writers_of_one_policy_do_not_pass_each_other() {
    let bed = Arc::new(Bed::new().await);
    let made = policy(&bed, Vec::new()).await.expect("made");
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..20 {
        let (bed, id) = (Arc::clone(&bed), made.id.clone());
        writers.spawn(async move { rule(&bed, &id, &format!("10.{}.0.0/16", n % 10)).await });
    }
    let done = writers.join_all().await;
    let refused: Vec<Code> = done
        .into_iter()
        .filter_map(|made| made.err())
        .map(|error| error.code)
        .collect();
    assert_eq!(refused, [Code::IpRuleDuplicate; 10]);
    assert_eq!(bed.registry.snapshot().ip_rule_count(&made.id), 10);
}

fn restricting(id: &IpPolicyId) -> String {
    format!(
        "on_tcp_connect:\n  - actions:\n      - type: restrict-ips\n        config: {{ ip_policies: [{id}] }}\n      - type: deny\n"
    )
}

#[tokio::test]
async fn traffic_policies_name_what_exists_and_keep_it() {
    let bed = Bed::new().await;
    let made = policy(&bed, Vec::new()).await.expect("made");
    let (other, theirs) = bed.stranger().await;
    let registry = &bed.registry;
    let new = |url: &str| NewCloudEndpoint {
        url: url.into(),
        traffic_policy: restricting(&made.id),
        ..NewCloudEndpoint::default()
    };
    let foreign = registry.create_cloud_endpoint(&other, new("tcp://a.internal:1"));
    let error = foreign.await.expect_err("another account's policy");
    assert_eq!(error.code, Code::PolicyReference);
    let placed = format!("on_tcp_connect[0].actions[0]: the IP policy {}", made.id);
    assert!(error.message.contains(&placed), "{error}");
    let mut bind = spec("tcp://a.internal:1");
    bind.traffic_policy = restricting(&made.id);
    let bound = registry.bind_endpoint(&theirs, bind.clone()).await;
    assert_eq!(code(bound), Code::PolicyReference, "an agent's policy too");

    let cloud = registry
        .create_cloud_endpoint(&bed.account, new("tcp://a.internal:1"))
        .await
        .expect("made")
        .value;
    let session = bed.session().await;
    bind.url = "tcp://b.internal:2".into();
    let bound = registry
        .bind_endpoint(&session, bind)
        .await
        .expect("bound")
        .value;
    let refused = registry.delete_ip_policy(&bed.account, &made.id).await;
    let error = refused.expect_err("in use");
    assert_eq!(error.code, Code::IpPolicyInUse);
    for user in [cloud.id.as_str(), "tcp://a.internal:1", bound.id.as_str()] {
        assert!(error.message.contains(user), "{error}");
    }
    // Rules of a policy in use change freely.
    rule(&bed, &made.id, "10.0.0.0/8").await.expect("made");

    let update = |text: String| EndpointUpdate {
        traffic_policy: Some(text),
        ..EndpointUpdate::default()
    };
    let gone = IpPolicyId::new(1_700_000_000, [8; 16]);
    let changed = registry
        .update_cloud_endpoint(&bed.account, &cloud.id, update(restricting(&gone)))
        .await;
    assert_eq!(code(changed), Code::PolicyReference);
    registry
        .update_cloud_endpoint(&bed.account, &cloud.id, update(DENY.into()))
        .await
        .expect("no longer uses it");
    let still = registry.delete_ip_policy(&bed.account, &made.id).await;
    let error = still.expect_err("the agent's endpoint uses it");
    assert!(!error.message.contains(cloud.id.as_str()), "{error}");
    registry
        .unbind_endpoint(&session, &bound.id)
        .await
        .expect("unbound");
    registry
        .delete_ip_policy(&bed.account, &made.id)
        .await
        .expect("nobody uses it");
}

#[tokio::test]
async fn a_policy_in_use_names_a_few_of_many_users() {
    let bed = Bed::new().await;
    let made = policy(&bed, Vec::new()).await.expect("made");
    for n in 1..=8 {
        let new = NewCloudEndpoint {
            url: format!("tcp://a.internal:{n}"),
            traffic_policy: restricting(&made.id),
            ..NewCloudEndpoint::default()
        };
        let created = bed.registry.create_cloud_endpoint(&bed.account, new).await;
        created.expect("made");
    }
    let refused = bed.registry.delete_ip_policy(&bed.account, &made.id).await;
    let error = refused.expect_err("in use");
    assert!(error.message.ends_with("and 3 more"), "{error}");
}

#[tokio::test]
async fn deleting_and_beginning_to_use_never_both_happen() {
    for _ in 0..20 {
        let bed = Bed::new().await;
        let made = policy(&bed, Vec::new()).await.expect("made");
        let new = NewCloudEndpoint {
            url: "tcp://a.internal:1".into(),
            traffic_policy: restricting(&made.id),
            ..NewCloudEndpoint::default()
        };
        let (deleted, created) = tokio::join!(
            bed.registry.delete_ip_policy(&bed.account, &made.id),
            bed.registry.create_cloud_endpoint(&bed.account, new)
        );
        assert_ne!(deleted.is_ok(), created.is_ok(), "{deleted:?} {created:?}");
    }
}

/// No connection makes sets on a thread of the data path.
#[tokio::test]
async fn sets_that_an_endpoint_uses_are_made_with_the_snapshot() {
    let bed = Bed::new().await;
    let made = policy(&bed, specs(&[("10.0.0.0/8", IpAction::Allow)]))
        .await
        .expect("made");
    let ready = |bed: &Bed| bed.registry.snapshot().has_ip_sets(&made.id);
    assert!(!ready(&bed), "nobody uses it");
    rule(&bed, &made.id, "10.1.0.0/16").await.expect("made");
    assert!(!ready(&bed), "nobody uses it");
    let text = format!(
        "on_tcp_connect: [{{actions: [{{type: restrict-ips, config: {{ip_policies: [{}]}}}}, {{type: deny}}]}}]",
        made.id
    );
    let endpoint = NewCloudEndpoint {
        url: "tcp://db.internal:1".to_owned(),
        traffic_policy: text,
        ..NewCloudEndpoint::default()
    };
    let written = bed.registry.create_cloud_endpoint(&bed.account, endpoint);
    written.await.expect("made");
    assert!(ready(&bed), "an endpoint uses it");
    rule(&bed, &made.id, "10.2.0.0/16").await.expect("made");
    assert!(ready(&bed), "it changed");
    assert!(!admits(&bed, &made.id, "10.2.1.1"));
}
