//! Errors never hold a value: it may be a secret.

use super::*;

#[test]
fn no_error_holds_a_secret() {
    let case = Case::full();
    let secret = "secrets.get('main', 'token')";
    let number = "secrets.get('main', 'token').size()";
    for text in [
        // Keys and operands.
        format!("{{'a': 1}}[{secret}]"),
        format!("vars.map[{secret}].b"),
        format!("vars.list[{secret}]"),
        format!("{secret}[{secret}]"),
        format!("{{{secret}: 1, {secret}: 2}}"),
        format!("{{[{secret}]: 1}}"),
        format!("-{secret}"),
        format!("{secret} * 2"),
        format!("{secret} < [1]"),
        format!("{secret} in {secret}"),
        format!("{secret} ? 1 : 2"),
        format!("{secret}.nothing"),
        // Functions of the interpreter, which quote.
        format!("duration({secret})"),
        format!("timestamp({secret})"),
        format!("time.now.getHours({secret})"),
        format!("time.now.getFullYear({secret})"),
        format!("int({secret})"),
        format!("uint({secret})"),
        format!("double({secret})"),
        format!("bool({secret})"),
        format!("{secret}.format([1])"),
        format!("('%d %s' + {secret}).format([{secret}])"),
        format!("'%d'.format([{secret}])"),
        format!("'%x%y'.format([{secret}, {secret}])"),
        format!("{secret}.charAt(99)"),
        format!("{secret}.substring(99)"),
        format!("[{secret}].slice(5, 9)"),
        format!("[{secret}, 1].sort()"),
        format!("[{secret}].flatten({secret})"),
        // Ours.
        format!("base64.decode({secret})"),
        format!("json.decode({secret})"),
        format!("time.now.add({secret})"),
        format!("'a'.matches({secret} + '(')"),
        format!("url.parse({secret})"),
        format!("queryString.decode({secret} + '%')"),
        format!("url.unescape({secret} + '%')"),
        format!("'a'.indexOf({secret}, 5)"),
        format!("inCidrRanges({secret}, [{secret}, 1])"),
        format!("['a', {secret}, 1].join({secret})"),
    ] {
        if let Err(why) = case.eval(&text) {
            assert!(!why.contains("hunter2"), "{text}: {why}");
        }
        let expr = Expr::compile(&text);
        assert!(!format!("{expr:?}").contains("hunter2"), "{text}");
    }
    // Numbers that come from one.
    for text in [
        format!("rand.int({number} + 7700, 0)"),
        format!("lists.range({number} + 7700)"),
        format!("'a'.indexOf('a', {number} + 7700)"),
        format!("'a'.charAt({number} + 7700)"),
        format!("vars.list[{number} + 7700]"),
        format!("vars.list.slice({number} + 7700, 0)"),
        format!("timestamp({number} * 1000000000000000)"),
        format!("{{1: 1}}[{number} + 7700]"),
    ] {
        let why = case.eval(&text).expect_err(&text);
        assert!(
            !why.contains("770") && !why.contains("700"),
            "{text}: {why}"
        );
    }
}

#[test]
fn errors_of_the_interpreter_s_functions_have_texts_of_ours() {
    let case = Case::full();
    for (text, wanted) in [
        (
            "duration(secrets.get('main', 'token'))",
            "`duration` was given a text that it cannot read",
        ),
        (
            "timestamp(secrets.get('main', 'token'))",
            "`timestamp` was given a text that it cannot read",
        ),
        (
            "int(secrets.get('main', 'token'))",
            "`int` was given a value that it cannot use",
        ),
        ("{'a': 1}['b']", "there is no such key"),
    ] {
        assert_eq!(case.eval(text), Err(wanted.to_owned()), "{text}");
    }
}
