//! Commands as a user types them, for tests that drive real clients.

use std::process::Command;
use std::time::Duration;

use crate::process;

/// Longest that a client may take.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a line of shell; its output.
///
/// # Panics
/// When it fails or takes longer than [`PATIENCE`].
pub fn sh(line: &str) -> String {
    let (status, output) = try_sh(line);
    assert!(status == 0, "`{line}` ended with {status}:\n{output}");
    output
}

/// Runs a line of shell; exit status and output.
///
/// # Panics
/// When it takes longer than [`PATIENCE`].
pub fn try_sh(line: &str) -> (i32, String) {
    let mut command = Command::new("bash");
    command.args(["-c", &format!("set -o pipefail; {line}")]);
    let (status, output) = process::finish(line, command, PATIENCE);
    (status.code().unwrap_or(-1), output)
}

/// The same off the runtime's threads.
///
/// # Panics
/// As [`sh`].
pub async fn sh_async(line: String) -> String {
    tokio::task::spawn_blocking(move || sh(&line))
        .await
        .expect("the shell does not panic by itself")
}
