//! frp: `frps` and `frpc`. A visitor's way between them is a yamux stream in one connection, or,
//! without `tcpMux`, a connection of its own, which Go then splices.

use std::net::SocketAddr;

use portcullis_e2e::Process;

use super::program;
use crate::target::{Map, Running};

/// What its two ends speak to each other.
#[derive(Clone, Copy)]
pub(super) struct Transport {
    mux: bool,
    tls: bool,
}

/// Multiplexed, plain.
pub(super) const MUX: Transport = Transport {
    mux: true,
    tls: false,
};
/// Multiplexed, TLS (of any certificate): what both have by default.
pub(super) const MUX_TLS: Transport = Transport {
    mux: true,
    tls: true,
};
/// A connection for each visitor, plain.
pub(super) const NO_MUX: Transport = Transport {
    mux: false,
    tls: false,
};

/// Starts both ends in front of `backend`.
pub(super) async fn start(
    backend: SocketAddr,
    map: Map<'_>,
    transport: Transport,
) -> anyhow::Result<Running> {
    let dir = program::directory()?;
    let (control, addr) = (program::free(), program::free());
    let Transport { mux, tls } = transport;
    let server = format!(
        "bindAddr = \"{}\"\nbindPort = {}\nproxyBindAddr = \"{}\"\nlog.level = \"error\"\n\
         transport.tcpMux = {mux}\n",
        control.ip(),
        control.port(),
        addr.ip()
    );
    let server = program::write(&dir, "frps.toml", &server)?;
    let mut command = program::command("frps")?;
    command.arg("-c").arg(server);
    let mut server = vec![Process::start("frps", command)];
    program::listens("frps", control, &mut server).await?;

    let far = map(control);
    // Five connections opened ahead: as many as the server allows by default, where a client has one.
    let client = format!(
        "serverAddr = \"{}\"\nserverPort = {}\nlog.level = \"error\"\n\
         transport.tcpMux = {mux}\ntransport.tls.enable = {tls}\ntransport.poolCount = 5\n\
         [[proxies]]\nname = \"bench\"\ntype = \"tcp\"\nlocalIP = \"{}\"\nlocalPort = {}\nremotePort = {}\n",
        far.ip(),
        far.port(),
        backend.ip(),
        backend.port(),
        addr.port()
    );
    let client = program::write(&dir, "frpc.toml", &client)?;
    let mut command = program::command("frpc")?;
    command.arg("-c").arg(client);
    let mut processes = vec![Process::start("frpc", command)];
    processes.append(&mut server);
    program::up("frp", addr, processes, Some(dir)).await
}
