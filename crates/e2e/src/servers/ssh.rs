//! OpenSSH, with a key of its own for the client.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::listening;
use crate::ports;
use crate::process::{self, Process};

/// An sshd that lets root in with the key at [`Sshd::key`].
pub struct Sshd {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    /// The client's private key.
    pub key: PathBuf,
    /// Scratch space for copied files.
    pub dir: TempDir,
    _process: Process,
}

impl Sshd {
    /// Starts it.
    pub async fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("ptc-ssh-")
            .tempdir()
            .expect("a directory");
        let path = |name: &str| dir.path().join(name).display().to_string();
        for name in ["host", "client"] {
            let args = ["-q", "-t", "ed25519", "-N", "", "-f", &path(name)].map(String::from);
            process::run("ssh-keygen", args, Duration::from_secs(20));
        }
        std::fs::copy(path("client.pub"), path("authorized")).expect("the directory is ours");
        std::fs::create_dir_all("/run/sshd").expect("root may");
        let port = ports::one();
        let mut command = Command::new("/usr/sbin/sshd");
        command.args([
            "-D",
            "-e",
            "-f",
            "/dev/null",
            "-p",
            &port.to_string(),
            "-h",
            &path("host"),
        ]);
        for option in [
            "ListenAddress=127.0.0.1".to_owned(),
            format!("PidFile={}", path("pid")),
            format!("AuthorizedKeysFile={}", path("authorized")),
            "StrictModes=no".to_owned(),
            "UsePAM=no".to_owned(),
            "Subsystem=sftp internal-sftp".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        let mut process = Process::start("sshd", command);
        listening("sshd", port, &mut process).await;
        Self {
            port,
            key: dir.path().join("client"),
            dir,
            _process: process,
        }
    }

    /// Options that every client call needs.
    pub fn options(&self) -> String {
        format!(
            "-i {} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes",
            self.key.display()
        )
    }
}
