//! VNC and RDP servers.

use std::process::Command;

use tempfile::TempDir;

use super::listening;
use crate::ports;
use crate::process::Process;

/// A TigerVNC server with a bare screen and no password.
pub struct Vnc {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    _process: Process,
}

impl Vnc {
    /// Starts it.
    pub async fn start() -> Self {
        let port = ports::one();
        let mut command = Command::new("Xtigervnc");
        command.args([
            &format!(":{port}"),
            "-rfbport",
            &port.to_string(),
            "-localhost=1",
        ]);
        command.args([
            "-SecurityTypes",
            "None",
            "-geometry",
            "320x200",
            "-depth",
            "24",
        ]);
        let mut process = Process::start("vnc", command);
        listening("vnc", port, &mut process).await;
        Self {
            port,
            _process: process,
        }
    }
}

/// An xrdp server; it answers the RDP negotiation and its TLS handshake.
pub struct Xrdp {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    _process: Process,
    _dir: TempDir,
}

impl Xrdp {
    /// Starts it with its own configuration, derived from Debian's.
    pub async fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("ptc-rdp-")
            .tempdir()
            .expect("a directory");
        let port = ports::one();
        let original = std::fs::read_to_string("/etc/xrdp/xrdp.ini").expect("xrdp is installed");
        let config: String = original
            .lines()
            .map(|line| {
                if line.starts_with("port=3389") {
                    format!("port=tcp://127.0.0.1:{port}\n")
                } else {
                    format!("{line}\n")
                }
            })
            .collect();
        let path = dir.path().join("xrdp.ini");
        std::fs::write(&path, config).expect("ours");
        let mut command = Command::new("xrdp");
        command.args(["--nodaemon", "--config"]).arg(&path);
        let mut process = Process::start("xrdp", command);
        listening("xrdp", port, &mut process).await;
        Self {
            port,
            _process: process,
            _dir: dir,
        }
    }
}
