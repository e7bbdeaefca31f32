//! ACL rules: forms, what they cover, refusals, and properties.

use proptest::prelude::*;

use super::*;

fn acl(rules: &[&str]) -> Acl {
    let rules: Vec<String> = rules.iter().map(|&rule| rule.to_owned()).collect();
    Acl::parse(&rules).expect("valid rules")
}

/// `random`, or a URL whose binding is inferred.
fn ask(acl: &Acl, request: &str) -> Result<(), Error> {
    match request {
        "random" => return acl.check(BindRequest::Random(Scheme::Tcp)),
        "random tls" => return acl.check(BindRequest::Random(Scheme::Tls)),
        _ => {}
    }
    let (kubernetes, text) = request
        .strip_prefix("k8s ")
        .map_or((false, request), |text| (true, text));
    let url: EndpointUrl = text.parse().expect("a URL");
    let binding = match (kubernetes, url.is_internal()) {
        (true, _) => Binding::Kubernetes,
        (false, true) => Binding::Internal,
        (false, false) => Binding::Public,
    };
    acl.check(BindRequest::Url(binding, &url))
}

#[test]
fn rules_cover_what_they_say() {
    let cases: &[(&[&str], &[&str], &[&str])] = &[
        (
            &[],
            &["random", "a.com:1", "db.internal:1", "k8s a.b:1"],
            &[],
        ),
        (
            &["*"],
            &["random", "a.com:1", "db.internal:1", "k8s a.b:1"],
            &[],
        ),
        (
            &["bind:a.com:22"],
            &["a.com:22", "A.COM:22"],
            &["a.com:23", "b.com:22", "random", "x.a.com:22"],
        ),
        (&["bind:tcp://a.com:22"], &["a.com:22"], &["a.com:23"]),
        (
            &["bind:a.com:20-22"],
            &["a.com:20", "a.com:21", "a.com:22"],
            &["a.com:19", "a.com:23"],
        ),
        (
            &["bind:a.com:*"],
            &["a.com:1", "a.com:65535"],
            &["b.com:1", "random"],
        ),
        (
            &["bind:A.com"],
            &["a.com:1", "a.com:65535"],
            &["b.com:1", "random"],
        ),
        (
            &["bind:*:22"],
            &["a.com:22", "[::1]:22"],
            &["a.com:23", "db.internal:22", "k8s a.b:22", "random"],
        ),
        (
            &["bind:*"],
            &["a.com:22", "random"],
            &["db.internal:22", "k8s a.b:22"],
        ),
        (&["bind:*:*"], &["a.com:22", "random"], &["db.internal:22"]),
        (
            &["bind:*:1-65535"],
            &["a.com:22", "random"],
            &["db.internal:22"],
        ),
        (
            &["bind:tcp://"],
            &["random"],
            &["a.com:22", "db.internal:22"],
        ),
        (
            &["bind:*.a.com:22"],
            &["x.a.com:22", "x.y.a.com:22"],
            &["a.com:22", "xa.com:22"],
        ),
        (
            &["bind:db.internal:5432"],
            &["db.internal:5432"],
            &["db.internal:1", "x.db.internal:5432", "*.internal:5432"],
        ),
        (
            &["bind:*.internal:5432"],
            &["db.internal:5432", "a.b.internal:5432", "*.internal:5432"],
            &["db.internal:1", "a.com:5432"],
        ),
        (
            &["bind:*.dev.internal"],
            &["a.dev.internal:1", "*.dev.internal:2"],
            &["dev.internal:1", "*.internal:1"],
        ),
        (
            &["bind:db.default:5432"],
            &["k8s db.default:5432"],
            &["k8s db.prod:5432"],
        ),
        (
            &["bind:*.default"],
            &["k8s db.default:5432"],
            &["k8s db.prod:5432"],
        ),
        (
            &["bind:203.0.113.5:22"],
            &["203.0.113.5:22"],
            &["203.0.113.6:22"],
        ),
        (
            &["bind:[2001:DB8::1]:22"],
            &["[2001:db8::1]:22"],
            &["[2001:db8::2]:22"],
        ),
        (
            &["bind:[2001:db8::1]"],
            &["[2001:db8::1]:22"],
            &["[2001:db8::2]:22"],
        ),
        (
            &["bind:tls://"],
            &["random tls"],
            &["random", "tls://a.com", "tls://db.internal"],
        ),
        (&["bind:tcp://"], &["random"], &["random tls"]),
        (
            &["bind:*"],
            &["random tls", "tls://a.com", "tls://*.a.com"],
            &["tls://db.internal"],
        ),
        (
            &["bind:a.com"],
            &["tls://a.com", "a.com:1"],
            &["tls://b.a.com", "tls://*.a.com", "random tls"],
        ),
        (
            &["bind:tls://*.a.com"],
            &["tls://b.a.com", "tls://*.a.com", "tls://*.b.a.com:8443"],
            &["tls://a.com", "b.a.com:443", "tls://*.com"],
        ),
        (
            &["bind:tcp://a.com"],
            &["a.com:443"],
            &["tls://a.com", "random tls"],
        ),
        (
            &["bind:tls://db.internal:443"],
            &["tls://db.internal"],
            &["db.internal:443", "tls://db.internal:444"],
        ),
        (
            &["bind:a.com:1", " bind:b.com:2 "],
            &["a.com:1", "b.com:2"],
            &["a.com:2", "b.com:1"],
        ),
    ];
    for (rules, allowed, refused) in cases {
        let acl = acl(rules);
        for request in *allowed {
            assert_eq!(ask(&acl, request), Ok(()), "{rules:?} {request}");
        }
        for request in *refused {
            let code = ask(&acl, request).expect_err(request).code;
            let expected = if request.starts_with("random") {
                Code::CredentialAclRandom
            } else {
                Code::CredentialAcl
            };
            assert_eq!(code, expected, "{rules:?} {request}");
        }
    }
}

#[test]
fn refusals_name_the_nearest_rule() {
    let acl = acl(&["bind:a.com:22", "bind:db.internal:5432"]);
    let message = |request: &str| ask(&acl, request).expect_err(request).message;
    assert!(
        message("db.internal:1")
            .contains("`bind:db.internal:5432`, covers the host but not the port 1")
    );
    assert!(
        message("x.internal:5432").contains("`bind:db.internal:5432`, does not cover the host")
    );
    assert!(
        message("x.com:1").contains("none of its rules (`bind:a.com:22`, `bind:db.internal:5432`)")
    );
    assert!(message("x.com:1").contains("would allow it is `bind:x.com:1`"));
    assert!(message("random").contains("`bind:tcp://`"));
    assert!(message("random tls").contains("`bind:tls://`"));
    assert!(message("tls://x.com").contains("would allow it is `bind:tls://x.com:443`"));
    let only = self::acl(&["bind:tcp://a.com:443"]);
    assert!(
        ask(&only, "tls://a.com")
            .expect_err("another scheme")
            .message
            .contains("`bind:tcp://a.com:443`, is not for tls")
    );
}

#[test]
fn faulty_rules_are_named_by_place_and_fault() {
    let cases = [
        ("", "leave it out"),
        ("a.com:22", "write `bind:a.com:22`"),
        ("bind:", "nothing follows"),
        ("bind::22", "has no host"),
        ("bind:a.com:", "`bind:a.com:20001`"),
        ("bind:a.com:0", "1 to 65535"),
        ("bind:a.com:70000", "1 to 65535"),
        ("bind:a.com:x", "not a number"),
        ("bind:a.com:30-20", "write `bind:a.com:20-30`"),
        ("bind:a.com:20-", "lacks an end"),
        ("bind:a.com:-20", "lacks an end"),
        ("bind:app=web", "label rules"),
        ("bind:https://a.com:1", "tcp and tls are the only schemes"),
        ("bind:2001:db8::1:22", "brackets"),
        ("bind:[::1]22", "only `:port`"),
        ("bind:[::1:22", "brackets"),
        ("bind:a.*.com:1", "whole first label"),
        ("bind:x*.com:1", "whole first label"),
        ("bind:*.1.2.3.4:1", "IP address"),
        ("bind:my_host:1", "has `_` in it"),
        ("bind:a b:1", "has ` ` in it"),
    ];
    for (rule, part) in cases {
        let error = Acl::parse(&["*".to_owned(), rule.to_owned()]).expect_err(rule);
        assert_eq!(error.code, Code::AclSyntax, "{rule}");
        assert!(
            error.message.starts_with("ACL rule 2 (") && error.message.contains(part),
            "{rule}: {error}"
        );
    }
    assert_eq!(
        Acl::parse(&vec!["*".to_owned(); 101])
            .expect_err("too many")
            .code,
        Code::AclSyntax
    );
    assert_eq!(
        Acl::parse(&[format!("bind:{}", "a".repeat(400))])
            .expect_err("too long")
            .code,
        Code::AclSyntax
    );
}

proptest! {
    #[test]
    fn any_rule_is_read_or_refused(rule in "\\PC{0,60}") {
        let parsed = Acl::parse(&[rule]);
        prop_assert!(parsed.is_ok() || parsed.is_err());
    }

    #[test]
    fn almost_rules_never_allow_what_a_narrower_one_refuses(rule in "bind:(\\*\\.|\\*|a|b|\\.|internal|:|22|-|30|tcp://|tls://|\\[|\\]|::1){0,8}") {
        if let Ok(acl) = Acl::parse(&[rule]) {
            let inner: EndpointUrl = "tcp://zz.unrelated.example:4".parse().expect("valid");
            // Only rules with `*` as host cover a name that they do not mention.
            let allowed = acl.check(BindRequest::Url(Binding::Public, &inner)).is_ok();
            let wide = acl.rules.iter().any(|rule| rule.scope.covers_host(Binding::Public, &inner));
            prop_assert!(!allowed || wide && (acl.rules[0].text.contains('*')));
        }
    }

    #[test]
    fn a_rule_made_from_a_url_covers_exactly_it(name in "[a-z]{1,8}(\\.[a-z]{1,8}){0,2}", port in 2..u16::MAX) {
        let acl = acl(&[&format!("bind:{name}:{port}")]);
        let at = |port| EndpointUrl::new(&name, port);
        prop_assert!(acl.check(BindRequest::Url(Binding::Public, &at(port))).is_ok());
        prop_assert!(acl.check(BindRequest::Url(Binding::Public, &at(port - 1))).is_err());
        prop_assert!(acl.check(BindRequest::Url(Binding::Public, &at(port + 1))).is_err());
    }
}

#[test]
fn the_rules_in_the_guide_are_rules() {
    let guide = include_str!("../../../../docs/endpoints.md");
    let rows = guide
        .lines()
        .filter(|line| line.starts_with("| `bind:") || line.starts_with("| `*`"));
    let rules: Vec<String> = rows
        .flat_map(|row| {
            row.split('|')
                .nth(1)
                .expect("a first cell")
                .split('`')
                .skip(1)
                .step_by(2)
        })
        .map(str::to_owned)
        .collect();
    assert_eq!(rules.len(), 15);
    assert!(Acl::parse(&rules).is_ok());
}
