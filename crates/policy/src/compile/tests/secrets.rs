//! Secrets stay out of what is written to the record.

use super::*;

/// A policy of these actions.
fn actions(actions: &[&str]) -> String {
    format!("on_tcp_connect: [{{ actions: [{}] }}]", actions.join(", "))
}

const GET: &str = "secrets.get('v', 'n')";

#[test]
fn what_is_written_reads_no_secret() {
    let log =
        |text: &str| format!("{{ type: log, config: {{ metadata: {{ k: [\"{text}\"] }} }} }}");
    let set = |name: &str, text: &str| {
        format!("{{ type: set-vars, config: {{ vars: [{{ {name}: {{ b: \"{text}\" }} }}] }} }}")
    };
    let direct = set("a", &format!("x ${{{GET}}}"));
    let key =
        format!("{{ type: rate-limit, config: {{ capacity: 1, interval: 1s, key: \"{GET}\" }} }}");
    let by_vars = "`vars.a` comes from a secret, and what stands here is written to the record";
    let by_get = "`secrets.get` reads a secret, and what stands here is written to the record; secrets may be used in expressions, set-vars, custom-response, terminate-tls and the keys of limits";
    let by_key = "`actions.ngrok.rate_limit` holds the key of a limit";
    for (document, path, wanted) in [
        (vec![log(&format!("${{{GET}}}"))], "[0].config.metadata.k[0]", by_get),
        (
            vec![log(&format!("a ${{hash.sha256({GET})}}"))],
            "[0].config.metadata.k[0]",
            by_get,
        ),
        (vec![direct.clone(), log("${vars.a.b}")], "[1].config.metadata.k[0]", by_vars),
        (vec![direct.clone(), log("${vars['a']}")], "[1].config.metadata.k[0]", by_vars),
        // Which of them stands first does not matter.
        (vec![log("${vars.a.b}"), direct.clone()], "[0].config.metadata.k[0]", by_vars),
        (
            vec![direct.clone(), log("${vars}")],
            "[1].config.metadata.k[0]",
            "`vars` holds `a`, which comes from a secret",
        ),
        (
            vec![direct.clone(), log("${vars[conn.client_ip]}")],
            "[1].config.metadata.k[0]",
            "`vars` holds `a`",
        ),
        // Over others.
        (
            vec![set("c", "${vars.z}"), set("z", "${vars.a.b}"), direct.clone(), log("${vars.c}")],
            "[3].config.metadata.k[0]",
            "`vars.c` comes from a secret",
        ),
        (
            vec![direct.clone(), set("c", "${vars}"), log("${vars.c}")],
            "[2].config.metadata.k[0]",
            "`vars.c` comes from a secret",
        ),
        (vec![key.clone(), log("${actions.ngrok}")], "[1].config.metadata.k[0]", by_key),
        (
            vec![key.clone(), log("${actions.ngrok.rate_limit}")],
            "[1].config.metadata.k[0]",
            by_key,
        ),
        (
            vec![key.clone(), log("${actions.ngrok.rate_limit.key}")],
            "[1].config.metadata.k[0]",
            by_key,
        ),
        (
            vec![key.clone(), set("c", "${actions.ngrok.rate_limit.key}"), log("${vars.c}")],
            "[2].config.metadata.k[0]",
            "`vars.c` comes from a secret",
        ),
        (
            vec![format!("{{ type: restrict-ips, config: {{ allow: [\"${{{GET}}}\"] }} }}")],
            "[0].config.allow[0]",
            by_get,
        ),
        (
            vec![
                direct.clone(),
                "{ type: restrict-ips, config: { allow: [0.0.0.0/0], deny: [\"${vars.a.b}\"] } }".to_owned(),
            ],
            "[1].config.deny[0]",
            by_vars,
        ),
        (
            vec![format!("{{ type: forward-internal, config: {{ url: \"tcp://${{{GET}}}.internal:1\" }} }}")],
            "[0].config.url",
            by_get,
        ),
        (
            vec![
                direct.clone(),
                "{ type: forward-internal, config: { targets: [{ url: tcp://a.internal:1 }, { url: \"${vars.a.b}\" }] } }".to_owned(),
            ],
            "[1].config.targets[1].url",
            by_vars,
        ),
    ] {
        let document: Vec<&str> = document.iter().map(String::as_str).collect();
        let document = actions(&document);
        let error = Policy::compile(&document, EndpointType::Agent).expect_err(&document);
        assert_eq!(error.code, Code::PolicyExpressions, "{document}: {error}");
        let path = format!("on_tcp_connect[0].actions{path}: ");
        assert!(error.message.contains(&path), "{document}: {error}");
        assert!(error.message.contains(wanted), "{document}: {error}");
    }
}

#[test]
fn secrets_are_possible_where_nothing_is_written() {
    let set = format!(
        "{{ type: set-vars, config: {{ vars: [{{ a: \"${{{GET}}}\" }}, {{ c: \"${{conn.client_ip}}\" }}] }} }}"
    );
    let rate =
        format!("{{ type: rate-limit, config: {{ capacity: 1, interval: 1s, key: \"{GET}\" }} }}");
    let held = "{ type: limit-connections, config: { max: 1, key: vars.a } }";
    let log = "{ type: log, config: { metadata: { c: \"${vars.c}\", l: \"${actions.ngrok.rate_limit.limited}\", s: \"${actions.ngrok.sniff}\" } } }";
    let answer = "{ type: custom-response, config: { text: \"${vars.a}\" } }";
    let document = actions(&[&set, &rate, held, log, answer]);
    let compiled = Policy::compile(&document, EndpointType::Agent);
    assert!(compiled.is_ok(), "{compiled:?}");
    let plain = "{ type: rate-limit, config: { capacity: 1, interval: 1s } }";
    let all = "{ type: log, config: { metadata: { c: \"${vars}\", l: \"${actions.ngrok}\" } } }";
    let document = actions(&[plain, all]);
    assert!(Policy::compile(&document, EndpointType::Agent).is_ok());
    let expression = format!(
        "on_tcp_connect: [{{ expressions: [\"{GET} == vars.a\"], actions: [{{ type: log, config: {{ metadata: {{ who: \"${{conn.client_ip}}\" }} }} }}] }}]"
    );
    assert!(Policy::compile(&expression, EndpointType::Agent).is_ok());
}
