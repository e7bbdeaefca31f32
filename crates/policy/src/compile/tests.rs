//! Documents: every problem with its code and path.

use proptest::prelude::*;

use super::*;

mod invalid;
mod invalid_actions;
mod secrets;
mod tls;
mod types;
mod valid;

fn fault(text: &str) -> Error {
    match Policy::compile(text, EndpointType::Agent) {
        Ok(policy) => panic!("accepted {text}: {policy:?}"),
        Err(error) => error,
    }
}

/// That each is refused with this code, and with these words.
#[track_caller]
fn refused(cases: &[(String, Code, &str)]) {
    for (text, code, part) in cases {
        let error = fault(text);
        assert_eq!(error.code, *code, "{text}: {error}");
        assert!(
            error.message.contains(part),
            "{text}\n{error}\nlacks {part}"
        );
    }
}

/// The same under `on_http_request`.
fn http(kind: &str, config: &str) -> String {
    format!("on_http_request: [{{ actions: [{{ type: {kind}, config: {config} }}] }}]")
}

/// A rule that denies under these expressions.
fn when(expressions: &str) -> String {
    format!("on_tcp_connect: [{{ expressions: [{expressions}], actions: [{{ type: deny }}] }}]")
}

/// A rule with these actions, in YAML's flow form.
fn rule(actions: &str) -> String {
    format!("on_tcp_connect: [{{ actions: [{actions}] }}]")
}

fn config(kind: &str, config: &str) -> String {
    rule(&format!("{{ type: {kind}, config: {config} }}"))
}

#[test]
fn every_problem_has_its_code_and_path() {
    let cases: Vec<(String, Code, &str)> = vec![
        // Shape
        (
            "just text".into(),
            Code::PolicyUnparsable,
            "a map with the key `on_tcp_connect`, and this is the text `just text`",
        ),
        ("- a".into(), Code::PolicyUnparsable, "this is a list"),
        (
            "on_tcp_connect: 5".into(),
            Code::PolicyUnparsable,
            "on_tcp_connect: a list of rules is expected, and this is the number 5",
        ),
        (
            "on_tcp_connect: { actions: [] }".into(),
            Code::PolicyUnparsable,
            "put `- ` in front",
        ),
        (
            "on_tcp_connect: [deny]".into(),
            Code::PolicyUnparsable,
            "on_tcp_connect[0]: a rule is a map, and this is the text `deny`",
        ),
        (
            "on_tcp_connect: [{ action: [] , actions: [{type: deny}]}]".into(),
            Code::PolicyUnparsable,
            "did you mean `actions`?",
        ),
        (
            "on_tcp_connect: [{ zzz: 1, actions: [{type: deny}]}]".into(),
            Code::PolicyUnparsable,
            "its keys are `name`, `expressions`, `actions`",
        ),
        (
            "on_tcp_connect: [{ name: 5, actions: [{type: deny}]}]".into(),
            Code::PolicyUnparsable,
            "on_tcp_connect[0].name: text is expected, and this is the number 5",
        ),
        (
            format!(
                "on_tcp_connect: [{{ name: {}, actions: [{{type: deny}}]}}]",
                "x".repeat(129)
            ),
            Code::PolicyTooLarge,
            "128 characters",
        ),
        (
            "on_tcp_connect: [{ enabled: false, actions: [{type: deny}]}]".into(),
            Code::PolicyUnparsable,
            "withdrawn",
        ),
        (
            "on_tcp_connect: [{ actions: deny }]".into(),
            Code::PolicyUnparsable,
            "on_tcp_connect[0].actions: a list of actions",
        ),
        (
            "on_tcp_connect:\n  - actions: [\n".into(),
            Code::PolicyUnparsable,
            "unclosed bracket '[' at line 2",
        ),
        (
            "{\"on_tcp_connect\": [}".into(),
            Code::PolicyUnparsable,
            "as JSON: expected value at line 1 column 21",
        ),
        (
            "{\"on_tcp_connect\": [], \"on_tcp_connect\": []}".into(),
            Code::PolicyUnparsable,
            "stands twice",
        ),
        (
            "on_tcp_connect: []\non_tcp_connect: []".into(),
            Code::PolicyUnparsable,
            "duplicate",
        ),
        (
            "inbound: []\non_tcp_connect: []".into(),
            Code::PolicyUnparsable,
            "old name and its new one",
        ),
        // Phases
        (
            "on_http_response: []".into(),
            Code::PolicyPhase,
            "on_http_response: the phase `on_http_response` is HTTP's",
        ),
        (
            "outbound: [{ actions: [{ type: deny }] }]".into(),
            Code::PolicyPhase,
            "outbound[0]: `outbound` is for the answers of HTTP services",
        ),
        (
            "on_tcp_conect: []".into(),
            Code::PolicyPhase,
            "on_tcp_conect: there is no phase `on_tcp_conect`; write `on_tcp_connect`",
        ),
        (
            "rules: []".into(),
            Code::PolicyPhase,
            "a TCP endpoint has `on_tcp_connect` and `on_http_request`",
        ),
        // Rules
        (
            "on_tcp_connect: [{ name: x }]".into(),
            Code::PolicyNoActions,
            "on_tcp_connect[0].actions: the rule has no actions",
        ),
        (
            "on_tcp_connect: [{ actions: [] }]".into(),
            Code::PolicyNoActions,
            "on_tcp_connect[0].actions",
        ),
        (
            "on_tcp_connect: [{ expressions: [5], actions: [{type: deny}] }]".into(),
            Code::PolicyUnparsable,
            "on_tcp_connect[0].expressions[0]: an expression in quotes is expected, and this is the number 5",
        ),
        (
            "on_tcp_connect: [{ expressions: \"true\", actions: [{type: deny}] }]".into(),
            Code::PolicyUnparsable,
            "on_tcp_connect[0].expressions: a list of expressions is expected, and this is the text `true`",
        ),
        (
            rule("{ type: deny }, { type: close-connection }"),
            Code::PolicyUnreachable,
            "on_tcp_connect[0].actions[1]: the action is never reached",
        ),
        (
            rule(&["{ type: restrict-ips, config: { allow: [] } }"; 17].join(",")),
            Code::PolicyTooLarge,
            "at most 16",
        ),
        (
            format!(
                "on_tcp_connect: [{}]",
                ["{ actions: [{ type: deny }] }"; 101].join(",")
            ),
            Code::PolicyTooLarge,
            "there are 101 rules",
        ),
        // Actions
        (
            rule("deny"),
            Code::PolicyUnparsable,
            "on_tcp_connect[0].actions[0]: an action is a map",
        ),
        (
            rule("{ config: {} }"),
            Code::PolicyAction,
            "has no `type`; the actions are restrict-ips",
        ),
        (
            rule("{ type: 5 }"),
            Code::PolicyAction,
            "on_tcp_connect[0].actions[0].type: the name of an action",
        ),
        (
            rule("{ type: restrict-ip }"),
            Code::PolicyAction,
            "did you mean `restrict-ips`?",
        ),
        (
            rule("{ type: oauth }"),
            Code::PolicyAction,
            "`oauth` needs an HTTP endpoint",
        ),
        (
            rule("{ type: teleport }"),
            Code::PolicyAction,
            "there is no action `teleport`; the actions are",
        ),
        (
            rule("{ type: deny, confg: {} }"),
            Code::PolicyUnparsable,
            "did you mean `config`?",
        ),
        (
            config("deny", "{ status_code: 403 }"),
            Code::PolicyConfig,
            "on_tcp_connect[0].actions[0].config.status_code: deny on TCP has no status; under `on_http_request` use custom-response",
        ),
        (
            config("close-connection", "5"),
            Code::PolicyConfig,
            "close-connection is a map, and this is the number 5",
        ),
        // forward-internal
        (
            rule("{ type: forward-internal }"),
            Code::PolicyConfig,
            "actions[0].config: forward-internal needs a config",
        ),
        (
            config("forward-internal", "{}"),
            Code::PolicyConfig,
            "config.url: the URL of an internal endpoint is needed",
        ),
        (
            config("forward-internal", "{ url: 5 }"),
            Code::PolicyConfig,
            "this is the number 5",
        ),
        (
            config("forward-internal", "{ url: '' }"),
            Code::PolicyConfig,
            "write `tcp://name.internal:5432`",
        ),
        (
            config("forward-internal", "{ url: 'tcp://db.internal' }"),
            Code::PolicyConfig,
            "config.url: `tcp://db.internal` has no port",
        ),
        (
            config("forward-internal", "{ url: 'tcp://db.example.com:1' }"),
            Code::PolicyConfig,
            "does not end in `.internal`",
        ),
        (
            config("forward-internal", "{ url: 'https://db.internal' }"),
            Code::PolicyConfig,
            "only TCP",
        ),
        (
            config("forward-internal", "{ url: 'tcp://*.internal:1' }"),
            Code::PolicyConfig,
            "name the endpoint to forward to in full",
        ),
        (
            config(
                "forward-internal",
                "{ url: 'tcp://${conn.server_name}.internal:1' }",
            ),
            Code::PolicyExpressions,
            "config.url: ",
        ),
        (
            config(
                "forward-internal",
                "{ url: 'tcp://db.internal:1', on_error: retry }",
            ),
            Code::PolicyConfig,
            "config.on_error: `halt` or `continue` is expected, and this is the text `retry`",
        ),
        (
            config(
                "forward-internal",
                "{ url: 'tcp://db.internal:1', endpoint_weights: {} }",
            ),
            Code::PolicyConfig,
            "config.endpoint_weights: not supported yet",
        ),
        (
            config(
                "forward-internal",
                "{ uri: 'tcp://db.internal:1', url: 'tcp://db.internal:1' }",
            ),
            Code::PolicyConfig,
            "no key `uri`; did you mean `url`?",
        ),
        // restrict-ips
        (
            rule("{ type: restrict-ips }"),
            Code::PolicyConfig,
            "actions[0].config: restrict-ips needs a config",
        ),
        (
            config("restrict-ips", "{ allow: 10.0.0.0/8 }"),
            Code::PolicyConfig,
            "config.allow: a list of CIDRs is expected, and this is the text `10.0.0.0/8`; put it in brackets",
        ),
        (
            config(
                "restrict-ips",
                "{ allow: [10.0.0.0/8, 10.0.0.0/8, 10.0.0.1/8] }",
            ),
            Code::PolicyCidr,
            "on_tcp_connect[0].actions[0].config.allow[2]: `10.0.0.1/8` is not the base",
        ),
        (
            config("restrict-ips", "{ deny: [203.0.113.7] }"),
            Code::PolicyCidr,
            "config.deny[0]: `203.0.113.7` has no mask; write `203.0.113.7/32`",
        ),
        (
            config("restrict-ips", "{ deny: [5] }"),
            Code::PolicyCidr,
            "this is the number 5",
        ),
        (
            config("restrict-ips", "{ deny: ['${vars.x +}'] }"),
            Code::PolicyExpressions,
            "config.deny[0]",
        ),
        (
            config("restrict-ips", "{ enforce: maybe, allow: [] }"),
            Code::PolicyConfig,
            "config.enforce: `true` or `false` is expected, and this is the text `maybe`",
        ),
        (
            config("restrict-ips", "{ ip_policies: [ipp_1] }"),
            Code::PolicyConfig,
            "config.ip_policies[0]: `ipp_1` is no id of an IP policy",
        ),
        (
            config("restrict-ips", "{ alow: [] }"),
            Code::PolicyConfig,
            "did you mean `allow`?",
        ),
    ];
    for (text, code, part) in cases {
        let error = fault(&text);
        assert_eq!(error.code, code, "{text}: {error}");
        assert!(
            error.message.contains(part),
            "{text}\n{error}\nlacks {part}"
        );
    }
}

#[test]
fn all_problems_come_at_once() {
    let error = fault(
        "
on_http_response: []
on_tcp_connect:
  - actions:
      - type: restrict-ips
        config: { allow: [10.0.0.0/8, nonsense], deny: [1.2.3.4] }
  - expressions: [conn.client_up == '1']
    actions:
      - type: forward-internal
        config: { url: tcp://db, on_error: never }
      - type: denny
",
    );
    assert_eq!(error.code, Code::PolicyInvalid);
    let lines: Vec<&str> = error.message.lines().collect();
    assert_eq!(lines[0], "the policy has 7 problems:");
    let starts = [
        "on_http_response: the phase `on_http_response`",
        "on_tcp_connect[0].actions[0].config.allow[1]: ",
        "on_tcp_connect[0].actions[0].config.deny[0]: ",
        "on_tcp_connect[1].expressions[0]: ",
        "on_tcp_connect[1].actions[0].config.on_error: ",
        "on_tcp_connect[1].actions[0].config.url: ",
        "on_tcp_connect[1].actions[1].type: ",
    ];
    for (line, start) in lines[1..].iter().zip(starts) {
        assert!(line.trim_start().starts_with(start), "{line}");
    }
    assert!(lines[2].ends_with("(PTC_POLICY_CIDR)"));
}

#[test]
fn problems_of_one_code_keep_it_and_are_capped() {
    let cidrs = ["1.2.3.4"; 50].join(", ");
    let error = fault(&config("restrict-ips", &format!("{{ allow: [{cidrs}] }}")));
    assert_eq!(error.code, Code::PolicyCidr);
    assert!(
        error.message.starts_with("the policy has 50 problems:")
            && error.message.ends_with("and 30 more")
    );
    assert_eq!(error.message.lines().count(), 22);
}

#[test]
fn cloud_policies_must_always_end() {
    let ends = |text: &str| match Policy::compile(text, EndpointType::Cloud) {
        Ok(policy) => policy.is_terminating(),
        Err(error) => {
            assert_eq!(error.code, Code::PolicyNotTerminating, "{error}");
            false
        }
    };
    let forward = "{ type: forward-internal, config: { url: 'tcp://db.internal:1' } }";
    let trying =
        "{ type: forward-internal, config: { url: 'tcp://db.internal:1', on_error: continue } }";
    let restrict = "{ type: restrict-ips, config: { allow: [0.0.0.0/0] } }";
    assert!(!ends(""));
    assert!(!ends("on_tcp_connect: []"));
    assert!(!ends(&rule(restrict)));
    assert!(!ends(&rule(trying)));
    assert!(ends(&rule(forward)));
    assert!(ends(&rule("{ type: deny }")));
    assert!(ends(&rule("{ type: close-connection, config: null }")));
    assert!(ends(&rule(&format!("{restrict}, {forward}"))));
    assert!(ends(&rule(&format!("{trying}, {{ type: deny }}"))));
    assert!(ends(&format!(
        "on_tcp_connect: [{{ actions: [{trying}] }}, {{ actions: [{forward}] }}]"
    )));
}

#[test]
fn json_and_yaml_mean_the_same() {
    let yaml = "
on_tcp_connect:
  - name: office
    expressions: []
    actions:
      - type: restrict-ips
        config:
          enforce: yes
          allow:
            - 10.0.0.0/8
            - ::/0
          deny: [::1/128, \"2001:db8::/32\"]
      - type: deny
        config: {}
";
    let json = r#" {"on_tcp_connect": [{"name": "office", "expressions": [], "actions": [
        {"type": "restrict-ips", "config": {"enforce": true, "allow": ["10.0.0.0/8", "::/0"], "deny": ["::1/128", "2001:db8::/32"]}},
        {"type": "deny", "config": {}}]}]}"#;
    let compile = |text: &str| Policy::compile(text, EndpointType::Cloud).expect("valid");
    assert_eq!(compile(yaml), compile(json));
}

#[test]
fn old_forms_are_read_with_a_notice() {
    let policy = Policy::compile(
        "inbound: [{ enabled: true, actions: [{ type: deny }] }]",
        EndpointType::Cloud,
    )
    .expect("valid");
    let paths: Vec<&str> = policy
        .notices()
        .iter()
        .map(|notice| notice.path.as_str())
        .collect();
    assert_eq!(paths, ["inbound", "inbound[0].enabled"]);
}

#[test]
fn rules_behind_the_end_are_noticed() {
    let policy = Policy::compile(
        "on_tcp_connect: [{ actions: [{ type: deny }] }, { actions: [{ type: close-connection }] }]",
        EndpointType::Agent,
    );
    let policy = policy.expect("valid");
    assert_eq!(policy.notices()[0].path, "on_tcp_connect[1]");
    assert!(
        policy.notices()[0]
            .message
            .contains("on_tcp_connect[0] always ends")
    );
}

#[test]
fn a_hundred_thousand_cidrs_are_the_limit() {
    let list = |count: u32| {
        let cidrs: Vec<String> = (0..count)
            .map(|n| format!("\"{}/32\"", std::net::Ipv4Addr::from_bits(n)))
            .collect();
        format!(
            "{{\"on_tcp_connect\": [{{\"actions\": [{{\"type\": \"restrict-ips\", \"config\": {{\"allow\": [{}]}}}}]}}]}}",
            cidrs.join(",")
        )
    };
    assert!(Policy::compile(&list(100_000), EndpointType::Agent).is_ok());
    assert_eq!(fault(&list(100_001)).code, Code::PolicyTooLarge);
}

proptest! {
    #[test]
    fn any_text_compiles_or_is_refused(text in "\\PC{0,200}") {
        if let Err(error) = Policy::compile(&text, EndpointType::Agent) {
            prop_assert!(error.code.as_str().starts_with("PTC_POLICY_"));
        }
    }

    #[test]
    fn almost_policies_compile_or_are_refused(parts in prop::collection::vec(prop::sample::select(vec![
        "on_tcp_connect:", "inbound:", "\n", "\n  ", "\n    ", "- ", "actions:", "type: deny", "type: restrict-ips", "config:", "{", "}", "[", "]", ",",
        "allow:", "10.0.0.0/8", "&a ", "*a", "<<: *a", "\"", "'", "url: tcp://a.internal:1", "expressions: [x]", "!!binary x", "| ", "? ", ": ",
    ]), 0..24)) {
        let text: String = parts.concat();
        if let Ok(policy) = Policy::compile(&text, EndpointType::Cloud) {
            prop_assert!(policy.is_terminating());
        }
    }
}

#[test]
fn the_policies_in_the_guide_compile_and_its_faults_are_those() {
    let guide = include_str!("../../../../docs/policy.md");
    let blocks = |kind: &str| -> Vec<&str> {
        let opening = format!("```{kind}\n");
        let opened = guide.split(&opening).skip(1);
        opened
            .map(|rest| rest.split("```").next().expect("a block ends"))
            .collect()
    };
    let policies = blocks("yaml");
    assert!(policies.len() >= 2);
    for text in policies {
        let policy = Policy::compile(text, EndpointType::Agent).expect("valid");
        // Only that a rule waits for a request is worth telling of an example.
        let mut places = policy.notices().iter().map(|notice| &notice.path);
        assert!(places.all(|place| place.starts_with(HTTP_PHASE)), "{text}");
    }
    let error = fault(&rule(
        "{ type: restrict-ips, config: { allow: [::/0, 10.0.0.1/8] } }, { type: denny }",
    ));
    assert_eq!(blocks("text"), [format!("{}\n", error.message)]);
}

#[test]
fn documents_cut_at_any_byte_are_read_or_refused() {
    let yaml = "inbound:\n  - name: \"é\"\n    actions:\n      - type: restrict-ips\n        config: { allow: &a [10.0.0.0/8, \"::/0\"], deny: *a }\n      - type: deny\n";
    let json = r#"{"on_tcp_connect": [{"name": "\u00e9", "actions": [{"type": "restrict-ips", "config": {"allow": ["10.0.0.0/8"]}}, {"type": "deny"}]}]}"#;
    for text in [yaml, json] {
        assert!(Policy::compile(text, EndpointType::Cloud).is_ok());
        for cut in (0..text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            if let Err(error) = Policy::compile(&text[..cut], EndpointType::Agent) {
                assert!(error.code.as_str().starts_with("PTC_POLICY_"), "{error}");
            }
        }
    }
}
