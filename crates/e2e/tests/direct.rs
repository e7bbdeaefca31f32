//! Without an agent: the server dials upstreams itself.

use portcullis_e2e::servers::Postgres;
use portcullis_e2e::shell::sh_async;
use portcullis_e2e::traffic::{Upstream, exchange};
use portcullis_e2e::{Stack, eventually, ports};

fn at(port: u16) -> std::net::SocketAddr {
    std::net::SocketAddr::from(([127, 0, 0, 1], port))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exposed_ports_and_port_ranges_reach_their_upstreams() {
    let postgres = Postgres::start().await;
    let upstreams = ports::block(3);
    let mut echoes = Vec::new();
    for port in upstreams.clone() {
        echoes.push(
            Upstream::serve_at(at(port), move |mut stream| async move {
                drop(
                    tokio::io::AsyncWriteExt::write_all(&mut stream, port.to_string().as_bytes())
                        .await,
                );
            })
            .await,
        );
    }
    let public = ports::block(4);
    let (first, last) = (*public.start(), *public.end());
    let one = format!("{last}=127.0.0.1:{}", postgres.port);
    let range = format!(
        "{first}-{}=127.0.0.1:{}-{}",
        first + 2,
        upstreams.start(),
        upstreams.end()
    );
    let stack = Stack::start_with(&["--expose", &one, "--expose", &range]).await;
    let out = sh_async(format!(
        "psql -h 127.0.0.1 -p {last} -U postgres -Atc 'select 6*7'"
    ))
    .await;
    assert_eq!(out.trim(), "42");
    for (public, upstream) in (first..=first + 2).zip(upstreams) {
        assert_eq!(
            exchange(at(public), b"").await.expect("answers"),
            upstream.to_string().as_bytes()
        );
    }
    let list = stack.api.get("/endpoints").await;
    assert_eq!(
        list["endpoints"].as_array().map(Vec::len),
        Some(4),
        "{list}"
    );
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configured_endpoints_are_served_and_dual_stack() {
    let upstream = Upstream::echo().await;
    let port = ports::one();
    let yaml = format!(
        "endpoints:\n  - port: {port}\n    upstream: {}\n    name: echo\n    cidr_allow: [127.0.0.0/8, '::1/128']\n",
        upstream.hostport()
    );
    let stack = Stack::start_configured(&yaml, &[]).await;
    eventually("it is online", || stack.api.endpoint_named("echo")).await;
    assert_eq!(exchange(at(port), b"four").await.expect("echo"), b"four");
    let six = std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
    assert_eq!(exchange(six, b"six").await.expect("echo"), b"six");
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_upstream_resets_the_client_and_is_reported() {
    let dead = ports::one();
    let port = ports::one();
    let stack = Stack::start_with(&["--expose", &format!("{port}=127.0.0.1:{dead}")]).await;
    let end = exchange(at(port), b"x").await.map_err(|error| error.kind());
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
    eventually("it is logged", || async {
        stack.log().contains("PTC_UPSTREAM_REFUSED").then_some(())
    })
    .await;
    stack.balanced().await;
}
