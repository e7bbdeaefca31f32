//! Addresses of kind `host`: an IP of one's own, every port of it.

use std::net::IpAddr;
use std::time::Duration;

use portcullis_model::AddressKind;

use super::*;
use crate::requests::NewAddress;
use crate::settings::{IpPool, PoolIp};
use crate::snapshot::Listen;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("ip")
}

fn pooled() -> Settings {
    let mut settings = settings();
    let entry = |n: u8| PoolIp {
        public: ip(&format!("203.0.113.{n}")),
        bind: ip(&format!("127.0.0.{n}")),
    };
    settings.ip_pools.push(IpPool {
        name: "dedicated".into(),
        region: "eu".into(),
        ips: vec![entry(11), entry(12)],
        host_pattern: Some("ip-{ip}.example.com".into()),
        accounts: Vec::new(),
    });
    settings
}

fn host() -> NewAddress {
    NewAddress {
        kind: Some(AddressKind::Host),
        ..NewAddress::default()
    }
}

#[tokio::test]
async fn two_host_addresses_with_the_same_port_are_different_listeners() {
    let bed = Bed::with(pooled()).await;
    let (other, theirs) = bed.stranger().await;
    let first = bed
        .registry
        .reserve_address(&bed.account, host())
        .await
        .expect("reserved")
        .value;
    let second = bed
        .registry
        .reserve_address(&other, host())
        .await
        .expect("reserved")
        .value;
    assert_eq!(
        (first.host.as_str(), first.port, first.ips[0]),
        ("ip-203-0-113-11.example.com", None, ip("203.0.113.11"))
    );
    let session = bed.session().await;
    let one = bed
        .bind(&session, &format!("tcp://{}:5432", first.host))
        .await
        .expect("bound");
    let two = bed
        .bind(&theirs, &format!("tcp://{}:5432", second.host))
        .await
        .expect("bound");
    let snapshot = bed.registry.snapshot();
    let at = |local: &str| {
        snapshot
            .listener(ip(local), 5432)
            .map(|pool| pool.members[0].id.clone())
    };
    assert_eq!(at("127.0.0.11"), Some(one.id.clone()));
    assert_eq!(at("127.0.0.12"), Some(two.id));
    assert_eq!(at("::ffff:127.0.0.11"), Some(one.id.clone()));
    assert_eq!(
        at("127.0.0.1"),
        None,
        "a host address answers on its own IP alone"
    );
    assert_eq!(
        snapshot.listens_of(&one),
        [Listen {
            ip: Some(ip("127.0.0.11")),
            port: 5432
        }]
    );
    // A shared host's port does not answer on a dedicated IP.
    let shared = NewAddress {
        port: Some(6000),
        ..NewAddress::default()
    };
    bed.registry
        .reserve_address(&bed.account, shared)
        .await
        .expect("reserved");
    let three = bed
        .bind(&session, "tcp://edge.example.com:6000")
        .await
        .expect("bound");
    let snapshot = bed.registry.snapshot();
    assert_eq!(
        snapshot.listens_of(&three),
        [Listen {
            ip: None,
            port: 6000
        }]
    );
    assert!(snapshot.listener(ip("127.0.0.11"), 6000).is_none());
    assert!(snapshot.listener(ip("::1"), 6000).is_some());
    assert_eq!(snapshot.listens().len(), 3);
}

#[tokio::test]
async fn a_name_of_one_s_own_is_unique_and_rests() {
    let bed = Bed::with(pooled()).await;
    let (other, _) = bed.stranger().await;
    let named = || NewAddress {
        host: Some("DB.customer.example".into()),
        ..host()
    };
    let addr = bed
        .registry
        .reserve_address(&bed.account, named())
        .await
        .expect("reserved")
        .value;
    assert_eq!(addr.host, "db.customer.example");
    assert_eq!(
        code(bed.registry.reserve_address(&other, named()).await),
        Code::AddressTaken
    );
    bed.registry
        .release_address(&bed.account, &addr.id)
        .await
        .expect("released");
    assert_eq!(
        code(bed.registry.reserve_address(&other, named()).await),
        Code::AddressResting
    );
    let back = bed
        .registry
        .reserve_address(&bed.account, named())
        .await
        .expect("its own")
        .value;
    assert_eq!(back.ips, addr.ips, "with the IP it had");
    let shared = NewAddress {
        host: Some(HOST.into()),
        ..host()
    };
    assert_eq!(
        code(bed.registry.reserve_address(&bed.account, shared).await),
        Code::AddressKind
    );
    let with_port = NewAddress {
        port: Some(1),
        ..host()
    };
    assert_eq!(
        code(bed.registry.reserve_address(&bed.account, with_port).await),
        Code::AddressKind
    );
}

#[tokio::test]
async fn a_pool_runs_out_and_its_ips_rest() {
    let bed = Bed::with(pooled()).await;
    let (other, _) = bed.stranger().await;
    let addr = bed
        .registry
        .reserve_address(&bed.account, host())
        .await
        .expect("reserved")
        .value;
    bed.registry
        .reserve_address(&bed.account, host())
        .await
        .expect("reserved");
    assert_eq!(
        code(bed.registry.reserve_address(&bed.account, host()).await),
        Code::AddressExhausted
    );
    bed.registry
        .release_address(&bed.account, &addr.id)
        .await
        .expect("released");
    assert_eq!(
        code(bed.registry.reserve_address(&other, host()).await),
        Code::AddressExhausted,
        "it rests"
    );
    bed.clock.advance(Duration::from_secs(24 * 3600));
    let passed = bed
        .registry
        .reserve_address(&other, host())
        .await
        .expect("rested")
        .value;
    assert_eq!(passed.ips, addr.ips);
}

#[tokio::test]
async fn without_a_pool_there_are_no_host_addresses() {
    let bed = Bed::new().await;
    assert_eq!(
        code(bed.registry.reserve_address(&bed.account, host()).await),
        Code::AddressNoPool
    );
}

#[tokio::test]
async fn a_pool_may_be_for_some_accounts() {
    let mut settings = pooled();
    settings.ip_pools[0].accounts = vec!["stranger".into()];
    let bed = Bed::with(settings).await;
    let (other, _) = bed.stranger().await;
    assert_eq!(
        code(bed.registry.reserve_address(&bed.account, host()).await),
        Code::AddressNoPool
    );
    bed.registry
        .reserve_address(&other, host())
        .await
        .expect("reserved");
}

#[tokio::test]
async fn the_upstream_completes_a_url_without_a_port() {
    let bed = Bed::with(pooled()).await;
    let addr = bed
        .registry
        .reserve_address(&bed.account, host())
        .await
        .expect("reserved")
        .value;
    let session = bed.session().await;
    let url = format!("tcp://{}", addr.host);
    let endpoint = bed.bind(&session, &url).await.expect("bound");
    assert_eq!(endpoint.url.port(), 5432, "the upstream's");
    let none = BindSpec {
        upstream_url: String::new(),
        ..spec(&url)
    };
    assert_eq!(
        code(bed.registry.bind_endpoint(&session, none).await),
        Code::UrlPortMissing
    );
}
