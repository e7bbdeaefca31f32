//! Real servers of Debian's packages, started by hand on ports and in directories of their own.

mod brokers;
mod databases;
mod desktop;
mod minecraft;
mod proxies;
mod ssh;

pub use brokers::{Mosquitto, Nats};
pub use databases::{MariaDb, Postgres, Redis};
pub use desktop::{Vnc, Xrdp};
pub use minecraft::{Minecraft, login as minecraft_login, status as minecraft_status};
pub use proxies::{Haproxy, Nginx};
pub use ssh::Sshd;

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use crate::process::Process;
use crate::wait::eventually;

/// Waits until something listens on a loopback port.
pub(crate) async fn listening(what: &str, port: u16, process: &mut Process) {
    eventually(&format!("{what} listens on {port}"), || {
        assert!(process.is_running(), "{what} ended:\n{}", process.output());
        let open = TcpStream::connect(("127.0.0.1", port)).is_ok();
        async move { open.then_some(()) }
    })
    .await;
}

/// A directory that a server's own user may enter and write.
pub(crate) fn owned_by(user: &str) -> tempfile::TempDir {
    let dir = tempfile::Builder::new()
        .prefix("ptc-srv-")
        .tempdir()
        .expect("a directory");
    crate::process::run(
        "chown",
        [user.as_ref(), dir.path().as_os_str()],
        std::time::Duration::from_secs(5),
    );
    crate::process::run(
        "chmod",
        ["755".as_ref(), dir.path().as_os_str()],
        std::time::Duration::from_secs(5),
    );
    dir
}

/// `program` run as `user`.
pub(crate) fn as_user(user: &str, program: &str, dir: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args([
        &format!("--reuid={user}"),
        &format!("--regid={user}"),
        "--clear-groups",
        program,
    ]);
    command.current_dir(dir).env("HOME", dir);
    command
}
