//! Documents that are accepted: for which endpoints, and what they have to be told.

use super::*;

/// Whether a cloud endpoint may have it, and the places of its notices.
#[track_caller]
fn accepted(cases: &[(String, bool, &[&str])]) {
    for (text, ends, notices) in cases {
        let policy = match Policy::compile(text, EndpointType::Agent) {
            Ok(policy) => policy,
            Err(error) => panic!("{text}\n{error}"),
        };
        let told: Vec<&str> = policy
            .notices()
            .iter()
            .map(|notice| notice.path.as_str())
            .collect();
        assert_eq!(told, *notices, "{text}: {:?}", policy.notices());
        assert_eq!(policy.is_terminating(), *ends, "{text}");
        assert_eq!(
            Policy::compile(text, EndpointType::Cloud).is_ok(),
            *ends,
            "{text}"
        );
        assert_eq!(
            Policy::compile(text, EndpointType::Agent),
            Ok(policy),
            "{text}"
        );
    }
}

const FORWARD: &str = "{ type: forward-internal, config: { url: 'tcp://db.internal:5432' } }";

#[test]
fn phases() {
    accepted(&[
        ("on_http_request: []".into(), false, &[]),
        ("on_http_request:".into(), false, &[]),
        ("outbound: []".into(), false, &["outbound"]),
        ("outbound:".into(), false, &["outbound"]),
        ("inbound: [{ actions: [{ type: deny }] }]\noutbound: []".into(), true, &["inbound", "outbound"]),
        ("on_tcp_connect: [{ actions: [{ type: deny }] }]\noutbound: [{ actions: [{ type: add-headers, config: { headers: { a: b } } }] }]".into(), true, &["outbound"]),
        ("policy: { inbound: [{ actions: [{ type: deny }] }] }".into(), true, &["policy", "policy.inbound"]),
        ("traffic_policy: { on_tcp_connect: [{ actions: [{ type: deny }] }] }".into(), true, &["traffic_policy"]),
        ("policy: { enabled: true, on_tcp_connect: [{ actions: [{ type: deny }] }] }".into(), true, &["policy", "policy.enabled"]),
        ("{\"policy\": {}}".into(), false, &["policy"]),
        (format!("on_http_request: [{{ actions: [{FORWARD}] }}]"), true, &[]),
        (format!("on_http_request: [{{ actions: [{FORWARD}] }}]\non_tcp_connect: [{{ actions: [{{ type: deny }}] }}]"), true, &["on_http_request[0]"]),
        ("on_tcp_connect: [{ name: x, enabled: true, expressions: null, actions: [{ type: deny, config: null }] }]".into(), true, &["on_tcp_connect[0].enabled"]),
    ]);
}

#[test]
fn expressions() {
    accepted(&[
        (when("'true'"), true, &[]),
        (when("true"), true, &[]),
        (when("' true '"), true, &[]),
        (when("'false'"), false, &[]),
        (when("\"conn.client_ip == '10.0.0.1'\""), false, &[]),
        (when("\"conn.client_ip.startsWith('10.')\", conn.client_port > 1024"), false, &[]),
        (when("\"inCidrRange(conn.client_ip, '10.0.0.0/8')\""), false, &[]),
        (when("\"inCidrRanges(conn.client_ip, ['10.0.0.0/8', '192.168.0.0/16'])\""), false, &[]),
        (when("\"conn.geo.country_code in ['DE', 'AT', 'CH']\""), false, &[]),
        (when("\"conn.geo.country_code != 'DE'\""), false, &[]),
        (when("\"'com.aws' in conn.client_ip.categories\""), false, &[]),
        (when("conn.client_ip.is_on_blocklist"), false, &[]),
        (when("\"conn.client_ip.as.number == 64512\""), false, &[]),
        (when("\"conn.server_region == 'eu'\""), false, &[]),
        (when("\"endpoint.url.startsWith('tcp://')\""), false, &[]),
        (when("\"timestamp('2026-01-01T00:00:00Z') < conn.ts.start\""), false, &[]),
        (when("\"conn.ts.start.getHours('Europe/Berlin') >= 8\""), false, &[]),
        (when("\"rand.double() < 0.1\""), false, &[]),
        (when("\"rand.int(1, 10) == 1\""), false, &[]),
        (when("\"secrets.get('main', 'gate') != ''\""), false, &[]),
        (when("\"[1, 2, 3].exists(n, n == conn.client_port)\""), false, &[]),
        (when("\"hash.sha256(conn.client_ip).startsWith('00')\""), false, &[]),
        (format!("on_tcp_connect: [{{ expressions: [conn.client_port == 1], actions: [{{ type: deny }}] }}, {{ actions: [{FORWARD}] }}]"), true, &[]),
        (format!("on_tcp_connect: [{{ expressions: [conn.client_port == 1], actions: [{FORWARD}] }}, {{ expressions: [conn.client_port == 2], actions: [{FORWARD}] }}, {{ actions: [{{ type: deny }}] }}]"), true, &[]),
        ("on_tcp_connect: [{ actions: [{ type: deny }] }, { expressions: [conn.client_port == 1], actions: [{ type: deny }] }]".into(), true, &["on_tcp_connect[1]"]),
    ]);
}

#[test]
fn requests() {
    let on = |rules: &str| format!("on_http_request: [{rules}]");
    accepted(&[
        (
            http("custom-response", "{ status_code: 200 }"),
            true,
            &["on_http_request[0]"],
        ),
        (
            http(
                "custom-response",
                "{ status_code: 503, headers: { retry-after: 60, X-A: '${conn.client_ip}' }, body: 'back soon' }",
            ),
            true,
            &["on_http_request[0]"],
        ),
        (
            http(
                "custom-response",
                "{ status_code: 200, body: 'you asked for ${req.path}' }",
            ),
            false,
            &["on_http_request[0]"],
        ),
        (http("custom-response", "{ text: hi }"), true, &[]),
        (
            on(&format!(
                "{{ expressions: [\"req.path.startsWith('/api')\"], actions: [{FORWARD}] }}, {{ actions: [{{ type: deny }}] }}"
            )),
            true,
            &["on_http_request[0]"],
        ),
        (
            on(&format!(
                "{{ expressions: [\"req.method == 'GET'\"], actions: [{{ type: deny }}] }}, {{ expressions: [\"req.host == 'a'\"], actions: [{{ type: deny }}] }}, {{ actions: [{FORWARD}] }}"
            )),
            true,
            &["on_http_request[0]"],
        ),
        (
            on(&format!(
                "{{ actions: [{FORWARD}] }}, {{ actions: [{{ type: custom-response, config: {{ status_code: 200 }} }}] }}"
            )),
            true,
            &["on_http_request[1]"],
        ),
    ]);
}

#[test]
fn forwards() {
    let targets = |list: &str| config("forward-internal", &format!("{{ targets: {list} }}"));
    accepted(&[
        (targets("[{ url: 'tcp://a.internal:1' }]"), true, &[]),
        (
            targets("[{ url: 'tcp://a.internal:1', weight: 0 }, { url: 'tcp://b.internal:1' }]"),
            true,
            &[],
        ),
        (
            targets(
                "[{ url: 'tcp://a.internal:1', weight: 1000000 }, { reject: true, weight: 1 }]",
            ),
            true,
            &[],
        ),
        (targets("[{ reject: true }]"), true, &[]),
        (
            targets("[{ url: 'tcp://${conn.server_region}.internal:1', reject: false }]"),
            true,
            &[],
        ),
        (
            config(
                "forward-internal",
                "{ strategy: least-connections, targets: [{ url: 'tcp://a.internal:1' }] }",
            ),
            true,
            &[],
        ),
        (
            config(
                "forward-internal",
                "{ strategy: random-two, on_error: continue, targets: [{ url: 'tcp://a.internal:1' }] }",
            ),
            false,
            &[],
        ),
        (
            config(
                "forward-internal",
                "{ strategy: hash-client-ip, on_error: halt, targets: [{ url: 'tcp://a.internal:1' }] }",
            ),
            true,
            &[],
        ),
        (
            config(
                "forward-internal",
                "{ url: 'tcp://${endpoint.id}.internal:5432' }",
            ),
            true,
            &[],
        ),
        (
            config(
                "forward-internal",
                "{ url: 'tcp://A.Internal:5432', on_error: null }",
            ),
            true,
            &[],
        ),
    ]);
}

#[test]
fn actions() {
    let nobody = "on_tcp_connect[0].actions[0].config";
    accepted(&[
        (
            config(
                "restrict-ips",
                "{ allow: [10.0.0.0/8], deny: [10.9.0.0/16] }",
            ),
            false,
            &[],
        ),
        (config("restrict-ips", "{ allow: [] }"), false, &[nobody]),
        (
            config("restrict-ips", "{ deny: [10.0.0.0/8] }"),
            false,
            &[nobody],
        ),
        (
            config(
                "restrict-ips",
                "{ deny: [10.0.0.0/8], ip_policies: [ipp_30tNcWkLmgyIO1zPS4aDMAbFzYU] }",
            ),
            false,
            &[],
        ),
        (
            config(
                "restrict-ips",
                "{ ip_policies: null, allow: ['${conn.client_ip}/32'] }",
            ),
            false,
            &[],
        ),
        (config("deny", "{ mode: reset }"), true, &[]),
        (config("deny", "{ mode: tarpit, hold: 20s }"), true, &[]),
        (
            config(
                "custom-response",
                "{ text: \"-ERR closed for today\\r\\n\" }",
            ),
            true,
            &[],
        ),
        (config("custom-response", "{ text: '' }"), true, &[]),
        (config("custom-response", "{ bytes_base64: '' }"), true, &[]),
        (config("log", "{ metadata: {} }"), false, &[]),
        (
            config(
                "log",
                "{ metadata: { a: 1, b: [true, null], c: { d: '${conn.client_ip}' } } }",
            ),
            false,
            &[],
        ),
        (
            config("set-vars", "{ vars: [{ a: 1 }, { b-c_d: [x] }] }"),
            false,
            &[],
        ),
        (
            config("rate-limit", "{ capacity: 10, interval: 1m }"),
            false,
            &[],
        ),
        (
            config(
                "rate-limit",
                "{ name: logins, capacity: 10, interval: 500ms, key: 'conn.client_ip', enforce: false }",
            ),
            false,
            &[],
        ),
        (config("limit-connections", "{ max: 100 }"), false, &[]),
        (
            config("limit-connections", "{ max: 1, key: \"'all'\" }"),
            false,
            &[],
        ),
        (config("set-limits", "{ idle_timeout: 0 }"), false, &[]),
        (
            config("set-limits", "{ idle_timeout: 10m, connect_timeout: 5s }"),
            false,
            &[],
        ),
        (
            config("set-limits", "{ connect_timeout: 1h, max_lifetime: null }"),
            false,
            &[],
        ),
        (rule("{ type: sniff }"), false, &[]),
        (config("sniff", "{ timeout: 2s }"), false, &[]),
        (
            rule(
                "{ type: sniff }, { type: log, config: { metadata: { protocol: '${conn.protocol}' } } }, { type: deny }",
            ),
            true,
            &[],
        ),
    ]);
}

#[test]
fn what_is_read_before_it_is_known_is_told() {
    let set = "{ actions: [{ type: set-vars, config: { vars: [{ office: 1 }] } }] }";
    let read = |name: &str| {
        format!("{{ expressions: ['vars.{name} == 1'], actions: [{{ type: deny }}] }}")
    };
    let on = |rules: &[&str]| format!("on_tcp_connect: [{}]", rules.join(", "));
    accepted(&[
        (on(&[set, &read("office")]), false, &[]),
        (on(&[&read("office"), set]), false, &["on_tcp_connect[0]"]),
        (on(&[set, &read("ofice")]), false, &["on_tcp_connect[1]"]),
        (
            when("\"conn.protocol == 'ssh'\""),
            false,
            &["on_tcp_connect[0]"],
        ),
        (
            when("\"conn.sni == 'a'\", \"conn.http.host == 'a'\""),
            false,
            &["on_tcp_connect[0]"],
        ),
        (
            on(&[
                "{ actions: [{ type: sniff }] }",
                "{ expressions: [\"conn.minecraft.host == 'a'\"], actions: [{ type: deny }] }",
            ]),
            false,
            &[],
        ),
        (
            "on_tcp_connect: [{ expressions: [\"conn.protocol == 'ssh'\"], actions: [{ type: sniff }] }]".into(),
            false,
            &["on_tcp_connect[0]"],
        ),
        (
            config("log", "{ metadata: { a: '${vars.x}', b: '${vars.y}', c: '${vars.x}' } }"),
            false,
            &["on_tcp_connect[0]", "on_tcp_connect[0]"],
        ),
    ]);
    let policy = Policy::compile(&on(&[set, &read("ofice")]), EndpointType::Agent).expect("valid");
    assert!(
        policy.notices()[0]
            .message
            .contains("did you mean `vars.office`?")
    );
}
