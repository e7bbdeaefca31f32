//! The harness of the end-to-end tests: a server and agents from the built binary, real services to
//! put behind them, and traffic. Everything has its own directory and ports, and ends with its owner.
//!
//! Must never: sleep for a fixed time where a state can be waited for, or touch a process it did not start.

pub mod api;
pub mod namespaces;
pub mod outbound;
pub mod ports;
pub mod process;
pub mod reload;
pub mod servers;
pub mod shell;
pub mod stack;
pub mod traffic;
pub mod wait;

pub use api::Api;
pub use process::Process;
pub use stack::{AgentProcess, Launch, Stack};
pub use wait::{eventually, within};

/// Says that the running check cannot run on this machine, and why. `make test` counts it as skipped
/// if `tests/SKIPS` lists it, and fails otherwise.
pub fn skip(name: &str, why: &str) {
    use std::io::Write as _;
    eprintln!("skipped {name}: {why}");
    let Some(path) = std::env::var_os("PORTCULLIS_E2E_SKIPS") else {
        return;
    };
    let file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path);
    file.and_then(|mut file| writeln!(file, "{name}"))
        .expect("the list of skips can be written");
}
