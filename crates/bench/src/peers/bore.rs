//! bore: a server and a client, a connection between them for each visitor, dialled when it comes.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::ensure;
use portcullis_e2e::{Process, ports};

use super::program;
use crate::target::{Map, Running};

/// Where its server listens for clients; there is no option for it.
const CONTROL_PORT: u16 = 7835;

/// Starts both ends in front of `backend`.
pub(super) async fn start(backend: SocketAddr, map: Map<'_>) -> anyhow::Result<Running> {
    // An address of its own in place of the port: 127.7.x.y, from a number that no other target has.
    let [high, low] = ports::one().to_be_bytes();
    let control = SocketAddr::from((Ipv4Addr::new(127, 7, high, low), CONTROL_PORT));
    let addr = program::free();
    let mut command = program::command("bore")?;
    command.arg("server");
    command.args(["--bind-addr", &control.ip().to_string()]);
    command.args(["--bind-tunnels", &addr.ip().to_string()]);
    let mut server = vec![Process::start("bore server", command)];
    program::listens("bore", control, &mut server).await?;

    let far = map(control);
    ensure!(
        far.port() == CONTROL_PORT,
        "bore dials port {CONTROL_PORT} only, not {far}"
    );
    let mut command = program::command("bore")?;
    command.args(["local", &backend.port().to_string()]);
    command.args(["--local-host", &backend.ip().to_string()]);
    command.args(["--to", &far.ip().to_string()]);
    command.args(["--port", &addr.port().to_string()]);
    let mut processes = vec![Process::start("bore local", command)];
    processes.append(&mut server);
    program::up("bore", addr, processes, None).await
}
