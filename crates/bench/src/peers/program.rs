//! What all peers share: where their executables are, how they are started, and when they are up.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use portcullis_e2e::{Process, ports};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::target::{Running, START};

/// Where `scripts/peers.sh` puts them.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.tools/peers");
/// Time between two looks at a peer that starts.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What Rust programs and Go programs take from the environment to put a proxy in their way or to log
/// each connection; a measured program does neither.
const UNWANTED: &[&str] = &["http_proxy", "https_proxy", "all_proxy"];

/// A loopback address that nothing listens on.
pub(super) fn free() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, ports::one()))
}

/// A directory for a peer's configuration.
pub(super) fn directory() -> anyhow::Result<TempDir> {
    let dir = tempfile::Builder::new().prefix("ptc-peer-").tempdir();
    dir.context("making a directory for a peer's configuration")
}

/// A file beside `scripts/peers.sh`'s executables.
pub(super) fn beside(path: &str) -> PathBuf {
    Path::new(ROOT).join(path)
}

/// Writes a configuration file and gives its path.
pub(super) fn write(dir: &TempDir, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let path = dir.path().join(name);
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// A command that runs an executable of `scripts/peers.sh`, with its log down to errors.
pub(super) fn command(executable: &str) -> anyhow::Result<Command> {
    let missing = missing(executable);
    ensure!(missing.is_none(), "{}", missing.unwrap_or_default());
    let mut command = Command::new(beside("bin").join(executable));
    command.env("RUST_LOG", "error");
    for name in UNWANTED {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    Ok(command)
}

/// Why an executable cannot be run; `None` when it can.
pub(super) fn missing(executable: &str) -> Option<String> {
    if beside("bin").join(executable).exists() {
        return None;
    }
    let row = catalogue(executable);
    let why = row.as_ref().and_then(|row| row.get(3)).cloned();
    let why = why.unwrap_or_else(|| "scripts/peers.sh installs it".to_owned());
    Some(format!("{executable} is not there: {why}"))
}

/// The version that was noted when an executable was installed.
pub(super) fn version(executable: &str) -> Option<String> {
    catalogue(executable)?.get(1).cloned()
}

/// A program's row of what `scripts/peers.sh list` shows: name, version, path, why it is missing.
fn catalogue(executable: &str) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(beside("catalogue")).ok()?;
    text.lines()
        .map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>())
        .find(|row| row.first().is_some_and(|name| name == executable))
}

/// Waits until something answers at `addr`, and gives the target that `processes` are. They are ended
/// in the order given, `dir` last.
///
/// # Errors
/// When one of them ends, or nothing answers within [`START`]; with what they printed.
pub(super) async fn up(
    name: &str,
    addr: SocketAddr,
    mut processes: Vec<Process>,
    dir: Option<TempDir>,
) -> anyhow::Result<Running> {
    listens(name, addr, &mut processes).await?;
    let pids = processes.iter().map(Process::pid).collect();
    Ok(Running {
        addr,
        pids,
        guards: vec![Box::new(processes), Box::new(dir)],
    })
}

/// Waits until something answers at `addr`.
///
/// # Errors
/// When one of `processes` ends, or nothing answers within [`START`]; with what they printed.
pub(super) async fn listens(
    name: &str,
    addr: SocketAddr,
    processes: &mut [Process],
) -> anyhow::Result<()> {
    let deadline = Instant::now() + START;
    while TcpStream::connect(addr).await.is_err() {
        let running = processes.iter_mut().all(Process::is_running);
        if !running || Instant::now() > deadline {
            let output: String = processes.iter().map(Process::output).collect();
            let what = if running { "does not answer" } else { "ended" };
            anyhow::bail!("{name} {what} at {addr}:\n{output}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
