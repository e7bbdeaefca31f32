//! What every request shares: the registry, the node's commands, the limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use portcullis_model::Timestamp;
use portcullis_store::Registry;
use portcullis_telemetry::{NodeCommands, Records};

use crate::config::ControlConfig;
use crate::web::limits::Limits;

/// The shared state. Cheap to clone as [`App`].
pub(crate) struct Shared {
    pub(crate) config: ControlConfig,
    pub(crate) registry: Registry,
    pub(crate) commands: Arc<dyn NodeCommands>,
    pub(crate) records: Records,
    pub(crate) limits: Limits,
    pub(crate) started_at: Timestamp,
    draining: AtomicBool,
}

/// A handle on the shared state.
pub(crate) type App = Arc<Shared>;

impl Shared {
    pub(crate) fn new(
        config: ControlConfig,
        registry: Registry,
        commands: Arc<dyn NodeCommands>,
        records: Records,
    ) -> App {
        Arc::new(Self {
            limits: Limits::new(config.rate_limit_per_minute, config.concurrency_max),
            config,
            registry,
            commands,
            records,
            started_at: Timestamp::from(jiff::Timestamp::now()),
            draining: AtomicBool::new(false),
        })
    }

    /// From now on `/readyz` says no.
    pub(crate) fn begin_drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}
