//! What all expressions of a connection may cost together.

use super::*;
use crate::defaults::{EXPRESSIONS_MAX, RULES_MAX};

/// Runs, and says what it decided and spent.
fn spent(text: &str) -> (Decision, u64) {
    let policy = policy(text);
    let mut run = Run::default();
    let given = request("GET", "/");
    match go(&mut run, &policy, "10.0.0.1", &given, &Fake::default()) {
        Next::Done(decision) => (decision, run.spent),
        Next::Need(need) => panic!("it needs {need:?}"),
    }
}

/// A policy that makes a variable, and asks for it in every expression that there may be.
fn asks(value: &str, expression: &str) -> String {
    let expressions = vec![format!("\"{expression}\""); EXPRESSIONS_MAX].join(", ");
    let rule = format!(
        "  - {{ expressions: [{expressions}], actions: [{{ type: log, config: {{ metadata: {{ a: b }} }} }}] }}\n"
    );
    format!(
        "on_tcp_connect:\n  - actions: [{{ type: set-vars, config: {{ vars: [{{ x: \"{value}\" }}] }} }}]\n{}",
        rule.repeat(RULES_MAX - 1)
    )
}

#[test]
fn values_that_are_copied_again_and_again_are_paid_for() {
    // 150 lists of 150 are more than variables may be; 140 are not.
    let (decision, _) = spent(&asks(
        "${lists.range(150).map(a, lists.range(150))}",
        "vars.x[0][0] == 0",
    ));
    let (path, why) = failure(&decision);
    assert_eq!(path, "on_tcp_connect[0].actions[0].config.vars[0].x");
    assert!(why.contains("more than 65536 bytes"), "{why}");
    for expression in [
        "vars.x[0][0] == 0",
        // The slot alone: it is copied, though nothing looks at it.
        "conn.client_ip.size() > 0 || vars.x == []",
        "vars.x.size() == 140",
    ] {
        let started = std::time::Instant::now();
        let (decision, units) = spent(&asks(
            "${lists.range(140).map(a, lists.range(140))}",
            expression,
        ));
        let (path, why) = failure(&decision);
        assert!(path.contains(".expressions["), "{path}: {why}");
        assert!(why.contains(cel::TOO_MUCH), "{path}: {why}");
        assert!(units <= RUN_UNITS_MAX, "{units}");
        // 25 ms with optimization; this is a build without, on a machine that does other things too.
        assert!(started.elapsed() < Duration::from_secs(5), "{expression}");
    }
    // What asks only whether it is there copies nothing, nor what is decided before it comes to it.
    for expression in ["has(vars.x)", "true || vars.x == []"] {
        let (decision, _) = spent(&asks(
            "${lists.range(140).map(a, lists.range(140))}",
            expression,
        ));
        assert_eq!(decision, Decision::FallThrough, "{expression}");
    }
}

#[test]
fn variables_are_paid_for_as_they_are_set() {
    let long = "x".repeat(32_000);
    let set = |value: &str, count: usize| {
        let action = format!("{{ type: set-vars, config: {{ vars: [{{ b: \"{value}\" }}] }} }}");
        let rule = format!("  - actions: [{}]\n", vec![action; 10].join(", "));
        format!(
            "on_tcp_connect:\n  - actions: [{{ type: set-vars, config: {{ vars: [{{ a: {long} }}] }} }}]\n{}",
            rule.repeat(count)
        )
    };
    // A literal costs no evaluation, and its 16 bytes a unit nonetheless.
    let (decision, literals) = spent(&set(&long, 1));
    assert_eq!(decision, Decision::FallThrough);
    assert!((11 * 2000..11 * 2010).contains(&literals), "{literals}");
    // One that is set again takes the place of what it was.
    assert_eq!(spent(&set("${vars.a}", 3)).0, Decision::FallThrough);
    let (decision, spent) = spent(&set("${vars.a}", 20));
    let (path, why) = failure(&decision);
    assert!(path.ends_with(".config.vars[0].b"), "{path}");
    assert!(why.contains(cel::TOO_MUCH), "{why}");
    assert!(spent <= RUN_UNITS_MAX, "{spent}");
}

#[test]
fn the_bytes_of_variables_are_their_sum() {
    let text = "on_tcp_connect: [{ actions: [{ type: set-vars, config: { vars: [{ a: xxxx }, { bb: [1, 2] }, { a: y }, { bb: { c: null } }] } }] }]";
    let policy = policy(text);
    let mut run = Run::default();
    go(
        &mut run,
        &policy,
        "10.0.0.1",
        &Given::default(),
        &Fake::default(),
    );
    let sum: usize = run
        .vars
        .iter()
        .map(|(name, value)| name.len() + value.to_string().len())
        .sum();
    assert_eq!((run.vars.len(), run.vars_bytes_sum), (2, sum));
}

#[test]
fn ordinary_policies_stay_far_below() {
    let rules: String = (0..9)
        .map(|n| {
            format!(
                "  - expressions:
      - \"inCidrRanges(conn.client_ip, ['192.0.2.0/24', '198.51.100.0/24', '10.{n}.0.0/16'])\"
      - \"conn.client_port % 2 == 0 && req.headers['host'].exists(h, h.matches('^exa.*com$'))\"
      - \"vars.names[{n}].startsWith('n') || vars.map['a'].size() > {n}\"
    actions:
      - {{ type: set-vars, config: {{ vars: [{{ seen: \"${{req.path}} of ${{conn.client_ip}}\" }}] }} }}
      - {{ type: log, config: {{ metadata: {{ who: \"${{vars.seen}}\" }} }} }}
"
            )
        })
        .collect();
    let names = (0..9)
        .map(|n| format!("n{n}"))
        .collect::<Vec<_>>()
        .join(", ");
    let text = format!(
        "on_http_request:\n  - actions: [{{ type: set-vars, config: {{ vars: [{{ names: [{names}] }}, {{ map: {{ a: [1, 2] }} }}] }} }}]\n{rules}"
    );
    let (decision, spent) = spent(&text);
    assert_eq!(decision, Decision::FallThrough);
    assert!(spent < RUN_UNITS_MAX / 20, "{spent}");
}
