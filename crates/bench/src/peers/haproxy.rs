//! HAProxy in TCP mode.

use std::net::SocketAddr;

use portcullis_e2e::Process;

use super::program;
use crate::target::Running;

/// How much of HAProxy's own tuning is used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tuning {
    /// None: buffers of 16 KiB, no splice.
    AsItComes,
    /// Splice in both directions through pipes of 1 MiB, buffers of 64 KiB.
    Splice,
}

/// A descriptor for each side of 8,900 connections and two for each of 1,000 pipes make 19,800, below
/// the 20,000 that a process may have on some machines. HAProxy refuses to start beyond that.
const LIMITS: &str = " nbthread 2\n maxconn 8900\n";
const TUNED: &str = " maxpipes 1000\n tune.bufsize 65536\n tune.pipesize 1048576\n";
const SPLICE: &str = " option splice-request\n option splice-response\n";

/// Starts it in front of `backend`.
pub(super) async fn start(backend: SocketAddr, tuning: Tuning) -> anyhow::Result<Running> {
    let dir = program::directory()?;
    let addr = program::free();
    let (global, defaults) = match tuning {
        Tuning::AsItComes => ("", ""),
        Tuning::Splice => (TUNED, SPLICE),
    };
    let config = format!(
        "global\n{LIMITS}{global}\
         defaults\n mode tcp\n timeout connect 10s\n timeout client 1h\n timeout server 1h\n{defaults}\
         listen bench\n bind {addr}\n server backend {backend}\n"
    );
    let path = program::write(&dir, "haproxy.cfg", &config)?;
    let mut command = program::command("haproxy")?;
    // In the foreground, a single process.
    command.args(["-db", "-f"]).arg(path);
    let process = Process::start("haproxy", command);
    program::up("haproxy", addr, vec![process], Some(dir)).await
}
