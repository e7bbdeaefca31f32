//! Configs of actions that are refused: answers, variables, limits.

use super::*;

#[test]
fn refusals_and_answers() {
    use Code::{PolicyConfig, PolicyTooLarge};
    let long = "x".repeat(65_537);
    refused(&[
        (
            config("deny", "5"),
            PolicyConfig,
            "the config of deny is a map",
        ),
        (
            config("deny", "{ mode: drop }"),
            PolicyConfig,
            "config.mode: `close`, `reset` or `tarpit` is expected, and this is the text `drop`",
        ),
        (
            config("deny", "{ mode: reset, hold: 5s }"),
            PolicyConfig,
            "config.hold: `hold` is for `mode: tarpit` only",
        ),
        (
            config("deny", "{ hold: 5s }"),
            PolicyConfig,
            "config.hold: `hold` is for",
        ),
        (
            config("deny", "{ mode: tarpit, hold: 5 }"),
            PolicyConfig,
            "config.hold: a duration such as `90s`",
        ),
        (
            config("deny", "{ mode: tarpit, hold: 11m }"),
            PolicyConfig,
            "config.hold: the text `11m` is out of bounds",
        ),
        (
            config("deny", "{ mode: tarpit, hold: 0 }"),
            PolicyConfig,
            "out of bounds",
        ),
        (
            config("deny", "{ mod: reset }"),
            PolicyConfig,
            "did you mean `mode`?",
        ),
        (
            http("deny", "{ status_code: 403 }"),
            PolicyConfig,
            "use custom-response with `status_code`",
        ),
        (
            rule("{ type: custom-response }"),
            PolicyConfig,
            "custom-response needs a config with `text`",
        ),
        (
            config("custom-response", "{}"),
            PolicyConfig,
            "custom-response needs `text` or `bytes_base64`",
        ),
        (
            config("custom-response", "{ text: a, bytes_base64: YQ== }"),
            PolicyConfig,
            "they do not go together",
        ),
        (
            http("custom-response", "{ text: a, status_code: 200 }"),
            PolicyConfig,
            "they do not go together",
        ),
        (
            config("custom-response", "{ text: 5 }"),
            PolicyConfig,
            "config.text: the text to write is expected, and this is the number 5",
        ),
        (
            config("custom-response", &format!("{{ text: {long} }}")),
            PolicyTooLarge,
            "config.text: this is 65537 bytes long; at most 65536",
        ),
        (
            config("custom-response", "{ bytes_base64: '***' }"),
            PolicyConfig,
            "config.bytes_base64: `***` is not base64",
        ),
        (
            config("custom-response", "{ status_code: 200 }"),
            PolicyConfig,
            "move the rule under `on_http_request`",
        ),
        (
            http("custom-response", "{ body: hello }"),
            PolicyConfig,
            "config.status_code: a whole number from 200 to 599 is needed",
        ),
        (
            http("custom-response", "{ status_code: 100 }"),
            PolicyConfig,
            "config.status_code: a whole number from 200 to 599 is expected, and this is the number 100",
        ),
        (
            http("custom-response", "{ status_code: '200' }"),
            PolicyConfig,
            "this is the text `200`",
        ),
        (
            http("custom-response", "{ status_code: 200, body: { a: b } }"),
            PolicyConfig,
            "config.body: the text of the body is expected, and this is a map",
        ),
        (
            http("custom-response", "{ status_code: 200, headers: [a] }"),
            PolicyConfig,
            "config.headers: a map of headers is expected",
        ),
        (
            http(
                "custom-response",
                "{ status_code: 200, headers: { 'a b': c } }",
            ),
            PolicyConfig,
            "config.headers: `a b` is no name of a header",
        ),
        (
            http(
                "custom-response",
                "{ status_code: 200, headers: { Content-Length: 5 } }",
            ),
            PolicyConfig,
            "config.headers: `Content-Length` is written by the server",
        ),
        (
            http(
                "custom-response",
                "{ status_code: 200, headers: { a: \"b\\r\\nc: d\" } }",
            ),
            PolicyConfig,
            "config.headers: the value of `a` has a line break",
        ),
        (
            http(
                "custom-response",
                "{ status_code: 200, headers: { a: [b] } }",
            ),
            PolicyConfig,
            "config.headers.a: text is expected, and this is a list",
        ),
        (
            http("custom-response", "{ status_cod: 200, text: a }"),
            PolicyConfig,
            "no key `status_cod`; did you mean `status_code`?",
        ),
        (
            rule("{ type: custom-response, config: { text: bye } }, { type: deny }"),
            Code::PolicyUnreachable,
            "actions[1]: the action is never reached",
        ),
    ]);
}

#[test]
fn variables_and_logs() {
    use Code::{PolicyConfig, PolicyTooLarge};
    let many: Vec<String> = (0..65).map(|n| format!("{{ v{n}: 1 }}")).collect();
    refused(&[
        (
            rule("{ type: set-vars }"),
            PolicyConfig,
            "set-vars needs a config with `vars`",
        ),
        (
            config("set-vars", "{}"),
            PolicyConfig,
            "config.vars: a list of variables is needed",
        ),
        (
            config("set-vars", "{ vars: [] }"),
            PolicyConfig,
            "config.vars: there are no variables",
        ),
        (
            config("set-vars", "{ vars: { a: 1 } }"),
            PolicyConfig,
            "config.vars: a list of variables is expected, and this is a map; put `- ` in front",
        ),
        (
            config("set-vars", "{ vars: [5] }"),
            PolicyConfig,
            "config.vars[0]: a map of one name and its value is expected, and this is the number 5",
        ),
        (
            config("set-vars", "{ vars: [{}] }"),
            PolicyConfig,
            "config.vars[0]: a map of exactly one name",
        ),
        (
            config("set-vars", "{ vars: [{ a: 1 }, { b: 1, c: 2 }] }"),
            PolicyConfig,
            "config.vars[1]: a map of exactly one name",
        ),
        (
            config("set-vars", "{ vars: [{ 'a b': 1 }] }"),
            PolicyConfig,
            "config.vars[0]: `a b` is no name",
        ),
        (
            config("set-vars", &format!("{{ vars: [{}] }}", many.join(","))),
            PolicyTooLarge,
            "there are 65 variables; at most 64",
        ),
        (
            config("set-vars", "{ var: [{ a: 1 }] }"),
            PolicyConfig,
            "did you mean `vars`?",
        ),
        (
            rule("{ type: log }"),
            PolicyConfig,
            "log needs a config with `metadata`",
        ),
        (
            config("log", "{}"),
            PolicyConfig,
            "config.metadata: a map of what to note is needed",
        ),
        (
            config("log", "{ metadata: [a] }"),
            PolicyConfig,
            "config.metadata: a map of what to note is expected, and this is a list",
        ),
        (config("log", "{ meta: {} }"), PolicyConfig, "no key `meta`"),
    ]);
}

#[test]
fn limits() {
    use Code::PolicyConfig;
    let rate = |config_text: &str| config("rate-limit", config_text);
    refused(&[
        (
            rule("{ type: rate-limit }"),
            PolicyConfig,
            "rate-limit needs a config with `capacity` and `interval`",
        ),
        (
            rate("{ interval: 1m }"),
            PolicyConfig,
            "config.capacity: a whole number from 1 to 1000000 is needed",
        ),
        (
            rate("{ capacity: 0, interval: 1m }"),
            PolicyConfig,
            "config.capacity: ",
        ),
        (
            rate("{ capacity: 1 }"),
            PolicyConfig,
            "config.interval: a duration such as `90s`, `5m` or `1h30m` is needed",
        ),
        (
            rate("{ capacity: 1, interval: 60 }"),
            PolicyConfig,
            "config.interval: a duration such as",
        ),
        (
            rate("{ capacity: 1, interval: 2d }"),
            PolicyConfig,
            "config.interval: the text `2d` is out of bounds",
        ),
        (
            rate("{ capacity: 1, rate: 60s }"),
            PolicyConfig,
            "config.rate: limits of connections have `interval` in its place",
        ),
        (
            rate("{ capacity: 1, interval: 1m, bucket_key: [x] }"),
            PolicyConfig,
            "config.bucket_key: limits of connections have `key`",
        ),
        (
            rate("{ capacity: 1, interval: 1m, name: 'a b' }"),
            PolicyConfig,
            "config.name: `a b` is no name",
        ),
        (
            rate("{ capacity: 1, interval: 1m, key: 5 }"),
            PolicyConfig,
            "config.key: an expression in quotes is expected",
        ),
        (
            rate("{ capacity: 1, interval: 1m, enforce: 1 }"),
            PolicyConfig,
            "config.enforce: `true` or `false`",
        ),
        (
            rate("{ capacity: 1, interval: 1m, algorithm: x }"),
            PolicyConfig,
            "no key `algorithm`",
        ),
        (
            rule(
                "{ type: rate-limit, config: { name: a, capacity: 1, interval: 1m } }, { type: rate-limit, config: { name: a, capacity: 1, interval: 1m } }",
            ),
            PolicyConfig,
            "actions[1].config.name: the name `a` stands twice",
        ),
        (
            rule("{ type: limit-connections }"),
            PolicyConfig,
            "limit-connections needs a config with `max`",
        ),
        (
            config("limit-connections", "{ max: 0 }"),
            PolicyConfig,
            "config.max: ",
        ),
        (
            config("limit-connections", "{ max: 1, keys: x }"),
            PolicyConfig,
            "did you mean `key`?",
        ),
        (
            rule("{ type: set-limits }"),
            PolicyConfig,
            "set-limits needs a config",
        ),
        (
            config("set-limits", "{}"),
            PolicyConfig,
            "set-limits needs `idle_timeout`, `connect_timeout` or `max_lifetime`",
        ),
        (
            config("set-limits", "{ idle_timeout: 1m, max_lifetime: 31d }"),
            PolicyConfig,
            "config.max_lifetime: the text `31d` is out of bounds",
        ),
        (
            config("set-limits", "{ connect_timeout: 0 }"),
            PolicyConfig,
            "config.connect_timeout: the number 0 is out of bounds",
        ),
        (
            config("set-limits", "{ idle_timeout: 31d }"),
            PolicyConfig,
            "config.idle_timeout: ",
        ),
        (
            config("sniff", "{ timeout: 1m }"),
            PolicyConfig,
            "config.timeout: the text `1m` is out of bounds",
        ),
        (
            config("sniff", "{ timeout: soon }"),
            PolicyConfig,
            "config.timeout: a duration",
        ),
        (
            config("sniff", "{ protocols: [tls] }"),
            PolicyConfig,
            "no key `protocols`",
        ),
        (
            rule("{ type: snif }"),
            Code::PolicyAction,
            "did you mean `sniff`?",
        ),
        (
            rule("{ type: terminate-tsl }"),
            Code::PolicyAction,
            "did you mean `terminate-tls`?",
        ),
        (
            rule("{ type: set_vars }"),
            Code::PolicyAction,
            "did you mean `set-vars`?",
        ),
    ]);
}
