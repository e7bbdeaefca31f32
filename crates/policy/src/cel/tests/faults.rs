//! What cannot be compiled, with its place and what was meant.

use proptest::prelude::*;

use super::*;

fn fault(text: &str) -> Fault {
    match Expr::compile(text) {
        Err(fault) => fault,
        Ok(_) => panic!("{text} is an expression"),
    }
}

#[test]
fn faults_name_the_place_and_what_was_meant() {
    for (text, wanted) in [
        ("", "the expression is empty"),
        ("  ", "the expression is empty"),
        ("1 +", "character 4: something is missing at the end"),
        ("(1 == 1", "character 8: "),
        (
            "conn.sni = 'a'",
            "character 10: `=` means nothing here; write `==`",
        ),
        (
            "true and false",
            "character 6: `and` is not expected here; write `&&`",
        ),
        (
            "conn.sni == 'a",
            "character 13: the text that begins here is not closed",
        ),
        ("conn.", "character 6: a name is missing behind `.`"),
        ("x ? y", "character 6: something is missing at the end"),
        (r"'\q'", "has a `\\` that means nothing"),
        (")", "character 1: `)` is not expected here"),
        ("1 == 1 &&\n 2 ==", "line 2, character 6"),
        ("conn.client_ipp == ''", "did you mean `conn.client_ip`?"),
        (
            "true && conn.client_ipp == ''",
            "character 13: `conn.client_ipp`",
        ),
        (
            "conn.geo.contry_code",
            "did you mean `conn.geo.country_code`?",
        ),
        (
            "conn.client_ip.geo.location.town",
            "`conn.client_ip.geo.location.town` is no variable",
        ),
        ("conn.sni.x", "`conn.sni.x` is no variable"),
        ("endpoint.hots", "did you mean `endpoint.host`?"),
        ("req.header['x']", "`req.header.x` is no variable"),
        ("res.status_code", "`res.status_code` is no variable"),
        ("vras.x", "`vras.x` is no variable"),
        ("actions.other.x", "`actions.other.x` is no variable"),
        ("has(conn.gео)", "character"),
        ("nonsense", "`nonsense` is no variable"),
        ("[1].all(x, y > 0)", "`y` is no variable"),
        ("'a'.lowr()", "did you mean `lower`?"),
        ("lower('a')", "it is called on a value, as in x.lower(…)"),
        ("'a'.inCidrRange('b')", "it is called as inCidrRange(…)"),
        (
            "hash.sha2('a')",
            "`hash.sha2` is no function; did you mean `hash.sha1`?",
        ),
        ("getReqHeader('a')", "`getReqHeader` is no function"),
        ("'a'.lower(1)", "`lower` takes 0 arguments, not 1"),
        ("'a'.indexOf()", "`indexOf` takes 1 or 2 arguments, not 0"),
        ("'a'.matches('(')", "no regular expression: unclosed group"),
        ("secrets.get('a', vars.b)", "two texts that are written out"),
        ("secrets.get('a')", "`secrets.get` takes 2 arguments, not 1"),
        ("Message{a: 1}", "messages cannot be made here"),
        ("{'a': 1}.?a", "character"),
        ("[1].all(1, true)", "character"),
    ] {
        let fault = fault(text);
        assert_eq!(fault.code, Code::PolicyExpressions, "{text}");
        assert!(fault.message.contains(wanted), "{text}: {}", fault.message);
    }
}

#[test]
fn faults_are_one_short_line() {
    for text in [
        "1 +", "'", "a b c", "\u{0}", "((((", "1 ==== 2", "x ? y", "a.", "[1", "{1:", "f(", "1 2",
        "|", "&", "a &", "1 == ", "‘a’", "has(", "-", "!", "a ? : b", "{", "b'", "a.1",
    ] {
        let message = fault(text).message;
        assert!(
            !message.contains('\n') && message.len() < 400,
            "{text}: {message}"
        );
        for theirs in ["IDENTIFIER", "<EOF>", "NUM_INT", "expecting"] {
            assert!(!message.contains(theirs), "{text}: {message}");
        }
    }
}

/// Texts that look like expressions, more often than chance would have it.
fn nearly() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "conn.client_ip",
        "vars.x",
        "has(",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "'a'",
        "\"",
        "'",
        "1",
        "2.5",
        "+",
        "-",
        "==",
        "&&",
        "||",
        "!",
        "?",
        ":",
        ".",
        ",",
        "all(x, ",
        "map(x, ",
        "x",
        "size(",
        "in",
        ".matches(",
        "rand.int(",
        "secrets.get('a','b')",
        "b'",
        "r'",
        "\\",
        "`",
        " ",
        "\n",
        "ü",
        "true",
        "null",
        "-9223372036854775808",
        "1e400",
        "'a'.replace('','b')",
        "timestamp(",
        "duration(",
        "sortBy(x, x)",
        "json.decode(",
        "lists.range(9)",
        ".x",
        "@s0",
        "${",
        "0x",
        "u",
        "//",
    ]);
    prop::collection::vec(pieces, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn no_text_panics(text in prop_oneof![nearly(), ".{0,80}"]) {
        let case = Case::full();
        if let Ok(expr) = Expr::compile(&text) {
            let value = case.with(|scope| expr.eval(scope));
            prop_assert_eq!(case.with(|scope| expr.eval(scope)), value);
        }
        if let Ok(template) = Template::compile(&text) {
            let _value = case.with(|scope| template.eval(scope));
        }
        if let Ok(filter) = Filter::parse(&text, &["x", "vars"]) {
            filter.matches(&json!({"x": 1}), 0);
        }
    }

    #[test]
    fn no_text_panics_within_a_template(text in nearly()) {
        let case = Case::full();
        if let Ok(template) = Template::compile(&format!("a ${{{text}}} b")) {
            let _value = case.with(|scope| template.eval_text(scope));
        }
    }
}
