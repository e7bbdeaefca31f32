//! Expressions, variables, restrictions, answers, failures.

use ipnet::IpNet;
use serde_json::json;

use super::*;

const IPP: &str = "ipp_30tNcWkLmgyIO1zPS4aDMAbFzYU";

fn run(text: &str, client: &str, world: &Fake) -> (Run, Decision) {
    let (policy, mut run) = (policy(text), Run::default());
    match go(&mut run, &policy, client, &Given::default(), world) {
        Next::Done(decision) => (run, decision),
        Next::Need(need) => panic!("it needs {need:?}"),
    }
}

fn nets(texts: &[&str]) -> crate::cidr::CidrSet {
    texts
        .iter()
        .map(|text| text.parse::<IpNet>().expect("a CIDR"))
        .collect()
}

#[test]
fn all_expressions_of_a_rule_must_hold() {
    let text = "
on_tcp_connect:
  - expressions: [\"conn.client_ip == '10.0.0.1'\", conn.server_port == 20001]
    actions: [{ type: deny }]
  - expressions: [\"conn.client_ip == '10.0.0.2'\", conn.server_port == 1]
    actions: [{ type: deny }]
  - expressions: [true, 'true']
    actions: [{ type: close-connection }]
";
    assert!(matches!(decide(text, "10.0.0.1"), Decision::Deny { .. }));
    assert!(matches!(decide(text, "10.0.0.2"), Decision::Close { .. }));
}

#[test]
fn a_failing_expression_closes_and_never_forwards() {
    let text = "
on_tcp_connect:
  - expressions: ['true', '1 / (conn.server_port - 20001) == 1']
    actions: [{ type: deny }]
  - actions: [{ type: forward-internal, config: { url: 'tcp://db.internal:5432' } }]
";
    let (mut run, decision) = run(text, "10.0.0.1", &Fake::default());
    assert_eq!(failure(&decision).0, "on_tcp_connect[0].expressions[1]");
    let Decision::Failed { error, .. } = &decision else {
        panic!("{decision:?}")
    };
    assert_eq!(error.code, Code::PolicyRuntime);
    let log = run.take_log();
    assert!(
        log[0].starts_with("on_tcp_connect[0]: failed: `1 / (conn.server_port"),
        "{log:?}"
    );
}

#[test]
fn a_policy_with_expressions_is_no_simple_one() {
    let policy = policy(
        "on_tcp_connect: [{ expressions: [\"conn.client_ip == '192.0.2.1'\"], actions: [{ type: deny }] }]",
    );
    assert!(!policy.is_simple());
    let conn = conn("10.0.0.1");
    let verdicts = [
        policy.on_tcp_connect(&conn),
        policy.resume_after(Step { rule: 0, action: 0 }, &conn),
    ];
    for verdict in verdicts {
        assert!(
            matches!(verdict.decision, Decision::Failed { .. }),
            "{verdict:?}"
        );
    }
    assert_eq!(
        decide_in(&policy, "10.0.0.1", &Fake::default()),
        Decision::FallThrough
    );
}

#[test]
fn variables_are_set_in_order_and_keep_their_types() {
    let text = "
on_tcp_connect:
  - actions:
      - type: set-vars
        config:
          vars:
            - port: '${conn.server_port}'
            - next: '${vars.port + 1}'
            - text: 'port ${vars.port}'
            - list: [a, '${vars.text}', { deep: '${vars.next}' }]
            - plain: 7
      - type: log
        config: { metadata: { list: '${vars.list}', next: '${vars.next}', plain: '${vars.plain}', text: 'is ${vars.text}' } }
  - expressions: ['vars.next == 20002', \"vars.list[1] == 'port 20001'\"]
    actions: [{ type: deny }]
";
    let (mut run, decision) = run(text, "10.0.0.1", &Fake::default());
    assert!(matches!(decision, Decision::Deny { .. }), "{decision:?}");
    let expected = json!({ "list": ["a", "port 20001", { "deep": 20002 }], "next": 20002, "plain": 7, "text": "is port 20001" });
    assert_eq!(run.take_logged(), [expected]);
}

#[test]
fn variables_that_grow_without_end_fail() {
    let mut vars = vec!["- v0: '0123456789abcdef0123456789abcdef'".to_owned()];
    vars.extend((1..16).map(|n| format!("- v{n}: '${{vars.v{0}}}${{vars.v{0}}}'", n - 1)));
    let text = format!(
        "on_tcp_connect:\n  - actions:\n      - type: set-vars\n        config:\n          vars:\n            {}\n",
        vars.join("\n            ")
    );
    let decision = decide(&text, "10.0.0.1");
    assert!(
        failure(&decision)
            .0
            .starts_with("on_tcp_connect[0].actions[0].config.vars[")
    );
}

#[test]
fn notes_of_log_are_bounded() {
    let action = "{ type: log, config: { metadata: { a: 1 } } }";
    let rule = format!("{{ actions: [{}] }}", [action; 12].join(", "));
    let (mut run, decision) = run(
        &format!("on_tcp_connect: [{rule}, {rule}]"),
        "10.0.0.1",
        &Fake::default(),
    );
    assert_eq!(decision, Decision::FallThrough);
    assert_eq!(run.take_logged().len(), 16);
    assert!(
        run.take_log()
            .last()
            .is_some_and(|line| line.contains("dropped"))
    );
}

#[test]
fn a_log_counts_what_it_cannot_hold() {
    let action = "{ type: restrict-ips, config: { allow: [0.0.0.0/0] } }";
    let rule = format!("{{ actions: [{}] }}", [action; 16].join(", "));
    let text = format!("on_tcp_connect: [{}]", vec![rule; 5].join(", "));
    let (mut run, _) = run(&text, "10.0.0.1", &Fake::default());
    let log = run.take_log();
    assert_eq!(log.len(), 65);
    assert_eq!(log[64], "and 16 more");
}

#[test]
fn restrictions_unite_lists_texts_and_ip_policies() {
    let text = format!(
        "
on_tcp_connect:
  - actions:
      - type: set-vars
        config: {{ vars: [{{ office: [198.51.100.0/24, 203.0.113.7] }}] }}
      - type: restrict-ips
        config: {{ allow: [10.0.0.0/8, '${{vars.office}}'], deny: ['10.9.0.0/${{8 + 8}}'], ip_policies: [{IPP}] }}
"
    );
    let mut world = Fake::default();
    let sets = IpSets {
        allow: nets(&["192.0.2.0/24", "10.1.0.0/16"]),
        deny: nets(&["198.51.100.128/25"]),
    };
    world
        .ip_policies
        .insert(IPP.parse().expect("an id"), Arc::new(sets));
    for (client, expected) in [
        ("10.2.3.4", "restrict-ips allow 10.0.0.0/8"),
        ("10.1.3.4", "restrict-ips allow 10.1.0.0/16"),
        ("198.51.100.5", "restrict-ips allow 198.51.100.0/24"),
        ("203.0.113.7", "restrict-ips allow 203.0.113.7/32"),
        ("192.0.2.9", "restrict-ips allow 192.0.2.0/24"),
        ("10.9.1.1", "restrict-ips deny 10.9.0.0/16"),
        ("198.51.100.200", "restrict-ips deny 198.51.100.128/25"),
        ("203.0.113.8", "restrict-ips deny (in no allow)"),
    ] {
        let (mut run, decision) = run(&text, client, &world);
        assert_eq!(run.take_log()[1], format!("on_tcp_connect[0]: {expected}"));
        let restricted = matches!(decision, Decision::Restricted { .. });
        assert_eq!(restricted, expected.contains("deny"), "{client}");
    }
    let (_, decision) = run(&text, "10.2.3.4", &Fake::default());
    let Decision::Failed { path, error } = decision else {
        panic!("{decision:?}")
    };
    assert_eq!(path, "on_tcp_connect[0].actions[1].config.ip_policies[0]");
    assert_eq!(error.code, Code::PolicyReference);
}

#[test]
fn a_text_that_is_no_cidr_fails() {
    for value in ["nonsense", "10.0.0.1/8", ""] {
        let text = format!(
            "on_tcp_connect: [{{ actions: [{{ type: set-vars, config: {{ vars: [{{ a: '{value}' }}] }} }}, {{ type: restrict-ips, config: {{ enforce: false, allow: [10.0.0.0/8, '${{vars.a}}'] }} }}] }}]"
        );
        let decision = decide(&text, "10.0.0.1");
        assert_eq!(
            failure(&decision).0,
            "on_tcp_connect[0].actions[1].config.allow[1]"
        );
    }
}

#[test]
fn what_is_not_enforced_is_known_behind() {
    let text = "
on_tcp_connect:
  - actions: [{ type: restrict-ips, config: { enforce: false, allow: [10.0.0.0/8], deny: [10.9.0.0/16] } }]
  - expressions: [\"actions.ngrok.restrict_ips.action == 'allow'\"]
    actions: [{ type: forward-internal, config: { url: 'tcp://in.internal:1' } }]
  - expressions: [\"actions.ngrok.restrict_ips.matched_cidr == '10.9.0.0/16'\"]
    actions: [{ type: deny }]
  - expressions: [\"actions.ngrok.restrict_ips.error.code == 'PTC_IP_RESTRICTED'\"]
    actions: [{ type: close-connection }]
";
    assert_eq!(host(&decide(text, "10.0.0.1")), "in.internal");
    assert!(matches!(decide(text, "10.9.0.1"), Decision::Deny { .. }));
    assert!(matches!(decide(text, "192.0.2.1"), Decision::Close { .. }));
}

#[test]
fn deny_closes_as_it_says() {
    for (config, mode) in [
        ("null", DenyMode::Close),
        ("{}", DenyMode::Close),
        ("{ mode: close }", DenyMode::Close),
        ("{ mode: reset }", DenyMode::Reset),
        (
            "{ mode: tarpit }",
            DenyMode::Tarpit(Duration::from_secs(30)),
        ),
        (
            "{ mode: tarpit, hold: 20s }",
            DenyMode::Tarpit(Duration::from_secs(20)),
        ),
    ] {
        let text = format!("on_tcp_connect: [{{ actions: [{{ type: deny, config: {config} }}] }}]");
        let rule = Arc::from("on_tcp_connect[0]");
        let expected = Decision::Deny { rule, mode };
        assert_eq!(decide(&text, "10.0.0.1"), expected);
        assert_eq!(
            policy(&text).on_tcp_connect(&conn("10.0.0.1")).decision,
            expected
        );
    }
}

#[test]
fn raw_answers_need_no_request() {
    for (phase, config, expected) in [
        ("on_tcp_connect", "{ text: \"busy\\r\\n\" }", "busy\r\n"),
        (
            "on_http_request",
            "{ text: 'hello ${conn.client_ip}' }",
            "hello 10.0.0.1",
        ),
        (
            "on_tcp_connect",
            "{ bytes_base64: AAECAw== }",
            "\0\u{1}\u{2}\u{3}",
        ),
    ] {
        let text =
            format!("{phase}: [{{ actions: [{{ type: custom-response, config: {config} }}] }}]");
        let Decision::Respond { bytes, status, .. } = decide(&text, "10.0.0.1") else {
            panic!("no response")
        };
        assert_eq!((&*bytes, status), (expected.as_bytes(), None));
    }
}

#[test]
fn a_request_puts_no_header_into_the_answer() {
    let policy = policy(
        "on_http_request: [{ actions: [{ type: custom-response, config: { status_code: 302, headers: { location: '${req.path}' } } }] }]",
    );
    let next = go(
        &mut Run::default(),
        &policy,
        "10.0.0.1",
        &request("GET", "/a\r\nset-cookie: x"),
        &Fake::default(),
    );
    let Next::Done(decision) = next else {
        panic!("{next:?}")
    };
    assert_eq!(
        failure(&decision).0,
        "on_http_request[0].actions[0].config.headers.location"
    );
}

#[test]
fn an_answer_that_grows_too_long_fails() {
    let half = "x".repeat(40_000);
    let text = format!(
        "on_tcp_connect: [{{ actions: [{{ type: set-vars, config: {{ vars: [{{ a: {half} }}] }} }}, {{ type: custom-response, config: {{ text: '${{vars.a}}${{vars.a}}' }} }}] }}]"
    );
    assert_eq!(
        failure(&decide(&text, "10.0.0.1")).0,
        "on_tcp_connect[0].actions[1].config.text"
    );
}

#[test]
fn secrets_are_asked_of_the_world_and_named_in_the_uses() {
    let text = "on_tcp_connect: [{ expressions: [\"secrets.get('main', 'gate') == 'open'\"], actions: [{ type: deny }] }]";
    let mut world = Fake::default();
    let key = ("main".to_owned(), "gate".to_owned());
    assert!(policy(text).uses().secrets.contains(&key));
    let (_, absent) = run(text, "10.0.0.1", &world);
    assert_eq!(failure(&absent).0, "on_tcp_connect[0].expressions[0]");
    world.secrets.insert(key, Arc::from("open"));
    assert!(matches!(
        run(text, "10.0.0.1", &world).1,
        Decision::Deny { .. }
    ));
}

#[test]
fn uses_name_targets_and_ip_policies() {
    let policy = policy(&format!(
        "
on_tcp_connect:
  - actions: [{{ type: restrict-ips, config: {{ ip_policies: [{IPP}] }} }}]
  - actions: [{{ type: forward-internal, config: {{ targets: [{{ url: 'tcp://b.internal:1' }}, {{ url: 'tcp://a.internal:1' }}, {{ reject: true }}, {{ url: 'tcp://${{conn.client_ip}}.internal:1' }}] }} }}]
"
    ));
    let uses = policy.uses();
    let policies: Vec<String> = uses.ip_policies.iter().map(ToString::to_string).collect();
    assert_eq!(policies, [IPP]);
    let targets: Vec<String> = uses.targets.iter().map(ToString::to_string).collect();
    assert_eq!(targets, ["tcp://a.internal:1", "tcp://b.internal:1"]);
}

#[test]
fn explaining_tells_of_every_expression() {
    let policy = policy(
        "
on_tcp_connect:
  - { name: one, expressions: [conn.client_port == 1], actions: [{ type: deny }] }
  - { name: two, expressions: [conn.client_port == 40000], actions: [{ type: close-connection }] }
",
    );
    let mut run = Run::explaining();
    go(
        &mut run,
        &policy,
        "10.0.0.1",
        &Given::default(),
        &Fake::default(),
    );
    assert_eq!(
        run.take_log(),
        [
            "one: `conn.client_port == 1` is false",
            "two: `conn.client_port == 40000` is true",
            "two: close-connection"
        ]
    );
}

#[test]
fn simple_policies_run_as_they_decide_alone() {
    let text = "
on_tcp_connect:
  - name: office
    actions: [{ type: restrict-ips, config: { allow: [10.0.0.0/8] } }]
  - actions: [{ type: forward-internal, config: { url: 'tcp://db.internal:5432', on_error: continue } }]
  - actions: [{ type: deny }]
";
    let policy = policy(text);
    for client in ["10.0.0.1", "192.0.2.1"] {
        let verdict = policy.on_tcp_connect(&conn(client));
        let mut run = Run::default();
        let next = go(
            &mut run,
            &policy,
            client,
            &Given::default(),
            &Fake::default(),
        );
        assert_eq!(next, Next::Done(verdict.decision.clone()));
        assert_eq!(run.take_log().join("; "), verdict.log.render(&policy));
        if let Decision::Forward { step, .. } = verdict.decision {
            run.failed(&Error::of(Code::UpstreamRefused));
            let next = go(
                &mut run,
                &policy,
                client,
                &Given::default(),
                &Fake::default(),
            );
            let behind = policy.resume_after(step, &conn(client)).decision;
            assert_eq!(next, Next::Done(behind));
        }
    }
}

#[test]
fn all_expressions_together_have_a_limit() {
    // Each stays far inside what one may cost.
    let dear = "lists.range(1000).all(n, n >= 0) && lists.range(1000).all(n, n >= 0) && conn.client_port == 1";
    let rule = |expression: &str| {
        format!("{{ expressions: ['{expression}'], actions: [{{ type: deny }}] }}")
    };
    let some = |count: usize| {
        let rules = vec![rule(dear); count].join(", ");
        decide(&format!("on_tcp_connect: [{rules}]"), "10.0.0.1")
    };
    assert_eq!(some(5), Decision::FallThrough);
    let decision = some(100);
    let place = "on_tcp_connect[";
    assert!(failure(&decision).0.starts_with(place), "{decision:?}");
    // The next connection has all of it again.
    assert_eq!(some(5), Decision::FallThrough);

    let text = "${1}".repeat(60);
    let many: Vec<String> = (0..60).map(|n| format!("k{n}: '{text}'")).collect();
    let action = format!(
        "{{ type: log, config: {{ metadata: {{ {} }} }} }}",
        many.join(", ")
    );
    let rule = format!("{{ actions: [{}] }}", vec![action; 16].join(", "));
    let decision = decide(&format!("on_tcp_connect: [{rule}]"), "10.0.0.1");
    assert!(
        failure(&decision).0.contains(".config.metadata."),
        "{decision:?}"
    );
}
