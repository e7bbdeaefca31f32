//! ACL rules of a credential, one per line, and what they then allow: a rule list that is accepted
//! answers every request, and `*` among the rules allows them all.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_model::acl::{Acl, BindRequest};
use portcullis_model::url::{Scheme, UrlRequest, parse};

fuzz_target!(|text: &str| {
    let (wanted, rules) = text
        .split_once('\n')
        .unwrap_or(("tcp://edge.example.com:443", text));
    let rules: Vec<String> = rules.lines().map(str::to_owned).collect();
    let Ok(acl) = Acl::parse(&rules) else {
        return;
    };
    let all = rules.is_empty() || rules.iter().any(|rule| rule.trim() == "*");
    for scheme in [Scheme::Tcp, Scheme::Tls] {
        let random = acl.check(BindRequest::Random(scheme));
        assert!(random.is_ok() || !all);
    }
    if let Ok((binding, UrlRequest::Exact(url))) = parse(wanted, None) {
        let named = acl.check(BindRequest::Url(binding, &url));
        assert!(named.is_ok() || !all);
    }
});
