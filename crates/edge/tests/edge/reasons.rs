//! Close reasons that no other test meets, each from its real cause.

use std::net::SocketAddr;
use std::time::Duration;

use portcullis_model::{AgentId, Code, Endpoint, Secret};
use portcullis_proto::message::Bind;
use portcullis_store::{BindSpec, DirectSpec, IpPool, NewSession, PoolIp};
use portcullis_telemetry::CloseReason;

use crate::agent::{Agent, Identity, Manner};
use crate::bed::{Bed, assert_reset, dial, echo, ending, free_port, nobody};

async fn direct(bed: &Bed, upstream: &str) -> Endpoint {
    let change = |spec: &mut DirectSpec| upstream.clone_into(&mut spec.upstream);
    bed.direct_with("tcp://", nobody().await, change).await
}

#[tokio::test(flavor = "multi_thread")]
async fn close_connection_closes_with_its_own_reason() {
    let bed = Bed::start().await;
    let policy = "on_tcp_connect: [{actions: [{type: close-connection}]}]";
    let endpoint = bed.cloud("tcp://", policy).await;
    assert_eq!(
        ending(&mut bed.connect(&endpoint).await).await.ok(),
        Some(0)
    );
    bed.closed(CloseReason::PolicyClosed).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_fail_by_their_own_reasons() {
    let bed = Bed::start().await;
    let plain = echo("not TLS").await;
    let cases = [
        (
            "tcp://no-such-host.invalid:1".to_owned(),
            CloseReason::UpstreamUnresolved,
        ),
        (format!("tls://{plain}"), CloseReason::UpstreamTls),
        (
            "unix:/nonexistent/portcullis.sock".to_owned(),
            CloseReason::UpstreamUnreachable,
        ),
    ];
    for (upstream, reason) in cases {
        let endpoint = direct(&bed, &upstream).await;
        assert_reset(&mut bed.connect(&endpoint).await).await;
        bed.closed(reason).await;
    }
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_this_node_without_an_endpoint_is_reset() {
    let mut free = None;
    let bed = Bed::shaped(
        |settings, own| {
            settings.hosts[0].bind = Vec::new();
            settings.ip_pools = vec![IpPool {
                name: "own".to_owned(),
                region: "local".to_owned(),
                ips: vec![PoolIp {
                    public: own,
                    bind: own,
                }],
                host_pattern: None,
                accounts: Vec::new(),
            }];
            free = Some(own);
        },
        |_| {},
    )
    .await;
    let own = free.expect("shaped");
    let new = portcullis_store::NewAddress {
        kind: Some(portcullis_model::AddressKind::Host),
        ..portcullis_store::NewAddress::default()
    };
    bed.registry
        .reserve_address(&bed.account, new)
        .await
        .expect("reserved");
    // On all addresses, for the shared host; the dedicated IP has nothing at this port.
    let url = format!("tcp://edge.test:{}", free_port());
    let shared = bed.direct(&url, echo("s").await).await;
    assert_reset(&mut dial(SocketAddr::new(own, shared.url.port()))).await;
    bed.closed(CloseReason::NoEndpoint).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_establishment_that_takes_too_long_ends_by_its_deadline() {
    let bed = Bed::with(|config| {
        config.trusted_proxies = vec!["127.0.0.0/8".parse().expect("network")];
        config.limits.connect_timeout = Duration::from_millis(200);
    })
    .await;
    let endpoint = bed.direct("tcp://", echo("e").await).await;
    assert_reset(&mut bed.connect(&endpoint).await).await;
    bed.closed(CloseReason::EstablishTimeout).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_other_refusals_are_the_agents() {
    let bed = Bed::start().await;
    let (_, token) = bed.credential().await;
    let manner = Manner::Refuses(Code::EndpointNotFound);
    let mut agent = Agent::connect_as(&bed, &Identity::new(1, token), manner)
        .await
        .expect("welcome");
    let bound = agent.bind("tcp://", nobody().await).await;
    assert_reset(&mut dial(SocketAddr::new(bed.ip, bound.url.port()))).await;
    bed.closed(CloseReason::AgentRefused).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_whose_session_is_not_connected_here_is_passed_over_or_ends_as_gone() {
    let bed = Bed::start().await;
    let (credential, _) = bed.credential().await;
    bed.reserve(9_810).await;
    let new = NewSession {
        credential,
        agent: AgentId::new(1_700_000_000, [9; 16]),
        agent_secret: Secret::new("secret".to_owned()),
        generation: 1,
        ip: bed.ip,
        agent_version: String::new(),
        os: String::new(),
        arch: String::new(),
        hostname: String::new(),
        metadata: String::new(),
    };
    let session = bed
        .registry
        .open_session(new)
        .await
        .expect("session")
        .value
        .session;
    let spec = BindSpec {
        url: "tcp://edge.test:9810".to_owned(),
        pooling_enabled: true,
        ..BindSpec::default()
    };
    let absent = bed
        .registry
        .bind_endpoint(&session.id, spec)
        .await
        .expect("bound")
        .value;
    bed.programmed(&absent).await;
    assert_reset(&mut bed.connect(&absent).await).await;
    bed.closed(CloseReason::AgentGone).await;

    let (_, token) = bed.credential().await;
    let mut agent = Agent::connect(&bed, &Identity::new(1, token)).await;
    let bind = Bind {
        url: "tcp://edge.test:9810".to_owned(),
        pooling_enabled: true,
        ..Bind::default()
    };
    agent
        .bind_with(bind, echo("here").await)
        .await
        .expect("bound");
    for _ in 0..16 {
        assert_eq!(
            crate::bed::greeting(&mut bed.connect(&absent).await, 4).await,
            "here"
        );
    }
    bed.finish().await;
}
