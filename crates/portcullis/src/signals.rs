//! Signals: INT and TERM end (a second one ends at once). HUP means that the terminal is gone, which
//! ends too; a server without a terminal reads its configuration again.
//!
//! Must never: end the process itself; whoever waits decides.

use std::io::IsTerminal as _;

use portcullis_model::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that the process listens to.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// `None` when whoever started us wants HUP ignored, as nohup does.
    hangup: Option<Signal>,
    on_terminal: bool,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// End.
    End,
    /// Read the configuration again.
    Reload,
}

impl Signals {
    /// Starts to listen; from now on the signals do not end the process by themselves.
    ///
    /// # Errors
    /// `PTC_INTERNAL` when the system refuses.
    pub(crate) fn new() -> Result<Self, Error> {
        let on_terminal = std::io::stdin().is_terminal();
        let hangup = match hangup_is_ignored() {
            true => None,
            false => Some(signal(SignalKind::hangup()).map_err(Error::internal)?),
        };
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(Error::internal)?,
            terminate: signal(SignalKind::terminate()).map_err(Error::internal)?,
            hangup,
            on_terminal,
        })
    }

    /// The next INT, TERM or HUP.
    ///
    /// # Cancel safety
    /// No signal is lost when the future is dropped.
    pub(crate) async fn terminated(&mut self) {
        tokio::select! {
            biased; // no order matters: all mean the same
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = hung_up(&mut self.hangup) => {}
        }
    }

    /// The next signal of a process that can reload.
    ///
    /// # Cancel safety
    /// No signal is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Received {
        tokio::select! {
            biased; // the end before a reload
            _ = self.interrupt.recv() => Received::End,
            _ = self.terminate.recv() => Received::End,
            () = hung_up(&mut self.hangup) => {
                // A terminal that is gone is no terminal any more.
                if self.on_terminal && !std::io::stdin().is_terminal() { Received::End } else { Received::Reload }
            }
        }
    }
}

async fn hung_up(hangup: &mut Option<Signal>) {
    match hangup {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether HUP was ignored when the process started.
fn hangup_is_ignored() -> bool {
    const SIGHUP_BIT: u64 = 1 << (nix::libc::SIGHUP - 1);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & SIGHUP_BIT != 0)
}
