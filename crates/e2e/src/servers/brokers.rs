//! Mosquitto (MQTT) and NATS.

use std::process::Command;

use tempfile::TempDir;

use super::listening;
use crate::ports;
use crate::process::Process;

/// A Mosquitto broker that takes anyone.
pub struct Mosquitto {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    _process: Process,
    _dir: TempDir,
}

impl Mosquitto {
    /// Starts it.
    pub async fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("ptc-mq-")
            .tempdir()
            .expect("a directory");
        let port = ports::one();
        let conf = dir.path().join("conf");
        std::fs::write(
            &conf,
            format!("listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n"),
        )
        .expect("ours");
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(&conf);
        let mut process = Process::start("mosquitto", command);
        listening("mosquitto", port, &mut process).await;
        Self {
            port,
            _process: process,
            _dir: dir,
        }
    }
}

/// A NATS server.
pub struct Nats {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    _process: Process,
}

impl Nats {
    /// Starts it.
    pub async fn start() -> Self {
        let port = ports::one();
        let mut command = Command::new("nats-server");
        command.args(["--addr", "127.0.0.1", "--port", &port.to_string()]);
        let mut process = Process::start("nats-server", command);
        listening("nats", port, &mut process).await;
        Self {
            port,
            _process: process,
        }
    }
}
