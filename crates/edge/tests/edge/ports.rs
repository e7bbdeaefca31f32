//! Listeners follow the endpoints.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use portcullis_model::{AddressKind, Code};
use portcullis_proto::message::Bind;
use portcullis_store::{DirectSpec, IpPool, NewAddress, PoolIp};
use portcullis_telemetry::{EndpointState, NodeCommands as _};
use tokio::net::{TcpListener, TcpStream};

use crate::agent::{Agent, Identity};
use crate::bed::{Bed, PATIENCE, dial, echo, eventually, exchange, free_port, greeting};

#[tokio::test(flavor = "multi_thread")]
async fn a_port_opens_with_its_endpoint_and_closes_behind_it_while_connections_go_on() {
    let bed = Bed::start().await;
    let (_, token) = bed.credential().await;
    let mut agent = Agent::connect(&bed, &Identity::new(1, token)).await;
    let address = SocketAddr::new(bed.ip, 9_700);
    assert!(
        TcpStream::connect(address).await.is_err(),
        "no endpoint, no listener"
    );
    bed.reserve(9_700).await;
    let bound = agent.bind("tcp://edge.test:9700", echo("e").await).await;
    let mut client = dial(address);
    greeting(&mut client, 1).await;
    bed.registry
        .unbind_endpoint(&agent.session, &bound.endpoint_id)
        .await
        .expect("unbound");
    eventually("the port is closed", || {
        std::net::TcpStream::connect(address).is_err()
    })
    .await;
    assert_eq!(exchange(client, b"still here").await, b"still here");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_reported_and_tried_again() {
    let bed = Bed::start().await;
    let address = SocketAddr::new(bed.ip, 9_701);
    let holder = TcpListener::bind(address).await.expect("free");
    let spec = DirectSpec {
        name: "taken".to_owned(),
        url: "tcp://edge.test:9701".to_owned(),
        upstream: format!("tcp://{}", echo("e").await),
        ..DirectSpec::default()
    };
    let endpoint = bed
        .registry
        .bind_direct(&bed.account, spec)
        .await
        .expect("in the registry")
        .value;
    match bed.edge.settled(&endpoint.id, PATIENCE).await {
        EndpointState::Failed(error) => assert_eq!(error.code, Code::PortTaken),
        other => panic!("{other:?}"),
    }
    drop(holder);
    eventually("the port is taken over once it is free", || {
        bed.edge.endpoint_status(&endpoint.id).state == EndpointState::Programmed
    })
    .await;
    greeting(&mut bed.connect(&endpoint).await, 1).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_told_that_its_port_is_taken() {
    let bed = Bed::start().await;
    let (_, token) = bed.credential().await;
    let mut agent = Agent::connect(&bed, &Identity::new(1, token)).await;
    bed.reserve(9_702).await;
    let _holder = TcpListener::bind(SocketAddr::new(bed.ip, 9_702))
        .await
        .expect("free");
    let bind = Bind {
        url: "tcp://edge.test:9702".to_owned(),
        ..Bind::default()
    };
    let refused = agent
        .bind_with(bind, echo("e").await)
        .await
        .expect_err("taken");
    assert_eq!(refused.code, Code::PortTaken);
    assert!(
        bed.registry.snapshot().public("edge.test", 9_702).is_none(),
        "nothing stays bound"
    );
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_random_address_on_a_taken_port_is_drawn_again() {
    let bed = Bed::start().await;
    let (_, token) = bed.credential().await;
    let identity = Identity::new(1, token);
    let mut agent = Agent::connect(&bed, &identity).await;
    let first = agent.bind("tcp://", echo("e").await).await;
    drop(agent);
    let address = SocketAddr::new(bed.ip, first.url.port());
    eventually("the port is closed", || {
        std::net::TcpStream::connect(address).is_err()
    })
    .await;
    let _holder = TcpListener::bind(address).await.expect("free");
    let mut agent = Agent::connect(
        &bed,
        &Identity {
            generation: 2,
            ..identity
        },
    )
    .await;
    let second = agent.bind("tcp://", echo("e").await).await;
    assert_ne!(first.url, second.url);
    greeting(&mut dial(SocketAddr::new(bed.ip, second.url.port())), 1).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dedicated_addresses_share_a_port_with_each_other_and_with_a_shared_host() {
    let mut ips = Vec::new();
    let bed = Bed::shaped(
        |settings, own| {
            let IpAddr::V4(own) = own else {
                unreachable!("beds are on IPv4")
            };
            let [_, high, low, last] = own.octets();
            // Neither is the bed's own, whatever that is.
            ips = [1, 2]
                .map(|n| IpAddr::V4(Ipv4Addr::new(127, high, low.wrapping_add(n), last)))
                .to_vec();
            settings.hosts[0].bind = Vec::new();
            settings.ip_pools = vec![IpPool {
                name: "own".to_owned(),
                region: "local".to_owned(),
                ips: ips
                    .iter()
                    .map(|ip| PoolIp {
                        public: *ip,
                        bind: *ip,
                    })
                    .collect(),
                host_pattern: None,
                accounts: Vec::new(),
            }];
        },
        |_| {},
    )
    .await;
    let port = free_port();
    for (tag, at) in [("0", 0), ("1", 1)] {
        let new = NewAddress {
            kind: Some(AddressKind::Host),
            ..NewAddress::default()
        };
        let host = bed
            .registry
            .reserve_address(&bed.account, new)
            .await
            .expect("an IP is left")
            .value
            .host;
        assert!(ips.iter().any(|ip| ip.to_string() == host), "{host} {at}");
        bed.direct(&format!("tcp://{host}:{port}"), echo(tag).await)
            .await;
    }
    let tags = || async {
        let mut tags = Vec::new();
        for ip in &ips {
            tags.push(greeting(&mut dial(SocketAddr::new(*ip, port)), 1).await);
        }
        tags.sort();
        tags
    };
    assert_eq!(tags().await, ["0", "1"]);

    bed.reserve(port).await;
    let (_, token) = bed.credential().await;
    let mut agent = Agent::connect(&bed, &Identity::new(1, token)).await;
    let shared = agent
        .bind(&format!("tcp://edge.test:{port}"), echo("s").await)
        .await;
    assert_eq!(
        greeting(&mut dial(SocketAddr::new(bed.ip, port)), 1).await,
        "s"
    );
    assert_eq!(
        tags().await,
        ["0", "1"],
        "the socket on all addresses serves them too"
    );

    bed.registry
        .unbind_endpoint(&agent.session, &shared.endpoint_id)
        .await
        .expect("unbound");
    let elsewhere = SocketAddr::new(bed.ip, port);
    eventually("the shared port is closed", || {
        std::net::TcpStream::connect(elsewhere).is_err()
    })
    .await;
    eventually("the dedicated ones are back", || {
        std::net::TcpStream::connect((ips[0], port)).is_ok()
    })
    .await;
    assert_eq!(tags().await, ["0", "1"]);
    bed.finish().await;
}
