//! nginx's stream module: a master and two workers.

use std::net::SocketAddr;
use std::process::Command;

use portcullis_e2e::Process;

use super::program;
use crate::target::Running;

/// Starts it in front of `backend`.
pub(super) async fn start(backend: SocketAddr) -> anyhow::Result<Running> {
    let dir = program::directory()?;
    let addr = program::free();
    let module = program::beside("lib/ngx_stream_module.so");
    let load = if module.exists() {
        format!("load_module {};\n", module.display())
    } else {
        String::new()
    };
    let root = dir.path().display();
    // 16,384: two for each of 8,000 connections, should one worker get them all.
    let config = format!(
        "{load}daemon off; pid {root}/pid; error_log stderr crit;\n\
         worker_processes 2;\n\
         events {{ worker_connections 16384; }}\n\
         stream {{ server {{ listen {addr} reuseport; proxy_pass {backend}; proxy_timeout 1h; }} }}\n"
    );
    let path = program::write(&dir, "nginx.conf", &config)?;
    let nginx = program::command("nginx")?;
    // When the bench itself is killed, the master must have the time to end its workers.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]);
    command.arg(nginx.get_program()).arg("-c").arg(path);
    command.args(["-e", "stderr"]);
    let process = Process::start("nginx", command);
    program::up("nginx", addr, vec![process], Some(dir)).await
}
