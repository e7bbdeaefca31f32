//! How long it takes to read an endpoint URL, and to check a bind against a credential's rules.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use portcullis_model::acl::{Acl, BindRequest};
use portcullis_model::{Binding, EndpointUrl, url};

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("url parse");
    for (name, text) in [
        ("public", "tcp://1.tcp.example.com:20001"),
        ("internal", "tcp://orders.db.prod.internal:5432"),
        ("address", "tcp://[2001:db8::1]:20001"),
        (
            "refused",
            "tcp://user:password@1.tcp.example.com:20001/path?query",
        ),
    ] {
        group.bench_function(name, |b| b.iter(|| url::parse(black_box(text), None)));
    }
    group.finish();
}

fn acl(c: &mut Criterion) {
    let rules: Vec<String> = (0..100)
        .map(|n| format!("bind:*.team{n}.internal:{}-{}", 5000 + n, 6000 + n))
        .collect();
    let Ok(acl) = Acl::parse(&rules) else { return };
    let url = EndpointUrl::new("db.team99.internal", 5432);
    c.bench_function("acl check, last of 100 rules", |b| {
        b.iter(|| {
            acl.check(BindRequest::Url(Binding::Internal, black_box(&url)))
                .is_ok()
        });
    });
}

criterion_group!(benches, parse, acl);
criterion_main!(benches);
