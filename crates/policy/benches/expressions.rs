//! How long a decision takes with ten rules of expressions, and how long one expression takes to compile.

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use portcullis_model::id::IpPolicyId;
use portcullis_model::{EndpointType, EndpointUrl};
use portcullis_policy::world::{Bucket, Choice, IpSets, Place, Rate, World};
use portcullis_policy::{Conn, EndpointFacts, Facts, Given, Policy, Run};

/// Knows nothing and refuses nothing.
struct Nothing;

impl World for Nothing {
    fn ip_policy(&self, _: &IpPolicyId) -> Option<Arc<IpSets>> {
        None
    }

    fn secret(&self, _: &str, _: &str) -> Option<Arc<str>> {
        None
    }

    fn place(&self, _: IpAddr) -> Option<Arc<Place>> {
        None
    }

    fn take_rate(&self, _: &Bucket, _: &Rate) -> bool {
        true
    }

    fn hold(&self, _: &Bucket, _: u32) -> bool {
        true
    }

    fn pick(&self, _: &Choice<'_>) -> Option<usize> {
        Some(0)
    }
}

/// Ten rules of which none matches, then the forward: the longest way through.
const TEN: [&str; 10] = [
    "conn.client_ip == '192.0.2.1'",
    "conn.client_port == 1",
    "conn.geo.country_code == 'DE'",
    "inCidrRange(conn.client_ip, '192.0.2.0/24')",
    "conn.client_ip.startsWith('198.51.')",
    "conn.server_port != 20001",
    "'com.aws' in conn.client_ip.categories",
    "conn.server_region == 'eu' && conn.client_port < 1024",
    "inCidrRanges(conn.client_ip, ['192.168.0.0/16', '172.16.0.0/12'])",
    "conn.client_ip in ['192.0.2.7', '192.0.2.8', '192.0.2.9']",
];

/// The ten of the connection benchmark (`crates/bench/src/figures/policies.rs`).
fn of_connections() -> Vec<String> {
    (0..10)
        .map(|n| {
            format!(
                "conn.client_port % 7 == {} && conn.client_ip.startsWith('10.{n}.')",
                n % 7
            )
        })
        .collect()
}

/// Ten that only the interpreter can tell.
const INTERPRETED: [&str; 10] = ["conn.client_ip.size() == 3"; 10];

fn document<T: AsRef<str>>(expressions: &[T]) -> String {
    let mut rules: Vec<serde_json::Value> = expressions
        .iter()
        .map(|text| serde_json::json!({ "expressions": [text.as_ref()], "actions": [{ "type": "deny" }] }))
        .collect();
    let config = serde_json::json!({ "url": "tcp://db.internal:5432" });
    rules
        .push(serde_json::json!({ "actions": [{ "type": "forward-internal", "config": config }] }));
    serde_json::json!({ "on_tcp_connect": rules }).to_string()
}

fn decide(c: &mut Criterion) {
    let mut group = c.benchmark_group("expressions decide");
    let url = EndpointUrl::new("tcp.example.com", 20_001);
    let given = Given::default();
    let client = SocketAddr::from(([10, 1, 2, 3], 40_000));
    let server = SocketAddr::from(([203, 0, 113, 5], 20_001));
    let facts = Facts {
        conn: Conn::new(client, server),
        endpoint: EndpointFacts {
            id: "ep_30tNcWkLmgyIO1zPS4aDMAbFzYU",
            url: &url,
        },
        region: "local",
        started_micros: 1_763_740_800_000_000,
        now_micros: 1_763_740_800_000_100,
        random: 42,
        given: &given,
    };
    for rules in [0, 1, 10] {
        let text = document(TEN.get(..rules).unwrap_or_default());
        let policy = Policy::compile(&text, EndpointType::Cloud).expect("a valid policy");
        group.bench_function(format!("{rules} rules"), |b| {
            b.iter(|| Run::default().go(black_box(&policy), &facts, &Nothing));
        });
    }
    let of_connections = document(&of_connections());
    let interpreted = document(&INTERPRETED);
    for (name, text) in [
        ("10 rules of two parts", of_connections),
        ("10 rules, interpreted", interpreted),
    ] {
        let policy = Policy::compile(&text, EndpointType::Cloud).expect("a valid policy");
        group.bench_function(name, |b| {
            b.iter(|| Run::default().go(black_box(&policy), &facts, &Nothing));
        });
    }
    group.finish();
}

fn compile(c: &mut Criterion) {
    let text = document(&TEN);
    c.bench_function("expressions compile 10 rules", |b| {
        b.iter(|| {
            Policy::compile(black_box(&text), EndpointType::Cloud).map(|policy| policy.is_empty())
        });
    });
}

criterion_group!(benches, decide, compile);
criterion_main!(benches);
