//! Documents that are refused: each with its code, its place and its words.

use super::*;

#[test]
fn phases() {
    use Code::{PolicyPhase, PolicyUnparsable};
    refused(&[
        (
            "on_http_requests: []".into(),
            PolicyPhase,
            "there is no phase `on_http_requests`; write `on_http_request`",
        ),
        (
            "on_event_stream_message: []".into(),
            PolicyPhase,
            "is HTTP's",
        ),
        (
            "outbound: 5".into(),
            PolicyUnparsable,
            "outbound: a list of rules is expected",
        ),
        (
            "outbound: [{ actions: [{ type: add-headers }] }, { actions: [{ type: deny }] }]"
                .into(),
            PolicyPhase,
            "outbound[1]: ",
        ),
        (
            "on_http_request: 5".into(),
            PolicyUnparsable,
            "on_http_request: a list of rules",
        ),
        (
            "enabled: false\non_tcp_connect: []".into(),
            PolicyUnparsable,
            "enabled: `enabled` was withdrawn",
        ),
        (
            "policy: { on_tcp_conect: [] }".into(),
            PolicyPhase,
            "policy.on_tcp_conect: there is no phase `on_tcp_conect`; write `on_tcp_connect`",
        ),
        (
            "on_http_respons: []".into(),
            PolicyPhase,
            "on_http_respons: there is no phase `on_http_respons`, and a TCP endpoint never comes to `on_http_response`; write `on_http_request`",
        ),
        (
            "\"on tcp\\nconnect\": []".into(),
            PolicyPhase,
            "there is no phase `on tcp\u{fffd}connect`",
        ),
        (
            "policy: { on_tcp_connect: [{ actions: [] }] }".into(),
            Code::PolicyNoActions,
            "policy.on_tcp_connect[0].actions: ",
        ),
        (
            "policy: {}\non_tcp_connect: []".into(),
            PolicyPhase,
            "there is no phase `policy`",
        ),
        (
            "traffic_policy: []".into(),
            PolicyPhase,
            "there is no phase `traffic_policy`",
        ),
        (
            "policy: { policy: { on_tcp_connect: [] } }".into(),
            PolicyPhase,
            "there is no phase `policy`",
        ),
        (
            "on_http_request: [{ actions: [{ type: denny }] }]".into(),
            Code::PolicyAction,
            "on_http_request[0].actions[0].type: ",
        ),
        (
            format!(
                "on_tcp_connect: [{0}]\non_http_request: [{0}]",
                ["{ actions: [{ type: log, config: { metadata: {} } }] }"; 51].join(",")
            ),
            Code::PolicyTooLarge,
            "on_http_request: there are 102 rules; a policy has at most 100",
        ),
    ]);
}

#[test]
fn expressions() {
    use Code::{PolicyExpressions, PolicyTooLarge, PolicyUnparsable};
    refused(&[
        (
            when("\"conn.client_ip == \""),
            PolicyExpressions,
            "on_tcp_connect[0].expressions[0]: ",
        ),
        (
            when("'true', \"conn.client_up == 'x'\""),
            PolicyExpressions,
            "on_tcp_connect[0].expressions[1]: ",
        ),
        (
            when("\"conn.client_up == 'x'\""),
            PolicyExpressions,
            "conn.client_ip",
        ),
        (
            when("\"request.path == '/'\""),
            PolicyExpressions,
            "expressions[0]: ",
        ),
        (
            when("\"req.path == '/'\""),
            PolicyExpressions,
            "`req` is known only under `on_http_request`",
        ),
        (
            when("\"inCidrRnge(conn.client_ip, '10.0.0.0/8')\""),
            PolicyExpressions,
            "inCidrRange",
        ),
        (when("\"(((\""), PolicyExpressions, "expressions[0]: "),
        (when("''"), PolicyExpressions, "expressions[0]: "),
        (
            when("5"),
            PolicyUnparsable,
            "an expression in quotes is expected, and this is the number 5",
        ),
        (
            when("[true]"),
            PolicyUnparsable,
            "expressions[0]: an expression in quotes is expected, and this is a list",
        ),
        (
            when("null"),
            PolicyUnparsable,
            "expressions[0]: an expression in quotes is expected, and this is nothing",
        ),
        (
            when(&["'true'"; 17].join(",")),
            PolicyTooLarge,
            "there are 17 expressions; a rule has at most 16",
        ),
        (
            "on_tcp_connect: [{ expressions: { a: b }, actions: [{ type: deny }] }]".into(),
            PolicyUnparsable,
            "a list of expressions is expected, and this is a map",
        ),
        (
            "on_tcp_connect: [{ expresions: [], actions: [{ type: deny }] }]".into(),
            PolicyUnparsable,
            "did you mean `expressions`?",
        ),
        (
            when(&format!("\"{}\"", "a".repeat(5_000))),
            Code::PolicyCost,
            "expressions[0]: ",
        ),
    ]);
}

#[test]
fn texts_with_expressions() {
    use Code::PolicyExpressions;
    refused(&[
        (
            config("log", "{ metadata: { a: '${' } }"),
            PolicyExpressions,
            "config.metadata.a: ",
        ),
        (
            config("log", "{ metadata: { a: [x, '${conn.nothing}'] } }"),
            PolicyExpressions,
            "config.metadata.a[1]: ",
        ),
        (
            config("log", "{ metadata: { a: { b: '${1 +}' } } }"),
            PolicyExpressions,
            "config.metadata.a.b: ",
        ),
        (
            config("set-vars", "{ vars: [{ a: '${req.path}' }] }"),
            PolicyExpressions,
            "config.vars[0].a: `req` is known only",
        ),
        (
            config("custom-response", "{ text: '${conn.client_up}' }"),
            PolicyExpressions,
            "config.text: ",
        ),
        (
            http(
                "custom-response",
                "{ status_code: 200, body: '${req.pth}' }",
            ),
            PolicyExpressions,
            "config.body: ",
        ),
        (
            http(
                "custom-response",
                "{ status_code: 200, headers: { x-a: '${)}' } }",
            ),
            PolicyExpressions,
            "config.headers.x-a: ",
        ),
        (
            config("restrict-ips", "{ allow: [10.0.0.0/8, '${conn.}'] }"),
            PolicyExpressions,
            "config.allow[1]: ",
        ),
        (
            config(
                "forward-internal",
                "{ targets: [{ url: 'tcp://a.internal:1' }, { url: 'tcp://${x}.internal:1' }] }",
            ),
            PolicyExpressions,
            "config.targets[1].url: ",
        ),
        (
            config(
                "rate-limit",
                "{ capacity: 1, interval: 1s, key: 'conn.client_up' }",
            ),
            PolicyExpressions,
            "config.key: ",
        ),
        (
            config("limit-connections", "{ max: 1, key: 'req.host' }"),
            PolicyExpressions,
            "config.key: `req` is known only",
        ),
    ]);
}

#[test]
fn forwards() {
    use Code::{PolicyConfig, PolicyTooLarge};
    let targets = |list: &str| config("forward-internal", &format!("{{ targets: {list} }}"));
    refused(&[
        (
            targets("[]"),
            PolicyConfig,
            "config.targets: there are no targets",
        ),
        (
            targets("5"),
            PolicyConfig,
            "config.targets: a list of targets is expected, and this is the number 5",
        ),
        (
            targets("[5]"),
            PolicyConfig,
            "config.targets[0]: a target is a map",
        ),
        (
            targets("[{ weight: 1 }]"),
            PolicyConfig,
            "config.targets[0].url: the URL of an internal endpoint is needed",
        ),
        (
            targets("[{ url: 'tcp://a.internal:1', reject: true }]"),
            PolicyConfig,
            "config.targets[0]: a target has a `url` or `reject: true`, not both",
        ),
        (
            targets("[{ url: 'tcp://a.internal:1', reject: 1 }]"),
            PolicyConfig,
            "config.targets[0].reject: `true` or `false` is expected",
        ),
        (
            targets("[{ url: 'tcp://a.internal:1', weight: -1 }]"),
            PolicyConfig,
            "config.targets[0].weight: a whole number from 0 to 1000000 is expected",
        ),
        (
            targets("[{ url: 'tcp://a.internal:1', weight: 1.5 }]"),
            PolicyConfig,
            "config.targets[0].weight: ",
        ),
        (
            targets("[{ url: 'tcp://a.internal:1', weight: 1000001 }]"),
            PolicyConfig,
            "config.targets[0].weight: ",
        ),
        (
            targets("[{ url: 'tcp://a.internal:1', wieght: 1 }]"),
            PolicyConfig,
            "did you mean `weight`?",
        ),
        (
            targets("[{ url: 'tcp://a.internal:1', weight: 0 }, { reject: true, weight: 0 }]"),
            PolicyConfig,
            "every weight is 0",
        ),
        (
            targets("[{ url: 'tcp://a.internal:1' }, { url: 'tcp://b.example.com:1' }]"),
            PolicyConfig,
            "config.targets[1].url: ",
        ),
        (
            targets(&format!("[{}]", ["{ reject: true }"; 65].join(","))),
            PolicyTooLarge,
            "there are 65 targets; at most 64",
        ),
        (
            config(
                "forward-internal",
                "{ url: 'tcp://a.internal:1', targets: [{ url: 'tcp://a.internal:1' }] }",
            ),
            PolicyConfig,
            "`url` and `targets` stand together",
        ),
        (
            config(
                "forward-internal",
                "{ url: 'tcp://a.internal:1', strategy: weighted }",
            ),
            PolicyConfig,
            "config.strategy: `strategy` chooses among `targets`",
        ),
        (
            config(
                "forward-internal",
                "{ targets: [{ url: 'tcp://a.internal:1' }], strategy: random-to }",
            ),
            PolicyConfig,
            "config.strategy: there is no strategy `random-to`; did you mean `random-two`?",
        ),
        (
            config(
                "forward-internal",
                "{ targets: [{ url: 'tcp://a.internal:1' }], strategy: fastest-first-always }",
            ),
            PolicyConfig,
            "the strategies are weighted, least-connections",
        ),
        (
            config(
                "forward-internal",
                "{ targets: [{ url: 'tcp://a.internal:1' }], strategy: 5 }",
            ),
            PolicyConfig,
            "config.strategy: the name of a strategy is expected",
        ),
        (
            config(
                "forward-internal",
                "{ url: 'tcp://a.internal:1', endpoint_selectors: ['x'] }",
            ),
            PolicyConfig,
            "config.endpoint_selectors: not supported yet",
        ),
        (
            config(
                "forward-internal",
                "{ url: 'tcp://a.internal:1', on_error: true }",
            ),
            PolicyConfig,
            "config.on_error: `halt` or `continue` is expected, and this is the word true",
        ),
    ]);
}

#[test]
fn restrictions() {
    use Code::{PolicyCidr, PolicyConfig, PolicyTooLarge};
    refused(&[
        (
            config("restrict-ips", "{ allow: [10.0.0.0/33] }"),
            PolicyCidr,
            "config.allow[0]: `10.0.0.0/33` has a mask",
        ),
        (
            config("restrict-ips", "{ allow: ['::ffff:10.0.0.0/104'] }"),
            PolicyCidr,
            "write `10.0.0.0/8`",
        ),
        (
            config("restrict-ips", "{ allow: [nonsense] }"),
            PolicyCidr,
            "is not a CIDR",
        ),
        (
            config("restrict-ips", "{ allow: { a: b } }"),
            PolicyConfig,
            "config.allow: a list of CIDRs is expected, and this is a map",
        ),
        (
            config("restrict-ips", "{ ip_policies: ipp_x }"),
            PolicyConfig,
            "config.ip_policies: a list of ids of IP policies is expected",
        ),
        (
            config("restrict-ips", "{ ip_policies: [5] }"),
            PolicyConfig,
            "config.ip_policies[0]: the id of an IP policy (`ipp_…`) is expected",
        ),
        (
            config(
                "restrict-ips",
                "{ ip_policies: [ep_30tNcWkLmgyIO1zPS4aDMAbFzYU] }",
            ),
            PolicyConfig,
            "config.ip_policies[0]: ",
        ),
        (
            config(
                "restrict-ips",
                &format!("{{ ip_policies: [{}] }}", ["x"; 51].join(",")),
            ),
            PolicyTooLarge,
            "there are 51 IP policies; at most 50",
        ),
        (
            config("restrict-ips", "[10.0.0.0/8]"),
            PolicyConfig,
            "the config of restrict-ips is a map, and this is a list",
        ),
        (
            config("restrict-ips", "{ enforced: true, allow: [] }"),
            PolicyConfig,
            "did you mean `enforce`?",
        ),
    ]);
}

#[test]
fn every_http_action_is_refused_by_name() {
    for kind in [
        "add-headers",
        "basic-auth",
        "jwt-validation",
        "oauth",
        "redirect",
        "url-rewrite",
        "verify-webhook",
        "compress-response",
    ] {
        for text in [rule(&format!("{{ type: {kind} }}")), http(kind, "{}")] {
            let error = fault(&text);
            assert_eq!(error.code, Code::PolicyAction, "{error}");
            assert!(error.message.contains("needs an HTTP endpoint"), "{error}");
        }
    }
}

#[test]
fn cloud_policies_that_may_end_in_nothing() {
    let forward = "{ type: forward-internal, config: { url: 'tcp://db.internal:1' } }";
    for (text, part) in [
        (
            when("\"conn.client_ip == '10.0.0.1'\""),
            "for every connection",
        ),
        (
            format!(
                "on_http_request: [{{ expressions: [\"req.path == '/'\"], actions: [{forward}] }}]"
            ),
            "for every connection",
        ),
        (
            format!(
                "on_http_request: [{{ expressions: ['conn.client_port > 0'], actions: [{forward}] }}, {{ actions: [{{ type: sniff }}] }}]"
            ),
            "for every connection",
        ),
        (
            rule("{ type: rate-limit, config: { capacity: 1, interval: 1s } }"),
            "must end in",
        ),
        (
            rule("{ type: log, config: { metadata: {} } }"),
            "must end in",
        ),
        (
            config(
                "forward-internal",
                "{ on_error: continue, targets: [{ url: 'tcp://a.internal:1' }, { url: 'tcp://b.internal:1' }] }",
            ),
            "on_error: continue",
        ),
        ("outbound: []".into(), "the policy is empty"),
        ("policy: {}".into(), "the policy is empty"),
    ] {
        let error = Policy::compile(&text, EndpointType::Cloud).expect_err(&text);
        assert_eq!(error.code, Code::PolicyNotTerminating, "{text}: {error}");
        assert!(error.message.contains(part), "{text}: {error}");
    }
}
