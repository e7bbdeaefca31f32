//! What a server says when it is up: a readable message on a terminal.
//!
//! Must never: print a token anywhere but on a terminal that someone looks at.

use std::path::Path;

use crate::environment::{self, ADMIN_KEY_FILE, JOIN_FILE};
use crate::node::{Direct, Server, host_port};
use crate::output;

/// The message of `portcullis server`, for a terminal.
pub(crate) fn server(server: &Server) -> String {
    let mut rows = common(server, false);
    rows.push(("", String::new()));
    rows.extend(lines_to_paste(server, true));
    message(&rows)
}

/// The message of `portcullis up`; without `secrets` the tokens are named by their files.
pub(crate) fn up(server: &Server, demo_url: &str, secrets: bool) -> String {
    let (host, port) = demo_url
        .trim_start_matches("tcp://")
        .rsplit_once(':')
        .unwrap_or((demo_url, ""));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut rows = vec![
        ("Demo service", demo_url.to_owned()),
        ("", format!("try it: nc {host} {port}")),
    ];
    rows.extend(common(server, secrets));
    rows.push(("", String::new()));
    rows.extend(lines_to_paste(server, secrets));
    message(&rows)
}

fn message(rows: &[(&str, String)]) -> String {
    format!(
        "\nPortcullis is up. Ctrl-C stops it.\n\n{}\n",
        output::fields(rows)
    )
}

fn common(server: &Server, secrets: bool) -> Vec<(&'static str, String)> {
    let key = if secrets {
        server.admin_key.expose().clone()
    } else {
        format!("in {}", server.data_dir().join(ADMIN_KEY_FILE).display())
    };
    let agents = if server.agents.ip().is_loopback() {
        format!("{} (this machine only)", server.agents)
    } else {
        host_port(&server.host, server.agents.port())
    };
    let mut rows = vec![
        ("Public host", server.host.clone()),
        ("Agents", agents),
        ("API", server.api_url.clone()),
        ("API token", key),
        ("State", server.data_dir().display().to_string()),
    ];
    for Direct { endpoint, .. } in &server.direct {
        rows.push((
            "Exposed",
            format!("{} -> {}", endpoint.url, endpoint.upstream_url),
        ));
    }
    rows
}

/// How to expose a service: from this machine, and from another.
fn lines_to_paste(server: &Server, secrets: bool) -> Vec<(&'static str, String)> {
    let program = format!("{}{}", finds(&server.data_dir()), program());
    let mut rows = vec![
        (
            "Expose a port",
            format!("{program} tcp 5432   # here; 22 or any other port as well"),
        ),
        ("See it", format!("{program} api endpoints list")),
    ];
    // An agent elsewhere cannot come to a port of this machine alone.
    if secrets && !server.agents.ip().is_loopback() {
        rows.push((
            "Elsewhere",
            format!(
                "portcullis tcp 5432 --authtoken {}",
                server.join_remote.reveal().expose()
            ),
        ));
    } else {
        rows.push((
            "Join string",
            format!("in {}", server.data_dir().join(JOIN_FILE).display()),
        ));
    }
    rows
}

/// What a command on this machine needs in front of it to find this directory, wherever it is called.
fn finds(data_dir: &Path) -> String {
    let text = data_dir.display().to_string();
    if environment::is_found(data_dir) || text.contains(char::is_whitespace) {
        String::new()
    } else {
        format!("{}={text} ", environment::DATA_DIR)
    }
}

/// How this program was called, so that the line can be pasted, in another directory too.
fn program() -> String {
    let called = std::env::args_os().next().unwrap_or_default();
    let path = Path::new(&called);
    let path = if path.components().count() > 1 {
        std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
    } else {
        path.to_owned()
    };
    let called = path.to_string_lossy().into_owned();
    if called.is_empty() || called.contains(' ') {
        "portcullis".to_owned()
    } else {
        called
    }
}
