//! Expressions that can never be true or false, comparisons that can never be, and networks that are none.

use super::*;

fn quoted(expression: &str) -> String {
    when(&format!("\"{expression}\""))
}

#[test]
fn a_condition_that_is_never_true_or_false_is_refused() {
    let place = "on_tcp_connect[0].expressions[0]: ";
    for (expression, what) in [
        ("1", "always a number; compare it with something"),
        ("'x'", "always text; compare it with something"),
        ("'true'", "always text; write it without quotes"),
        ("null", "always null"),
        ("[true]", "always a list"),
        ("{'a': true}", "always a map"),
        ("1 + 1", "always a number"),
        ("-conn.client_port", "always a number"),
        ("vars.a * 2", "always a number"),
        ("vars.a + vars.b", "this never is"),
        ("vars.a - 1", "always a number"),
        ("time.now - conn.ts.start", "this never is"),
        ("conn.client_ip + vars.x", "always text"),
        ("conn.client_port", "write such as `conn.client_port == 1`"),
        ("conn.client_ip", "write such as `conn.client_ip == '…'`"),
        (
            "conn.client_ip.categories",
            "write such as `'…' in conn.client_ip.categories`",
        ),
        ("conn.ts.start", "always a time"),
        ("conn.tls", "always a map"),
        ("conn.alpn[0]", "always text"),
        ("size(conn.client_ip)", "always a number"),
        ("conn.client_ip.size()", "always a number"),
        ("conn.sni.lower()", "always text"),
        ("conn.sni.split('.')", "always a list"),
        ("conn.alpn.join(',')", "always text"),
        ("conn.alpn.filter(a, a == 'h2')", "always a list"),
        ("conn.alpn.map(a, a == 'h2')", "always a list"),
        ("conn.alpn.sortBy(a, a.size())", "always a list"),
        ("hash.sha256(conn.client_ip)", "always text"),
        ("rand.int(1, 2)", "always a number"),
        ("duration('1h')", "always a duration"),
        ("url.parse(endpoint.url)", "always a map"),
        ("secrets.get('main', 'token')", "always text"),
        ("conn.client_port == 1 ? 'a' : 'b'", "always text"),
        ("conn.client_port == 1 ? 'a' : 2", "this never is"),
        ("!conn.client_port", "character 6: a rule's expression"),
        (
            "conn.client_port == 1 && conn.client_ip",
            "character 30: a rule's expression is true or false, and this is always text",
        ),
        ("'a' || conn.client_port == 1", "always text"),
    ] {
        let error = fault(&quoted(expression));
        assert_eq!(error.code, Code::PolicyExpressions, "{expression}: {error}");
        for part in [place, what] {
            assert!(
                error.message.contains(part),
                "{expression}\n{error}\nlacks {part}"
            );
        }
    }
    for (expression, part) in [("req.headers", "a map"), ("req.headers['a']", "a list")] {
        let error = fault(&format!(
            "on_http_request: [{{ expressions: [\"{expression}\"], actions: [{{ type: deny }}] }}]"
        ));
        assert!(error.message.contains(part), "{expression}: {error}");
    }
}

#[test]
fn what_may_be_true_or_false_is_accepted() {
    for expression in [
        "true",
        "vars.a",
        "!vars.a",
        "vars.a && actions.ngrok.restrict_ips.ok",
        "actions.ngrok.rate_limit.limited",
        "conn.client_ip.is_tor_node",
        "has(conn.sni)",
        "vars.a[0]",
        "vars.a ? vars.b : 1",
        "vars.a ? false : vars.b",
        "json.decode('true')",
        "dyn(conn.client_port)",
        "bool('true')",
        "conn.sni.isURL()",
        "conn.alpn.exists_one(a, a == 'h2')",
        "[1].all(x, x > 0)",
        "[true][0]",
        "{'a': true}['a']",
        "{'a': true}.a",
        "conn.tls.client.extensions[0].critical",
        "type(conn.sni) == string",
    ] {
        if let Err(error) = Policy::compile(&quoted(expression), EndpointType::Agent) {
            panic!("{expression}: {error}");
        }
    }
    // A key and an inserted text may be anything.
    for text in [
        config(
            "rate-limit",
            "{ capacity: 1, interval: 1s, key: \"1 + 1\" }",
        ),
        config(
            "log",
            "{ metadata: { a: '${1 + 1}', b: '${conn.client_port}' } }",
        ),
    ] {
        Policy::compile(&text, EndpointType::Agent).expect("a policy");
    }
}

#[test]
fn a_comparison_that_can_never_be_is_refused() {
    for (expression, part) in [
        (
            "conn.client_port > '22'",
            "character 18: `conn.client_port` is a number, and `'22'` is text; write `22` without quotes",
        ),
        ("conn.client_port == '22'", "write `22` without quotes"),
        ("'22' == conn.client_port", "write `22` without quotes"),
        ("'22' != conn.client_port", "write `22` without quotes"),
        ("conn.client_port == 'ssh'", "compare it with a number"),
        (
            "conn.client_ip == 1",
            "`conn.client_ip` is text, and `1` is a number; write `'1'`",
        ),
        (
            "conn.geo.latitude > 50.5",
            "write `double(conn.geo.latitude)`",
        ),
        ("conn.sni == null", "where it is unknown it is `''`"),
        (
            "conn.client_ip.is_tor_node == 'true'",
            "write `conn.client_ip.is_tor_node` or `!conn",
        ),
        (
            "conn.alpn == 'h2'",
            "`conn.alpn` is a list, and `'h2'` is text; write `'h2' in conn.alpn`",
        ),
        (
            "time.now > '2026-01-01T00:00:00Z'",
            "write `timestamp('2026-01-01T00:00:00Z')`",
        ),
        (
            "conn.client_port in [22, '80']",
            "`'80'` is text; write `80` without quotes",
        ),
        (
            "conn.sni in ['a', 5]",
            "`conn.sni` is text, and `5` is a number; write `'5'`",
        ),
        ("conn.sni == ['a']", "what it is compared with is a list"),
        (
            "5 in conn.alpn",
            "`conn.alpn` holds texts, and `5` is a number",
        ),
        ("'a' in conn.sni", "write `conn.sni.contains(…)`"),
        (
            "'a' in conn.client_port",
            "`in` looks into a list, and `conn.client_port` is a number",
        ),
        ("has(conn.sni) == 1", "`has(conn.sni)` is true or false"),
        (
            "vars.a || (true && conn.client_port == '22')",
            "character 37: ",
        ),
        (
            "conn.alpn.exists(a, conn.client_port == '22')",
            "without quotes",
        ),
    ] {
        let error = fault(&quoted(expression));
        assert_eq!(error.code, Code::PolicyExpressions, "{expression}: {error}");
        let place = "on_tcp_connect[0].expressions[0]: ";
        for part in [place, part] {
            assert!(
                error.message.contains(part),
                "{expression}\n{error}\nlacks {part}"
            );
        }
    }
    refused(&[
        (
            config("log", "{ metadata: { a: \"${conn.client_port == '22'}\" } }"),
            Code::PolicyExpressions,
            "config.metadata.a: ",
        ),
        (
            "on_http_request: [{ expressions: [\"req.headers['host'] == 'a'\"], actions: [{ type: deny }] }]".into(),
            Code::PolicyExpressions,
            "write `'a' in req.headers['host']`",
        ),
    ]);
    for expression in [
        "conn.client_port == 22.0",
        "conn.client_port == vars.port",
        "conn.client_port in [22, vars.port]",
        "vars.port == '22'",
        "string(conn.client_port) == '22'",
        "dyn(conn.client_port) == '22'",
        "conn.alpn == ['h2']",
        "'a' in conn.alpn",
        "'a' in vars.list",
        "5 in vars.list",
        "[1].exists(x, x == '22')",
        "conn.client_ip.is_tor_node == true",
    ] {
        if let Err(error) = Policy::compile(&quoted(expression), EndpointType::Agent) {
            panic!("{expression}: {error}");
        }
    }
}

#[test]
fn a_network_that_is_none_is_noticed() {
    let notices = |text: &str| -> Vec<String> {
        let policy = Policy::compile(text, EndpointType::Agent).expect("a policy");
        let notices = policy.notices().iter();
        notices
            .map(|notice| format!("{}: {}", notice.path, notice.message))
            .collect()
    };
    for (expression, texts) in [
        ("inCidrRange(conn.client_ip, 'junk')", &["junk"][..]),
        (
            "inCidrRanges(conn.client_ip, ['10.0.0.0/8', '10.0.0.0/99', 'x'])",
            &["10.0.0.0/99", "x"],
        ),
        (
            "inCidrRange(conn.client_ip, 'a') || inCidrRange(conn.server_ip, 'a')",
            &["a"],
        ),
        ("inCidrRange(conn.client_ip, '10.1.2.3/8')", &[]),
        ("inCidrRange(conn.client_ip, '10.1.2.3')", &[]),
        ("inCidrRange(conn.client_ip, '2001:db8::/32')", &[]),
    ] {
        let told = notices(&quoted(expression));
        assert_eq!(told.len(), texts.len(), "{expression}: {told:?}");
        for (told, text) in told.iter().zip(texts) {
            let start = format!("on_tcp_connect[0]: `{text}` is no network");
            assert!(told.starts_with(&start), "{told}");
        }
    }
    let text = config(
        "log",
        "{ metadata: { a: \"${inCidrRange(conn.client_ip, 'junk')}\" } }",
    );
    assert_eq!(notices(&text).len(), 1);
}
