//! Policies tried as flags describe a connection.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: TestArgs,
}

const CERTIFICATE: &str =
    r"-----BEGIN CERTIFICATE-----\nY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n";

/// What happens to the connection that these flags describe.
fn tried(policy: &str, flags: &[&str]) -> Told {
    let args = ["test", "policy.yml"].iter().chain(flags);
    let line = Line::try_parse_from(args).expect("flags");
    let policy = Policy::compile(policy, EndpointType::Agent).expect("a policy");
    let connection = Connection::of(&line.args).expect("a connection");
    tell(&policy, &connection, &[])
}

fn by_name(terminate: bool) -> String {
    let terminate = if terminate {
        format!(
            "[{{ type: terminate-tls, config: {{ mutual_tls_certificate_authorities: [\"{CERTIFICATE}\"] }} }}]"
        )
    } else {
        "[{ type: log, config: { metadata: {} } }]".to_owned()
    };
    format!(
        "
on_tcp_connect:
  - actions: {terminate}
  - expressions: [\"conn.tls.client.subject.common_name == 'alice'\"]
    actions: [{{ type: forward-internal, config: {{ url: tcp://alice.internal:1 }} }}]
  - actions: [{{ type: deny }}]
"
    )
}

#[test]
fn a_terminated_connection_is_what_was_set() {
    let alice = "conn.tls.client.subject.common_name=alice";
    let policy = by_name(true);
    let told = tried(
        &policy,
        &["--set", alice, "--set", "conn.tls.sni=db.example.com"],
    );
    assert_eq!(told.outcome, "forward", "{}", told.json());
    let terminated = "TLS 1.3 is terminated for db.example.com".to_owned();
    assert!(told.steps.contains(&terminated), "{}", told.json());
    let told = tried(
        &policy,
        &["--set", "conn.tls.client.subject.common_name=bob"],
    );
    assert_eq!(told.outcome, "deny", "{}", told.json());
    let told = tried(&policy, &[]);
    assert_eq!(told.outcome, "tls-handshake", "{}", told.json());
    // Terminated by an endpoint that forwards here.
    let told = tried(&by_name(false), &["--set", alice]);
    assert_eq!(told.outcome, "forward", "{}", told.json());
}

#[test]
fn first_bytes_behind_a_request_for_tls_are_postgresql() {
    let policy = "
on_tcp_connect:
  - actions: [{ type: sniff }]
  - expressions: [\"conn.protocol == 'postgres'\"]
    actions: [{ type: close-connection }]
";
    let directory = std::env::temp_dir();
    let file = directory.join(format!("portcullis-first-bytes-{}", std::process::id()));
    // For GSSAPI, then for TLS, and a ClientHello that is cut short.
    let bytes = b"\0\0\0\x08\x04\xd2\x16\x30\0\0\0\x08\x04\xd2\x16\x2f\x16\x03\x01\x02\x00\x01";
    std::fs::write(&file, bytes).expect("ours");
    let path = file.display().to_string();
    let told = tried(policy, &["--first-bytes", &path]);
    std::fs::remove_file(&file).expect("ours");
    assert_eq!(told.outcome, "close", "{}", told.json());
}

#[test]
fn a_client_that_says_nothing_where_a_rule_waits_for_a_request_is_closed() {
    let policy = "
on_http_request:
  - expressions: [\"req.path == '/a'\"]
    actions: [{ type: close-connection }]
  - actions: [{ type: custom-response, config: { status_code: 200 } }]
";
    for (flags, outcome) in [
        (&[][..], "request-timeout"),
        (&["--set", "conn.protocol=http"], "request-timeout"),
        (&["--set", "conn.sni=a.example"], "request-timeout"),
        (&["--set", "conn.protocol=ssh"], "not-http"),
        (&["--request", "GET /a HTTP/1.1"], "close"),
        (&["--request", "GET /b HTTP/1.1"], "respond"),
        (&["--request", "hello"], "not-http"),
    ] {
        let told = tried(policy, flags);
        assert_eq!(told.outcome, outcome, "{flags:?}: {}", told.json());
    }
}
