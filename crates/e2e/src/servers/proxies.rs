//! nginx and HAProxy, to look at PROXY protocol headers from the other side.

use std::process::Command;

use tempfile::TempDir;

use super::listening;
use crate::ports;
use crate::process::Process;

/// An nginx with a configuration of the test's.
pub struct Nginx {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    _process: Process,
    _dir: TempDir,
}

impl Nginx {
    /// An HTTP server that answers with the client's address and port as it knows them; with
    /// `proxy_protocol` it takes them from the PROXY header, and refuses a connection without one.
    pub async fn start(proxy_protocol: bool) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("ptc-ngx-")
            .tempdir()
            .expect("a directory");
        let port = ports::one();
        let root = dir.path().display();
        let (listen, answer) = if proxy_protocol {
            (
                "proxy_protocol",
                "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_port",
            )
        } else {
            ("", "$remote_addr")
        };
        let config = format!(
            "daemon off; pid {root}/pid; error_log stderr; worker_processes 1;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; client_body_temp_path {root}/b; proxy_temp_path {root}/p;\n\
             fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;\n\
             server {{ listen 127.0.0.1:{port} {listen};\n\
             location / {{ return 200 \"{answer}\\n\"; }} }} }}\n"
        );
        let path = dir.path().join("conf");
        std::fs::write(&path, config).expect("ours");
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&path).arg("-e").arg("stderr");
        let mut process = Process::start("nginx", command);
        listening("nginx", port, &mut process).await;
        Self {
            port,
            _process: process,
            _dir: dir,
        }
    }
}

/// An HAProxy in TCP mode.
pub struct Haproxy {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    _process: Process,
    _dir: TempDir,
}

impl Haproxy {
    /// Forwards to `to` (`host:port`); `bind` and `server` are further words on those lines, such as
    /// `accept-proxy` and `send-proxy-v2`.
    pub async fn start(to: &str, bind: &str, server: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("ptc-hap-")
            .tempdir()
            .expect("a directory");
        let port = ports::one();
        let config = format!(
            "defaults\n mode tcp\n timeout connect 10s\n timeout client 60s\n timeout server 60s\n\
             frontend f\n bind 127.0.0.1:{port} {bind}\n default_backend b\n\
             backend b\n server s {to} {server}\n"
        );
        let path = dir.path().join("conf");
        std::fs::write(&path, config).expect("ours");
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(&path);
        let mut process = Process::start("haproxy", command);
        listening("haproxy", port, &mut process).await;
        Self {
            port,
            _process: process,
            _dir: dir,
        }
    }
}
