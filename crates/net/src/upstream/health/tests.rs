//! Tests of probes: every judge at every cut, and whole probes of small servers.

use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};

use super::answers::{expect, http, mysql, postgres, redis, smtp, ssh};
use super::*;

/// A judge has no verdict before the last byte of `whole`, and then this one; wherever it is cut.
fn at_every_cut(judge: impl Fn(&[u8], bool) -> Verdict, whole: &[u8]) {
    for cut in 0..whole.len() {
        assert_eq!(
            judge(&whole[..cut], false),
            Verdict::More,
            "{cut} of {whole:?}"
        );
        assert_ne!(
            judge(&whole[..cut], true),
            Verdict::Good,
            "{cut} of {whole:?}"
        );
    }
    assert_eq!(judge(whole, false), Verdict::Good, "{whole:?}");
    assert_eq!(judge(&[whole, &[0; 9]].concat(), true), Verdict::Good);
}

#[test]
fn good_answers_are_known_at_their_last_byte() {
    at_every_cut(postgres, b"S");
    at_every_cut(postgres, b"N");
    at_every_cut(postgres, b"E\0\0\0\x20");
    at_every_cut(mysql, b"\x4a\0\0\0\x0a8.0\0");
    at_every_cut(redis, b"+PONG\r\n");
    at_every_cut(redis, b"-NOAUTH ");
    at_every_cut(smtp, b"220-a\r\n220 b\r\n");
    at_every_cut(ssh, b"hello\r\nSSH-");
    at_every_cut(|heard, ended| expect(b"yes", heard, ended), b"oh yes");
    at_every_cut(
        |heard, ended| http((200, 399), heard, ended),
        b"HTTP/1.1 204",
    );
}

#[test]
fn other_answers_say_what_came() {
    let bad = |verdict: Verdict, part: &str| match verdict {
        Verdict::Bad(why) => assert!(why.contains(part), "{why}"),
        other => panic!("{other:?} where `{part}` should be"),
    };
    bad(postgres(b"HTTP/1.1 400", false), "HTTP/1.1 400");
    bad(postgres(b"E\xff\xff\xff\xff", false), "PostgreSQL");
    bad(mysql(b"SSH-2.0-x", false), "SSH-2.0-x");
    bad(mysql(b"\x0b\0\0\0\xff\x69\x04blocked!", false), "blocked");
    bad(mysql(b"\x40\0\0\0\x09old\0", false), "MySQL");
    bad(redis(b"-LOADING Redis is loading\r\n", false), "LOADING");
    bad(redis(&[b'x'; 300], false), "xxx");
    bad(smtp(b"554 no\r\n", false), "554 no");
    bad(smtp(b"220-a\r\n421 b\r\n", false), "421 b");
    bad(ssh(b"HTTP/1.1 400 Bad\r\n", true), "HTTP/1.1 400");
    bad(expect(b"yes", b"no", true), "`no`");
    bad(http((200, 399), b"HTTP/1.1 503 x", false), "503");
    bad(http((204, 204), b"HTTP/1.0 200 x", false), "200");
    bad(http((200, 399), b"SSH-2.0", false), "SSH-2.0");
    bad(http((200, 399), b"HTTP/1.1 ab", true), "HTTP");
    bad(http((200, 399), b"HTTP/1.1 abc", false), "HTTP");
}

#[test]
fn checks_that_begin_together_spread() {
    let check = HealthCheck::new(Probe::Tcp);
    assert_eq!(pause(&check, false, 7), check.interval);
    for seed in 0..200 {
        let first = pause(&check, true, seed);
        assert!(first >= check.interval / 2 && first <= check.interval);
    }
    assert_ne!(pause(&check, true, 1), pause(&check, true, 40));
}

fn soon(probe: Probe) -> HealthCheck {
    HealthCheck {
        timeout: Duration::from_secs(20),
        ..HealthCheck::new(probe)
    }
}

/// A server that says something, reads a line's worth, and says something again.
async fn server(greeting: &'static [u8], answer: &'static [u8]) -> Upstream {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            drop(stream.write_all(greeting).await);
            let mut heard = [0; 512];
            if matches!(stream.read(&mut heard).await, Ok(count) if count > 0) {
                drop(stream.write_all(answer).await);
            }
        }
    });
    format!("tcp://{at}").parse().expect("an upstream")
}

async fn probed(probe: Probe, upstream: &Upstream) -> Result<(), Error> {
    let resolver = Resolver::system().expect("resolver");
    super::probe(&soon(probe), upstream, None, &resolver).await
}

fn get() -> Probe {
    HealthCheck::read_text("http").expect("a check").probe
}

#[tokio::test]
async fn each_probe_knows_its_service_from_another() {
    let speaks: [(Probe, &'static [u8], &'static [u8]); 6] = [
        (Probe::Postgres, b"", b"N"),
        (Probe::Mysql, b"\x4a\0\0\0\x0a8.0.36\0", b""),
        (Probe::Redis, b"", b"+PONG\r\n"),
        (Probe::Smtp, b"220 mail\r\n", b"221 bye\r\n"),
        (Probe::Ssh, b"SSH-2.0-x\r\n", b""),
        (get(), b"", b"HTTP/1.1 200 OK\r\n\r\n"),
    ];
    for (probe, greeting, answer) in &speaks {
        let upstream = server(greeting, answer).await;
        assert_eq!(probed(probe.clone(), &upstream).await, Ok(()), "{probe:?}");
        assert_eq!(probed(Probe::Tcp, &upstream).await, Ok(()));
    }
    let closed = server(b"-ERR go away\r\n", b"").await;
    for (probe, ..) in speaks {
        let error = probed(probe.clone(), &closed).await.expect_err("another");
        assert_eq!(error.code, Code::UpstreamUnhealthy);
        assert!(error.message.starts_with(probe.as_str()), "{error}");
    }
}

#[tokio::test]
async fn a_refusal_a_silence_and_a_flood_are_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("address");
    let upstream: Upstream = format!("tcp://{at}").parse().expect("an upstream");
    let resolver = Resolver::system().expect("resolver");
    let check = HealthCheck {
        timeout: Duration::from_millis(50),
        ..HealthCheck::new(Probe::Redis)
    };
    // The kernel takes it, and nobody answers.
    let silent = probe(&check, &upstream, None, &resolver).await;
    let silent = silent.expect_err("silent").message;
    assert!(silent.contains("in time"), "{silent}");
    drop(listener);
    let refused = probed(Probe::Tcp, &upstream).await.expect_err("refused");
    assert_eq!(refused.code, Code::UpstreamUnhealthy);

    let flood = server(&[b'x'; 100_000], b"").await;
    let error = probed(Probe::Ssh, &flood).await.expect_err("too much");
    assert!(error.message.contains("bytes"), "{error}");
}

#[tokio::test]
async fn unix_sockets_and_proxy_headers_are_served() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).expect("bound");
    let upstream: Upstream = format!("unix:{}", path.display()).parse().expect("one");
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accepted");
        let mut heard = vec![0; PROXY_V2_LOCAL.len() + SSL_REQUEST.len()];
        stream.read_exact(&mut heard).await.expect("both");
        stream.write_all(b"S").await.expect("said");
        heard
    });
    let resolver = Resolver::system().expect("resolver");
    let check = soon(Probe::Postgres);
    let proxy = Some(ProxyVersion::V2);
    let good = probe(&check, &upstream, proxy, &resolver).await;
    assert_eq!(good, Ok(()));
    let heard = heard.await.expect("no panic");
    assert_eq!(heard, [PROXY_V2_LOCAL, &SSL_REQUEST].concat());
    let error = fits(&soon(Probe::Tls), &upstream).expect_err("no name");
    assert_eq!(error.code, Code::HealthInvalid);
    assert_eq!(fits(&check, &upstream), Ok(()));
}
