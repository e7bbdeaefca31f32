//! `rate-limit`, `limit-connections`, `set-limits`.

use super::*;

fn limited(decision: &Decision) -> Option<Limiter> {
    match decision {
        Decision::Limited { by, .. } => Some(*by),
        _ => None,
    }
}

#[test]
fn a_rate_is_kept_for_each_client_alone() {
    let policy = policy(
        "on_tcp_connect: [{ name: slow, actions: [{ type: rate-limit, config: { capacity: 2, interval: 10s } }] }]",
    );
    let world = Fake::default();
    let ask = |client: &str| limited(&decide_in(&policy, client, &world));
    assert_eq!([ask("10.0.0.1"), ask("10.0.0.1")], [None, None]);
    assert_eq!(ask("10.0.0.1"), Some(Limiter::Rate));
    assert_eq!(
        ask("::ffff:10.0.0.1"),
        Some(Limiter::Rate),
        "the same address"
    );
    assert_eq!(ask("10.0.0.2"), None);
    world.now.set(5_000_000);
    assert_eq!(
        [ask("10.0.0.1"), ask("10.0.0.1")],
        [None, Some(Limiter::Rate)]
    );
    let buckets = world.buckets.borrow();
    let bucket = buckets
        .keys()
        .find(|bucket| &*bucket.key == "10.0.0.1")
        .expect("a bucket");
    assert_eq!(&*bucket.action, "slow[0]");
    assert_eq!(&*bucket.endpoint, "ep_30tNcWkLmgyIO1zPS4aDMAbFzYU");
}

#[test]
fn clients_of_ipv6_count_by_their_network() {
    let rate = policy(
        "on_tcp_connect: [{ actions: [{ type: rate-limit, config: { capacity: 1, interval: 1h } }] }]",
    );
    let held =
        policy("on_tcp_connect: [{ actions: [{ type: limit-connections, config: { max: 1 } }] }]");
    let exact = policy(
        "on_tcp_connect: [{ actions: [{ type: limit-connections, config: { max: 1, key: conn.client_ip } }] }]",
    );
    let world = Fake::default();
    for (policy, by) in [(&rate, Limiter::Rate), (&held, Limiter::Connections)] {
        let ask = |client: &str| limited(&decide_in(policy, client, &world));
        assert_eq!(ask("2001:db8:0:1::1"), None);
        assert_eq!(ask("2001:db8:0:1:ffff:ffff:ffff:ffff"), Some(by), "the /64");
        assert_eq!(ask("2001:db8:0:2::1"), None, "another /64");
        assert_eq!(ask("::ffff:10.0.0.1"), None);
        assert_eq!(ask("::ffff:10.0.0.2"), None, "IPv4 counts alone");
        assert_eq!(ask("10.0.0.1"), Some(by), "the same address");
    }
    for bucket in world.held.borrow().keys() {
        let network = ["2001:db8:0:1::/64", "2001:db8:0:2::/64"].contains(&&*bucket.key);
        assert!(
            network || bucket.key.starts_with("10.0.0."),
            "{}",
            bucket.key
        );
    }
    let ask = |client: &str| limited(&decide_in(&exact, client, &world));
    assert_eq!([ask("2001:db8::1"), ask("2001:db8::2")], [None, None]);
}

#[test]
fn a_rate_that_is_not_enforced_is_noted() {
    let policy = policy(
        "
on_tcp_connect:
  - actions: [{ type: rate-limit, config: { name: all, capacity: 1, interval: 1m, key: \"'everyone'\", enforce: false } }]
  - expressions: [actions.ngrok.rate_limit.limited]
    actions: [{ type: close-connection }]
",
    );
    let world = Fake::default();
    assert_eq!(
        decide_in(&policy, "10.0.0.1", &world),
        Decision::FallThrough
    );
    let mut run = Run::default();
    let second = go(&mut run, &policy, "10.0.0.2", &Given::default(), &world);
    assert!(matches!(second, Next::Done(Decision::Close { .. })));
    assert_eq!(
        run.take_log(),
        [
            "on_tcp_connect[0]: rate-limit deny (not enforced)",
            "on_tcp_connect[1]: close-connection"
        ]
    );
    let buckets = world.buckets.borrow();
    let bucket = buckets.keys().next().expect("a bucket");
    assert_eq!((&*bucket.action, &*bucket.key), ("all", "everyone"));
}

#[test]
fn connections_are_held_by_key() {
    let policy = policy(
        "on_tcp_connect: [{ actions: [{ type: limit-connections, config: { max: 2, key: conn.server_port } }] }]",
    );
    let world = Fake::default();
    let ask = |client: &str| limited(&decide_in(&policy, client, &world));
    assert_eq!([ask("10.0.0.1"), ask("10.0.0.2")], [None, None]);
    assert_eq!(ask("10.0.0.3"), Some(Limiter::Connections));
    let held = world.held.borrow();
    assert_eq!(held.keys().next().map(|bucket| &*bucket.key), Some("20001"));
}

#[test]
fn rules_of_one_name_count_apart() {
    let policy = policy(
        "
on_tcp_connect:
  - { name: same, actions: [{ type: limit-connections, config: { max: 1 } }] }
  - { name: same, actions: [{ type: limit-connections, config: { max: 1 } }] }
",
    );
    let world = Fake::default();
    assert_eq!(
        decide_in(&policy, "10.0.0.1", &world),
        Decision::FallThrough
    );
    assert_eq!(world.held.borrow().len(), 2);
}

#[test]
fn a_key_that_is_too_long_fails() {
    let long = "x".repeat(600);
    let policy = policy(&format!(
        "on_tcp_connect: [{{ actions: [{{ type: set-vars, config: {{ vars: [{{ a: {long} }}] }} }}, {{ type: limit-connections, config: {{ max: 1, key: vars.a + vars.a }} }}] }}]"
    ));
    let decision = decide_in(&policy, "10.0.0.1", &Fake::default());
    let (path, message) = failure(&decision);
    assert_eq!(path, "on_tcp_connect[0].actions[1].config.key");
    assert!(message.contains("longer than 1024 bytes"));
}

#[test]
fn the_last_limits_count() {
    let policy = policy(
        "
on_tcp_connect:
  - actions:
      - { type: set-limits, config: { idle_timeout: 5m, connect_timeout: 3s, max_lifetime: 2h } }
      - { type: set-limits, config: { idle_timeout: 0 } }
",
    );
    let mut run = Run::default();
    assert_eq!(run.limits(), SetLimits::default());
    go(
        &mut run,
        &policy,
        "10.0.0.1",
        &Given::default(),
        &Fake::default(),
    );
    let limits = SetLimits {
        lifetime: Some(Duration::from_secs(7200)),
        idle: Some(Duration::ZERO),
        connect: Some(Duration::from_secs(3)),
    };
    assert_eq!(run.limits(), limits);
}
