//! The load generator: bulk, short connections, round trips. Client and backend are a thread each, in
//! processes of their own, so that neither waits for the other's tasks.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::traffic::Upstream;

/// Bytes of one request and of one answer in the small exchanges.
const MESSAGE: usize = 64;
/// Bytes of one write in bulk.
const CHUNK: usize = 128 * 1024;

/// Which way the bytes of a bulk transfer go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Client to upstream.
    Up,
    /// Upstream to client.
    Down,
}

/// A rate and, where single operations were timed, how long they took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figure {
    /// Operations (or bytes) in a second.
    pub per_second: f64,
    /// Median of one operation.
    pub p50: Duration,
    /// 99th percentile of one operation.
    pub p99: Duration,
    /// Operations (or bytes) in all.
    pub count: u64,
}

/// The backend, for a process of its own: the first byte of a connection chooses what it does.
pub async fn backend() -> Upstream {
    Upstream::serve(|mut stream| async move {
        // A connection that was cut short is the client's business; it counts what arrived.
        drop(serve(&mut stream).await);
    })
    .await
}

async fn serve(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    match stream.read_u8().await? {
        b'e' => {
            let mut message = [0; MESSAGE];
            loop {
                stream.read_exact(&mut message).await?;
                stream.write_all(&message).await?;
            }
        }
        b'u' => {
            let mut buffer = vec![0; CHUNK];
            while stream.read(&mut buffer).await? > 0 {}
            stream.write_all(b".").await
        }
        _ => {
            let buffer = vec![7; CHUNK];
            loop {
                stream.write_all(&buffer).await?;
            }
        }
    }
}

/// Moves bytes for `time` on `streams` connections; the rate is bytes a second.
///
/// # Errors
/// When a connection fails.
pub async fn bulk(
    to: SocketAddr,
    streams: usize,
    direction: Direction,
    time: Duration,
) -> anyhow::Result<Figure> {
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..streams {
        tasks.spawn(async move {
            let mut stream = TcpStream::connect(to).await?;
            let mut moved = 0_u64;
            let mut buffer = vec![7; CHUNK];
            match direction {
                Direction::Up => {
                    stream.write_all(b"u").await?;
                    while begin.elapsed() < time {
                        stream.write_all(&buffer).await?;
                        moved += buffer.len() as u64;
                    }
                    // The dot comes when the upstream has read it all: what is in flight counts fairly.
                    stream.shutdown().await?;
                    stream.read_u8().await?;
                }
                Direction::Down => {
                    stream.write_all(b"d").await?;
                    while begin.elapsed() < time {
                        moved += stream.read(&mut buffer).await? as u64;
                    }
                }
            }
            anyhow::Ok(moved)
        });
    }
    let mut count = 0;
    while let Some(moved) = tasks.join_next().await {
        count += moved??;
    }
    Ok(Figure {
        per_second: per_second(count, begin.elapsed()),
        count,
        ..Figure::default()
    })
}

/// Connects, exchanges one message, closes; `at_once` of them for `time`.
///
/// # Errors
/// When a connection fails.
pub async fn connections(to: SocketAddr, at_once: usize, time: Duration) -> anyhow::Result<Figure> {
    timed(at_once, time, move || async move {
        let mut stream = connect(to).await?;
        exchange(&mut stream, true).await
    })
    .await
}

/// Round trips of small messages on `at_once` connections that stay open.
///
/// # Errors
/// When a connection fails.
pub async fn round_trips(to: SocketAddr, at_once: usize, time: Duration) -> anyhow::Result<Figure> {
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..at_once {
        tasks.spawn(async move {
            let mut stream = connect(to).await?;
            exchange(&mut stream, true).await?;
            let mut times = Vec::new();
            while begin.elapsed() < time {
                let start = Instant::now();
                exchange(&mut stream, false).await?;
                times.push(start.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    gather(tasks, begin).await
}

/// Opens `count` connections, exchanges on each, and keeps them.
///
/// # Errors
/// When a connection fails.
pub async fn hold(to: SocketAddr, count: u32) -> anyhow::Result<Vec<TcpStream>> {
    let mut held = Vec::new();
    for _ in 0..count {
        let mut stream = connect(to).await?;
        exchange(&mut stream, true).await?;
        held.push(stream);
    }
    Ok(held)
}

async fn timed<F, Fut>(at_once: usize, time: Duration, operation: F) -> anyhow::Result<Figure>
where
    F: Fn() -> Fut + Copy + Send + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send,
{
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..at_once {
        tasks.spawn(async move {
            let mut times = Vec::new();
            while begin.elapsed() < time {
                let start = Instant::now();
                operation().await?;
                times.push(start.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    gather(tasks, begin).await
}

async fn gather(
    mut tasks: JoinSet<anyhow::Result<Vec<Duration>>>,
    begin: Instant,
) -> anyhow::Result<Figure> {
    let mut times = Vec::new();
    while let Some(part) = tasks.join_next().await {
        times.extend(part??);
    }
    ensure!(!times.is_empty(), "nothing finished in time");
    let elapsed = begin.elapsed();
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let count = times.len() as u64;
    Ok(Figure {
        per_second: per_second(count, elapsed),
        p50: at(0.5),
        p99: at(0.99),
        count,
    })
}

/// Without a source address of its own: the kernel then draws the port by the whole four-tuple, where
/// `bind` would search for one that is free on its own, slower with every connection in TIME_WAIT.
async fn connect(to: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(to).await.context("connects")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn exchange(stream: &mut TcpStream, first: bool) -> anyhow::Result<()> {
    let mut message = [b'e'; MESSAGE + 1];
    let request = if first { &message[..] } else { &message[1..] };
    stream.write_all(request).await?;
    stream.read_exact(&mut message[1..]).await?;
    Ok(())
}

fn per_second(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}
