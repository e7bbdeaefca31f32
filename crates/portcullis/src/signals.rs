//! Signals: INT and TERM end (a second one ends at once), HUP reloads.
//!
//! Must never: end the process itself; whoever waits decides.

use portcullis_model::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that the process listens to.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Starts to listen; from now on the signals do not end the process by themselves.
    ///
    /// # Errors
    /// `PTC_INTERNAL` when the system refuses.
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(Error::internal)?,
            terminate: signal(SignalKind::terminate()).map_err(Error::internal)?,
            hangup: signal(SignalKind::hangup()).map_err(Error::internal)?,
        })
    }

    /// The next INT or TERM.
    ///
    /// # Cancel safety
    /// No signal is lost when the future is dropped.
    pub(crate) async fn terminated(&mut self) {
        tokio::select! {
            biased; // no order matters: both mean the same
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// The next signal: `true` for HUP.
    ///
    /// # Cancel safety
    /// No signal is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Received {
        tokio::select! {
            biased; // the end before a reload
            _ = self.interrupt.recv() => Received::End,
            _ = self.terminate.recv() => Received::End,
            _ = self.hangup.recv() => Received::Reload,
        }
    }
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// End.
    End,
    /// Read the configuration again.
    Reload,
}
