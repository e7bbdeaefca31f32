//! `terminate-tls` and `limit-bandwidth` at work.

use super::*;
use crate::tls::{Authority, CertificateFacts, Identity, NameFacts, Verification};

const CERTIFICATE: &str =
    r"-----BEGIN CERTIFICATE-----\nY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n";
const OTHER: &str = r"-----BEGIN CERTIFICATE-----\nb3RoZXI=\n-----END CERTIFICATE-----\n";
const KEY: &str =
    "-----BEGIN PRIVATE KEY-----\nc2VjcmV0LWtleS1ieXRlcw==\n-----END PRIVATE KEY-----\n";

/// A rule that terminates, and one that forwards the client whose certificate names alice.
fn by_name(config: &str) -> Policy {
    policy(&format!(
        "
on_tcp_connect:
  - name: tls
    actions: [{{ type: terminate-tls, config: {config} }}]
  - expressions: [\"conn.tls.client.subject.common_name == 'alice'\"]
    actions: [{{ type: forward-internal, config: {{ url: tcp://alice.internal:1 }} }}]
  - actions: [{{ type: forward-internal, config: {{ url: tcp://any.internal:1 }} }}]
"
    ))
}

fn facts(client: Option<&str>, termination: Option<Arc<Termination>>) -> Given {
    let client = client.map(|name| CertificateFacts {
        subject: NameFacts {
            common_name: name.to_owned(),
            ..NameFacts::default()
        },
        ..CertificateFacts::default()
    });
    Given {
        tls: Some(Arc::new(TlsFacts {
            sni: "db.example.com".to_owned(),
            version: "1.2".to_owned(),
            cipher_suite: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned(),
            client,
            termination,
            ..TlsFacts::default()
        })),
        ..Given::default()
    }
}

/// What a fresh run needs first.
fn needed(policy: &Policy) -> (Run, Arc<Termination>) {
    let mut run = Run::default();
    let next = go(
        &mut run,
        policy,
        "10.0.0.1",
        &Given::default(),
        &Fake::default(),
    );
    match next {
        Next::Need(Need::Tls(termination)) => (run, termination),
        other => panic!("{other:?}"),
    }
}

fn after(run: &mut Run, policy: &Policy, given: &Given) -> Decision {
    match go(run, policy, "10.0.0.1", given, &Fake::default()) {
        Next::Done(decision) => decision,
        Next::Need(need) => panic!("{need:?}"),
    }
}

#[test]
fn connections_go_by_the_name_in_the_clients_certificate() {
    let policy = by_name(&format!(
        "{{ mutual_tls_certificate_authorities: [\"{CERTIFICATE}\"] }}"
    ));
    let (mut run, termination) = needed(&policy);
    // The one that whoever terminates could prepare for.
    assert!(
        policy
            .terminations()
            .any(|known| Arc::ptr_eq(known, &termination))
    );
    // It is asked for as long as it is not given.
    let again = go(
        &mut run,
        &policy,
        "10.0.0.1",
        &Given::default(),
        &Fake::default(),
    );
    assert_eq!(again, Next::Need(Need::Tls(Arc::clone(&termination))));
    let decision = after(&mut run, &policy, &facts(Some("alice"), None));
    assert_eq!(host(&decision), "alice.internal");
    assert_eq!(
        run.take_log()[0],
        "tls: terminate-tls 1.2 for db.example.com"
    );

    let (mut run, _) = needed(&policy);
    let decision = after(&mut run, &policy, &facts(Some("bob"), None));
    assert_eq!(host(&decision), "any.internal");
}

/// Whoever terminates has seen to it. Should it not have, nobody gets in.
#[test]
fn without_the_certificate_that_is_demanded_nobody_gets_in() {
    for (strategy, gets_in) in [
        ("require-and-verify", false),
        ("require-any", false),
        ("request", true),
    ] {
        let policy = by_name(&format!(
            "{{ mutual_tls_certificate_authorities: [\"{CERTIFICATE}\"], mutual_tls_verification_strategy: {strategy} }}"
        ));
        let (mut run, termination) = needed(&policy);
        let decision = after(&mut run, &policy, &facts(None, Some(termination)));
        assert_eq!(
            matches!(decision, Decision::Forward { .. }),
            gets_in,
            "{strategy}"
        );
    }
}

#[test]
fn what_it_leaves_is_read_by_later_rules() {
    let policy = policy(
        "
on_tcp_connect:
  - actions:
      - type: terminate-tls
      - type: log
        config:
          metadata:
            left: ${actions.ngrok.terminate_tls}
            name: ${actions.ngrok.terminate_tls.client.subject.common_name}
            pem: ${actions.ngrok.terminate_tls.server.pem}
",
    );
    let (mut run, _) = needed(&policy);
    after(&mut run, &policy, &facts(Some("alice"), None));
    assert_eq!(
        run.take_logged(),
        [serde_json::json!({
            "left": {
                "cipher_suite": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                "sni": "db.example.com",
                "version": "1.2",
                "error": { "code": "", "message": "" },
                "warnings": [],
            },
            "name": "alice",
            "pem": "",
        })]
    );
}

const TWICE: &str = "
on_tcp_connect:
  - actions:
      - type: terminate-tls
      - type: terminate-tls
        config: { alpn: [h2] }
      - { type: log, config: { metadata: { warnings: '${actions.ngrok.terminate_tls.warnings.size()}' } } }
";

#[test]
fn a_second_termination_goes_on_with_a_warning() {
    let policy = policy(TWICE);
    let (mut run, _) = needed(&policy);
    let decision = after(&mut run, &policy, &facts(None, None));
    assert_eq!(decision, Decision::FallThrough);
    assert_eq!(run.take_logged(), [serde_json::json!({ "warnings": 1 })]);
    assert!(run.take_log()[1].ends_with("terminate-tls 1.2 for db.example.com (before)"));
}

/// A member whose open failed: the next one's policy runs afresh, on a connection that is terminated already.
#[test]
fn the_same_termination_counts_for_another_run() {
    let policy = by_name(&format!(
        "{{ mutual_tls_certificate_authorities: [\"{CERTIFICATE}\"] }}"
    ));
    let (_, termination) = needed(&policy);
    // Of a policy that was compiled anew.
    let same = Arc::new((*termination).clone());
    let given = facts(Some("alice"), Some(same));
    let decision = after(&mut Run::default(), &policy, &given);
    assert_eq!(host(&decision), "alice.internal");
}

#[test]
fn an_earlier_termination_counts_for_what_it_demanded() {
    let demands = |strategy: &str, list: &[&str]| {
        let list: Vec<String> = list.iter().map(|pem| format!("\"{pem}\"")).collect();
        format!(
            "{{ alpn: [x], mutual_tls_certificate_authorities: [{}], mutual_tls_verification_strategy: {strategy} }}",
            list.join(", ")
        )
    };
    let (one, both) = (&[CERTIFICATE][..], &[CERTIFICATE, OTHER][..]);
    let (verify, any, request) = ("require-and-verify", "require-any", "request");
    let earlier = |config: Option<String>| {
        config.map(|config| needed(&by_name(&config.replace("[x]", "[z]"))).1)
    };
    for (now, before, client, counts) in [
        // It demands nothing.
        ("{}".to_owned(), None, None, true),
        (
            "{ alpn: [x] }".to_owned(),
            Some("{}".to_owned()),
            None,
            true,
        ),
        (demands(request, one), Some("{}".to_owned()), None, true),
        // A certificate.
        (demands(any, one), None, None, false),
        (demands(any, one), None, Some("alice"), true),
        (
            demands(any, one),
            Some(demands(request, one)),
            Some("alice"),
            true,
        ),
        // One that was verified, by one of these.
        (demands(verify, one), None, None, false),
        (demands(verify, one), None, Some("alice"), false),
        (
            demands(verify, one),
            Some("{}".to_owned()),
            Some("alice"),
            false,
        ),
        (
            demands(verify, one),
            Some(demands(request, one)),
            Some("alice"),
            false,
        ),
        (
            demands(verify, one),
            Some(demands(any, one)),
            Some("alice"),
            false,
        ),
        (
            demands(verify, one),
            Some(demands(verify, &[OTHER])),
            Some("alice"),
            false,
        ),
        (
            demands(verify, one),
            Some(demands(verify, both)),
            Some("alice"),
            false,
        ),
        (
            demands(verify, one),
            Some(demands(verify, one)),
            None,
            false,
        ),
        (
            demands(verify, one),
            Some(demands(verify, one)),
            Some("alice"),
            true,
        ),
        (
            demands(verify, both),
            Some(demands(verify, one)),
            Some("alice"),
            true,
        ),
        // Its version.
        (
            "{ min_version: 1.3 }".to_owned(),
            Some("{}".to_owned()),
            None,
            false,
        ),
        (
            "{ max_version: 1.2 }".to_owned(),
            Some("{}".to_owned()),
            None,
            true,
        ),
    ] {
        let policy = by_name(&now);
        let given = facts(client, earlier(before.clone()));
        let mut run = Run::default();
        let decision = after(&mut run, &policy, &given);
        assert_eq!(
            matches!(decision, Decision::Forward { .. }),
            counts,
            "{now}, {before:?}, {client:?}: {decision:?}"
        );
        if !counts {
            let (path, why) = failure(&decision);
            assert!(
                path.starts_with("on_tcp_connect[0].actions[0].config.m"),
                "{path}"
            );
            assert!(why.contains("TLS was terminated"), "{why}");
        }
    }
}

fn world(key: &str) -> Fake {
    let mut world = Fake::default();
    let name = ("tls".to_owned(), "key".to_owned());
    world.secrets.insert(name, Arc::from(key));
    world
}

#[test]
fn a_key_may_come_from_a_vault() {
    let policy = policy(&format!(
        "on_tcp_connect: [{{ actions: [{{ type: set-vars, config: {{ vars: [{{ ca: \"{OTHER}\" }}] }} }}, {{ type: terminate-tls, config: {{ server_certificate: \"{CERTIFICATE}\", server_private_key: \"${{secrets.get('tls', 'key')}}\", mutual_tls_certificate_authorities: [\"{CERTIFICATE}\", '${{vars.ca}}'] }} }}] }}]"
    ));
    let mut run = Run::explaining();
    let next = go(
        &mut run,
        &policy,
        "10.0.0.1",
        &Given::default(),
        &world(KEY),
    );
    let Next::Need(Need::Tls(termination)) = &next else {
        panic!("{next:?}")
    };
    assert!(
        matches!(&termination.identity, Identity::Pem { private_key, .. } if private_key == KEY)
    );
    assert_eq!(termination.clients.strategy, Verification::RequireAndVerify);
    assert!(
        matches!(&termination.clients.authorities[..], [Authority::Pem(_), Authority::Pem(other)] if other.contains("b3Ro"))
    );
    // Once it is done nothing is read again.
    let given = facts(Some("alice"), None);
    let decision = go(&mut run, &policy, "10.0.0.1", &given, &Fake::default());
    assert_eq!(decision, Next::Done(Decision::FallThrough));
    let told = format!(
        "{next:?} {decision:?} {run:?} {:?} {policy:?}",
        run.take_log()
    );
    assert!(!told.contains("c2Vj"), "{told}");

    // What is no key fails the policy, and is not told.
    for (key, wanted) in [
        ("hunter2", "there is no private key in the text"),
        (
            "-----BEGIN PRIVATE KEY-----\nhunter2",
            "block 1 of the PEM text has no end",
        ),
    ] {
        let mut run = Run::explaining();
        let next = go(
            &mut run,
            &policy,
            "10.0.0.1",
            &Given::default(),
            &world(key),
        );
        let Next::Done(decision) = &next else {
            panic!("{next:?}")
        };
        let (path, why) = failure(decision);
        assert_eq!(
            path,
            "on_tcp_connect[0].actions[1].config.server_private_key"
        );
        assert!(why.contains(wanted), "{why}");
        let told = format!("{next:?} {run:?} {:?}", run.take_log());
        assert!(!told.contains("hunter2"), "{told}");
    }
    let next = go(
        &mut Run::default(),
        &policy,
        "10.0.0.1",
        &Given::default(),
        &Fake::default(),
    );
    assert!(
        matches!(next, Next::Done(Decision::Failed { .. })),
        "{next:?}"
    );
}

#[test]
fn a_request_is_read_inside_of_tls() {
    let policy = policy(
        "
on_tcp_connect: [{ actions: [{ type: terminate-tls }] }]
on_http_request:
  - expressions: [req.host == 'example.com']
    actions: [{ type: forward-internal, config: { url: tcp://web.internal:1 } }]
  - actions: [{ type: deny }]
",
    );
    let (mut run, _) = needed(&policy);
    let mut given = facts(None, None);
    let next = go(&mut run, &policy, "10.0.0.1", &given, &Fake::default());
    assert_eq!(next, Next::Need(Need::Request));
    given.request = request("GET", "/").request;
    assert_eq!(host(&after(&mut run, &policy, &given)), "web.internal");
}

/// All limits that a policy sets.
fn bandwidths(configs: &str) -> Vec<Bandwidth> {
    let policy = policy(&format!(
        "on_tcp_connect: [{{ name: slow, actions: [{configs}] }}]"
    ));
    let mut run = Run::default();
    after(&mut run, &policy, &Given::default());
    run.bandwidths().to_vec()
}

#[test]
fn bandwidths_are_collected() {
    let limit =
        |config: &str| bandwidths(&format!("{{ type: limit-bandwidth, config: {config} }}"));
    let one = |upload, download, burst| Bandwidth {
        bucket: None,
        upload,
        download,
        burst,
    };
    assert_eq!(bandwidths("{ type: log, config: { metadata: {} } }"), []);
    assert_eq!(
        limit("{ rate: 1MB }"),
        [one(1_000_000, 1_000_000, 1_000_000)]
    );
    assert_eq!(limit("{ upload: 512KiB }"), [one(524_288, 0, 524_288)]);
    assert_eq!(
        limit("{ download: 2000, burst: 1MiB }"),
        [one(0, 2_000, 1_048_576)]
    );
    assert_eq!(
        limit("{ upload: 1KB, download: 1GB, burst: 4KB }"),
        [one(1_000, 1_000_000_000, 4_000)]
    );
    // Each may burst what goes its way in a second.
    assert_eq!(
        limit("{ upload: 1KB, download: 1GB }"),
        [one(1_000, 0, 1_000), one(0, 1_000_000_000, 1_000_000_000)]
    );
    let shared = limit("{ upload: 1KB, download: 2KB, key: conn.client_ip }");
    let buckets: Vec<&Bucket> = shared
        .iter()
        .filter_map(|one| one.bucket.as_ref())
        .collect();
    let actions: Vec<&str> = buckets.iter().map(|bucket| &*bucket.action).collect();
    assert_eq!(actions, ["slow[0]/upload", "slow[0]/download"]);
    assert!(buckets.iter().all(|bucket| &*bucket.key == "10.0.0.1"));
    let two = bandwidths(
        "{ type: limit-bandwidth, config: { rate: 1MB } }, { type: limit-bandwidth, config: { rate: 2MB, key: \"'all'\" } }",
    );
    assert_eq!(two.len(), 2);
    assert_eq!(
        two[1].bucket.as_ref().map(|bucket| &*bucket.action),
        Some("slow[1]")
    );
}

#[test]
fn a_connection_has_few_limits_of_its_bandwidth() {
    let limit = "{ type: limit-bandwidth, config: { rate: 1MB } }";
    let rule = |count: usize| format!("{{ actions: [{}] }}", vec![limit; count].join(", "));
    let sixteen = policy(&format!("on_tcp_connect: [{}]", rule(16)));
    assert_eq!(
        after(&mut Run::default(), &sixteen, &Given::default()),
        Decision::FallThrough
    );
    let more = policy(&format!("on_tcp_connect: [{}, {}]", rule(16), rule(1)));
    let decision = after(&mut Run::default(), &more, &Given::default());
    let (path, why) = failure(&decision);
    assert_eq!(path, "on_tcp_connect[1].actions[0].config.rate");
    assert!(why.contains("at most 16 limits"), "{why}");
}
