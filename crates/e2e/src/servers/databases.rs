//! PostgreSQL, Redis and MariaDB.

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::{as_user, listening, owned_by};
use crate::ports;
use crate::process::{self, Process};

/// Longest that a database may take to make its files.
const INIT: Duration = Duration::from_secs(60);

/// A PostgreSQL server with user `postgres`, no password.
pub struct Postgres {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    process: Process,
    _dir: TempDir,
}

impl Postgres {
    /// Starts it.
    pub async fn start() -> Self {
        let dir = owned_by("postgres");
        let bin = std::fs::read_dir("/usr/lib/postgresql").expect("postgresql is installed");
        let bin = bin
            .filter_map(Result::ok)
            .map(|entry| entry.path().join("bin"))
            .max()
            .expect("a version");
        let data = dir.path().join("data");
        let mut init = as_user(
            "postgres",
            &bin.join("initdb").display().to_string(),
            dir.path(),
        );
        init.arg("-D")
            .arg(&data)
            .args(["-A", "trust", "-U", "postgres", "--no-sync"]);
        let (status, output) = process::finish("initdb", init, INIT);
        assert!(status.success(), "initdb: {output}");
        let port = ports::one();
        let mut command = as_user(
            "postgres",
            &bin.join("postgres").display().to_string(),
            dir.path(),
        );
        command
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
        command.args([
            "-c",
            &format!("port={port}"),
            "-c",
            &format!("unix_socket_directories={}", dir.path().display()),
        ]);
        let mut process = Process::start("postgres", command);
        listening("postgres", port, &mut process).await;
        Self {
            port,
            process,
            _dir: dir,
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // "Fast" shutdown; SIGTERM would wait for its clients.
        self.process.signal(nix::sys::signal::Signal::SIGINT);
    }
}

/// A Redis server without persistence.
pub struct Redis {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    /// The process, for tests that stop it.
    pub process: Process,
}

impl Redis {
    /// Starts it on a free port.
    pub async fn start() -> Self {
        Self::start_at(ports::one()).await
    }

    /// Starts it on a port of choice.
    pub async fn start_at(port: u16) -> Self {
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        let mut process = Process::start("redis", command);
        listening("redis", port, &mut process).await;
        Self { port, process }
    }
}

/// A MariaDB server with user `root`, no password.
pub struct MariaDb {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    _process: Process,
    _dir: TempDir,
}

impl MariaDb {
    /// Starts it.
    pub async fn start() -> Self {
        let dir = owned_by("mysql");
        let data = format!("--datadir={}", dir.path().join("data").display());
        let mut init = Command::new("mariadb-install-db");
        init.args([
            "--user=mysql",
            &data,
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ]);
        let (status, output) = process::finish("mariadb-install-db", init, INIT);
        assert!(status.success(), "mariadb-install-db: {output}");
        let port = ports::one();
        let mut command = Command::new("mariadbd");
        command.args([
            "--no-defaults",
            "--user=mysql",
            &data,
            "--bind-address=127.0.0.1",
            &format!("--port={port}"),
        ]);
        command.arg(format!("--socket={}", dir.path().join("s").display()));
        command.arg(format!("--pid-file={}", dir.path().join("p").display()));
        let mut process = Process::start("mariadbd", command);
        listening("mariadb", port, &mut process).await;
        Self {
            port,
            _process: process,
            _dir: dir,
        }
    }
}
