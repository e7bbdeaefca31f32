//! One module per command. Each has its arguments and a `run`.

pub(crate) mod accounts;
pub(crate) mod agent;
pub(crate) mod api;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod connect;
pub(crate) mod demo;
pub(crate) mod diagnose;
pub(crate) mod health;
pub(crate) mod policy;
pub(crate) mod server;
pub(crate) mod service;
pub(crate) mod start;
pub(crate) mod tcp;
pub(crate) mod tls;
pub(crate) mod tls_flags;
pub(crate) mod up;

use std::future::Future;

use crate::failure::Failure;
use crate::runtimes;

/// Runs a command that waits for others on a runtime of its own.
///
/// # Errors
/// What the command fails with, or `PTC_INTERNAL` when there is no runtime to be had.
pub(crate) fn block_on<F>(future: F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let runtime = runtimes::alone()?;
    let result = runtime.block_on(future);
    // Name lookups that still run in threads would hold the process up for nothing.
    runtime.shutdown_background();
    result
}

/// Tells systemd, where there is one, that the service is up.
pub(crate) fn notify_ready() {
    notify(&[sd_notify::NotifyState::Ready]);
}

/// Tells systemd, where there is one, that the service is on its way down.
pub(crate) fn notify_stopping() {
    notify(&[sd_notify::NotifyState::Stopping]);
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}
