//! Documents from flags.

use std::net::SocketAddr;

use portcullis_model::EndpointType;

use super::*;
use crate::decide::{Conn, Decision, Policy};

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn decide(document: &str, client: &str) -> Decision {
    let policy = Policy::compile(document, EndpointType::Agent).expect("what is rendered compiles");
    let client = SocketAddr::new(client.parse().expect("an address"), 40000);
    policy
        .on_tcp_connect(&Conn::new(
            client,
            "203.0.113.5:20001".parse().expect("an address"),
        ))
        .decision
}

#[test]
fn without_flags_the_users_text_stays_as_it_is() {
    assert_eq!(with_cidrs(&[], &[], None), Ok(String::new()));
    assert_eq!(
        with_cidrs(&[], &[], Some("inbound: [] # mine")),
        Ok("inbound: [] # mine".to_owned())
    );
}

#[test]
fn flags_compile_to_what_they_say() {
    let document =
        with_cidrs(&strings(&["10.0.0.0/8"]), &strings(&["10.9.0.0/16"]), None).expect("valid");
    assert_eq!(decide(&document, "10.1.1.1"), Decision::FallThrough);
    for outside in ["10.9.1.1", "192.0.2.1", "2001:db8::1"] {
        assert!(
            matches!(decide(&document, outside), Decision::Restricted { .. }),
            "{outside}"
        );
    }
    let networks = |text: &str| vec![text.parse().expect("a CIDR")];
    let compiled = Policy::compile(&document, EndpointType::Agent).expect("valid");
    assert_eq!(
        compiled,
        Policy::from_cidrs(&networks("10.0.0.0/8"), &networks("10.9.0.0/16"))
    );
}

#[test]
fn deny_alone_lets_in_all_others() {
    let document = with_cidrs(&[], &strings(&["10.0.0.0/8"]), None).expect("valid");
    assert!(
        Policy::compile(&document, EndpointType::Agent)
            .expect("valid")
            .notices()
            .is_empty()
    );
    assert_eq!(decide(&document, "192.0.2.1"), Decision::FallThrough);
    assert_eq!(decide(&document, "2001:db8::1"), Decision::FallThrough);
    assert!(matches!(
        decide(&document, "10.0.0.1"),
        Decision::Restricted { .. }
    ));
}

#[test]
fn the_users_policy_runs_behind_the_flags() {
    for own in [
        "on_tcp_connect: [{ name: mine, actions: [{ type: deny }] }]",
        "inbound: [{ name: mine, actions: [{ type: deny }] }]",
        "{\"on_tcp_connect\": [{\"name\": \"mine\", \"actions\": [{\"type\": \"deny\"}]}]}",
        "policy: { inbound: [{ name: mine, actions: [{ type: deny }] }] }",
        "traffic_policy: { on_tcp_connect: [{ name: mine, actions: [{ type: deny }] }] }",
        "on_http_request: [{ name: mine, actions: [{ type: deny }] }]",
    ] {
        let document = with_cidrs(&strings(&["10.0.0.0/8"]), &[], Some(own)).expect("valid");
        assert!(
            matches!(decide(&document, "10.0.0.1"), Decision::Deny { rule, .. } if &*rule == "mine")
        );
        assert!(
            matches!(decide(&document, "192.0.2.1"), Decision::Restricted { rule, .. } if &*rule == FLAGS_RULE_NAME)
        );
    }
    for empty in ["", "{}", "on_tcp_connect:", "inbound: []"] {
        let document = with_cidrs(&strings(&["10.0.0.0/8"]), &[], Some(empty)).expect("valid");
        assert_eq!(decide(&document, "10.0.0.1"), Decision::FallThrough);
    }
}

#[test]
fn faulty_flags_and_policies_are_refused() {
    let flag = with_cidrs(&strings(&["10.0.0.1/8", "x"]), &[], None).expect_err("no CIDRs");
    assert_eq!(flag.code, Code::PolicyCidr);
    assert!(
        flag.message.starts_with("--cidr-allow: `10.0.0.1/8`")
            && flag.message.contains("; `x` is not")
    );
    let deny = with_cidrs(&[], &strings(&["203.0.113.7/33"]), None).expect_err("no CIDR");
    assert!(deny.message.contains("--cidr-deny") && deny.message.contains("0 to 32"));
    for own in ["[", "5", "on_tcp_connect: 5"] {
        let error = with_cidrs(&strings(&["10.0.0.0/8"]), &[], Some(own)).expect_err(own);
        assert_eq!(error.code, Code::PolicyUnparsable, "{own}");
    }
}

#[test]
fn single_addresses_are_networks_of_themselves() {
    let document =
        with_cidrs(&strings(&["203.0.113.7", " ::ffff:10.0.0.1"]), &[], None).expect("valid");
    assert_eq!(decide(&document, "203.0.113.7"), Decision::FallThrough);
    assert_eq!(decide(&document, "10.0.0.1"), Decision::FallThrough);
    assert!(matches!(
        decide(&document, "203.0.113.8"),
        Decision::Restricted { .. }
    ));
}
