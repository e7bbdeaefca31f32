//! Forwarding: several targets, the next when one fails, and what happens when none is left.

use super::*;

const THREE: &str = "
on_tcp_connect:
  - name: spread
    actions:
      - type: forward-internal
        config:
          on_error: ON_ERROR
          strategy: STRATEGY
          targets:
            - { url: 'tcp://a.internal:1', weight: 5 }
            - { url: 'tcp://b.internal:1', weight: 3 }
            - { url: 'tcp://c.internal:1', weight: 2 }
  - name: behind
    expressions: [\"actions.ngrok.forward_internal.error.code == 'PTC_UPSTREAM_REFUSED'\"]
    actions: [{ type: close-connection }]
";

fn three(on_error: &str, strategy: &str) -> Policy {
    policy(
        &THREE
            .replace("ON_ERROR", on_error)
            .replace("STRATEGY", strategy),
    )
}

fn on_error(decision: &Decision) -> OnError {
    match decision {
        Decision::Forward { on_error, .. } => *on_error,
        other => panic!("{other:?}"),
    }
}

fn next(run: &mut Run, policy: &Policy, world: &Fake) -> Decision {
    match go(run, policy, "10.0.0.1", &Given::default(), world) {
        Next::Done(decision) => decision,
        Next::Need(need) => panic!("it needs {need:?}"),
    }
}

#[test]
fn weights_are_exact_over_ten_thousand_connections() {
    let (policy, world) = (three("halt", "weighted"), Fake::default());
    let mut counts: HashMap<String, u32> = HashMap::new();
    for _ in 0..10_000 {
        let decision = decide_in(&policy, "10.0.0.1", &world);
        *counts.entry(host(&decision).to_owned()).or_default() += 1;
    }
    let counted = |name: &str| counts.get(name).copied();
    assert_eq!(counted("a.internal"), Some(5_000));
    assert_eq!(counted("b.internal"), Some(3_000));
    assert_eq!(counted("c.internal"), Some(2_000));
}

#[test]
fn each_target_is_tried_once_and_then_the_policy_ends() {
    let (policy, world, mut run) = (three("halt", "weighted"), Fake::default(), Run::default());
    let refused = Error::of(Code::UpstreamRefused);
    let mut hosts = Vec::new();
    for left in [2, 1, 0] {
        let decision = next(&mut run, &policy, &world);
        hosts.push(host(&decision).to_owned());
        // While another is left the edge is to come back; behind the last one it ends.
        let expected = if left > 0 {
            OnError::Continue
        } else {
            OnError::Halt
        };
        assert_eq!(on_error(&decision), expected);
        assert_eq!(
            next(&mut run, &policy, &world),
            decision,
            "asked again it says the same"
        );
        run.failed(&refused);
    }
    hosts.sort();
    assert_eq!(hosts, ["a.internal", "b.internal", "c.internal"]);
    let decision = next(&mut run, &policy, &world);
    let Decision::Failed { path, error } = &decision else {
        panic!("{decision:?}")
    };
    assert_eq!(path, "on_tcp_connect[0].actions[0].config.targets");
    assert_eq!(error.code, Code::UpstreamRefused);
    let tried: Vec<Vec<usize>> = world
        .asked
        .borrow()
        .iter()
        .map(|(_, tried)| tried.clone())
        .collect();
    assert_eq!(tried, [vec![], vec![0], vec![0, 1]]);
}

#[test]
fn behind_the_last_target_the_policy_goes_on_when_it_says_so() {
    let (policy, world, mut run) = (
        three("continue", "weighted"),
        Fake::default(),
        Run::default(),
    );
    for _ in 0..3 {
        assert_eq!(
            on_error(&next(&mut run, &policy, &world)),
            OnError::Continue
        );
        run.failed(&Error::of(Code::UpstreamRefused));
    }
    let decision = next(&mut run, &policy, &world);
    assert!(matches!(decision, Decision::Close { rule } if &*rule == "behind"));
}

#[test]
fn one_target_that_fails_halts_or_goes_on() {
    for (on_error, url) in [
        ("halt", "tcp://a.internal:1"),
        ("continue", "tcp://a.internal:1"),
        ("continue", "tcp://${'a'}.internal:1"),
    ] {
        let policy = policy(&format!(
            "on_tcp_connect: [{{ actions: [{{ type: forward-internal, config: {{ url: \"{url}\", on_error: {on_error} }} }}, {{ type: log, config: {{ metadata: {{ of: '${{actions.ngrok.forward_internal.url}}' }} }} }}] }}]"
        ).replace(if on_error == "halt" { ", { type: log, config: { metadata: { of: '${actions.ngrok.forward_internal.url}' } } }" } else { "\0" }, ""));
        let (world, mut run) = (Fake::default(), Run::default());
        let first = next(&mut run, &policy, &world);
        assert_eq!(host(&first), "a.internal");
        assert!(world.asked.borrow().is_empty(), "one target is no choice");
        run.failed(&Error::of(Code::UpstreamTimeout));
        let second = next(&mut run, &policy, &world);
        if on_error == "halt" {
            assert_eq!(
                failure(&second).0,
                "on_tcp_connect[0].actions[0].config.url"
            );
        } else {
            assert_eq!(second, Decision::FallThrough);
            assert_eq!(
                run.take_logged(),
                [serde_json::json!({ "of": "tcp://a.internal:1" })]
            );
        }
    }
}

#[test]
fn a_rejecting_target_turns_its_share_away() {
    let policy = policy(
        "
on_tcp_connect:
  - name: canary
    actions:
      - type: forward-internal
        config: { targets: [{ url: 'tcp://a.internal:1', weight: 3 }, { reject: true }] }
",
    );
    let world = Fake::default();
    let denied = (0..400)
        .filter(|_| {
            matches!(
                decide_in(&policy, "10.0.0.1", &world),
                Decision::Deny {
                    mode: DenyMode::Close,
                    ..
                }
            )
        })
        .count();
    assert_eq!(denied, 100);
}

#[test]
fn a_client_whose_target_failed_is_not_turned_away_by_a_weight() {
    let policy = policy(
        "
on_tcp_connect:
  - actions:
      - type: forward-internal
        config: { on_error: continue, targets: [{ url: 'tcp://a.internal:1' }, { reject: true, weight: 1000000 }] }
",
    );
    let world = Fake::default();
    for _ in 0..200 {
        let mut run = Run::default();
        let decision = next(&mut run, &policy, &world);
        if matches!(decision, Decision::Deny { .. }) {
            continue;
        }
        assert_eq!(on_error(&decision), OnError::Continue);
        run.failed(&Error::of(Code::UpstreamRefused));
        assert_eq!(next(&mut run, &policy, &world), Decision::FallThrough);
    }
}

#[test]
fn strategies_are_asked_for_by_name_and_the_default_is_by_weight() {
    for (name, strategy) in [
        ("null", Strategy::Weighted),
        ("weighted", Strategy::Weighted),
        ("least-connections", Strategy::LeastConnections),
        ("random-two", Strategy::RandomTwo),
        ("hash-client-ip", Strategy::HashClientIp),
    ] {
        let world = Fake::default();
        decide_in(&three("halt", name), "10.0.0.1", &world);
        assert_eq!(
            world.asked.borrow().as_slice(),
            [(strategy, vec![])],
            "{name}"
        );
    }
}

#[test]
fn the_same_client_stays_with_its_target() {
    let (policy, world) = (three("halt", "hash-client-ip"), Fake::default());
    for n in 0..50 {
        let client = format!("10.0.0.{n}");
        let first = decide_in(&policy, &client, &world);
        assert_eq!(decide_in(&policy, &client, &world), first);
        assert_eq!(
            decide_in(&policy, &format!("::ffff:{client}"), &world),
            first
        );
    }
}

#[test]
fn a_choice_that_nobody_makes_never_forwards() {
    let world = Fake::default();
    world.offline.set(true);
    let halted = decide_in(&three("halt", "weighted"), "10.0.0.1", &world);
    let Decision::Failed { error, .. } = &halted else {
        panic!("{halted:?}")
    };
    assert_eq!(error.code, Code::ForwardTargetMissing);
    let went_on = decide_in(&three("continue", "weighted"), "10.0.0.1", &world);
    assert_eq!(went_on, Decision::FallThrough);
}

#[test]
fn texts_choose_the_target_and_a_wrong_one_fails() {
    let text = "
on_tcp_connect:
  - actions:
      - type: set-vars
        config: { vars: [{ name: 'VALUE' }] }
      - type: forward-internal
        config: { url: 'tcp://${vars.name}.internal:5432', on_error: continue }
";
    assert_eq!(
        host(&decide(&text.replace("VALUE", "db"), "10.0.0.1")),
        "db.internal"
    );
    for wrong in ["a b", "", "example.com:1/x", "*"] {
        let decision = decide(&text.replace("VALUE", wrong), "10.0.0.1");
        assert_eq!(
            failure(&decision).0,
            "on_tcp_connect[0].actions[1].config.url",
            "{wrong}"
        );
    }
}

#[test]
fn what_failed_before_a_forward_is_not_heard() {
    let (policy, world, mut run) = (three("halt", "weighted"), Fake::default(), Run::default());
    run.failed(&Error::of(Code::UpstreamRefused));
    assert_eq!(host(&next(&mut run, &policy, &world)), "a.internal");
    let denying = super::policy("on_tcp_connect: [{ actions: [{ type: deny }] }]");
    let mut run = Run::default();
    let denied = next(&mut run, &denying, &world);
    run.failed(&Error::of(Code::UpstreamRefused));
    assert_eq!(next(&mut run, &denying, &world), denied);
}
