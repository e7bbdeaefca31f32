//! Secrets stay out of logs, errors and `Debug`.

use super::*;

const SECRET: &str = "hunter2-hunter2";

fn world() -> Fake {
    let mut world = Fake::default();
    let key = ("main".to_owned(), "token".to_owned());
    world.secrets.insert(key, Arc::from(SECRET));
    world
}

/// Everything that a run tells, and what it decides.
fn told(text: &str) -> (String, Decision) {
    let policy = policy(text);
    let world = world();
    let mut run = Run::explaining();
    let next = go(&mut run, &policy, "10.0.0.1", &Given::default(), &world);
    let Next::Done(decision) = next else {
        panic!("{next:?}")
    };
    let told = format!(
        "{decision:?} {run:?} {:?} {:?} {:?} {:?} {policy:?}",
        run.take_log(),
        run.take_logged(),
        world.buckets.borrow().keys(),
        world.held.borrow().keys(),
    );
    (told, decision)
}

#[test]
fn nothing_that_is_told_holds_a_secret() {
    for text in [
        "on_tcp_connect: [{ expressions: [\"secrets.get('main', 'token') == 'x'\"], actions: [{ type: deny }] }]",
        "on_tcp_connect: [{ expressions: [\"secrets.get('main', 'token') != 'x'\"], actions: [{ type: deny }] }]",
        "on_tcp_connect: [{ expressions: [\"dyn(secrets.get('main', 'token'))\"], actions: [{ type: deny }] }]",
        "on_tcp_connect: [{ expressions: [\"{'a': true}[secrets.get('main', 'token')]\"], actions: [{ type: deny }] }]",
        "on_tcp_connect: [{ actions: [{ type: set-vars, config: { vars: [{ a: \"${secrets.get('main', 'token')}\" }] } }, { type: limit-connections, config: { max: 1, key: vars.a } }] }]",
        "on_tcp_connect: [{ actions: [{ type: rate-limit, config: { capacity: 1, interval: 1s, key: \"secrets.get('main', 'token')\" } }] }]",
        "on_tcp_connect: [{ actions: [{ type: rate-limit, config: { capacity: 1, interval: 1s, key: \"duration(secrets.get('main', 'token'))\" } }] }]",
    ] {
        let (told, _) = told(text);
        assert!(!told.contains("hunter2"), "{text}: {told}");
    }
}

#[test]
fn what_a_text_comes_to_is_not_told() {
    for (config, below) in [
        (
            "type: restrict-ips, config: { allow: [\"${vars.a}\"] }",
            "allow[0]",
        ),
        (
            "type: restrict-ips, config: { allow: [\"${vars.a}/8\"] }",
            "allow[0]",
        ),
        (
            "type: restrict-ips, config: { allow: [\"${[vars.a]}\"] }",
            "allow[0]",
        ),
        (
            "type: restrict-ips, config: { deny: [\"${{'a': vars.a}}\"] }",
            "deny[0]",
        ),
        (
            "type: forward-internal, config: { url: \"${vars.a}\" }",
            "url",
        ),
        (
            "type: forward-internal, config: { url: \"tcp://${vars.a}.internal\" }",
            "url",
        ),
        (
            "type: forward-internal, config: { targets: [{ url: \"tcp://*.${vars.a}.internal:1\" }] }",
            "targets[0].url",
        ),
    ] {
        let text = format!(
            "on_tcp_connect: [{{ actions: [{{ type: set-vars, config: {{ vars: [{{ a: \"${{['hunter2-', 'hunter2'].join()}}\" }}] }} }}, {{ {config} }}] }}]"
        );
        let policy = policy(&text);
        let mut run = Run::default();
        let next = go(&mut run, &policy, "10.0.0.1", &Given::default(), &world());
        let Next::Done(decision) = &next else {
            panic!("{next:?}")
        };
        let (path, why) = failure(decision);
        assert_eq!(path, format!("on_tcp_connect[0].actions[1].config.{below}"));
        assert!(why.starts_with("it comes to "), "{why}");
        let told = format!("{next:?} {run:?} {:?}", run.take_log());
        assert!(!told.contains("hunter2"), "{told}");
    }
}
