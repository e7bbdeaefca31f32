//! Decisions: order, restriction, resuming, the log.

use proptest::prelude::*;

use super::*;
use crate::trace::Entry;

fn policy(text: &str) -> Policy {
    Policy::compile(text, EndpointType::Agent).expect("valid")
}

fn conn(client: &str) -> Conn {
    let client = client.parse().expect("an address");
    Conn::new(
        SocketAddr::new(client, 40000),
        "203.0.113.5:20001".parse().expect("an address"),
    )
}

fn nets(cidrs: &[&str]) -> Vec<IpNet> {
    cidrs
        .iter()
        .map(|text| text.parse().expect("a CIDR"))
        .collect()
}

const THREE_RULES: &str = "
on_tcp_connect:
  - name: office only
    actions:
      - type: restrict-ips
        config: { allow: [10.0.0.0/8, 2001:db8::/32], deny: [10.9.0.0/16] }
  - actions:
      - type: forward-internal
        config: { url: 'tcp://db.internal:5432', on_error: continue }
      - type: restrict-ips
        config: { enforce: false, allow: [] }
  - actions: [{ type: close-connection }]
";

#[test]
fn rules_run_in_order_until_one_decides() {
    let policy = policy(THREE_RULES);
    let verdict = policy.on_tcp_connect(&conn("10.1.2.3"));
    let Decision::Forward {
        url,
        on_error,
        step,
    } = verdict.decision
    else {
        panic!("{verdict:?}")
    };
    assert_eq!(
        (url.to_string().as_str(), on_error),
        ("tcp://db.internal:5432", OnError::Continue)
    );
    assert_eq!(step, Step { rule: 1, action: 0 });
    assert_eq!(
        verdict.log.render(&policy),
        "office only: restrict-ips allow 10.0.0.0/8; on_tcp_connect[1]: forward-internal"
    );

    let behind = policy.resume_after(step, &conn("10.1.2.3"));
    assert_eq!(
        behind.decision,
        Decision::Close {
            rule: Arc::from("on_tcp_connect[2]")
        }
    );
    assert_eq!(
        behind.log.render(&policy),
        "on_tcp_connect[1]: restrict-ips deny (in no allow) (not enforced); on_tcp_connect[2]: close-connection"
    );
}

#[test]
fn restriction_needs_an_allow_and_no_deny() {
    let policy = policy(THREE_RULES);
    let restricted = |client: &str| match policy.on_tcp_connect(&conn(client)).decision {
        Decision::Restricted { rule, matched } => {
            assert_eq!(&*rule, "office only");
            Some(matched.map(|network| network.to_string()))
        }
        _ => None,
    };
    assert_eq!(restricted("10.9.1.1"), Some(Some("10.9.0.0/16".to_owned())));
    assert_eq!(
        restricted("::ffff:10.9.1.1"),
        Some(Some("10.9.0.0/16".to_owned()))
    );
    assert_eq!(restricted("192.0.2.1"), Some(None));
    assert_eq!(restricted("2001:db9::1"), Some(None));
    assert_eq!(restricted("2001:db8::1"), None);
    assert_eq!(restricted("::ffff:10.1.1.1"), None);
}

#[test]
fn deny_alone_lets_nobody_in_and_says_so() {
    let policy = policy(
        "on_tcp_connect: [{ actions: [{ type: restrict-ips, config: { deny: [10.0.0.0/8] } }] }]",
    );
    assert!(matches!(
        policy.on_tcp_connect(&conn("192.0.2.1")).decision,
        Decision::Restricted { matched: None, .. }
    ));
    assert_eq!(policy.notices().len(), 1);
    assert_eq!(
        policy.notices()[0].path,
        "on_tcp_connect[0].actions[0].config"
    );
}

#[test]
fn flags_deny_alone_lets_in_all_others() {
    let policy = Policy::from_cidrs(&[], &nets(&["10.0.0.0/8"]));
    let decide = |client: &str| policy.on_tcp_connect(&conn(client)).decision;
    assert_eq!(decide("192.0.2.1"), Decision::FallThrough);
    assert_eq!(decide("2001:db8::1"), Decision::FallThrough);
    assert!(matches!(
        decide("10.0.0.1"),
        Decision::Restricted {
            matched: Some(_),
            ..
        }
    ));
    assert!(Policy::from_cidrs(&[], &[]).is_empty());
}

#[test]
fn empty_policies_fall_through() {
    for text in [
        "",
        "  \n",
        "# nothing\n",
        "{}",
        "null",
        "on_tcp_connect:",
        "on_tcp_connect: []",
    ] {
        let policy = policy(text);
        assert!(policy.is_empty() && !policy.is_terminating(), "{text:?}");
        let verdict = policy.on_tcp_connect(&conn("10.0.0.1"));
        assert_eq!(verdict.decision, Decision::FallThrough);
        assert!(verdict.log.is_empty());
    }
}

#[test]
fn logs_count_what_they_cannot_hold() {
    let action = "{ type: restrict-ips, config: { allow: [0.0.0.0/0] } }";
    let policy = policy(&format!(
        "on_tcp_connect: [{{ actions: [{}] }}, {{ actions: [{action}] }}]",
        [action; 16].join(", ")
    ));
    let log = policy.on_tcp_connect(&conn("10.0.0.1")).log;
    assert_eq!((log.entries().count(), log.omitted()), (16, 1));
    assert!(log.render(&policy).ends_with("; and 1 more"));
    let first = Entry {
        step: Step { rule: 0, action: 0 },
        ran: Ran::Allowed {
            matched: "0.0.0.0/0".parse().expect("a CIDR"),
        },
    };
    assert_eq!(log.entries().next(), Some(&first));
}

#[test]
fn targets_are_listed() {
    let targets: Vec<String> = policy(THREE_RULES)
        .targets()
        .map(ToString::to_string)
        .collect();
    assert_eq!(targets, ["tcp://db.internal:5432"]);
}

proptest! {
    #[test]
    fn restriction_is_in_some_allow_and_no_deny(
        allow in prop::collection::vec((any::<u32>(), 0..=32_u8), 0..20),
        deny in prop::collection::vec((any::<u32>(), 8..=32_u8), 0..20),
        client in any::<u32>(),
    ) {
        let net = |(bits, length): (u32, u8)| IpNet::V4(ipnet::Ipv4Net::new(bits.into(), length).expect("a length up to 32").trunc());
        let (allow, deny): (Vec<IpNet>, Vec<IpNet>) = (allow.into_iter().map(net).collect(), deny.into_iter().map(net).collect());
        let ip = std::net::IpAddr::V4(client.into());
        let expected = (allow.is_empty() || allow.iter().any(|n| n.contains(&ip))) && !deny.iter().any(|n| n.contains(&ip));
        let decision = Policy::from_cidrs(&allow, &deny).on_tcp_connect(&conn(&ip.to_string())).decision;
        prop_assert_eq!(decision == Decision::FallThrough, expected);
    }

    #[test]
    fn resuming_anywhere_ends(rule in any::<u16>(), action in any::<u16>()) {
        let decision = policy(THREE_RULES).resume_after(Step { rule, action }, &conn("10.0.0.1")).decision;
        let denied = matches!(decision, Decision::Deny { .. });
        prop_assert!(!denied);
    }
}
