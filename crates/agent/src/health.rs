//! Health checks of the agent's upstreams: one task for each endpoint that has a check, as long as it is wanted.
//! The session tells the server what has changed; the status shows it.
//!
//! Must never: end with a session; an upstream is checked while the server is away, too.

use std::sync::{Arc, LazyLock};

use portcullis_model::health::Health;
use portcullis_net::task;
use portcullis_net::upstream::health;
use rand::Rng as _;
use tokio::sync::Semaphore;

use crate::defaults::PROBES_AT_ONCE_MAX;
use crate::endpoint::LocalEndpoint;
use crate::shared::Shared;

/// Places of checks that run at once, in the whole process: so many sockets.
static PLACES: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(PROBES_AT_ONCE_MAX));

/// Begins to check an endpoint, if that is asked for.
pub(crate) fn begin(shared: &Arc<Shared>, endpoint: &Arc<LocalEndpoint>) {
    let Some(check) = endpoint.wanted_now().options.health else {
        return;
    };
    let (shared, endpoint) = (Arc::clone(shared), Arc::clone(endpoint));
    drop(task::spawn("health check", async move {
        let told = |health: &Health, turned: bool| {
            endpoint.set_health(health.clone());
            if turned {
                tell(&endpoint, health);
            }
            if turned || health.failures > 0 {
                // The session reads it, and tells the server.
                shared.wants_changed();
            }
            shared.status_changed();
        };
        let seed = rand::rng().next_u64();
        let of = || endpoint.checked();
        let watching = health::watch(&check, of, &shared.settings.resolver, &PLACES, seed, told);
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => {}
            _ = endpoint.closed() => {}
            () = watching => {}
        }
    }));
}

fn tell(endpoint: &LocalEndpoint, health: &Health) {
    let (name, upstream) = (endpoint.name(), endpoint.upstream());
    match &health.reason {
        Some(error) if !health.healthy => {
            tracing::warn!(endpoint = name, upstream, code = %error.code, error = error.message, "upstream is unhealthy");
        }
        _ => tracing::info!(endpoint = name, upstream, "upstream is healthy"),
    }
}
