//! How long a decision takes with many CIDRs, and how long it takes to compile them.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use portcullis_model::EndpointType;
use portcullis_policy::{Conn, Policy, cidr};

/// Set sizes: a careful administrator's list, and a country's.
const SIZES: [u32; 2] = [1_000, 100_000];

/// A cheap, fixed scatter over the 32 bits (Knuth's multiplicative hash).
fn scatter(n: u32) -> u32 {
    n.wrapping_mul(2_654_435_761)
}

/// Three of four IPv4 (/16 to /31, some inside others), one of four IPv6 (/48).
fn networks(count: u32) -> Vec<IpNet> {
    (0..count)
        .map(|n| match n % 4 {
            0 => {
                let bits = u128::from(scatter(n)) << 80 | 0x2001_0db8 << 96;
                IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(bits), 48).trunc())
            }
            _ => {
                let length = 16 + u8::try_from(n % 16).unwrap_or(0);
                IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from_bits(scatter(n)), length).trunc())
            }
        })
        .collect()
}

fn conns() -> Vec<Conn> {
    let server = SocketAddr::from(([203, 0, 113, 5], 20001));
    let client = |n: u32| match n % 4 {
        0 => IpAddr::from(Ipv6Addr::from_bits(
            u128::from(scatter(n)) << 80 | 0x2001_0db8 << 96,
        )),
        _ => IpAddr::from(Ipv4Addr::from_bits(scatter(n.wrapping_add(7)))),
    };
    (0..1024)
        .map(|n| Conn::new(SocketAddr::new(client(n), 40000), server))
        .collect()
}

fn decide(c: &mut Criterion) {
    let mut group = c.benchmark_group("restrict-ips decide");
    for size in SIZES {
        let networks = networks(size);
        let (deny, allow) = networks.split_at(networks.len() / 2);
        let policy = Policy::from_cidrs(allow, deny);
        let conns = conns();
        let mut turn = conns.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                turn.next()
                    .map(|conn| policy.on_tcp_connect(black_box(conn)).decision)
            });
        });
    }
    group.finish();
}

fn compile(c: &mut Criterion) {
    let mut group = c.benchmark_group("restrict-ips compile");
    group.sample_size(10);
    for size in SIZES {
        let cidrs: Vec<String> = networks(size).iter().map(ToString::to_string).collect();
        let json = serde_json::json!({ "on_tcp_connect": [{ "actions": [{ "type": "restrict-ips", "config": { "allow": cidrs } }] }] });
        let json = json.to_string();
        let rows: String = cidrs
            .iter()
            .map(|cidr| format!("          - {cidr}\n"))
            .collect();
        let yaml = format!(
            "on_tcp_connect:\n  - actions:\n      - type: restrict-ips\n        config:\n          allow:\n{rows}"
        );
        for (form, text) in [("json", json), ("yaml", yaml)] {
            group.bench_with_input(BenchmarkId::new(form, size), &text, |b, text| {
                b.iter(|| {
                    Policy::compile(black_box(text), EndpointType::Agent)
                        .map(|policy| policy.is_empty())
                });
            });
        }
    }
    group.finish();
}

fn read_cidr(c: &mut Criterion) {
    c.bench_function("cidr parse", |b| {
        b.iter(|| cidr::parse(black_box("203.0.113.0/24")))
    });
}

criterion_group!(benches, decide, compile, read_cidr);
criterion_main!(benches);
