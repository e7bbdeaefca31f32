//! What waits for what: requests, first bytes, and the order of the phases.

use super::*;

const HELLO: &str = "
on_http_request:
  - actions:
      - type: custom-response
        config:
          status_code: 200
          headers: {content-type: text/plain}
          body: \"Hello world!\"
";

const FORWARD: &str = "
on_http_request:
  - actions:
      - type: forward-internal
        config: {url: \"tcp://example-service.internal:8443\"}
";

fn needs(policy: &Policy, given: &Given) -> Option<Need> {
    match go(
        &mut Run::default(),
        policy,
        "10.0.0.1",
        given,
        &Fake::default(),
    ) {
        Next::Need(need) => Some(need),
        Next::Done(_) => None,
    }
}

#[test]
fn the_published_response_waits_for_a_request_and_answers_it() {
    let policy = Policy::compile(HELLO, EndpointType::Cloud).expect("valid");
    assert!(!policy.is_simple());
    let notices = policy.notices();
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].path, "on_http_request[0]");
    assert!(
        notices[0].message.contains("answers with a status"),
        "{notices:?}"
    );
    assert_eq!(needs(&policy, &Given::default()), Some(Need::Request));

    let mut run = Run::default();
    let world = Fake::default();
    go(&mut run, &policy, "10.0.0.1", &Given::default(), &world);
    assert!(run.take_log().is_empty());
    let Next::Done(Decision::Respond {
        rule,
        bytes,
        status,
    }) = go(&mut run, &policy, "10.0.0.1", &request("GET", "/"), &world)
    else {
        panic!("no response")
    };
    assert_eq!((&*rule, status), ("on_http_request[0]", Some(200)));
    let shown = format!(
        "{:?}",
        Decision::Respond {
            rule,
            bytes: bytes.clone(),
            status
        }
    );
    assert!(
        shown.contains(&format!("bytes: {} bytes,", bytes.len())),
        "{shown}"
    );
    let text = String::from_utf8(bytes.to_vec()).expect("text");
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    assert!(
        text.to_ascii_lowercase()
            .contains("content-type: text/plain\r\n"),
        "{text}"
    );
    assert!(
        text.to_ascii_lowercase().contains("connection: close\r\n"),
        "{text}"
    );
    assert!(text.ends_with("\r\n\r\nHello world!"), "{text}");
    assert_eq!(run.take_log(), ["on_http_request[0]: custom-response 200"]);

    let Next::Done(Decision::Respond { bytes, .. }) = go(
        &mut Run::default(),
        &policy,
        "10.0.0.1",
        &request("HEAD", "/"),
        &world,
    ) else {
        panic!("no response")
    };
    assert!(bytes.ends_with(b"\r\n\r\n"));
}

#[test]
fn a_status_for_what_is_no_http_is_a_close() {
    let policy = policy(HELLO);
    let next = go(
        &mut Run::default(),
        &policy,
        "10.0.0.1",
        &NOT_HTTP,
        &Fake::default(),
    );
    assert_eq!(
        next,
        Next::Done(Decision::NotHttp {
            rule: Arc::from("on_http_request[0]")
        })
    );
}

#[test]
fn the_published_forward_waits_for_nothing() {
    let policy = Policy::compile(FORWARD, EndpointType::Cloud).expect("valid");
    assert!(policy.is_simple() && policy.notices().is_empty());
    let decision = decide_in(&policy, "10.0.0.1", &Fake::default());
    assert_eq!(host(&decision), "example-service.internal");
    assert_eq!(policy.on_tcp_connect(&conn("10.0.0.1")).decision, decision);
}

#[test]
fn rules_before_the_one_that_waits_decide_at_connect() {
    let policy = policy(
        "
on_http_request:
  - actions: [{ type: restrict-ips, config: { allow: [10.0.0.0/8] } }]
  - expressions: [req.path == '/health']
    actions: [{ type: custom-response, config: { status_code: 204 } }]
  - actions: [{ type: forward-internal, config: { url: 'tcp://db.internal:5432' } }]
",
    );
    let world = Fake::default();
    let restricted = go(
        &mut Run::default(),
        &policy,
        "192.0.2.1",
        &Given::default(),
        &world,
    );
    assert!(matches!(
        restricted,
        Next::Done(Decision::Restricted { .. })
    ));
    let inside = |given: &Given| go(&mut Run::default(), &policy, "10.0.0.1", given, &world);
    assert_eq!(inside(&Given::default()), Next::Need(Need::Request));
    assert!(matches!(
        inside(&request("GET", "/health")),
        Next::Done(Decision::Respond {
            status: Some(204),
            ..
        })
    ));
    for given in [request("GET", "/other"), NOT_HTTP] {
        let Next::Done(decision) = inside(&given) else {
            panic!("it needs more")
        };
        assert_eq!(host(&decision), "db.internal");
    }
}

#[test]
fn a_request_is_not_waited_for_where_another_expression_fails_first() {
    let policy = policy(
        "
on_http_request:
  - expressions: [conn.client_port == 1, req.path == '/']
    actions: [{ type: deny }]
",
    );
    assert_eq!(
        decide_in(&policy, "10.0.0.1", &Fake::default()),
        Decision::FallThrough
    );
}

#[test]
fn texts_that_name_the_request_wait_before_any_action_of_their_rule() {
    let policy = policy(
        "
on_http_request:
  - actions:
      - type: log
        config: { metadata: { seen: 'yes' } }
      - type: forward-internal
        config: { url: 'tcp://${req.host}.internal:80' }
  - actions: [{ type: deny }]
",
    );
    let (mut run, world) = (Run::default(), Fake::default());
    let first = go(&mut run, &policy, "10.0.0.1", &Given::default(), &world);
    assert_eq!(first, Next::Need(Need::Request));
    assert!(run.take_logged().is_empty());
    let mut given = request("GET", "/");
    if let Some(Some(request)) = &mut given.request {
        request.host = "shop".to_owned();
    }
    let Next::Done(decision) = go(&mut run, &policy, "10.0.0.1", &given, &world) else {
        panic!("it needs more")
    };
    assert_eq!(host(&decision), "shop.internal");
    assert_eq!(run.take_logged().len(), 1);
    let other = go(&mut Run::default(), &policy, "10.0.0.1", &NOT_HTTP, &world);
    assert!(matches!(other, Next::Done(Decision::Deny { .. })));
    // Whoever speaks no HTTP comes behind the rule, so alone it would not end the policy.
    let alone = "on_http_request: [{ actions: [{ type: forward-internal, config: { url: 'tcp://${req.host}.internal:80' } }] }]";
    let error = Policy::compile(alone, EndpointType::Cloud).expect_err("it may fall through");
    assert_eq!(error.code, Code::PolicyNotTerminating);
}

#[test]
fn connect_rules_come_first_wherever_they_stand() {
    let policy = policy(
        "
on_http_request: [{ name: second, actions: [{ type: close-connection }] }]
on_tcp_connect: [{ name: first, expressions: ['conn.client_ip == \"10.0.0.1\"'], actions: [{ type: deny }] }]
",
    );
    let world = Fake::default();
    assert!(matches!(
        decide_in(&policy, "10.0.0.1", &world),
        Decision::Deny { .. }
    ));
    assert!(matches!(
        decide_in(&policy, "10.0.0.2", &world),
        Decision::Close { .. }
    ));
}

#[test]
fn sniffing_waits_as_long_as_it_says_and_then_knows() {
    let policy = policy(
        "
on_tcp_connect:
  - actions: [{ type: sniff, config: { timeout: 250ms } }]
  - expressions: [conn.protocol == 'ssh']
    actions: [{ type: forward-internal, config: { url: 'tcp://ssh.internal:22' } }]
  - expressions: [\"conn.sni == 'db.example.com'\"]
    actions: [{ type: forward-internal, config: { url: 'tcp://db.internal:5432' } }]
",
    );
    assert!(policy.notices().is_empty());
    let wait = Duration::from_millis(250);
    assert_eq!(
        needs(&policy, &Given::default()),
        Some(Need::First { wait })
    );
    let given = |first: First| Given {
        tls: None,
        first: Some(first),
        request: None,
    };
    let world = Fake::default();
    let decided = |first: First| match go(
        &mut Run::default(),
        &policy,
        "10.0.0.1",
        &given(first),
        &world,
    ) {
        Next::Done(decision) => decision,
        Next::Need(need) => panic!("it needs {need:?}"),
    };
    let ssh = First {
        protocol: Protocol::Ssh,
        ..First::default()
    };
    assert_eq!(host(&decided(ssh)), "ssh.internal");
    let tls = First {
        protocol: Protocol::Tls,
        sni: Some("db.example.com".to_owned()),
        ..First::default()
    };
    assert_eq!(host(&decided(tls)), "db.internal");
    assert_eq!(decided(First::default()), Decision::FallThrough);
}

#[test]
fn nothing_runs_twice_when_something_was_needed() {
    let policy = policy(
        "
on_tcp_connect:
  - actions:
      - { type: log, config: { metadata: { n: 1 } } }
      - { type: rate-limit, config: { capacity: 1, interval: 1m } }
      - { type: sniff }
      - { type: deny }
",
    );
    let (mut run, world) = (Run::default(), Fake::default());
    for _ in 0..3 {
        let next = go(&mut run, &policy, "10.0.0.1", &Given::default(), &world);
        assert_eq!(
            next,
            Next::Need(Need::First {
                wait: Duration::from_secs(1)
            })
        );
    }
    assert_eq!(run.take_logged(), [serde_json::json!({ "n": 1 })]);
    let given = Given {
        tls: None,
        first: Some(First::default()),
        request: None,
    };
    for _ in 0..2 {
        let next = go(&mut run, &policy, "10.0.0.1", &given, &world);
        assert!(matches!(next, Next::Done(Decision::Deny { .. })));
    }
    assert_eq!(
        run.take_log(),
        [
            "on_tcp_connect[0]: log",
            "on_tcp_connect[0]: rate-limit allow",
            "on_tcp_connect[0]: sniff unknown",
            "on_tcp_connect[0]: deny"
        ]
    );
    assert!(run.take_log().is_empty());
}
