//! Splicing over real sockets: when it begins and ends, and that it loses, doubles and mixes up nothing.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::pipe::testing;
use super::tests::{Bench, assert_reset};
use super::*;
use crate::socket::{TcpConn, UnixConn, reset_on_drop};
use crate::testing::{clog, pattern, read_all, soon, tcp_pair};

const MIB: usize = 1024 * 1024;

/// Sends all of it and then FIN, while the other end reads all of it.
async fn transfer(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    let (_, got) = tokio::join!(
        async {
            from.write_all(bytes).await.unwrap();
            from.shutdown().await.unwrap();
        },
        soon("the bytes", read_all(to))
    );
    got.1.unwrap();
    assert!(got.0 == bytes, "{} of {} bytes", got.0.len(), bytes.len());
}

/// Sends a message and reads it at the other end.
async fn say(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    let (sent, read) = tokio::join!(
        from.write_all(bytes),
        soon("a message", to.read_exact(&mut got))
    );
    sent.unwrap();
    read.unwrap();
    assert!(got == bytes);
}

/// Sends until the relay splices; what it sent.
async fn until_spliced(from: &mut TcpStream, to: &mut TcpStream, counters: &Counters) -> usize {
    let chunk = pattern(4 * MIB, 9);
    for round in 1..=100 {
        say(from, to, &chunk).await;
        if counters.spliced() > 0 {
            return round * chunk.len();
        }
    }
    panic!("nothing was spliced");
}

#[tokio::test]
async fn bulk_is_spliced_and_whole_both_ways() {
    let mut bench = Bench::start().await;
    let bytes = pattern(64 * MIB, 1);
    transfer(&mut bench.client, &mut bench.upstream, &bytes).await;
    assert!(
        bench.counters.spliced() > 32 << 20,
        "{} bytes spliced",
        bench.counters.spliced()
    );
    transfer(&mut bench.upstream, &mut bench.client, &bytes).await;
    let end = soon("the relay's end", bench.end).await.unwrap();
    assert!(matches!(
        end,
        RelayEnd::Finished {
            first: Side::Client
        }
    ));
    assert_eq!(bench.counters.from(Side::Client), 64 << 20);
    assert_eq!(bench.counters.from(Side::Upstream), 64 << 20);
    assert_eq!(pipes_in_use().lent, 0);
    assert!(pipes_in_use().idle >= 1);
}

#[tokio::test]
async fn small_messages_are_copied_also_after_bulk() {
    let mut bench = Bench::start().await;
    for _ in 0..20 {
        say(&mut bench.client, &mut bench.upstream, b"small").await;
    }
    assert_eq!(bench.counters.spliced(), 0);
    until_spliced(&mut bench.client, &mut bench.upstream, &bench.counters).await;
    for _ in 0..crate::defaults::SPLICE_UNTIL_SMALL {
        say(&mut bench.client, &mut bench.upstream, b"small").await;
    }
    let spliced = bench.counters.spliced();
    for _ in 0..20 {
        say(&mut bench.client, &mut bench.upstream, b"small").await;
    }
    assert_eq!(bench.counters.spliced(), spliced);
    say(
        &mut bench.client,
        &mut bench.upstream,
        &pattern(32 * MIB, 2),
    )
    .await;
    assert!(bench.counters.spliced() > spliced, "bulk again");
}

#[tokio::test]
async fn a_quiet_connection_holds_no_pipe() {
    testing::at_most(1);
    let mut first = Bench::start().await;
    until_spliced(&mut first.client, &mut first.upstream, &first.counters).await;
    assert_eq!((pipes_in_use().lent, pipes_in_use().idle), (0, 1));
    let mut second = Bench::start().await;
    until_spliced(&mut second.client, &mut second.upstream, &second.counters).await;
}

/// Bursts of every size, pauses, and readers that are slower than the writers.
#[tokio::test]
async fn mixed_traffic_under_slow_readers_is_whole() {
    for seed in 0..4 {
        let bench = Bench::start().await;
        let (up, down) = (pattern(24 * MIB, seed), pattern(16 * MIB, seed + 100));
        let side = |stream: TcpStream, sends: Vec<u8>, expects: Vec<u8>, seed| async move {
            let (mut reader, mut writer) = stream.into_split();
            let writing = crate::task::spawn("writer", async move {
                let mut random = StdRng::seed_from_u64(seed);
                let mut rest = sends.as_slice();
                while !rest.is_empty() {
                    let most = if random.random_bool(0.5) {
                        2 * MIB
                    } else {
                        3000
                    };
                    let (now, later) = rest.split_at(random.random_range(1..=most).min(rest.len()));
                    writer.write_all(now).await.unwrap();
                    rest = later;
                    if random.random_bool(0.3) {
                        tokio::task::yield_now().await;
                    }
                }
                writer.shutdown().await.unwrap();
            });
            let mut random = StdRng::seed_from_u64(seed + 1000);
            let (mut chunk, mut have) = (vec![0; MIB], 0);
            loop {
                let most = random.random_range(1..=MIB);
                let read = soon("bytes", reader.read(&mut chunk[..most]))
                    .await
                    .unwrap();
                assert!(
                    chunk[..read] == expects[have..have + read],
                    "seed {seed}, at {have}"
                );
                have += read;
                if read == 0 {
                    break;
                }
                for _ in 0..random.random_range(0..3) {
                    tokio::task::yield_now().await;
                }
            }
            assert_eq!(have, expects.len(), "seed {seed}");
            writing.await.unwrap();
        };
        tokio::join!(
            side(bench.client, up.clone(), down.clone(), seed),
            side(bench.upstream, down, up, seed + 50)
        );
        let end = soon("the relay's end", bench.end).await.unwrap();
        assert!(matches!(end, RelayEnd::Finished { .. }), "{end:?}");
        assert_eq!(bench.counters.from(Side::Client), 24 << 20);
        assert_eq!(bench.counters.from(Side::Upstream), 16 << 20);
        assert!(bench.counters.spliced() > 0);
    }
}

/// A relay that splices from the client, whose upstream has stopped reading; the bytes that went in.
async fn clogged_in_mid_splice() -> (Bench, usize) {
    let mut bench = Bench::start().await;
    let read = until_spliced(&mut bench.client, &mut bench.upstream, &bench.counters).await;
    let sent = clog(&bench.client).await;
    assert_eq!(pipes_in_use().lent, 1, "bytes wait in a pipe");
    (bench, read + sent)
}

#[tokio::test]
async fn an_end_behind_a_clogged_splice_loses_nothing() {
    let (mut bench, sent) = clogged_in_mid_splice().await;
    let spliced = bench.counters.from(Side::Client);
    bench.client.shutdown().await.unwrap();
    let (rest, end) = soon("the rest", read_all(&mut bench.upstream)).await;
    end.unwrap();
    assert!(rest.iter().skip(4 * MIB).all(|byte| *byte == 7));
    drop(bench.upstream);
    let end = soon("the relay's end", bench.end).await.unwrap();
    assert!(
        matches!(
            end,
            RelayEnd::Finished {
                first: Side::Client
            }
        ),
        "{end:?}"
    );
    assert_eq!(
        bench.counters.from(Side::Client),
        u64::try_from(sent).unwrap()
    );
    assert!(spliced < bench.counters.from(Side::Client));
    assert_eq!((pipes_in_use().lent, pipes_in_use().idle), (0, 1));
}

#[tokio::test]
async fn a_reset_in_mid_splice_resets_the_other_side() {
    for side in [Side::Client, Side::Upstream] {
        let (bench, sent) = clogged_in_mid_splice().await;
        let (broken, mut other) = match side {
            Side::Client => (bench.client, bench.upstream),
            Side::Upstream => (bench.upstream, bench.client),
        };
        reset_on_drop(&broken);
        drop(broken);
        let end = soon("the relay's end", bench.end).await.unwrap();
        assert!(
            matches!(end, RelayEnd::Reset { by } if by == side),
            "{end:?}"
        );
        assert_reset(&mut other).await;
        assert!(bench.counters.from(Side::Client) < u64::try_from(sent).unwrap());
        let pipes = pipes_in_use();
        assert_eq!(
            (pipes.lent, pipes.idle),
            (0, 0),
            "its bytes went with its pipe"
        );
    }
}

#[tokio::test]
async fn a_kill_in_mid_splice_resets_both_sides() {
    let (mut bench, _) = clogged_in_mid_splice().await;
    bench.kill.cancel();
    assert_reset(&mut bench.client).await;
    assert_reset(&mut bench.upstream).await;
    assert!(matches!(bench.end.await.unwrap(), RelayEnd::Killed));
    assert_eq!((pipes_in_use().lent, pipes_in_use().idle), (0, 0));
}

/// A splice stops in front of an urgent byte for ever, and says "end" when FIN is behind it.
#[tokio::test]
async fn urgent_bytes_in_mid_splice_stay_in_their_place() {
    for with_end in [false, true] {
        let mut bench = Bench::start().await;
        until_spliced(&mut bench.client, &mut bench.upstream, &bench.counters).await;
        // All of this is there before the relay gets to run.
        bench.client.try_write(b"ab").unwrap();
        let urgent = socket2::SockRef::from(&bench.client).send_out_of_band(b"!");
        assert_eq!(urgent.unwrap(), 1);
        bench.client.try_write(b"cd").unwrap();
        if with_end {
            bench.client.shutdown().await.unwrap();
            let (got, end) = soon("the rest", read_all(&mut bench.upstream)).await;
            end.unwrap();
            assert_eq!(got, b"ab!cd");
        } else {
            let mut got = [0; 5];
            let read = soon("the rest", bench.upstream.read_exact(&mut got)).await;
            read.unwrap();
            assert_eq!(&got, b"ab!cd");
            let spliced = bench.counters.spliced();
            let bulk = pattern(32 * MIB, 5);
            transfer(&mut bench.client, &mut bench.upstream, &bulk).await;
            assert!(
                bench.counters.spliced() > spliced,
                "it splices on behind it"
            );
        }
    }
}

/// Connections that break with bytes in their pipes, beside others that go on: nobody sees a byte
/// that is not their own.
#[tokio::test]
async fn no_byte_of_one_connection_reaches_another() {
    testing::at_most(3);
    let mut tasks = Vec::new();
    for id in 0..12_u8 {
        tasks.push(crate::task::spawn("connection", async move {
            for round in 0..8 {
                let mut bench = Bench::start().await;
                let fill = id * 8 + round;
                let bulk = vec![fill; MIB];
                let writing = crate::task::spawn("writer", async move {
                    for _ in 0..12 {
                        if bench.client.write_all(&bulk).await.is_err() {
                            return bench.client; // the reader has gone: as planned
                        }
                    }
                    bench.client.shutdown().await.unwrap();
                    bench.client
                });
                let breaks = round % 2 == 0;
                let (mut chunk, mut have) = (vec![0; 300_000], 0);
                loop {
                    let read = soon("bytes", bench.upstream.read(&mut chunk))
                        .await
                        .unwrap();
                    assert!(
                        chunk[..read].iter().all(|byte| *byte == fill),
                        "{id} {round}"
                    );
                    have += read;
                    if read == 0 || (breaks && have > 5 * MIB) {
                        break;
                    }
                }
                if breaks {
                    reset_on_drop(&bench.upstream);
                } else {
                    assert_eq!(have, 12 * MIB);
                }
                drop(bench.upstream);
                drop(writing.await.unwrap());
                soon("the relay's end", bench.end).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let pipes = pipes_in_use();
    assert!(pipes.lent == 0 && pipes.idle <= 3, "{pipes:?}");
    assert!(
        pipes.refused > 0,
        "more wanted to splice than there were pipes"
    );
}

#[tokio::test]
async fn without_pipes_bulk_is_copied() {
    testing::refuse();
    let mut bench = Bench::start().await;
    let bytes = pattern(32 * MIB, 3);
    transfer(&mut bench.client, &mut bench.upstream, &bytes).await;
    transfer(&mut bench.upstream, &mut bench.client, &bytes).await;
    soon("the relay's end", bench.end).await.unwrap();
    assert_eq!(bench.counters.spliced(), 0);
    assert_eq!(bench.counters.from(Side::Client), 32 << 20);
    assert!(pipes_in_use().refused > 0);
}

#[tokio::test]
async fn unix_sockets_are_spliced_too() {
    let (mut client, near_client) = tcp_pair().await;
    let (near_upstream, mut upstream) = tokio::net::UnixStream::pair().unwrap();
    let counters = Arc::new(Counters::new());
    let end = crate::task::spawn("relay", {
        let counters = Arc::clone(&counters);
        async move {
            let (mut c, mut u) = (TcpConn::new(near_client), UnixConn::new(near_upstream));
            let kill = CancellationToken::new();
            relay(&mut c, &mut u, &RelayLimits::default(), &counters, &kill).await
        }
    });
    let bytes = pattern(48 * MIB, 4);
    let (_, got) = tokio::join!(
        async {
            client.write_all(&bytes).await.unwrap();
            client.shutdown().await.unwrap();
        },
        soon("the upload", read_all(&mut upstream))
    );
    assert!(got.0 == bytes && got.1.is_ok());
    assert!(counters.spliced() > 0);
    let (_, got) = tokio::join!(
        async {
            upstream.write_all(&bytes).await.unwrap();
            upstream.shutdown().await.unwrap();
        },
        soon("the download", read_all(&mut client))
    );
    assert!(got.0 == bytes && got.1.is_ok());
    let end = soon("the relay's end", end).await.unwrap();
    assert!(matches!(end, RelayEnd::Finished { .. }), "{end:?}");
}

/// A socket that refuses to be spliced, one way or the other.
struct Stubborn {
    conn: TcpConn,
    refuses_in: bool,
}

impl Plain for Stubborn {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.conn.poll_readable(cx)
    }
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.conn.poll_waiting(cx)
    }
    fn splice_in(
        &mut self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> io::Result<usize> {
        match self.refuses_in {
            true => Err(io::Error::from_raw_os_error(libc::EINVAL)),
            false => self.conn.splice_in(cx, pipe, most),
        }
    }
    fn poll_splice_out(
        &mut self,
        _cx: &mut Context<'_>,
        _pipe: BorrowedFd<'_>,
        _most: usize,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::Error::from_raw_os_error(libc::EINVAL)))
    }
}

impl AsyncRead for Stubborn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.conn).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stubborn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.conn).poll_write(cx, buf)
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.conn).poll_shutdown(cx)
    }
}

impl RelayIo for Stubborn {
    fn reset(&mut self) {
        self.conn.reset();
    }
    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.conn.poll_broken(cx)
    }
    fn plain(&mut self) -> Option<&mut dyn Plain> {
        Some(self)
    }
}

#[tokio::test]
async fn sockets_that_cannot_be_spliced_are_copied_for_good() {
    for refuses_in in [true, false] {
        let (mut client, near_client) = tcp_pair().await;
        let (near_upstream, mut upstream) = tcp_pair().await;
        let counters = Arc::new(Counters::new());
        let end = crate::task::spawn("relay", {
            let counters = Arc::clone(&counters);
            async move {
                let stubborn = |conn| Stubborn {
                    conn: TcpConn::new(conn),
                    refuses_in,
                };
                let (mut c, mut u) = (stubborn(near_client), stubborn(near_upstream));
                let kill = CancellationToken::new();
                relay(&mut c, &mut u, &RelayLimits::default(), &counters, &kill).await
            }
        });
        let bytes = pattern(16 * MIB, 6);
        transfer(&mut client, &mut upstream, &bytes).await;
        transfer(&mut upstream, &mut client, &bytes).await;
        soon("the relay's end", end).await.unwrap();
        assert_eq!(counters.spliced(), 0);
        assert_eq!(counters.from(Side::Client), 16 << 20);
        assert_eq!(counters.from(Side::Upstream), 16 << 20);
        assert_eq!(pipes_in_use().lent, 0);
    }
}
