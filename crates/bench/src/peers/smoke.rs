//! Whether targets carry bytes at all, before anything is measured: a large transfer and many small
//! ones come back unchanged, a tunnel's bytes pass the relay that is put between its ends, and its
//! processes are the ones whose CPU will be counted.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use portcullis_e2e::traffic::{Upstream, pattern};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::peers;
use crate::target::{self, Running, Shape};
use crate::usage::Cpu;

/// Bytes of the large transfer.
const LARGE: usize = 8 << 20;
/// Bytes of a small one.
const SMALL: usize = 64;
/// Small transfers, each on a connection of its own.
const CONNECTIONS: u64 = 50;
/// Longest that one target may take, once it is up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tries all targets of these names (all there are, when there is none) and prints a line for each.
///
/// # Errors
/// When a target is there and does not carry bytes as it must.
pub async fn run(names: &[String]) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for (name, shape) in target::all() {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        let version = peers::version(name).unwrap_or_default();
        if let Some(why) = peers::missing(name) {
            println!("{name:14} {version:18} skipped: {why}");
            continue;
        }
        match carries(name, shape).await {
            Ok(processes) => println!("{name:14} {version:18} ok, {processes} processes"),
            Err(error) => {
                println!("{name:14} {version:18} FAILED: {error:#}");
                failed.push(name);
            }
        }
    }
    ensure!(failed.is_empty(), "these carry no bytes: {failed:?}");
    Ok(())
}

/// Tries one target; how many processes it has.
///
/// # Errors
/// When it does not start, or what comes back is not what went in.
pub async fn carries(name: &str, shape: Shape) -> anyhow::Result<usize> {
    let echo = Upstream::echo().await;
    let passed = Arc::new(AtomicU64::new(0));
    let relays = RefCell::new(Vec::new());
    let map = |at: SocketAddr| match relay(at, &passed) {
        Ok(relay) => {
            let addr = relay.addr;
            relays.borrow_mut().push(relay);
            addr
        }
        // Said by the target, which then cannot be reached there.
        Err(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
    };
    let running = target::start(name, echo.addr, &map).await?;
    timeout(PATIENCE, bytes_return(running.addr))
        .await
        .context("it took too long")??;
    if shape == Shape::Tunnel {
        let passed = passed.load(Ordering::Relaxed);
        ensure!(
            passed >= 2 * LARGE as u64,
            "only {passed} bytes passed the relay between its ends"
        );
    }
    processes(shape, &running)
}

async fn bytes_return(to: SocketAddr) -> anyhow::Result<()> {
    returns(to, &pattern(1, LARGE))
        .await
        .context("a large transfer")?;
    for seed in 0..CONNECTIONS {
        returns(to, &pattern(seed, SMALL))
            .await
            .with_context(|| format!("connection {seed} of {CONNECTIONS}"))?;
    }
    Ok(())
}

/// Sends bytes and reads as many back. The connection stays open both ways until all are there: some
/// peers end it at the first half-close.
async fn returns(to: SocketAddr, bytes: &[u8]) -> anyhow::Result<()> {
    let (mut from, mut into) = TcpStream::connect(to).await?.into_split();
    let mut back = vec![0; bytes.len()];
    let write = into.write_all(bytes);
    let (written, read) = tokio::join!(write, from.read_exact(&mut back));
    written.context("writing")?;
    read.context("reading")?;
    ensure!(back == bytes, "other bytes came back");
    Ok(())
}

/// How many processes a target has; each that it named must be there.
fn processes(shape: Shape, running: &Running) -> anyhow::Result<usize> {
    let tree = Cpu::now().tree(&running.pids);
    for pid in &tree {
        let exists = std::path::Path::new("/proc").join(pid.to_string()).exists();
        ensure!(exists, "process {pid} has ended");
    }
    let least = match shape {
        Shape::Direct => 0,
        Shape::Forward => 1,
        Shape::Tunnel => 2,
    };
    ensure!(tree.len() >= least, "it has {} processes", tree.len());
    Ok(tree.len())
}

/// Counts what passes on the way to `to`. It listens on the same port at another loopback address,
/// because bore dials only one port.
fn relay(to: SocketAddr, passed: &Arc<AtomicU64>) -> std::io::Result<Upstream> {
    let near = SocketAddr::from((Ipv4Addr::new(127, 9, 9, 9), to.port()));
    let listener = std::net::TcpListener::bind(near)?;
    listener.set_nonblocking(true)?;
    let passed = Arc::clone(passed);
    Ok(Upstream::serve_on(
        TcpListener::from_std(listener)?,
        move |from| {
            let passed = Arc::clone(&passed);
            async move {
                // A connection that ends early shows in the bytes that come back.
                let _ended = forward(from, to, &passed).await;
            }
        },
    ))
}

/// Copies both ways until each has ended.
async fn forward(mut from: TcpStream, to: SocketAddr, passed: &AtomicU64) -> std::io::Result<()> {
    let mut to = TcpStream::connect(to).await?;
    let (near, far) = (from.split(), to.split());
    tokio::try_join!(pump(near.0, far.1, passed), pump(far.0, near.1, passed))?;
    Ok(())
}

/// Counts while bytes move, as a tunnel's connection outlives those it carries.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    passed: &AtomicU64,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..n]).await?;
        passed.fetch_add(n as u64, Ordering::Relaxed);
    }
}
