//! The same for `tls://`.

use super::*;

fn tls(name: &str, port: u16) -> UrlRequest {
    UrlRequest::Exact(EndpointUrl::with_scheme(Scheme::Tls, name, port))
}

/// What is accepted.
pub(super) fn cases() -> Vec<(&'static str, Option<Binding>, Binding, UrlRequest)> {
    let name = |name: &str| UrlRequest::TlsName(name.to_owned());
    vec![
        ("tls://", None, Public, UrlRequest::RandomTls),
        ("TLS://", Some(Public), Public, UrlRequest::RandomTls),
        (
            "tls://App.example.com",
            None,
            Public,
            name("app.example.com"),
        ),
        ("tls://*.example.com", None, Public, name("*.example.com")),
        ("tls://localhost", None, Public, name("localhost")),
        (
            "tls://app.example.com:443",
            None,
            Public,
            tls("app.example.com", 443),
        ),
        (
            "tls://app.example.com:8443",
            Some(Public),
            Public,
            tls("app.example.com", 8443),
        ),
        (
            "tls://*.a.example.com:443",
            None,
            Public,
            tls("*.a.example.com", 443),
        ),
        ("tls://db.internal", None, Internal, tls("db.internal", 443)),
        (
            "tls://db.internal:5432",
            None,
            Internal,
            tls("db.internal", 5432),
        ),
        (
            "tls://*.internal",
            Some(Internal),
            Internal,
            tls("*.internal", 443),
        ),
        (
            "tls://db.default:5432",
            Some(Kubernetes),
            Kubernetes,
            tls("db.default", 5432),
        ),
    ]
}

/// What is refused.
pub(super) const REFUSED: &[Refusal] = &[
    ("tls:a.b", None, Code::UrlMalformed, "write `tls://a.b`"),
    (
        "tls://a.b/",
        None,
        Code::UrlTrailingSlash,
        "write `tls://a.b`",
    ),
    (
        "tls://u@a.b/x",
        None,
        Code::UrlPartNotAllowed,
        "write `tls://a.b`",
    ),
    (
        "tls://a.b:",
        None,
        Code::UrlPortMissing,
        "write `tls://a.b:443`",
    ),
    (
        "tls://203.0.113.5",
        None,
        Code::UrlHostInvalid,
        "write `tls://name.example.com`",
    ),
    (
        "tls://[2001:db8::1]:443",
        None,
        Code::UrlHostInvalid,
        "by its name",
    ),
    ("tls://2001:db8::1", None, Code::UrlMalformed, "by its name"),
    ("tls://a.*.com", None, Code::UrlWildcard, "as in `*.com`"),
    ("tls://*", None, Code::UrlWildcard, "as in `*.example.com`"),
    (
        "tls://",
        Some(Internal),
        Code::UrlInternalRandom,
        "write `tls://name.internal:443`",
    ),
    (
        "tls://db",
        Some(Internal),
        Code::UrlInternalSuffix,
        "write `tls://db.internal:443`",
    ),
    (
        "tls://db.internal",
        Some(Public),
        Code::UrlInternalSuffix,
        "use the binding internal",
    ),
    (
        "tls://",
        Some(Kubernetes),
        Code::UrlKubernetesHost,
        "write `tls://service.namespace:443`",
    ),
    (
        "tls://db.prod",
        Some(Kubernetes),
        Code::UrlPortMissing,
        "write `tls://db.prod:443`",
    ),
    (
        "tls://db:443",
        Some(Kubernetes),
        Code::UrlKubernetesHost,
        "write `tls://db.default:443`",
    ),
];
