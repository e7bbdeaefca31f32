//! `terminate-tls` and `limit-bandwidth`: what is refused, what is made of what is not, and that no key is told.

use super::*;
use crate::tls::{Authority, Identity, Termination, TlsVersion, Verification};

/// As they stand in YAML's double quotes.
const CERTIFICATE: &str =
    r"-----BEGIN CERTIFICATE-----\nY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n";
const KEY: &str =
    r"-----BEGIN PRIVATE KEY-----\nc2VjcmV0LWtleS1ieXRlcw==\n-----END PRIVATE KEY-----\n";
const STORED: &str = "30tNcWkLmgyIO1zPS4aDMAbFzYU";

fn pair(certificate: &str, key: &str) -> String {
    format!("{{ server_certificate: \"{certificate}\", server_private_key: \"{key}\" }}")
}

fn authorities(list: &str) -> String {
    format!("{{ mutual_tls_certificate_authorities: {list} }}")
}

fn tls(text: &str) -> String {
    config("terminate-tls", text)
}

#[test]
fn versions_and_protocols() {
    use Code::{PolicyConfig, PolicyTooLarge};
    let many = format!("{{ alpn: [{}] }}", ["h2"; 17].join(", "));
    let long = format!("{{ alpn: [{}] }}", "x".repeat(256));
    refused(&[
        (
            tls("5"),
            PolicyConfig,
            "the config of terminate-tls is a map",
        ),
        (
            tls("{ min_version: 1.1 }"),
            PolicyConfig,
            "config.min_version: `1.2` or `1.3` is expected, and this is the number 1.1",
        ),
        (
            tls("{ min_version: 'TLSv1.2' }"),
            PolicyConfig,
            "this is the text `TLSv1.2`",
        ),
        (
            tls("{ max_version: '1.4' }"),
            PolicyConfig,
            "config.max_version: `1.2` or `1.3` is expected",
        ),
        (
            tls("{ max_version: [1.2] }"),
            PolicyConfig,
            "config.max_version: `1.2` or `1.3` is expected, and this is a list",
        ),
        (
            tls("{ min_version: 1.3, max_version: 1.2 }"),
            PolicyConfig,
            "config.min_version: `min_version` is above `max_version`",
        ),
        (
            tls("{ min_verson: 1.3 }"),
            PolicyConfig,
            "did you mean `min_version`?",
        ),
        (
            tls("{ alpn: h2 }"),
            PolicyConfig,
            "config.alpn: a list of protocols is expected",
        ),
        (
            tls("{ alpn: [h2, h2] }"),
            PolicyConfig,
            "config.alpn[1]: the protocol `h2` stands twice",
        ),
        (
            tls("{ alpn: [''] }"),
            PolicyConfig,
            "config.alpn[0]: `` is no name of a protocol",
        ),
        (
            tls("{ alpn: [a b] }"),
            PolicyConfig,
            "config.alpn[0]: `a b` is no name",
        ),
        (
            tls("{ alpn: ['${vars.x}'] }"),
            PolicyConfig,
            "is no name of a protocol",
        ),
        (
            tls("{ alpn: [5] }"),
            PolicyConfig,
            "config.alpn[0]: the name of a protocol, such as `h2` is expected",
        ),
        (
            tls(&long),
            PolicyConfig,
            "use 1 to 255 printable characters",
        ),
        (
            tls(&many),
            PolicyTooLarge,
            "config.alpn: there are 17 protocols; at most 16",
        ),
    ]);
}

#[test]
fn certificates() {
    use Code::{PolicyConfig, PolicyExpressions};
    let folded = KEY.replace("\\n", " ");
    let encrypted = KEY.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let old = KEY.replace("c2Vj", "Proc-Type: 4,ENCRYPTED\\nc2Vj");
    let cut = KEY.replace("-----END PRIVATE KEY-----\\n", "");
    let garbled = CERTIFICATE.replace("Y2Vy", "Y2V*");
    refused(&[
        (
            tls(&format!("{{ server_private_key: \"{KEY}\" }}")),
            PolicyConfig,
            "config: `server_private_key` needs `server_certificate` beside it",
        ),
        (
            tls(&format!("{{ server_certificate: \"{CERTIFICATE}\" }}")),
            PolicyConfig,
            "config: `server_certificate` needs `server_private_key` beside it",
        ),
        (
            tls("{ server_certificate: '${vars.x}' }"),
            PolicyConfig,
            "config: `server_certificate` needs `server_private_key`",
        ),
        (
            tls("{ server_certificate: cert_1 }"),
            PolicyConfig,
            "config.server_certificate: `cert_1` is no id of a TLS certificate",
        ),
        (
            tls(&format!(
                "{{ server_certificate: cert_{STORED}, server_private_key: \"{KEY}\" }}"
            )),
            PolicyConfig,
            "config.server_private_key: a certificate that is named by its id",
        ),
        (
            tls(&pair("a", KEY)),
            PolicyConfig,
            "config.server_certificate: there is no certificate in the text: no line `-----BEGIN CERTIFICATE-----`",
        ),
        (
            tls(&pair(KEY, KEY)),
            PolicyConfig,
            "config.server_certificate: there is no certificate in the text",
        ),
        (
            tls(&pair(&garbled, KEY)),
            PolicyConfig,
            "config.server_certificate: block 1 of the PEM text is not base64",
        ),
        (
            tls(&pair(CERTIFICATE, CERTIFICATE)),
            PolicyConfig,
            "config.server_private_key: there is no private key in the text",
        ),
        (
            tls(&pair(CERTIFICATE, &folded)),
            PolicyConfig,
            "in YAML put it under `|`",
        ),
        (
            tls(&pair(CERTIFICATE, &encrypted)),
            PolicyConfig,
            "config.server_private_key: the private key is encrypted",
        ),
        (
            tls(&pair(CERTIFICATE, &old)),
            PolicyConfig,
            "config.server_private_key: the private key is encrypted",
        ),
        (
            tls(&pair(CERTIFICATE, &cut)),
            PolicyConfig,
            "config.server_private_key: block 1 of the PEM text has no end",
        ),
        (
            tls(&pair(CERTIFICATE, &KEY.repeat(2))),
            PolicyConfig,
            "more than one private key",
        ),
        (
            tls(&format!(
                "{{ server_certificate: \"{CERTIFICATE}\", server_private_key: {{ a: b }} }}"
            )),
            PolicyConfig,
            "config.server_private_key: a private key as PEM text is expected, and this is a map",
        ),
        (
            tls(&pair(CERTIFICATE, "${secrets.get('a')}")),
            PolicyExpressions,
            "config.server_private_key: in the `${…}` at character 1",
        ),
        (
            tls(&pair(CERTIFICATE, "${vars.x")),
            PolicyExpressions,
            "config.server_private_key: the `${` at character 1 is not closed",
        ),
    ]);
}

#[test]
fn certificates_of_clients() {
    use Code::{PolicyConfig, PolicyTooLarge};
    let many = format!("[{}]", vec![format!("ca_{STORED}"); 33].join(", "));
    refused(&[
        (
            tls(&authorities(&format!("\"{CERTIFICATE}\""))),
            PolicyConfig,
            "config.mutual_tls_certificate_authorities: a list of certificate authorities is expected, and this is a text",
        ),
        (
            tls(&authorities("{ a: b }")),
            PolicyConfig,
            "a list of certificate authorities is expected, and this is a map",
        ),
        (
            tls(&authorities("[ca_1]")),
            PolicyConfig,
            "config.mutual_tls_certificate_authorities[0]: `ca_1` is no id of a certificate authority",
        ),
        (
            tls(&authorities(&format!("[ca_{STORED}, 'x']"))),
            PolicyConfig,
            "config.mutual_tls_certificate_authorities[1]: there is no certificate in the text",
        ),
        (
            tls(&authorities("[5]")),
            PolicyConfig,
            "config.mutual_tls_certificate_authorities[0]: a certificate as PEM text is expected, and this is the number 5",
        ),
        (
            tls(&authorities(&many)),
            PolicyTooLarge,
            "there are 33 certificate authorities; at most 32",
        ),
        (
            tls("{ mutual_tls_verification_strategy: request }"),
            PolicyConfig,
            "config.mutual_tls_verification_strategy: it says what is done with the certificates of clients",
        ),
        (
            tls(
                "{ mutual_tls_verification_strategy: require-and-verify, mutual_tls_certificate_authorities: [] }",
            ),
            PolicyConfig,
            "list at least one",
        ),
        (
            tls(&format!(
                "{{ mutual_tls_verification_strategy: require, mutual_tls_certificate_authorities: [ca_{STORED}] }}"
            )),
            PolicyConfig,
            "config.mutual_tls_verification_strategy: there is no strategy `require`",
        ),
        (
            tls(&format!(
                "{{ mutual_tls_verification_strategy: requst, mutual_tls_certificate_authorities: [ca_{STORED}] }}"
            )),
            PolicyConfig,
            "did you mean `request`?",
        ),
        (
            tls(&format!(
                "{{ mutual_tls_verification_strategy: true, mutual_tls_certificate_authorities: [ca_{STORED}] }}"
            )),
            PolicyConfig,
            "and this is the word true",
        ),
    ]);
}

fn compiled(text: &str) -> Policy {
    match Policy::compile(text, EndpointType::Agent) {
        Ok(policy) => policy,
        Err(error) => panic!("{text}\n{error}"),
    }
}

fn termination(text: &str) -> Termination {
    let policy = compiled(&tls(text));
    assert!(policy.may_terminate_tls() && !policy.is_simple() && !policy.is_terminating());
    let all: Vec<&Termination> = policy.terminations().map(|one| &**one).collect();
    assert_eq!(all.len(), 1, "{text}");
    all[0].clone()
}

#[test]
fn what_is_known_is_made_once() {
    let plain = termination("{}");
    assert_eq!(plain, termination("null"));
    assert_eq!(
        (plain.min_version, plain.max_version),
        (TlsVersion::V12, TlsVersion::V13)
    );
    assert!(plain.identity == Identity::Managed && plain.alpn.is_empty());
    assert_eq!(plain.clients.authorities, []);
    assert_eq!(plain.clients.strategy, Verification::RequireAndVerify);

    let numbers = termination("{ min_version: 1.3, max_version: 1.3, alpn: [h2, http/1.1] }");
    assert_eq!(
        numbers,
        termination("{ min_version: '1.3', max_version: '1.3', alpn: [h2, http/1.1] }")
    );
    assert_eq!(numbers.min_version, TlsVersion::V13);
    assert_eq!(numbers.alpn, ["h2", "http/1.1"]);

    let stored = termination(&format!(
        "{{ server_certificate: cert_{STORED}, mutual_tls_certificate_authorities: [ca_{STORED}, \"{CERTIFICATE}\"], mutual_tls_verification_strategy: require-any }}"
    ));
    assert!(
        matches!(&stored.identity, Identity::Stored(id) if id.as_str() == format!("cert_{STORED}"))
    );
    assert_eq!(stored.clients.strategy, Verification::RequireAny);
    assert!(
        matches!(&stored.clients.authorities[..], [Authority::Stored(_), Authority::Pem(text)] if text.contains("Y2Vy"))
    );

    // A chain and what tools write beside it.
    let chain = format!("subject=a\\n{CERTIFICATE}{CERTIFICATE}");
    let parameters =
        r"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    let ec = format!(
        "{parameters}{}",
        KEY.replace("PRIVATE KEY", "EC PRIVATE KEY")
    );
    let given = termination(&pair(&chain, &ec));
    assert!(
        matches!(&given.identity, Identity::Pem { private_key, .. } if private_key.contains("EC PRIVATE"))
    );
    let empty = compiled(&tls(&authorities("[]")));
    assert!(
        empty.notices()[0]
            .message
            .contains("asked for no certificate")
    );
}

#[test]
fn what_is_not_known_is_not_made() {
    for text in [
        pair(CERTIFICATE, "${secrets.get('tls', 'key')}"),
        pair("${vars.cert}", KEY),
        authorities("['${vars.ca}']"),
    ] {
        let policy = compiled(&tls(&text));
        assert!(
            policy.may_terminate_tls() && policy.terminations().next().is_none(),
            "{text}"
        );
    }
    let policy = compiled(&tls(&pair(CERTIFICATE, "${secrets.get('tls', 'key')}")));
    let secrets = policy.uses().secrets;
    assert_eq!(
        secrets.into_iter().collect::<Vec<_>>(),
        [("tls".to_owned(), "key".to_owned())]
    );
}

#[test]
fn what_it_uses_is_told() {
    let text = format!(
        "on_tcp_connect: [{{ actions: [{{ type: terminate-tls, config: {{ server_certificate: cert_{STORED}, mutual_tls_certificate_authorities: [ca_{STORED}, '${{vars.ca}}'] }} }}] }}]"
    );
    let uses = compiled(&text).uses();
    let certificates: Vec<&str> = uses.certificates.iter().map(|id| id.as_str()).collect();
    assert_eq!(certificates, [format!("cert_{STORED}")]);
    let authorities: Vec<&str> = uses.authorities.iter().map(|id| id.as_str()).collect();
    assert_eq!(authorities, [format!("ca_{STORED}")]);
}

/// Neither where it belongs nor where it does not.
#[test]
fn no_key_is_told() {
    let secret = "c2VjcmV0";
    let mut told = String::new();
    for text in [
        tls(&pair(CERTIFICATE, KEY)),
        tls(&pair("${vars.x}", KEY)),
        tls(&pair(CERTIFICATE, &format!("${{vars.x}}{KEY}"))),
        tls(&pair(KEY, KEY)),
        tls(&pair(CERTIFICATE, &KEY.replace("-----END", ""))),
        tls(&pair(CERTIFICATE, &format!("{KEY}${{vars.x"))),
        tls(&format!("\"{KEY}\"")),
        tls(&authorities(&format!("[\"{KEY}\"]"))),
        tls(&authorities(&format!("\"{KEY}\""))),
        tls(&format!("{{ min_version: \"{KEY}\" }}")),
        tls(&format!(
            "{{ mutual_tls_verification_strategy: \"{KEY}\" }}"
        )),
        tls(&format!("{{ alpn: [\"{KEY}\"] }}")),
        tls(&format!("{{ \"{KEY}\": 1 }}")),
        tls(&format!("{{ server_certificate: \"cert_{KEY}\" }}")),
        config("deny", &format!("{{ mode: \"{KEY}\" }}")),
        format!("on_tcp_connect: \"{KEY}\""),
    ] {
        match Policy::compile(&text, EndpointType::Agent) {
            Ok(policy) => {
                let all: Vec<_> = policy.terminations().collect();
                told.push_str(&format!("{policy:?} {all:?} {:?}", policy.uses()));
            }
            Err(error) => told.push_str(&format!("{error:?} {error}")),
        }
    }
    assert!(!told.contains(secret), "{told}");
}

#[test]
fn bandwidths() {
    use Code::{PolicyConfig, PolicyExpressions};
    let limit = |text: &str| config("limit-bandwidth", text);
    refused(&[
        (
            rule("{ type: limit-bandwidth }"),
            PolicyConfig,
            "config: limit-bandwidth needs a config with `upload`, `download` or `rate`",
        ),
        (
            limit("{}"),
            PolicyConfig,
            "config: limit-bandwidth needs `upload`, `download` or `rate`",
        ),
        (
            limit("{ burst: 1MB }"),
            PolicyConfig,
            "limit-bandwidth needs `upload`",
        ),
        (
            limit("{ rate: 1MB, upload: 1MB }"),
            PolicyConfig,
            "config: `rate` sets both",
        ),
        (
            limit("{ rate: fast }"),
            PolicyConfig,
            "config.rate: a number of bytes such as `1MB` or `512KiB` is expected, and this is the text `fast`",
        ),
        (
            limit("{ upload: 1.5 }"),
            PolicyConfig,
            "config.upload: a number of bytes",
        ),
        (
            limit("{ upload: -5 }"),
            PolicyConfig,
            "config.upload: a number of bytes",
        ),
        (
            limit("{ download: 999 }"),
            PolicyConfig,
            "config.download: the number 999 is out of bounds; from 1000 bytes to 1TiB is possible",
        ),
        (
            limit("{ download: 2TiB }"),
            PolicyConfig,
            "config.download: the text `2TiB` is out of bounds",
        ),
        (
            limit("{ rate: 0 }"),
            PolicyConfig,
            "config.rate: the number 0 is out of bounds",
        ),
        (
            limit("{ rate: 1MB, burst: 10 }"),
            PolicyConfig,
            "config.burst: the number 10 is out of bounds",
        ),
        (
            limit("{ rate: '${vars.x}' }"),
            PolicyConfig,
            "config.rate: a number of bytes",
        ),
        (
            limit("{ rate: 1MB, key: 5 }"),
            PolicyConfig,
            "config.key: an expression in quotes is expected",
        ),
        (
            limit("{ rate: 1MB, key: conn.client_up }"),
            PolicyExpressions,
            "config.key",
        ),
        (
            limit("{ rate: 1MB, bucket: x }"),
            PolicyConfig,
            "the config of limit-bandwidth has no key `bucket`",
        ),
        (
            limit("{ bytes_per_second: 1 }"),
            PolicyConfig,
            "has no key `bytes_per_second`",
        ),
    ]);
    for text in [
        "{ rate: 1MB }",
        "{ rate: 1000 }",
        "{ upload: 512KiB, download: 4 MiB, burst: 64KiB, key: conn.client_ip }",
        "{ download: 1TiB, rate: null }",
    ] {
        let policy = compiled(&limit(text));
        assert!(!policy.is_simple() && !policy.is_terminating() && policy.notices().is_empty());
    }
}

#[test]
fn what_is_known_of_tls_is_noticed_where_nothing_terminates_it() {
    let notices = |actions: &str, expression: &str| -> usize {
        let text = format!(
            "on_tcp_connect: [{{ actions: [{actions}] }}, {{ expressions: [\"{expression}\"], actions: [{{ type: deny }}] }}]"
        );
        let policy = compiled(&text);
        let told = policy
            .notices()
            .iter()
            .filter(|notice| notice.message.contains("terminate-tls"));
        assert_eq!(
            policy.notices().len(),
            told.clone().count(),
            "{:?}",
            policy.notices()
        );
        told.count()
    };
    let (log, tls) = (
        "{ type: log, config: { metadata: {} } }",
        "{ type: terminate-tls }",
    );
    for (expression, count) in [
        ("conn.tls.client.subject.common_name == 'a'", 1),
        ("conn.tls.client.extensions[0].id == 'a'", 1),
        ("size(conn.tls) > 0", 1),
        (
            "actions.ngrok.terminate_tls.client.subject.common_name == 'a'",
            1,
        ),
        ("conn.tls.sni == 'a'", 0),
        ("conn.client_port == 1", 0),
    ] {
        assert_eq!(notices(log, expression), count, "{expression}");
        assert_eq!(notices(tls, expression), 0, "{expression}");
    }
    let error = fault(&when("\"actions.ngrok.terminate_tls.client.subjet == ''\""));
    assert!(error.message.contains("subjet"), "{error}");
}

#[test]
fn tls_is_terminated_before_a_request_is_read() {
    let rules = |rules: &str| {
        let policy = compiled(&format!("on_http_request: [{rules}]"));
        let told = policy.notices().iter().map(|notice| notice.message.clone());
        told.filter(|message| message.contains("terminate it first"))
            .count()
    };
    let terminates = "{ actions: [{ type: terminate-tls }] }";
    let waits = "{ expressions: [req.host == 'a'], actions: [{ type: deny }] }";
    let both = "{ expressions: [req.host == 'a'], actions: [{ type: terminate-tls }] }";
    assert_eq!(rules(&format!("{terminates}, {waits}")), 0);
    assert_eq!(rules(&format!("{waits}, {terminates}")), 1);
    assert_eq!(rules(both), 1);
}
