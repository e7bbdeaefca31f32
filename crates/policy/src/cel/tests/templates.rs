//! Texts with `${…}`.

use super::*;

#[test]
fn texts_are_filled_in() {
    let case = Case::full();
    for (text, wanted) in [
        ("", json!("")),
        ("plain", json!("plain")),
        ("$ and {} and }", json!("$ and {} and }")),
        ("hello ${vars.name}!", json!("hello Ada!")),
        ("${vars.name}${vars.n}", json!("Ada3")),
        ("${vars.n}", json!(3)),
        ("${ vars.n }", json!(3)),
        ("${vars.list}", json!([1, 2, 2])),
        ("${vars.map}", json!({"a": {"b": "deep"}, "k-1": 1})),
        ("${vars.yes}", json!(true)),
        (" ${vars.n}", json!(" 3")),
        ("a ${vars.list} b", json!("a [1,2,2] b")),
        ("a${vars.missing}b", json!("ab")),
        ("${vars.missing}", json!(null)),
        ("${vars.pi} ${vars.yes}", json!("3.5 true")),
        ("${'}'}", json!("}")),
        ("${\"a}\" + '${'}", json!("a}${")),
        ("${'it\\'s }'}", json!("it's }")),
        ("x${{'a': {'b': 1}}.a.b}y", json!("x1y")),
        (
            "tcp://${conn.sni.split('.')[0]}.internal:5432",
            json!("tcp://db.internal:5432"),
        ),
        ("at ${conn.ts.start}", json!("at 2023-11-14T22:13:20.250Z")),
        ("$${vars.n}", json!("$3")),
    ] {
        let template =
            Template::compile(text).unwrap_or_else(|fault| panic!("{text}: {}", fault.message));
        assert_eq!(
            case.with(|scope| template.eval(scope)),
            Ok(wanted),
            "{text}"
        );
    }
}

#[test]
fn a_text_without_expressions_is_itself() {
    let plain = Template::compile("as it is").expect("a text");
    assert_eq!(plain.literal(), Some("as it is"));
    assert_eq!(plain.reads(), Reads::default());
    let huge = "x".repeat(1024 * 1024);
    assert_eq!(
        Template::compile(&huge).expect("a text").literal(),
        Some(huge.as_str())
    );
    let filled =
        Template::compile("a ${req.path} ${secrets.get('v', 'n')} ${vars.x}").expect("a text");
    assert_eq!(filled.literal(), None);
    let reads = filled.reads();
    assert!(reads.request && !reads.first);
    assert_eq!(reads.secrets.len(), 1);
    assert_eq!(reads.vars, ["x"]);
    let case = Case::full();
    let typed = Template::compile("${vars.n}").expect("a text");
    assert_eq!(
        case.with(|scope| typed.eval_text(scope)),
        Ok("3".to_owned())
    );
}

#[test]
fn faults_say_which_expression_of_the_text() {
    for (text, code, wanted) in [
        (
            "a ${",
            Code::PolicyExpressions,
            "the `${` at character 3 is not closed by a `}`",
        ),
        (
            "ä ${'}",
            Code::PolicyExpressions,
            "at character 3 is not closed",
        ),
        (
            "${}",
            Code::PolicyExpressions,
            "in the `${…}` at character 1: the expression is empty",
        ),
        (
            "ok ${vars.a} ${vrs.b}",
            Code::PolicyExpressions,
            "at character 14: character 4: `vrs.b`",
        ),
        (
            "${[1].map(x, [1].map(y, [1].map(z, z)))}",
            Code::PolicyCost,
            "nested 2 deep",
        ),
    ] {
        let fault = Template::compile(text).expect_err(text);
        assert_eq!(fault.code, code, "{text}");
        assert!(fault.message.contains(wanted), "{text}: {}", fault.message);
    }
    let many = "${1}".repeat(limits::TEMPLATE_PARTS_MAX * 3);
    assert_eq!(
        Template::compile(&many).expect_err("too many").code,
        Code::PolicyCost
    );
    let long = format!("${{1}}{}", "x".repeat(limits::TEMPLATE_BYTES_MAX));
    assert_eq!(
        Template::compile(&long).expect_err("too long").code,
        Code::PolicyCost
    );
}

#[test]
fn an_expression_that_fails_fails_the_text() {
    let template = Template::compile("a ${1 / vars.zero} b").expect("a text");
    let mut case = Case::full();
    case.vars.insert("zero".to_owned(), json!(0));
    assert_eq!(
        case.with(|scope| template.eval(scope)),
        Err("division by zero".to_owned())
    );
}
