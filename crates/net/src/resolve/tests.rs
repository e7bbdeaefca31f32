//! A name server of our own, and what is asked of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_resolver::proto::rr::Name;
use tokio::net::UdpSocket;

use super::*;
use crate::testing::soon;

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV_TYPE: u16 = 33;

type Records = HashMap<(String, u16), Vec<Vec<u8>>>;

/// A name server on loopback.
pub(crate) struct NameServer {
    pub(crate) addr: SocketAddr,
    asked: Arc<AtomicUsize>,
    records: Arc<Mutex<Records>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl NameServer {
    pub(crate) async fn start(ttl: u32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = socket.local_addr().unwrap();
        let (asked, records) = (
            Arc::<AtomicUsize>::default(),
            Arc::<Mutex<Records>>::default(),
        );
        let task = crate::task::spawn("name server", {
            let (asked, records) = (Arc::clone(&asked), Arc::clone(&records));
            async move {
                let mut query = [0; 1500];
                loop {
                    let (length, from) = socket.recv_from(&mut query).await.unwrap();
                    asked.fetch_add(1, Ordering::Relaxed);
                    let reply = answer(&query[..length], &records.lock().unwrap(), ttl);
                    socket.send_to(&reply, from).await.unwrap();
                }
            }
        });
        Self {
            addr,
            asked,
            records,
            task,
        }
    }

    fn put(&self, name: &str, kind: u16, data: Vec<Vec<u8>>) {
        self.records
            .lock()
            .unwrap()
            .insert((name.to_owned(), kind), data);
    }

    pub(crate) fn put_addresses(&self, name: &str, ips: &[IpAddr]) {
        let of = |v6: bool| ips.iter().filter(move |ip| ip.is_ipv6() == v6);
        let octets = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        self.put(name, A, of(false).map(octets).collect());
        self.put(name, AAAA, of(true).map(octets).collect());
    }

    pub(crate) fn put_service(&self, name: &str, targets: &[(u16, u16, u16, &str)]) {
        let data = targets.iter().map(|(priority, weight, port, target)| {
            let mut bytes = [
                priority.to_be_bytes(),
                weight.to_be_bytes(),
                port.to_be_bytes(),
            ]
            .concat();
            for label in target.split('.') {
                bytes.push(u8::try_from(label.len()).unwrap());
                bytes.extend_from_slice(label.as_bytes());
            }
            bytes.push(0);
            bytes
        });
        self.put(name, SRV_TYPE, data.collect());
    }
}

/// The question again, and its answers under a compressed name.
fn answer(query: &[u8], records: &Records, ttl: u32) -> Vec<u8> {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..at + 1 + length]).to_lowercase());
        at += length + 1;
    }
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let name = labels.join(".");
    let found = records
        .get(&(name.clone(), kind))
        .cloned()
        .unwrap_or_default();
    let known = records.keys().any(|(other, _)| *other == name);
    let mut reply = query[..2].to_vec();
    reply.extend_from_slice(&[0x85, if known { 0x80 } else { 0x83 }, 0, 1, 0]);
    reply.push(u8::try_from(found.len()).unwrap());
    reply.extend_from_slice(&[0; 4]);
    reply.extend_from_slice(&query[12..at + 5]);
    for data in found {
        reply.extend_from_slice(&[0xc0, 12]);
        reply.extend_from_slice(&kind.to_be_bytes());
        reply.extend_from_slice(&[0, 1]);
        reply.extend_from_slice(&ttl.to_be_bytes());
        reply.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        reply.extend_from_slice(&data);
    }
    reply
}

#[tokio::test]
async fn literals_and_localhost_ask_nobody() {
    let resolver = Resolver::system().unwrap();
    assert_eq!(
        resolver.addresses("192.0.2.7").await.unwrap(),
        ["192.0.2.7".parse::<IpAddr>().unwrap()]
    );
    assert_eq!(
        resolver.addresses("::1").await.unwrap(),
        [IpAddr::from(Ipv6Addr::LOCALHOST)]
    );
    assert_eq!(resolver.addresses("LocalHost").await.unwrap().len(), 2);
}

#[tokio::test]
async fn answers_are_kept_for_their_ttl_and_no_longer() {
    let server = NameServer::start(1).await;
    let resolver = Resolver::with_server(server.addr).unwrap();
    let old: [IpAddr; 2] = ["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse().unwrap());
    let new: [IpAddr; 2] = ["192.0.2.2", "2001:db8::2"].map(|ip| ip.parse().unwrap());
    server.put_addresses("db.example", &old);
    assert_eq!(resolver.addresses("db.example.").await.unwrap(), old);
    let asked = server.asked.load(Ordering::Relaxed);
    assert_eq!(resolver.addresses("db.example.").await.unwrap(), old);
    assert_eq!(
        server.asked.load(Ordering::Relaxed),
        asked,
        "the second answer comes from the cache"
    );
    server.put_addresses("db.example", &new);
    soon("the new addresses", async {
        while resolver.addresses("db.example.").await.unwrap() != new {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn both_families_come_ipv4_first() {
    let server = NameServer::start(60).await;
    let ips: [IpAddr; 3] = ["2001:db8::1", "192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().unwrap());
    server.put_addresses("both.example", &ips);
    let found = Resolver::with_server(server.addr)
        .unwrap()
        .addresses("both.example.")
        .await
        .unwrap();
    assert!(found.len() == 3 && found[2].is_ipv6(), "{found:?}");
}

#[tokio::test]
async fn what_does_not_exist_is_said_so() {
    let server = NameServer::start(60).await;
    let resolver = Resolver::with_server(server.addr).unwrap();
    for error in [
        resolver.addresses("no.example.").await.unwrap_err(),
        resolver.service("_no._tcp.example.").await.unwrap_err(),
    ] {
        assert_eq!(error.code, Code::DnsFailed);
        assert!(error.message.contains("does not resolve"), "{error}");
    }
}

#[tokio::test]
async fn services_come_by_priority() {
    let server = NameServer::start(60).await;
    server.put_service(
        "_db._tcp.example",
        &[
            (20, 0, 2, "b.example"),
            (10, 0, 1, "a.example"),
            (5, 0, 9, "no.example"),
        ],
    );
    server.put_addresses("a.example", &["192.0.2.1".parse().unwrap()]);
    server.put_addresses("b.example", &["192.0.2.2".parse().unwrap()]);
    let found = Resolver::with_server(server.addr)
        .unwrap()
        .service("_db._tcp.example.")
        .await
        .unwrap();
    assert_eq!(
        found,
        [
            "192.0.2.1:1".parse().unwrap(),
            "192.0.2.2:2".parse().unwrap()
        ]
    );
}

#[test]
fn weights_share_within_a_priority() {
    let mut first = [0_u32; 2];
    for drawn in 0..=100 {
        let mut records = vec![
            SRV::new(1, 75, 1, Name::root()),
            SRV::new(1, 25, 2, Name::root()),
            SRV::new(0, 0, 3, Name::root()),
        ];
        order(&mut records, |below| drawn % below);
        assert_eq!(records[0].port, 3);
        first[usize::from(records[1].port) - 1] += 1;
    }
    assert!((70..80).contains(&first[0]), "{first:?}");
}
