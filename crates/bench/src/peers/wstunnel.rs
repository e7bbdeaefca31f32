//! wstunnel (the one in Rust): a WebSocket for each visitor, plain or with TLS by its own certificate.

use std::net::SocketAddr;

use portcullis_e2e::Process;

use super::program;
use crate::target::{Map, Running};

/// Starts both ends in front of `backend`; `scheme` is `ws` or `wss`.
pub(super) async fn start(
    backend: SocketAddr,
    map: Map<'_>,
    scheme: &str,
) -> anyhow::Result<Running> {
    let (control, addr) = (program::free(), program::free());
    let mut command = program::command("wstunnel")?;
    command.args(["server", "--log-lvl", "ERROR"]);
    command.arg(format!("{scheme}://{control}"));
    let mut server = vec![Process::start("wstunnel server", command)];
    program::listens("wstunnel", control, &mut server).await?;

    let mut command = program::command("wstunnel")?;
    command.args(["client", "--log-lvl", "ERROR", "-R"]);
    command.arg(format!("tcp://{addr}:{backend}"));
    command.arg(format!("{scheme}://{}", map(control)));
    let mut processes = vec![Process::start("wstunnel client", command)];
    processes.append(&mut server);
    program::up("wstunnel", addr, processes, None).await
}
