//! The process's runtimes. A server has two: one moves bytes, the other does everything else, so that a
//! handshake, a query or a large answer of the API never stands in front of a client's byte. Whoever
//! starts something on the other one is given its handle. `docs/adr/0013-*.md` has the reasons.
//!
//! Must never: be reached through a global.

use std::future::Future;

use portcullis_model::Error;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::config::RuntimeConfig;
use crate::defaults;
use crate::failure::Failure;

/// The runtimes of a server.
pub(crate) struct Runtimes {
    control: Runtime,
    data: Runtime,
}

impl Runtimes {
    /// Starts their threads.
    ///
    /// # Errors
    /// `PTC_INTERNAL` when there are none to be had.
    pub(crate) fn new(config: &RuntimeConfig) -> Result<Self, Error> {
        let config = config.with_defaults();
        Ok(Self {
            control: runtime("control", config.control_threads.unwrap_or(1))
                .build()
                .map_err(Error::internal)?,
            data: moving("data", config.data_threads.unwrap_or(1))?,
        })
    }

    /// Runs a server: the future that is made with the data path's handle is the control side. What is
    /// left on either when it ends is dropped.
    ///
    /// # Errors
    /// What the future fails with.
    pub(crate) fn block_on<F>(self, serve: impl FnOnce(Handle) -> F) -> Result<(), Failure>
    where
        F: Future<Output = Result<(), Failure>>,
    {
        let result = self.control.block_on(serve(self.data.handle().clone()));
        self.data.shutdown_timeout(defaults::DATA_SHUTDOWN_GRACE);
        // Name lookups that still run in threads would hold the process up for nothing.
        self.control.shutdown_background();
        result
    }
}

/// The runtime of every other command, agents among them. It has two threads at least: then nothing
/// that keeps one busy for a moment, such as the local API, holds up the relays.
///
/// # Errors
/// `PTC_INTERNAL` when there are no threads to be had.
pub(crate) fn alone() -> Result<Runtime, Error> {
    moving("worker", processors().max(2))
}

impl RuntimeConfig {
    /// The same with what the machine suggests where nothing is said: a thread that moves bytes for
    /// every processor, and a few for the rest.
    pub(crate) fn with_defaults(self) -> Self {
        let processors = processors();
        let control = processors.div_ceil(defaults::PROCESSORS_PER_CONTROL_THREAD);
        Self {
            data_threads: self.data_threads.or(Some(processors)),
            control_threads: self.control_threads.or(Some(control)),
        }
    }
}

/// A runtime that moves bytes: whoever waits for some is not to wait for a whole turn of a thread that has
/// much to do.
fn moving(name: &str, threads: usize) -> Result<Runtime, Error> {
    let mut builder = runtime(name, threads);
    builder.on_thread_start(|| {
        // A seccomp filter may forbid it; it is only about latency.
        if let Err(error) = portcullis_net::set_time_slice(defaults::DATA_TIME_SLICE) {
            tracing::debug!(%error, "the system's own time slice stays");
        }
    });
    builder.build().map_err(Error::internal)
}

fn runtime(name: &str, threads: usize) -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder
        .worker_threads(threads)
        .thread_name(name)
        .enable_all();
    builder
}

fn processors() -> usize {
    // A machine that cannot be asked is taken for a small one.
    std::thread::available_parallelism().map_or(1, Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_path_has_threads_of_its_own() {
        let two = RuntimeConfig {
            data_threads: Some(2),
            control_threads: Some(1),
        };
        let runtimes = Runtimes::new(&two).unwrap();
        let done = runtimes.block_on(|data| async move {
            assert_eq!(data.metrics().num_workers(), 2);
            assert_eq!(Handle::current().metrics().num_workers(), 1);
            let there = data.spawn(async { std::thread::current().name().map(str::to_owned) });
            assert_eq!(there.await.unwrap().as_deref(), Some("data"));
            Ok(())
        });
        assert!(done.is_ok());
    }

    #[test]
    fn what_is_left_unsaid_is_chosen_by_the_machine() {
        let config = RuntimeConfig::default().with_defaults();
        assert_eq!(config.data_threads, Some(processors()));
        assert!(config.control_threads >= Some(1));
    }
}
