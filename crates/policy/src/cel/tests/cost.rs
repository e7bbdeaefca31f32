//! What could cost too much, before and while it is evaluated.

use super::*;

#[test]
fn what_is_dear_by_its_shape_is_refused() {
    let long = format!("'{}' == ''", "a".repeat(limits::EXPRESSION_BYTES_MAX));
    let chain = format!("1{} == 2", " + 1".repeat(200));
    let operators = format!("1{} == 2", "+1".repeat(limits::OPERATORS_MAX + 1));
    let brackets = format!("{}1{}", "(".repeat(100), ")".repeat(100));
    let list = format!("1 in [{}1]", "1,".repeat(limits::ELEMENTS_MAX));
    for (text, wanted) in [
        (long.as_str(), "at most 4096 bytes"),
        (&chain, "nested more than 64 deep"),
        (&operators, "operators"),
        (&list, "at most 1000 elements"),
        (&brackets, "brackets can be nested 32 deep at most"),
        ("lists.range(1001)", "`lists.range` makes at most 1000"),
        (
            "[1].map(x, [1].map(y, [1].map(z, x + y + z)))",
            "macros can be nested 2 deep",
        ),
        (
            "[1].all(x, [1].exists(y, [1].sortBy(z, z) == [1]))",
            "macros can be nested 2 deep",
        ),
    ] {
        match Expr::compile(text) {
            Err(fault) => {
                assert_eq!(fault.code, Code::PolicyCost, "{}", fault.message);
                assert!(fault.message.contains(wanted), "{}", fault.message);
            }
            Ok(_) => panic!("{text} is an expression"),
        }
    }
}

#[test]
fn what_is_usual_is_possible() {
    let conditions = vec!["conn.client_ip == '10.0.0.1'"; 60].join(" || ");
    let expr = Expr::compile(&conditions).expect("sixty conditions");
    assert_eq!(Case::full().with(|scope| expr.eval_bool(scope)), Ok(false));
    let ranges: Vec<String> = (0..150).map(|n| format!("'10.{n}.0.0/16'")).collect();
    let text = format!("inCidrRanges(conn.client_ip, [{}])", ranges.join(","));
    assert!(text.len() < limits::EXPRESSION_BYTES_MAX);
    assert_eq!(Case::full().eval(&text), Ok(json!(false)));
    let chained = "[1,2].map(x, x+1).filter(x, x>0).map(x, x*2).exists(x, x==4)";
    assert_eq!(Case::full().eval(chained), Ok(json!(true)));
}

#[test]
fn growth_ends() {
    let mut case = Case::full();
    let big = "ab".repeat(8000);
    case.vars.insert("big".to_owned(), json!(big));
    let doubled = (0..14).fold("vars.big".to_owned(), |text, _| {
        format!("({text} + {text})")
    });
    let doubled = if doubled.len() > 4000 {
        "vars.big"
    } else {
        doubled.as_str()
    };
    let replaced = format!("vars.big{}.size()", ".replace('a', 'aaaaaaaa')".repeat(20));
    let joined = "lists.range(900).map(x, 'a').join(vars.big)";
    let nested = "vars.big.split('').map(x, vars.big.split('').map(y, x + y).size())";
    let listed = format!("[{}].size()", vec!["vars.big"; 400].join(","));
    let absorbed = "vars.big.split('').exists(x, vars.big.split('').exists(y, y == x + x))";
    let swallowed = "lists.range(999).all(x, lists.range(999).map(y, y * x).size() < 0 || true)";
    let distinct = "lists.range(1000).map(x, lists.range(1000).distinct()).size()";
    let regexes = "lists.range(900).map(x, vars.big.matches('(a|b)*c' + string(x)))";
    let formatted =
        "lists.range(400).map(x, '%s%s%s%s'.format([vars.big, vars.big, vars.big, vars.big]))";
    for text in [
        replaced.as_str(),
        joined,
        nested,
        &listed,
        absorbed,
        swallowed,
        distinct,
        regexes,
        formatted,
    ] {
        let got = case.eval(text);
        let why = got.expect_err(text);
        assert!(
            why == TOO_MUCH || why.contains("would have more than"),
            "{text}: {why}"
        );
    }
    // What is within the bounds goes on to be possible.
    assert!(case.eval(doubled).is_ok());
    assert_eq!(
        case.eval("vars.big.replace('ab', 'c').size()"),
        Ok(json!(8000))
    );
    assert_eq!(
        case.eval("vars.big.substring(0, 4000).split('').filter(c, c == 'a').size()"),
        Ok(json!(2000))
    );
}

#[test]
fn hopeless_searches_are_no_burden() {
    let mut case = Case::full();
    let text = "a".repeat(60_000);
    case.vars.insert("text".to_owned(), json!(text));
    case.vars.insert(
        "needle".to_owned(),
        json!(format!("{}b", "a".repeat(30_000))),
    );
    for text in [
        "vars.text.indexOf(vars.needle)",
        "vars.text.lastIndexOf(vars.needle)",
    ] {
        assert_eq!(case.eval(text), Ok(json!(-1)));
    }
    assert_eq!(
        case.eval("vars.text.contains(vars.needle)"),
        Ok(json!(false))
    );
}

/// The parser and the checks recurse; a thread has 2 MiB, and half of it must do.
#[test]
fn deep_texts_end_within_a_small_stack() {
    let texts = [
        "!".repeat(limits::OPERATORS_MAX - 1) + "true",
        "-".repeat(limits::OPERATORS_MAX - 1) + "1",
        "1".to_owned() + &"+1".repeat(limits::OPERATORS_MAX - 1),
        "1".to_owned() + &" in 1".repeat(800),
        "1".to_owned() + &"<1".repeat(limits::OPERATORS_MAX - 1),
        "vars".to_owned() + &".a".repeat(limits::OPERATORS_MAX - 1),
        "vars".to_owned() + &"[0]".repeat(limits::OPERATORS_MAX - 1),
        "(".repeat(limits::OPERATORS_MAX - 1),
        "[".repeat(limits::OPERATORS_MAX - 1),
        "true".to_owned() + &"||true".repeat(600),
        "true".to_owned() + &"&&true||false".repeat(300),
        "true".to_owned() + &"?1:true".repeat(500),
        "'a'".to_owned() + &".lower()".repeat(250),
        "string(".repeat(500) + "1" + &")".repeat(500),
        "string(".repeat(30) + "1" + &")".repeat(30),
        "!".repeat(60) + "true",
        "'a'".to_owned() + &".lower()".repeat(60),
        "1".to_owned() + &"+1".repeat(60),
        "true".to_owned() + &"?1:true".repeat(25),
        "[".repeat(30) + &"]".repeat(30),
        "[1].map(x, [1].map(y, ".to_owned() + &"[".repeat(25) + "x" + &"]".repeat(25) + "))",
    ];
    let thread = std::thread::Builder::new().stack_size(1024 * 1024);
    let done = thread.spawn(move || {
        let case = Case::full();
        for text in &texts {
            if let Ok(expr) = Expr::compile(text) {
                let _value = case.with(|scope| expr.eval(scope));
            }
        }
    });
    done.expect("a thread").join().expect("no overflow");
}
