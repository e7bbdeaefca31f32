//! Whatever the plain form decides, the interpreter decides as well, and for no fewer units.

use proptest::prelude::*;
use proptest::strategy::Strategy as Any;

use super::*;
use crate::tls::TlsFacts;

const TEXTS: &[&str] = &[
    "conn.client_ip",
    "conn.server_ip",
    "conn.server_region",
    "conn.protocol",
    "conn.sni",
    "conn.http.host",
    "conn.minecraft.host",
    "conn.tls.sni",
    "conn.geo.city",
    "conn.client_ip.as.organization",
    "endpoint.id",
    "endpoint.url",
    "endpoint.addr",
    "endpoint.host",
    "endpoint.protocol",
    "req.method",
    "req.url",
    "req.path",
    "req.host",
];
const INTS: &[&str] = &[
    "conn.client_port",
    "conn.server_port",
    "conn.bytes_in",
    "conn.client_ip.as.number",
    "endpoint.port",
    "req.content_length",
];
const BOOLS: &[&str] = &[
    "conn.client_ip.is_tor_node",
    "conn.client_ip.is_on_blocklist",
    "true",
    "false",
];
const LISTS: &[&str] = &[
    "conn.alpn",
    "conn.client_ip.categories",
    "conn.server_ip.categories",
    "req.headers['x-tag']",
    "req.headers.absent",
];
const WRITTEN: &[&str] = &[
    "''",
    "'198.51.100.7'",
    "'198.51.'",
    "'::ffff:198.51.100.7'",
    "'2001:db8::1'",
    "'2001:0db8::1'",
    "'.example.com'",
    "'db.example.com'",
    "'h2'",
    "'one'",
    "'blocklist'",
    "'Berlin'",
    "'eu'",
    "'tls'",
    "'/a/b'",
    "'é'",
    "'secret'",
];
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "7",
    "443",
    "20001",
    "40000",
    "-1",
    "9223372036854775807",
    "-9223372036854775808",
];
const RANGES: &[&str] = &[
    "'198.51.100.0/24'",
    "'198.51.100.9/24'",
    "'198.51.100.7'",
    "'0.0.0.0/0'",
    "'::/0'",
    "'2001:db8::/32'",
    "'::ffff:198.51.100.0/120'",
    "'no network'",
];
const PATTERNS: &[&str] = &["'^198'", "'com$'", "'[a-z]+'", "'^$'", "'\\\\d{3}'"];

fn one(of: &'static [&'static str]) -> impl Any<Value = String> {
    prop::sample::select(of).prop_map(str::to_owned)
}

fn some(of: &'static [&'static str]) -> impl Any<Value = String> {
    prop::collection::vec(prop::sample::select(of), 0..5).prop_map(|all| all.join(", "))
}

fn text() -> impl Any<Value = String> {
    prop_oneof![3 => one(TEXTS), 1 => one(WRITTEN)]
}

fn int() -> impl Any<Value = String> {
    let leaf = prop_oneof![one(INTS), one(NUMBERS)];
    leaf.prop_recursive(3, 8, 2, |inner| {
        let sign = prop::sample::select(&["+", "-", "*", "/", "%"][..]);
        prop_oneof![
            (inner.clone(), sign, inner.clone())
                .prop_map(|(a, sign, b)| format!("({a} {sign} {b})")),
            inner.prop_map(|a| format!("-({a})")),
        ]
    })
}

fn compare() -> impl Any<Value = &'static str> {
    prop::sample::select(&["==", "!=", "<", "<=", ">", ">="][..])
}

fn plain_condition() -> impl Any<Value = String> {
    prop_oneof![
        (text(), compare(), text()).prop_map(|(a, is, b)| format!("{a} {is} {b}")),
        (one(TEXTS), compare(), one(WRITTEN)).prop_map(|(a, is, b)| format!("{a} {is} {b}")),
        (int(), compare(), int()).prop_map(|(a, is, b)| format!("{a} {is} {b}")),
        (text(), some(WRITTEN)).prop_map(|(a, list)| format!("{a} in [{list}]")),
        (int(), some(NUMBERS)).prop_map(|(a, list)| format!("{a} in [{list}]")),
        (text(), one(LISTS)).prop_map(|(a, list)| format!("{a} in {list}")),
        (text(), text()).prop_map(|(a, b)| format!("{a}.startsWith({b})")),
        (text(), text()).prop_map(|(a, b)| format!("{a}.endsWith({b})")),
        (text(), text()).prop_map(|(a, b)| format!("{a}.contains({b})")),
        (text(), one(PATTERNS)).prop_map(|(a, b)| format!("{a}.matches({b})")),
        (text(), one(PATTERNS)).prop_map(|(a, b)| format!("matches({a}, {b})")),
        (text(), one(RANGES)).prop_map(|(a, b)| format!("inCidrRange({a}, {b})")),
        (text(), some(RANGES)).prop_map(|(a, b)| format!("inCidrRanges({a}, [{b}])")),
        text().prop_map(|a| format!("{a}.isPrivateIp()")),
        prop_oneof![one(TEXTS), one(INTS), one(BOOLS), one(LISTS)]
            .prop_filter("no constant", |a| a.contains('.') && !a.contains('['))
            .prop_map(|a| format!("has({a})")),
        one(BOOLS),
    ]
}

/// Conditions that only the interpreter can tell, some of which fail.
fn other_condition() -> impl Any<Value = String> {
    one(&[
        "secrets.get('main', 'token') == 'hunter2'",
        "secrets.get('main', 'none') == 'hunter2'",
        "vars.n == 3",
        "has(vars.name)",
        "has(conn.client_ip.geo)",
        "vars.name.size() > 1",
        "vars.n",
        "conn.client_ip == 1",
        "[1, 2].exists(x, x == conn.client_port)",
        "conn.sni.lower() == 'db.example.com'",
        "1 / (conn.client_port - 40000) == 1",
        "conn.client_ip < 7",
    ])
}

fn condition() -> impl Any<Value = String> {
    let leaf = prop_oneof![6 => plain_condition(), 1 => other_condition()];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            inner.clone().prop_map(|a| format!("!({a})")),
            pair.clone().prop_map(|(a, b)| format!("({a}) && ({b})")),
            pair.clone().prop_map(|(a, b)| format!("({a}) || ({b})")),
            pair.prop_map(|(a, b)| format!("({a}) == ({b})")),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| format!("({a}) ? ({b}) : ({c})")),
        ]
    })
}

/// Connections of which different things are known.
fn cases() -> Vec<Case> {
    let mut bare = Case::bare();
    bare.given.tls = Some(Arc::new(TlsFacts {
        sni: "other.example.com".to_owned(),
        ..TlsFacts::default()
    }));
    let mut terminated = Case::full();
    terminated.given.tls.clone_from(&bare.given.tls);
    let mut silent = Case::full();
    silent.given.first = Some(First::default());
    silent.given.request = Some(None);
    silent.client = "[2001:db8::1]:443";
    let mut mapped = Case::full();
    mapped.client = "[::ffff:198.51.100.7]:7";
    let mut long = Case::full();
    if let Some(Some(request)) = &mut long.given.request {
        request.url = format!("/a/{}?secret", "é".repeat(4000));
    }
    vec![
        Case::bare(),
        bare,
        Case::full(),
        terminated,
        silent,
        mapped,
        long,
    ]
}

/// What the plain form decides, what the interpreter does, and what either has spent.
fn both(expr: &Expr, case: &Case) -> [(Option<Result<bool, String>>, u64); 2] {
    const ALL: u64 = 1_000_000;
    let mut left = [ALL; 2];
    let [for_plain, for_interpreter] = &mut left;
    let plain = case.with(|scope| within(for_plain, || expr.0.program.decide(scope)));
    let interpreted =
        case.with(|scope| within(for_interpreter, || Some(expr.interpret_bool(scope))));
    let [for_plain, for_interpreter] = left;
    [
        (plain.map(Ok), ALL - for_plain),
        (interpreted, ALL - for_interpreter),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_the_plain_form_decides_the_interpreter_decides(text in condition()) {
        let Ok(expr) = Expr::compile(&text) else {
            // Too large, or a fault that both would have.
            return Ok(());
        };
        for case in cases() {
            let [(plain, cost), (interpreted, most)] = both(&expr, &case);
            if plain.is_some() {
                prop_assert_eq!(&plain, &interpreted, "{}", &text);
                prop_assert!(cost <= most, "{} costs {} units, not {}", &text, cost, most);
            } else {
                prop_assert_eq!(cost, 0, "{}", &text);
            }
            let whole = case.with(|scope| expr.eval_bool(scope));
            prop_assert_eq!(Some(whole), interpreted, "{}", &text);
        }
    }

    #[test]
    fn plain_conditions_need_no_interpreter(text in plain_condition()) {
        let expr = match Expr::compile(&text) {
            Ok(expr) => expr,
            Err(fault) => return Err(TestCaseError::fail(format!("{text}: {}", fault.message))),
        };
        for case in cases() {
            // The first evaluation compiles the regular expression.
            let wanted = case.with(|scope| expr.interpret_bool(scope));
            let [(plain, _), _] = both(&expr, &case);
            if wanted.is_ok() {
                prop_assert_eq!(plain, Some(wanted), "{}", &text);
            } else {
                prop_assert_eq!(plain, None, "{}", &text);
            }
        }
    }
}

#[test]
fn what_is_usual_is_plain() {
    for text in [
        "conn.client_port % 7 == 3 && conn.client_ip.startsWith('10.')",
        "conn.client_ip in ['192.0.2.7', '192.0.2.8']",
        "'com.aws' in conn.client_ip.categories",
        "conn.protocol == 'ssh' || conn.sni.endsWith('.example.com')",
        "!inCidrRanges(conn.client_ip, ['10.0.0.0/8', '192.168.0.0/16'])",
        "has(conn.sni) ? conn.sni == 'a.example.com' : conn.server_port == 443",
        "'one' in req.headers['x-tag'] || req.headers['x-tag'] == ['one']",
    ] {
        let expr = Expr::compile(text).expect("an expression");
        let [(plain, _), (interpreted, _)] = both(&expr, &Case::full());
        assert!(plain.is_some(), "{text}");
        assert_eq!(plain, interpreted, "{text}");
    }
}

#[test]
fn a_budget_that_is_spent_refuses_plain_conditions_too() {
    let expr = Expr::compile("conn.client_port == 40000").expect("an expression");
    let case = Case::full();
    let mut left = limits::EVALUATION_UNITS;
    let [first, second] =
        [(); 2].map(|()| case.with(|scope| within(&mut left, || expr.eval_bool(scope))));
    assert_eq!(first, Ok(true));
    assert_eq!(second, Err(TOO_MUCH.to_owned()));
}

#[test]
fn a_long_text_costs_what_it_takes_to_look_at() {
    let expr = Expr::compile("req.url.contains('secret')").expect("an expression");
    let mut case = Case::full();
    if let Some(Some(request)) = &mut case.given.request {
        request.url = "a".repeat(16 * 1024);
    }
    let [(plain, cost), (_, most)] = both(&expr, &case);
    assert_eq!(plain, Some(Ok(false)));
    assert_eq!(cost, limits::EVALUATION_UNITS + 1024);
    assert!(cost <= most);
}
