//! chisel: SSH in a WebSocket, a channel for each visitor.

use std::net::SocketAddr;

use portcullis_e2e::Process;

use super::program;
use crate::target::{Map, Running};

/// Starts both ends in front of `backend`.
pub(super) async fn start(backend: SocketAddr, map: Map<'_>) -> anyhow::Result<Running> {
    let (control, addr) = (program::free(), program::free());
    let mut command = program::command("chisel")?;
    command.args(["server", "--reverse"]);
    command.args(["--host", &control.ip().to_string()]);
    command.args(["--port", &control.port().to_string()]);
    let mut server = vec![Process::start("chisel server", command)];
    program::listens("chisel", control, &mut server).await?;

    let mut command = program::command("chisel")?;
    command.args(["client", &format!("http://{}", map(control))]);
    command.arg(format!("R:{addr}:{backend}"));
    let mut processes = vec![Process::start("chisel client", command)];
    processes.append(&mut server);
    program::up("chisel", addr, processes, None).await
}
