//! Proxy URLs, and both kinds of proxy as small as they can be.

use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// A listener that hands its one connection to `serve`.
async fn once<F, Fut>(serve: F) -> String
where
    F: FnOnce(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("bound").to_string();
    crate::task::spawn("test proxy", async move {
        let (stream, _) = listener.accept().await.expect("accepts");
        serve(stream).await;
    });
    addr
}

#[test]
fn proxy_urls_are_read_with_their_login() {
    let url: ProxyUrl = "http://me:p%40ss@proxy.example:3128/"
        .parse()
        .expect("valid");
    assert_eq!(
        (url.kind, url.address.as_str()),
        (ProxyKind::Http, "proxy.example:3128")
    );
    let (user, password) = url.login.clone().expect("has one");
    assert_eq!((user.as_str(), password.expose().as_str()), ("me", "p@ss"));
    assert!(!format!("{url:?}").contains("p@ss"));
    assert_eq!(
        "socks5://[::1]".parse::<ProxyUrl>().expect("valid").address,
        "[::1]:1080"
    );
    for bad in [
        "",
        "proxy:1",
        "ftp://proxy",
        "http://",
        "http://a:b:c",
        "http://a:0",
        "socks5://u:p@",
    ] {
        let error = bad.parse::<ProxyUrl>().expect_err(bad);
        assert_eq!(error.code, Code::ConfigInvalid);
        assert!(!error.message.contains("u:p"), "{error}");
    }
}

#[tokio::test]
async fn http_connect_sends_its_login_and_leaves_the_first_bytes_alone() {
    let proxy = once(|mut stream| async move {
        let mut head = vec![0; 1024];
        let n = stream.read(&mut head).await.expect("reads");
        let head = String::from_utf8_lossy(&head[..n]).into_owned();
        assert!(
            head.starts_with("CONNECT server.example:7443 HTTP/1.1\r\n"),
            "{head}"
        );
        assert!(
            head.contains("Proxy-Authorization: Basic dTpw\r\n"),
            "{head}"
        );
        stream
            .write_all(b"HTTP/1.1 200 Fine\r\nVia: test\r\n\r\nfirst bytes")
            .await
            .expect("writes");
    })
    .await;
    let proxy = format!("http://u:p@{proxy}").parse().expect("valid");
    let mut stream = connect("server.example:7443", Some(&proxy), soon())
        .await
        .expect("connects");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.expect("reads");
    assert_eq!(rest, "first bytes");
}

#[tokio::test]
async fn a_refusing_proxy_is_named_with_its_answer() {
    for (answer, said) in [
        ("HTTP/1.1 403 No\r\n\r\n", "403"),
        ("HTTP/1.1 407 Auth\r\n\r\n", "password"),
        ("SSH-2.0\r\n\r\n", "HTTP"),
    ] {
        let proxy = once(move |mut stream| async move {
            stream.write_all(answer.as_bytes()).await.expect("writes");
            let mut request = Vec::new();
            drop(stream.read_to_end(&mut request).await);
        })
        .await;
        let proxy = format!("http://{proxy}").parse().expect("valid");
        let error = connect("server.example:1", Some(&proxy), soon())
            .await
            .expect_err("refused");
        assert_eq!(error.code, Code::ProxyConnectFailed);
        assert!(error.message.contains(said), "{error}");
    }
}

#[tokio::test]
async fn socks5_asks_for_the_name_and_lets_the_proxy_resolve_it() {
    let proxy = once(|mut stream| async move {
        let mut greeting = [0; 3];
        stream.read_exact(&mut greeting).await.expect("reads");
        stream.write_all(&[5, 0]).await.expect("writes");
        let mut request = vec![0; 5 + 14 + 2];
        stream.read_exact(&mut request).await.expect("reads");
        assert_eq!(&request[..5], [5, 1, 0, 3, 14]);
        assert_eq!(&request[5..19], b"server.example");
        stream
            .write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
            .await
            .expect("writes");
        stream.write_all(b"hello").await.expect("writes");
    })
    .await;
    let proxy = format!("socks5://{proxy}").parse().expect("valid");
    let mut stream = connect("server.example:7443", Some(&proxy), soon())
        .await
        .expect("connects");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.expect("reads");
    assert_eq!(rest, "hello");
}

#[tokio::test]
async fn nobody_there_and_no_such_name_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("bound").to_string();
    drop(listener);
    let error = connect(&addr, None, soon()).await.expect_err("nobody");
    assert_eq!(error.code, Code::ServerUnreachable);
    let error = connect("no-such-name.invalid:1", None, soon())
        .await
        .expect_err("no name");
    assert_eq!(error.code, Code::DnsFailed);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,80}") {
        drop(text.parse::<ProxyUrl>());
        prop_assert!(http::status(text.as_bytes()).is_none_or(|status| text.contains(&status.to_string())));
    }
}
