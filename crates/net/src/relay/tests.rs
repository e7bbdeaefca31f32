//! The relay over real sockets, and its timers in virtual time.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;
use crate::socket::{TcpConn, configure, reset_on_drop};
use crate::testing::{Pipe, clog, pattern, pipe, read_all, soon, tcp_pair};

/// A relay between two sockets, and the peers on both sides of it.
pub(super) struct Bench {
    pub(super) client: TcpStream,
    pub(super) upstream: TcpStream,
    pub(super) counters: Arc<Counters>,
    pub(super) kill: CancellationToken,
    pub(super) end: JoinHandle<RelayEnd>,
}

impl Bench {
    pub(super) async fn start() -> Self {
        let (client, near_client) = tcp_pair().await;
        let (upstream, near_upstream) = tcp_pair().await;
        configure(&near_client).unwrap();
        configure(&near_upstream).unwrap();
        let counters = Arc::new(Counters::new());
        let kill = CancellationToken::new();
        let end = crate::task::spawn("relay", {
            let (counters, kill) = (Arc::clone(&counters), kill.clone());
            async move {
                let (mut c, mut u) = (TcpConn::new(near_client), TcpConn::new(near_upstream));
                relay(&mut c, &mut u, &RelayLimits::default(), &counters, &kill).await
            }
        });
        Self {
            client,
            upstream,
            counters,
            kill,
            end,
        }
    }

    async fn end(self) -> RelayEnd {
        soon("the relay's end", self.end).await.unwrap()
    }
}

pub(super) async fn assert_reset(peer: &mut TcpStream) {
    let (_, end) = soon("the peer's reset", read_all(peer)).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn half_close_of_client_keeps_other_direction() {
    let mut bench = Bench::start().await;
    bench.client.write_all(b"question").await.unwrap();
    bench.client.shutdown().await.unwrap();
    let (question, end) = soon("the question", read_all(&mut bench.upstream)).await;
    assert_eq!((question.as_slice(), end.is_ok()), (&b"question"[..], true));
    bench.upstream.write_all(b"late answer").await.unwrap();
    bench.upstream.shutdown().await.unwrap();
    let (answer, end) = soon("the answer", read_all(&mut bench.client)).await;
    assert_eq!(
        (answer.as_slice(), end.is_ok()),
        (&b"late answer"[..], true)
    );
    assert!(matches!(
        bench.end().await,
        RelayEnd::Finished {
            first: Side::Client
        }
    ));
}

#[tokio::test]
async fn half_close_of_upstream_keeps_other_direction() {
    let mut bench = Bench::start().await;
    bench.upstream.write_all(b"greeting").await.unwrap();
    bench.upstream.shutdown().await.unwrap();
    let (greeting, end) = soon("the greeting", read_all(&mut bench.client)).await;
    assert_eq!((greeting.as_slice(), end.is_ok()), (&b"greeting"[..], true));
    let upload = pattern(500_000, 1);
    bench.client.write_all(&upload).await.unwrap();
    bench.client.shutdown().await.unwrap();
    let (got, end) = soon("the upload", read_all(&mut bench.upstream)).await;
    assert!(got == upload && end.is_ok());
    assert!(matches!(
        bench.end().await,
        RelayEnd::Finished {
            first: Side::Upstream
        }
    ));
}

#[tokio::test]
async fn reset_of_client_resets_upstream() {
    let mut bench = Bench::start().await;
    bench.client.write_all(b"x").await.unwrap();
    bench.upstream.read_u8().await.unwrap();
    reset_on_drop(&bench.client);
    drop(bench.client);
    assert_reset(&mut bench.upstream).await;
    assert!(matches!(
        bench.end.await.unwrap(),
        RelayEnd::Reset { by: Side::Client }
    ));
}

#[tokio::test]
async fn reset_of_upstream_resets_client() {
    let mut bench = Bench::start().await;
    bench.upstream.write_all(b"x").await.unwrap();
    bench.client.read_u8().await.unwrap();
    reset_on_drop(&bench.upstream);
    drop(bench.upstream);
    assert_reset(&mut bench.client).await;
    assert!(matches!(
        bench.end.await.unwrap(),
        RelayEnd::Reset { by: Side::Upstream }
    ));
}

/// Telnet, FTP and Oracle send urgent bytes. A read stops in front of one, whatever lies behind it.
#[tokio::test]
async fn urgent_bytes_stay_in_their_place_and_hold_nothing_up() {
    let mut bench = Bench::start().await;
    bench.client.write_all(b"a").await.unwrap();
    bench.upstream.read_u8().await.unwrap();
    // Both are there before the relay gets to run.
    let urgent = socket2::SockRef::from(&bench.client).send_out_of_band(b"bc!");
    assert_eq!(urgent.unwrap(), 3);
    bench.client.try_write(b"def").unwrap();
    let mut got = [0; 6];
    let read = soon("what is behind", bench.upstream.read_exact(&mut got));
    read.await.unwrap();
    assert_eq!(&got, b"bc!def");
}

/// A server that refuses while it is still being sent to: its answer came before its reset, and a
/// write that finds the reset first must not hide it.
#[tokio::test]
async fn last_words_before_a_reset_are_passed_on() {
    for side in [Side::Client, Side::Upstream] {
        let bench = Bench::start().await;
        let (mut refuses, mut sends) = match side {
            Side::Client => (bench.client, bench.upstream),
            Side::Upstream => (bench.upstream, bench.client),
        };
        sends.write_all(b"a").await.unwrap();
        refuses.read_u8().await.unwrap();
        // All of this is done before the relay gets to run.
        sends.try_write(b"more").unwrap();
        refuses.try_write(b"too large").unwrap();
        reset_on_drop(&refuses);
        drop(refuses);
        let (words, end) = soon("the last words", read_all(&mut sends)).await;
        assert_eq!(words, b"too large");
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let end = soon("the relay's end", bench.end).await.unwrap();
        assert!(
            matches!(end, RelayEnd::Reset { by } if by == side),
            "{end:?}"
        );
    }
}

/// Nobody reads a side behind its FIN, and its reset must be noticed all the same.
#[tokio::test]
async fn reset_behind_half_close_is_noticed() {
    let mut bench = Bench::start().await;
    bench.client.shutdown().await.unwrap();
    assert_eq!(
        soon("FIN", bench.upstream.read(&mut [0; 8])).await.unwrap(),
        0
    );
    reset_on_drop(&bench.client);
    drop(bench.client);
    // Behind a FIN reads say 0 for ever; the reset shows as the socket's error.
    let mut upstream = TcpConn::new(bench.upstream);
    let error = soon("the reset", poll_fn(|cx| upstream.poll_broken(cx))).await;
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(matches!(
        bench.end.await.unwrap(),
        RelayEnd::Reset { by: Side::Client }
    ));
}

#[tokio::test]
async fn slow_reader_gets_every_byte() {
    let mut bench = Bench::start().await;
    let sent = pattern(6_000_000, 2);
    let expected = sent.clone();
    let writer = crate::task::spawn("writer", async move {
        bench.client.write_all(&sent).await.unwrap();
        bench.client.shutdown().await.unwrap();
        bench.client
    });
    let mut got = Vec::new();
    let mut chunk = [0; 3_001];
    loop {
        match soon("bytes", bench.upstream.read(&mut chunk))
            .await
            .unwrap()
        {
            0 => break,
            n => got.extend_from_slice(&chunk[..n]),
        }
        tokio::task::yield_now().await;
    }
    assert!(got == expected, "{} of {} bytes", got.len(), expected.len());
    assert_eq!(bench.counters.from(Side::Client), 6_000_000);
    assert_eq!(bench.counters.from(Side::Upstream), 0);
    assert!(bench.counters.first_byte_from(Side::Client).is_some());
    assert!(bench.counters.first_byte_from(Side::Upstream).is_none());
    drop((bench.upstream, writer.await.unwrap()));
    soon("the relay's end", bench.end).await.unwrap();
}

#[tokio::test]
async fn clogged_both_ways_then_reset_ends_at_once() {
    for side in [Side::Client, Side::Upstream] {
        let bench = Bench::start().await;
        tokio::join!(clog(&bench.client), clog(&bench.upstream));
        let (broken, mut other) = match side {
            Side::Client => (bench.client, bench.upstream),
            Side::Upstream => (bench.upstream, bench.client),
        };
        reset_on_drop(&broken);
        drop(broken);
        // Unnoticed, it would take the idle limit, which is none here. (A second, with slack.)
        let end = soon("the relay's end", bench.end).await.unwrap();
        assert!(
            matches!(end, RelayEnd::Reset { by } if by == side),
            "{end:?}"
        );
        assert_reset(&mut other).await;
    }
}

/// A crashed process: the kernel closes its socket, with bytes unread, which is a reset as well.
#[tokio::test]
async fn clogged_both_ways_then_crash_ends_at_once() {
    let bench = Bench::start().await;
    tokio::join!(clog(&bench.client), clog(&bench.upstream));
    drop(bench.upstream);
    let end = soon("the relay's end", bench.end).await.unwrap();
    assert!(
        matches!(end, RelayEnd::Reset { by: Side::Upstream }),
        "{end:?}"
    );
}

#[tokio::test]
async fn counters_are_exact_both_ways() {
    let bench = Bench::start().await;
    let (up, down) = (pattern(1_234_567, 3), pattern(2_345_678, 4));
    let side = |stream: TcpStream, sends: Vec<u8>| async move {
        let (mut reader, mut writer) = stream.into_split();
        let writing = crate::task::spawn("writer", async move {
            writer.write_all(&sends).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        let (got, end) = read_all(&mut reader).await;
        end.unwrap();
        writing.await.unwrap();
        got
    };
    let both = async {
        tokio::join!(
            side(bench.client, up.clone()),
            side(bench.upstream, down.clone())
        )
    };
    let (at_client, at_upstream) = soon("both transfers", both).await;
    assert!(at_client == down && at_upstream == up);
    assert!(matches!(
        bench.end.await.unwrap(),
        RelayEnd::Finished { .. }
    ));
    assert_eq!(bench.counters.from(Side::Client), 1_234_567);
    assert_eq!(bench.counters.from(Side::Upstream), 2_345_678);
}

#[tokio::test]
async fn kill_resets_both_sides() {
    let mut bench = Bench::start().await;
    bench.kill.cancel();
    assert_reset(&mut bench.client).await;
    assert_reset(&mut bench.upstream).await;
    assert!(matches!(bench.end.await.unwrap(), RelayEnd::Killed));
}

#[tokio::test]
async fn an_idle_relay_is_small() {
    let ((mut c, _far_c), (mut u, _far_u)) = (pipe(), pipe());
    let (limits, counters, kill) = (
        RelayLimits::default(),
        Counters::new(),
        CancellationToken::new(),
    );
    let future = relay(&mut c, &mut u, &limits, &counters, &kill);
    assert!(
        size_of_val(&future) <= 512,
        "{} bytes",
        size_of_val(&future)
    );
}

/// A relay in virtual time.
fn virtual_relay(
    limits: RelayLimits,
) -> (DuplexStream, DuplexStream, JoinHandle<(RelayEnd, Duration)>) {
    let (near_client, client) = pipe();
    let (near_upstream, upstream) = pipe();
    let end = crate::task::spawn("relay", async move {
        let (mut c, mut u): (Pipe, Pipe) = (near_client, near_upstream);
        let counters = Counters::new();
        let end = relay(
            &mut c,
            &mut u,
            &limits,
            &counters,
            &CancellationToken::new(),
        )
        .await;
        let cut = !matches!(end, RelayEnd::Finished { .. });
        assert_eq!(c.was_reset.load(Ordering::Relaxed), cut);
        assert_eq!(u.was_reset.load(Ordering::Relaxed), cut);
        (end, counters.start().elapsed())
    });
    (client, upstream, end)
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn one_way_stream_is_never_idle() {
    let limits = RelayLimits {
        idle: Some(5 * MINUTE),
        ..RelayLimits::default()
    };
    let (mut client, mut upstream, end) = virtual_relay(limits);
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_secs(299)).await;
        upstream.write_u8(1).await.unwrap();
        client.read_u8().await.unwrap();
    }
    assert!(!end.is_finished(), "{} hours", 100 * 299 / 3600);
    let (end, lasted) = end.await.unwrap();
    assert!(matches!(end, RelayEnd::Idle), "{end:?}");
    let silent = lasted - 100 * Duration::from_secs(299);
    assert!(
        silent >= 5 * MINUTE && silent < 5 * MINUTE + Duration::from_secs(1),
        "{silent:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_life_is_over_however_busy_it_is() {
    let limits = RelayLimits {
        idle: Some(5 * MINUTE),
        lifetime: Some(60 * MINUTE),
        ..RelayLimits::default()
    };
    let (mut client, mut upstream, end) = virtual_relay(limits);
    for _ in 0..59 {
        tokio::time::sleep(MINUTE).await;
        upstream.write_u8(1).await.unwrap();
        client.read_u8().await.unwrap();
    }
    assert!(!end.is_finished());
    let (end, lasted) = end.await.unwrap();
    assert!(matches!(end, RelayEnd::LifetimeOver), "{end:?}");
    assert!(lasted >= 60 * MINUTE && lasted < 61 * MINUTE, "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn half_close_timer_is_rearmed_by_bytes() {
    let limits = RelayLimits {
        half_close: Some(MINUTE),
        ..RelayLimits::default()
    };
    let (mut client, mut upstream, end) = virtual_relay(limits);
    tokio::time::sleep(60 * MINUTE).await;
    client.shutdown().await.unwrap();
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_secs(50)).await;
        upstream.write_u8(1).await.unwrap();
        client.read_u8().await.unwrap();
    }
    assert!(!end.is_finished());
    let (end, lasted) = end.await.unwrap();
    assert!(matches!(end, RelayEnd::HalfCloseIdle), "{end:?}");
    let silent = lasted - 60 * MINUTE - 30 * Duration::from_secs(50);
    assert!(
        silent >= MINUTE && silent < MINUTE + Duration::from_secs(1),
        "{silent:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn half_close_comes_before_a_longer_idle_limit() {
    let limits = RelayLimits {
        idle: Some(60 * MINUTE),
        half_close: Some(MINUTE),
        ..RelayLimits::default()
    };
    let (_client, mut upstream, end) = virtual_relay(limits);
    upstream.shutdown().await.unwrap();
    let (end, lasted) = end.await.unwrap();
    assert!(matches!(end, RelayEnd::HalfCloseIdle), "{end:?}");
    assert!(lasted < 2 * MINUTE, "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn one_sides_silence_has_its_own_limit() {
    for (limits, silent) in [
        (
            RelayLimits {
                client_idle: Some(MINUTE),
                ..RelayLimits::default()
            },
            Side::Client,
        ),
        (
            RelayLimits {
                server_idle: Some(MINUTE),
                ..RelayLimits::default()
            },
            Side::Upstream,
        ),
    ] {
        let (client, upstream, end) = virtual_relay(limits);
        let (mut talker, mut listener) = if silent == Side::Client {
            (upstream, client)
        } else {
            (client, upstream)
        };
        let talking = crate::task::spawn("talker", async move {
            while talker.write_u8(1).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
        });
        let (end, lasted) = crate::task::spawn("listener", async move {
            while listener.read_u8().await.is_ok() {}
            end.await.unwrap()
        })
        .await
        .unwrap();
        talking.await.unwrap();
        let right = match silent {
            Side::Client => matches!(end, RelayEnd::ClientIdle),
            Side::Upstream => matches!(end, RelayEnd::ServerIdle),
        };
        assert!(
            right && lasted >= MINUTE && lasted < 2 * MINUTE,
            "{end:?} {lasted:?}"
        );
    }
}

/// Short connections go without keep-alive on the dialled socket; those that last get it.
#[tokio::test(start_paused = true)]
async fn a_dialled_socket_gets_keep_alive_when_the_relay_lasts() {
    let (_client, near_client) = tcp_pair().await;
    let (near_upstream, _upstream) = tcp_pair().await;
    let fd = std::os::fd::AsFd::as_fd(&near_upstream);
    let socket = socket2::Socket::from(fd.try_clone_to_owned().unwrap());
    let end = crate::task::spawn("relay", async move {
        let mut c = TcpConn::new(near_client);
        let mut u = TcpConn::new_dialled(near_upstream);
        let (counters, kill) = (Counters::new(), CancellationToken::new());
        relay(&mut c, &mut u, &RelayLimits::default(), &counters, &kill).await
    });
    tokio::time::sleep(crate::defaults::RELAY_SETTLED_AFTER / 2).await;
    assert!(!socket.keepalive().unwrap());
    tokio::time::sleep(crate::defaults::RELAY_SETTLED_AFTER).await;
    assert!(socket.keepalive().unwrap());
    assert!(!end.is_finished());
}

#[tokio::test(start_paused = true)]
async fn without_limits_silence_lasts_for_ever() {
    let (client, _upstream, end) = virtual_relay(RelayLimits::default());
    tokio::time::sleep(1_000_000 * MINUTE).await;
    assert!(!end.is_finished());
    drop(client);
}
