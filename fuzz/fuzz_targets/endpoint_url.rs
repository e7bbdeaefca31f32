//! Endpoint URLs as people write them. What is accepted prints to a form that is accepted again, as
//! the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_model::Binding;
use portcullis_model::url::{UrlRequest, parse};

fuzz_target!(|data: &[u8]| {
    let Some((choice, text)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let asked = [
        None,
        Some(Binding::Public),
        Some(Binding::Internal),
        Some(Binding::Kubernetes),
    ];
    let Ok((binding, request)) = parse(text, asked[usize::from(choice % 4)]) else {
        return;
    };
    if let UrlRequest::TlsName(name) = &request {
        let again = parse(&format!("tls://{name}"), Some(binding));
        assert_eq!(again, Ok((binding, request.clone())));
    }
    if let UrlRequest::Exact(url) = request {
        assert!(url.port() > 0);
        let again = parse(&url.to_string(), Some(binding));
        assert_eq!(again, Ok((binding, UrlRequest::Exact(url))));
    }
});
