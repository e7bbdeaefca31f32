//! Endpoint URLs: every rule with its code and proposal, and properties.

mod tls;

use proptest::prelude::*;

use super::*;
use crate::endpoint::Binding;
use crate::endpoint::Binding::{Internal, Kubernetes, Public};

fn exact(host: &str, port: u16) -> UrlRequest {
    UrlRequest::Exact(EndpointUrl::new(host, port))
}

fn host(name: &str) -> UrlRequest {
    UrlRequest::Host(name.to_owned())
}

#[test]
fn accepts_every_valid_form() {
    let long = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
    let cases: &[(&str, Option<Binding>, Binding, UrlRequest)] = &[
        ("", None, Public, UrlRequest::Random),
        ("  ", Some(Public), Public, UrlRequest::Random),
        ("tcp://", None, Public, UrlRequest::Random),
        ("TCP://", Some(Public), Public, UrlRequest::Random),
        (
            "tcp://1.tcp.example.com",
            None,
            Public,
            host("1.tcp.example.com"),
        ),
        ("1.tcp.example.com", None, Public, host("1.tcp.example.com")),
        (
            "tcp://1.tcp.example.com:20001",
            None,
            Public,
            exact("1.tcp.example.com", 20001),
        ),
        (
            " tcp://1.tcp.example.com:20001\n",
            None,
            Public,
            exact("1.tcp.example.com", 20001),
        ),
        (
            "Tcp://Edge.Example.COM:20001",
            Some(Public),
            Public,
            exact("edge.example.com", 20001),
        ),
        (
            "edge.example.com:20001",
            None,
            Public,
            exact("edge.example.com", 20001),
        ),
        ("tcp://localhost:1", None, Public, exact("localhost", 1)),
        (
            "tcp://localhost:65535",
            None,
            Public,
            exact("localhost", 65535),
        ),
        (
            "tcp://localhost:00080",
            None,
            Public,
            exact("localhost", 80),
        ),
        (
            "tcp://xn--bcher-kva.example:20001",
            None,
            Public,
            exact("xn--bcher-kva.example", 20001),
        ),
        (
            "tcp://203.0.113.5:20001",
            None,
            Public,
            exact("203.0.113.5", 20001),
        ),
        ("tcp://203.0.113.5", None, Public, host("203.0.113.5")),
        (
            "tcp://[2001:DB8::0:1]:20001",
            None,
            Public,
            exact("2001:db8::1", 20001),
        ),
        ("[::1]:20001", Some(Public), Public, exact("::1", 20001)),
        ("tcp://[2001:db8::1]", None, Public, host("2001:db8::1")),
        (
            &format!("tcp://{long}:5432"),
            None,
            Public,
            exact(&long, 5432),
        ),
        (
            "tcp://service.namespace:5432",
            None,
            Public,
            exact("service.namespace", 5432),
        ),
        (
            "tcp://internal.example.com:5432",
            None,
            Public,
            exact("internal.example.com", 5432),
        ),
        (
            "tcp://notinternal:5432",
            None,
            Public,
            exact("notinternal", 5432),
        ),
        (
            "tcp://db.internal:5432",
            None,
            Internal,
            exact("db.internal", 5432),
        ),
        (
            "tcp://DB.Internal:5432",
            Some(Internal),
            Internal,
            exact("db.internal", 5432),
        ),
        (
            "tcp://a.b.c.d.internal:5432",
            None,
            Internal,
            exact("a.b.c.d.internal", 5432),
        ),
        (
            "tcp://*.internal:5432",
            None,
            Internal,
            exact("*.internal", 5432),
        ),
        (
            "tcp://*.prod.internal:5432",
            Some(Internal),
            Internal,
            exact("*.prod.internal", 5432),
        ),
        (
            "tcp://db.default:5432",
            Some(Kubernetes),
            Kubernetes,
            exact("db.default", 5432),
        ),
    ];
    for (text, wish, binding, request) in cases.iter().chain(&tls::cases()) {
        assert_eq!(
            parse(text, *wish),
            Ok((*binding, request.clone())),
            "{text:?} with {wish:?}"
        );
    }
}

/// Text, binding asked for, code, and a part of the message that helps.
type Refusal = (&'static str, Option<Binding>, Code, &'static str);

const REFUSED: &[Refusal] = &[
    // Scheme
    (
        "https://example.com",
        None,
        Code::UrlScheme,
        "write `tcp://example.com`",
    ),
    (
        "http://u:secret@example.com/x?y",
        None,
        Code::UrlScheme,
        "write `tcp://example.com`",
    ),
    ("udp://host:53", None, Code::UrlScheme, "only TCP"),
    (
        "https://X.internal/a",
        None,
        Code::UrlScheme,
        "write `tcp://X.internal:443` with the port you mean",
    ),
    (
        "postgres://u:secret@db.internal",
        Some(Internal),
        Code::UrlScheme,
        "write `tcp://db.internal:5432`",
    ),
    (
        "http://db.internal:8080",
        None,
        Code::UrlScheme,
        "write `tcp://db.internal:8080`",
    ),
    (
        "ssh://host:22",
        None,
        Code::UrlScheme,
        "tcp and tls are the only schemes",
    ),
    ("://host:22", None, Code::UrlScheme, "is empty"),
    ("tcp:", None, Code::UrlMalformed, "write `tcp://`"),
    ("tcp", None, Code::UrlMalformed, "write `tcp://`"),
    (
        "tcp:host:22",
        None,
        Code::UrlMalformed,
        "write `tcp://host:22`",
    ),
    (
        "tcp:/host:22",
        None,
        Code::UrlMalformed,
        "write `tcp://host:22`",
    ),
    // Parts
    (
        "tcp://host:22/",
        None,
        Code::UrlTrailingSlash,
        "write `tcp://host:22`",
    ),
    (
        "tcp://host/",
        None,
        Code::UrlTrailingSlash,
        "write `tcp://host`",
    ),
    ("tcp:///", None, Code::UrlTrailingSlash, "write `tcp://`"),
    (
        "tcp://host:22//",
        None,
        Code::UrlTrailingSlash,
        "write `tcp://host:22`",
    ),
    (
        "tcp://db.internal:5432/",
        Some(Internal),
        Code::UrlTrailingSlash,
        "write `tcp://db.internal:5432`",
    ),
    (
        "tcp://host:22/path",
        None,
        Code::UrlPartNotAllowed,
        "has a path, which an endpoint URL cannot have; write `tcp://host:22`",
    ),
    (
        "host:22/path",
        None,
        Code::UrlPartNotAllowed,
        "write `tcp://host:22`",
    ),
    (
        "tcp://host:22?a=b",
        None,
        Code::UrlPartNotAllowed,
        "a query",
    ),
    (
        "tcp://host:22#top",
        None,
        Code::UrlPartNotAllowed,
        "a fragment",
    ),
    (
        "tcp://user@host:22",
        None,
        Code::UrlPartNotAllowed,
        "user info",
    ),
    (
        "tcp://user:pw@host:22/p?q#f",
        None,
        Code::UrlPartNotAllowed,
        "user info, a path, a query and a fragment",
    ),
    (
        "tcp://user:pw@host:22/",
        None,
        Code::UrlPartNotAllowed,
        "write `tcp://host:22`",
    ),
    // Form
    ("tcp://ho st:22", None, Code::UrlMalformed, "space"),
    (
        "tcp://host:22\u{7}x",
        None,
        Code::UrlMalformed,
        "control character",
    ),
    ("tcp:\\\\host:22", None, Code::UrlMalformed, "backslash"),
    ("tcp://a:b:22", None, Code::UrlMalformed, "only one `:`"),
    (
        "tcp://2001:db8::1",
        None,
        Code::UrlMalformed,
        "tcp://[2001:db8::1]:20001",
    ),
    (
        "tcp://2001:db8:0:0:0:0:0:1:22",
        None,
        Code::UrlMalformed,
        "tcp://[2001:db8:0:0:0:0:0:1]:22",
    ),
    (
        "tcp://[2001:db8::1:22",
        None,
        Code::UrlMalformed,
        "lacks the `]`",
    ),
    (
        "tcp://[2001:db8::1]22",
        None,
        Code::UrlMalformed,
        "behind the `]`",
    ),
    // Port
    ("tcp://host:0", None, Code::UrlPortRange, "1 to 65535"),
    ("tcp://host:65536", None, Code::UrlPortRange, "port 65536"),
    (
        "tcp://host:99999999999999999999",
        None,
        Code::UrlPortRange,
        "1 to 65535",
    ),
    (
        "tcp://host:ssh",
        None,
        Code::UrlPortNotNumeric,
        "`ssh` is not a number",
    ),
    ("tcp://host:-1", None, Code::UrlPortNotNumeric, "1 to 65535"),
    ("tcp://host:+22", None, Code::UrlPortNotNumeric, "in digits"),
    (
        "tcp://host:20000-20010",
        None,
        Code::UrlPortNotNumeric,
        "one endpoint per port",
    ),
    (
        "tcp://host:",
        None,
        Code::UrlPortMissing,
        "write `tcp://host:20001`",
    ),
    (
        "tcp://db.internal",
        None,
        Code::UrlPortMissing,
        "write `tcp://db.internal:5432`",
    ),
    (
        "tcp://db.default",
        Some(Kubernetes),
        Code::UrlPortMissing,
        "binding kubernetes",
    ),
    // Host
    (
        "tcp://:22",
        None,
        Code::UrlHostInvalid,
        "write `tcp://host:22`",
    ),
    ("5432", None, Code::UrlHostInvalid, "tcp://host:5432"),
    ("tcp://a..b:22", None, Code::UrlHostInvalid, "empty label"),
    ("tcp://.b:22", None, Code::UrlHostInvalid, "empty label"),
    (
        "tcp://example.com.:22",
        None,
        Code::UrlHostInvalid,
        "write `example.com`",
    ),
    ("tcp://-a.b:22", None, Code::UrlHostInvalid, "hyphen"),
    ("tcp://a-.b:22", None, Code::UrlHostInvalid, "hyphen"),
    (
        "tcp://my_db:22",
        None,
        Code::UrlHostInvalid,
        "has `_` in it",
    ),
    (
        "tcp://bücher.example:22",
        None,
        Code::UrlHostInvalid,
        "`xn--` form",
    ),
    (
        "tcp://256.1.1.1:22",
        None,
        Code::UrlHostInvalid,
        "looks like an IPv4 address",
    ),
    (
        "tcp://1.2.3:22",
        None,
        Code::UrlHostInvalid,
        "looks like an IPv4 address",
    ),
    (
        "tcp://[example.com]:22",
        None,
        Code::UrlHostInvalid,
        "not an IPv6 address",
    ),
    (
        "tcp://[fe80::1%eth0]:22",
        None,
        Code::UrlHostInvalid,
        "zone",
    ),
    (
        "tcp://[::ffff:10.0.0.1]:22",
        None,
        Code::UrlHostInvalid,
        "write `10.0.0.1`",
    ),
    (
        "tcp://0.0.0.0:22",
        None,
        Code::UrlHostInvalid,
        "every address",
    ),
    ("tcp://[::]:22", None, Code::UrlHostInvalid, "every address"),
    (
        "tcp://224.0.0.1:22",
        None,
        Code::UrlHostInvalid,
        "multicast",
    ),
    (
        "tcp://255.255.255.255:22",
        None,
        Code::UrlHostInvalid,
        "broadcast",
    ),
    // Public
    (
        "tcp://*.example.com:22",
        None,
        Code::UrlWildcard,
        "name the host in full",
    ),
    ("tcp://*:22", Some(Public), Code::UrlWildcard, "wildcard"),
    (
        "tcp://db.internal:5432",
        Some(Public),
        Code::UrlInternalSuffix,
        "use the binding internal",
    ),
    // Internal
    (
        "tcp://",
        Some(Internal),
        Code::UrlInternalRandom,
        "tcp://name.internal:5432",
    ),
    (
        "",
        Some(Internal),
        Code::UrlInternalRandom,
        "tcp://name.internal:5432",
    ),
    (
        "tcp://internal:5432",
        None,
        Code::UrlInternalSuffix,
        "tcp://name.internal:5432",
    ),
    (
        "tcp://db:5432",
        Some(Internal),
        Code::UrlInternalSuffix,
        "write `tcp://db.internal:5432`",
    ),
    (
        "tcp://db.example.com:5432",
        Some(Internal),
        Code::UrlInternalSuffix,
        "tcp://db.example.com.internal:5432",
    ),
    (
        "tcp://10.0.0.1:5432",
        Some(Internal),
        Code::UrlInternalSuffix,
        "tcp://name.internal:5432",
    ),
    (
        "tcp://a.b.c.d.e.internal:5432",
        None,
        Code::UrlHostLabels,
        "6 labels",
    ),
    (
        "tcp://a.*.internal:5432",
        None,
        Code::UrlWildcard,
        "as in `*.internal`",
    ),
    (
        "tcp://a*.b.internal:5432",
        None,
        Code::UrlWildcard,
        "as in `*.b.internal`",
    ),
    (
        "tcp://*.*.internal:5432",
        None,
        Code::UrlWildcard,
        "as in `*.internal`",
    ),
    // Kubernetes
    (
        "tcp://",
        Some(Kubernetes),
        Code::UrlKubernetesHost,
        "tcp://service.namespace:5432",
    ),
    (
        "tcp://db:5432",
        Some(Kubernetes),
        Code::UrlKubernetesHost,
        "write `tcp://db.default:5432`",
    ),
    (
        "tcp://db.prod.svc.cluster.local:5432",
        Some(Kubernetes),
        Code::UrlKubernetesHost,
        "write `tcp://db.prod:5432`",
    ),
    (
        "tcp://10.0.0.1:5432",
        Some(Kubernetes),
        Code::UrlKubernetesHost,
        "tcp://service.namespace:5432",
    ),
    (
        "tcp://*.prod:5432",
        Some(Kubernetes),
        Code::UrlWildcard,
        "wildcard",
    ),
    (
        "tcp://db.internal:5432",
        Some(Kubernetes),
        Code::UrlInternalSuffix,
        "binding kubernetes",
    ),
];

#[test]
fn refuses_every_invalid_form_with_its_code_and_a_proposal() {
    for (text, wish, code, part) in REFUSED.iter().chain(tls::REFUSED) {
        let error = parse(text, *wish).expect_err(text);
        assert_eq!(error.code, *code, "{text:?} with {wish:?}: {error}");
        assert!(error.message.contains(part), "{text:?}: {error}");
    }
}

#[test]
fn proposals_are_themselves_accepted() {
    for (text, wish, ..) in REFUSED.iter().chain(tls::REFUSED) {
        let message = parse(text, *wish).expect_err(text).message;
        let written = ["tcp", "tls"].into_iter().find_map(|scheme| {
            let (_, proposal) = message.split_once(&format!("write `{scheme}://"))?;
            Some(format!("{scheme}://{}", proposal.split('`').next()?))
        });
        let Some(proposal) = written else {
            continue;
        };
        assert!(
            parse(&proposal, *wish).is_ok() || proposal == "tcp://host:port",
            "{text:?} proposes {proposal}"
        );
    }
}

#[test]
fn too_long_texts_and_labels_are_refused() {
    let refused = |text: &str| parse(text, None).expect_err("too long").code;
    assert_eq!(
        refused(&format!("tcp://{}:22", "a.".repeat(600))),
        Code::UrlMalformed
    );
    assert_eq!(
        refused(&format!("tcp://{}:22", "a".repeat(64))),
        Code::UrlHostInvalid
    );
    assert_eq!(
        refused(&format!("tcp://{}b:22", "a.".repeat(127))),
        Code::UrlHostInvalid
    );
}

#[test]
fn messages_never_repeat_a_password() {
    for text in [
        "https://u:hunter2@h:1",
        "tcp://u:hunter2@h:1",
        "tcp://u:hunter2@h:1/x",
        "u:hunter2@h:1",
        "tcp:u:hunter2@h",
        "tcp://u:hunter2 @h:1",
    ] {
        let error = parse(text, None).expect_err(text);
        assert!(!error.message.contains("hunter2"), "{error}");
    }
}

#[test]
fn canonical_text_serialises_and_needs_a_port() {
    let url: EndpointUrl = "EDGE.example.com:20001".parse().expect("valid");
    assert_eq!(
        serde_json::to_string(&url).expect("a string"),
        "\"tcp://edge.example.com:20001\""
    );
    let v6: EndpointUrl = serde_json::from_str("\"tcp://[2001:db8::1]:20001\"").expect("valid");
    assert_eq!(
        (v6.host(), v6.hostport().as_str()),
        ("2001:db8::1", "[2001:db8::1]:20001")
    );
    assert_eq!(EndpointUrl::new("[2001:DB8::1]", 20001), v6);
    let name: EndpointUrl = "TLS://App.example.com".parse().expect("its port is known");
    assert_eq!(name.to_string(), "tls://app.example.com:443");
    assert_eq!(name.scheme(), Scheme::Tls);
    assert!(name < EndpointUrl::with_scheme(Scheme::Tls, "app.example.com", 444));
    assert_ne!(name, EndpointUrl::new("app.example.com", 443));
    assert_eq!(
        "tls://".parse::<EndpointUrl>().expect_err("no name").code,
        Code::UrlHostInvalid
    );
    for text in ["tcp://", "tcp://edge.example.com"] {
        assert_eq!(
            text.parse::<EndpointUrl>().expect_err("no port").code,
            Code::UrlPortMissing
        );
    }
    assert!(serde_json::from_str::<EndpointUrl>("\"tcp://x/\"").is_err());
}

#[test]
fn wildcards_run_from_narrow_to_wide() {
    let wider = |text: &str| {
        let url: EndpointUrl = text.parse().expect("valid");
        url.wildcards()
            .map(|wide| wide.host().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        wider("tcp://a.b.internal:1"),
        ["*.b.internal", "*.internal"]
    );
    assert_eq!(wider("tcp://*.b.internal:1"), ["*.internal"]);
    assert_eq!(wider("tcp://a.internal:1"), ["*.internal"]);
    assert!(wider("tcp://a.example.com:1").is_empty());
    assert_eq!(
        wider("tls://a.example.com"),
        ["*.example.com", "*.com"],
        "public ones too"
    );
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,80}", wish in 0..4_usize) {
        let wish = [None, Some(Public), Some(Internal), Some(Kubernetes)][wish];
        if let Err(error) = parse(&text, wish) {
            prop_assert!(!error.message.chars().any(char::is_control));
        }
    }

    #[test]
    fn almost_urls_are_read_or_refused(text in "(tcp:|tls:|//|\\[|\\]|:|@|/|\\?|#|\\*|\\.|-|[a-z0-9é]|internal|::1|22){0,12}") {
        if let Ok((binding, UrlRequest::Exact(url))) = parse(&text, None) {
            prop_assert_eq!(parse(&url.to_string(), None), Ok((binding, UrlRequest::Exact(url))));
        }
    }

    #[test]
    fn names_round_trip(labels in prop::collection::vec("[a-z]([a-z0-9-]{0,8}[a-z0-9])?", 1..5), port in 1..=u16::MAX, suffix in any::<bool>(), tls in any::<bool>(), wild in any::<bool>()) {
        let mut name = labels.join(".");
        if suffix { name.push_str(".internal"); }
        if wild && tls { name.insert_str(0, "*."); }
        let scheme = if tls { Scheme::Tls } else { Scheme::Tcp };
        let url = EndpointUrl::with_scheme(scheme, &name, port);
        prop_assume!(url.host() != "internal" && url.host().split('.').count() <= 5);
        prop_assume!(url.host() != "*.internal" || tls);
        prop_assert_eq!(url.to_string().parse::<EndpointUrl>(), Ok(url));
    }

    #[test]
    fn addresses_round_trip(bits in any::<u128>(), port in 1..=u16::MAX) {
        let ip = Ipv6Addr::from_bits(bits);
        prop_assume!(!ip.is_multicast() && ip.to_ipv4_mapped().is_none() && !ip.is_unspecified());
        let url = EndpointUrl::new(&ip.to_string(), port);
        prop_assert_eq!(url.to_string().parse::<EndpointUrl>(), Ok(url));
    }
}

/// The rows of the guide's table of refusals: URL, binding, code, and the proposal if it is a URL.
fn guide_refusals() -> Vec<(String, Option<Binding>, String, Option<String>)> {
    let guide = include_str!("../../../../docs/endpoints.md");
    let rows = guide.lines().filter(|line| line.contains("| `PTC_URL_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let code = |cell: &str| cell.split('`').nth(1).map(str::to_owned);
        let binding = cells[1]
            .rsplit_once("binding ")
            .and_then(|(_, word)| word.parse().ok());
        let proposal = Some(cells[3])
            .filter(|cell| cell.starts_with("`tcp://") || cell.starts_with("`tls://"))
            .and_then(code);
        (
            code(cells[1]).expect("a URL"),
            binding,
            code(cells[2]).expect("a code"),
            proposal,
        )
    })
    .collect()
}

#[test]
fn the_guide_tells_the_truth_about_refusals() {
    let rows = guide_refusals();
    assert_eq!(rows.len(), 16);
    for (text, wish, code, proposal) in rows {
        let error = parse(&text, wish).expect_err(&text);
        assert_eq!(error.code.as_str(), code, "{text}");
        if let Some(proposal) = proposal {
            assert!(
                error.message.contains(&format!("`{proposal}`")),
                "{text}: {error}"
            );
        }
    }
}
