//! PROXY protocol in both directions, with HAProxy and nginx on the other side.

use portcullis_e2e::servers::{Haproxy, Nginx};
use portcullis_e2e::shell::{sh_async, try_sh};
use portcullis_e2e::traffic::Upstream;
use portcullis_e2e::{Stack, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_learns_the_clients_address_from_our_header_in_both_versions() {
    let (stack, nginx) = tokio::join!(Stack::start(), Nginx::start(true));
    for version in ["1", "2"] {
        let agent = stack
            .tcp_with(
                &nginx.port.to_string(),
                &["--upstream-proxy-protocol", version],
            )
            .await;
        let out = sh_async(format!(
            "curl -sS --noproxy '*' --interface 127.0.0.7 --local-port 0 http://127.0.0.1:{}/",
            agent.port()
        ))
        .await;
        let words: Vec<&str> = out.split_whitespace().collect();
        assert_eq!(words[0], "127.0.0.7", "version {version}: {out}");
        assert_eq!(
            words[2],
            agent.port(),
            "version {version}: the public port is the destination: {out}"
        );
    }
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_accepts_our_header_and_strips_it() {
    let stack = Stack::start().await;
    let upstream = Upstream::echo().await;
    let haproxy = Haproxy::start(&upstream.hostport(), "accept-proxy", "").await;
    for version in ["1", "2"] {
        let agent = stack
            .tcp_with(
                &haproxy.port.to_string(),
                &["--upstream-proxy-protocol", version],
            )
            .await;
        let echo = portcullis_e2e::traffic::exchange(agent.addr(), b"payload")
            .await
            .expect("echo");
        assert_eq!(echo, b"payload", "version {version}");
    }
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_haproxy_tells_us_the_client_and_it_goes_on_to_the_upstream() {
    let nginx = Nginx::start(true).await;
    let stack = Stack::start_configured("trusted_proxies: [127.0.0.1/32]\n", &[]).await;
    for (version, word) in [("1", "send-proxy"), ("2", "send-proxy-v2")] {
        let agent = stack
            .tcp_with(
                &nginx.port.to_string(),
                &["--upstream-proxy-protocol", version],
            )
            .await;
        // From 127.0.0.1, which is trusted; its own client comes from 127.0.0.8.
        let haproxy = Haproxy::start(
            &format!("127.0.0.1:{}", agent.port()),
            "",
            &format!("{word} source 127.0.0.1"),
        )
        .await;
        let out = sh_async(format!(
            "curl -sS --noproxy '*' --interface 127.0.0.8 http://127.0.0.1:{}/",
            haproxy.port
        ))
        .await;
        assert!(out.starts_with("127.0.0.8 "), "{word}: {out}");
        eventually("the record has the client", || async {
            stack.log().contains("127.0.0.8").then_some(())
        })
        .await;
    }
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_from_an_untrusted_peer_is_just_bytes() {
    let stack = Stack::start().await;
    let upstream = Upstream::echo().await;
    let agent = stack.tcp(&upstream.hostport()).await;
    let header = b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nrest";
    let echo = portcullis_e2e::traffic::exchange(agent.addr(), header)
        .await
        .expect("echo");
    assert_eq!(echo, header);
    assert!(!stack.log().contains("client=1.2.3.4"));
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_peer_without_a_valid_header_is_closed_with_its_code() {
    let stack = Stack::start_configured("trusted_proxies: [127.0.0.0/8]\n", &[]).await;
    let upstream = Upstream::echo().await;
    let agent = stack.tcp(&upstream.hostport()).await;
    let mut client = tokio::net::TcpStream::connect(agent.addr())
        .await
        .expect("connects");
    client
        .write_all(b"GET / HTTP/1.0\r\n\r\n")
        .await
        .expect("writes");
    let mut answer = Vec::new();
    let end = client.read_to_end(&mut answer).await;
    assert!(end.is_err() || answer.is_empty());
    eventually("it is logged", || async {
        stack
            .log()
            .contains("PTC_PROXY_HEADER_INVALID")
            .then_some(())
    })
    .await;
    // curl speaks version 1 by itself.
    let nginx = Nginx::start(true).await;
    let second = stack
        .tcp_with(&nginx.port.to_string(), &["--upstream-proxy-protocol", "1"])
        .await;
    let (status, out) = try_sh(&format!(
        "curl -sS --noproxy '*' --haproxy-protocol --interface 127.0.0.6 http://127.0.0.1:{}/",
        second.port()
    ));
    assert!(status == 0 && out.starts_with("127.0.0.6 "), "{out}");
    stack.balanced().await;
}
