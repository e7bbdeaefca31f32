//! Filters of API lists.

use super::*;

const FIELDS: &[&str] = &[
    "id",
    "created_at",
    "metadata",
    "type",
    "principal.id",
    "bindings",
    "url",
];

/// 2026-01-10T00:00:00Z
const NOW: i64 = 1_768_003_200;

fn object() -> Value {
    json!({
        "id": "ep_1", "created_at": "2026-01-05T12:00:00Z", "metadata": "", "type": "cloud",
        "principal": {"id": "usr_1", "uri": null}, "bindings": ["public"], "url": null, "n": 3,
    })
}

fn matches(text: &str) -> bool {
    let filter = Filter::parse(text, FIELDS).unwrap_or_else(|error| panic!("{text}: {error}"));
    filter.matches(&object(), NOW)
}

#[test]
fn filters_choose() {
    for text in [
        "id == 'ep_1'",
        "obj.id == 'ep_1'",
        "obj.id == \"ep_1\" && obj.type != 'agent'",
        "!(type == 'agent') || false",
        "type in ['cloud', 'agent']",
        "'public' in obj.bindings",
        "size(obj.bindings) == 1",
        "bindings.size() > 0",
        "metadata == ''",
        "url == null",
        "obj.url == null",
        "obj.principal.id == 'usr_1'",
        "principal.id == 'usr_1'",
        "has(obj.id) && !has(obj.url)",
        "created_at < timestamp('2026-01-06T00:00:00Z')",
        "timestamp('2026-01-06T00:00:00Z') > created_at",
        "timestamp(created_at) >= timestamp('2026-01-05T12:00:00Z')",
        "created_at == timestamp('2026-01-05T13:00:00+01:00')",
        "created_at > '2026-01-01'",
        "created_at > timestamp(time.now).subtract('7d')",
        "created_at < time.now.subtract('4d')",
        "created_at < timestamp(time.now).subtract(duration('24h'))",
        "created_at.startsWith('2026-01')",
        "id.contains('_') && id.endsWith('1')",
        "obj.id > 'ep_0'",
        "true",
    ] {
        assert!(matches(text), "{text}");
    }
    for text in [
        "id == 'ep_2'",
        "created_at > timestamp(time.now).subtract('1d')",
        "created_at > timestamp('2026-01-06T00:00:00Z')",
        "id == 1",
        "false",
    ] {
        assert!(!matches(text), "{text}");
    }
}

#[test]
fn what_cannot_be_evaluated_does_not_match() {
    for text in [
        "id < 3",
        "url < timestamp('2026-01-06T00:00:00Z')",
        "timestamp(id) < time.now",
        "url.contains('a')",
        "size(url) == 0",
        "id",
        "'a' in url",
    ] {
        assert!(!matches(text), "{text}");
    }
    let filter = Filter::parse("id == null", FIELDS).expect("a filter");
    assert!(filter.matches(&json!({}), NOW));
    assert!(filter.matches(&json!("no object"), NOW));
}

#[test]
fn filters_that_cannot_be_used_say_why() {
    let long = format!("id == '{}'", "a".repeat(limits::FILTER_BYTES_MAX));
    for (text, wanted) in [
        ("", "the expression is empty"),
        ("id ==", "character"),
        (
            "idd == 'x'",
            "character 1: `idd` is no variable; did you mean `id`?",
        ),
        ("obj.metadta == ''", "did you mean `metadata`?"),
        ("conn.client_ip == ''", "`conn.client_ip` is no variable"),
        ("ev.id == ''", "`ev.id` is no variable"),
        ("bindings[0] == 'public'", "not possible in a filter"),
        ("obj['id'] == 'x'", "indexing is not possible in a filter"),
        ("1 + 1 == 2", "not possible in a filter"),
        ("-size(id) == 2", "not possible in a filter"),
        ("true ? true : false", "not possible in a filter"),
        ("type(id) == string", "not possible in a filter"),
        ("id.matches('a')", "`matches` is not possible in a filter"),
        (
            "bindings.exists(b, b == 'x')",
            "macros are not possible in a filter",
        ),
        ("{'a': 1} == obj", "maps are not possible in a filter"),
        (
            "secrets.get('a', 'b') == 'c'",
            "`secrets.get` is not possible in a filter",
        ),
        (
            "rand.double() < 0.5",
            "`rand.double` is not possible in a filter",
        ),
        ("nonsense(id)", "`nonsense` is no function"),
        (long.as_str(), "at most 1024 are possible"),
    ] {
        let error = Filter::parse(text, FIELDS).expect_err(text);
        assert_eq!(error.code, Code::ApiFilterInvalid);
        assert!(error.to_string().contains(wanted), "{text}: {error}");
    }
}
