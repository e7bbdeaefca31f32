//! The limits of one connection: the endpoint's where it has them, else the account's plan, else the
//! server's.

use std::sync::Arc;
use std::time::Duration;

use portcullis_model::{EndpointLimits, Plan};
use portcullis_net::relay::RelayLimits;
use portcullis_policy::SetLimits;

use crate::admission::Caps;
use crate::config::Limits;

/// The limits of a connection that reached `entry` and is served by `target`: what the policies set for it
/// goes first, then whoever is nearer to the client.
pub(crate) fn merged(
    entry: &EndpointLimits,
    target: &EndpointLimits,
    set: &SetLimits,
) -> EndpointLimits {
    let idle = set.idle.map(millis).or(entry.idle_timeout_ms);
    let lifetime = set.lifetime.map(millis).or(entry.max_lifetime_ms);
    let connect = set.connect.map(millis).or(entry.connect_timeout_ms);
    EndpointLimits {
        idle_timeout_ms: idle.or(target.idle_timeout_ms),
        client_idle_timeout_ms: entry
            .client_idle_timeout_ms
            .or(target.client_idle_timeout_ms),
        server_idle_timeout_ms: entry
            .server_idle_timeout_ms
            .or(target.server_idle_timeout_ms),
        half_close_timeout_ms: entry.half_close_timeout_ms.or(target.half_close_timeout_ms),
        connect_timeout_ms: connect.or(target.connect_timeout_ms),
        max_lifetime_ms: lifetime.or(target.max_lifetime_ms),
        connections_max: entry.connections_max,
        connections_per_source_max: entry.connections_per_source_max,
    }
}

/// Milliseconds, where zero stays zero and nothing else becomes it.
fn millis(duration: Duration) -> u64 {
    match u64::try_from(duration.as_millis()).unwrap_or(u64::MAX) {
        0 if !duration.is_zero() => 1,
        millis => millis,
    }
}

/// How many connections there may be.
pub(crate) fn caps(server: &Limits, plan: Option<&Plan>, own: &EndpointLimits) -> Caps {
    Caps {
        endpoint: own
            .connections_max
            .unwrap_or(server.connections_per_endpoint_max),
        source: own
            .connections_per_source_max
            .unwrap_or(server.connections_per_source_max),
        account: plan.and_then(|plan| plan.connections_max),
    }
}

/// How long it may take to establish. `0` is the server's: an open without a deadline would hold its
/// slot for ever.
pub(crate) fn connect_timeout(server: &Limits, own: &EndpointLimits) -> Duration {
    match own.connect_timeout_ms {
        None | Some(0) => server.connect_timeout,
        Some(millis) => Duration::from_millis(millis),
    }
}

/// How long which silence may last. Nearly every connection has the server's, and shares them.
pub(crate) fn relay_shared(
    servers: &Arc<RelayLimits>,
    server: &Limits,
    own: &EndpointLimits,
) -> Arc<RelayLimits> {
    let own = relay(server, own);
    match own == **servers {
        true => Arc::clone(servers),
        false => Arc::new(own),
    }
}

/// How long which silence may last, and the whole.
pub(crate) fn relay(server: &Limits, own: &EndpointLimits) -> RelayLimits {
    let idle = or_never(own.idle_timeout_ms, server.idle_timeout);
    RelayLimits {
        idle,
        client_idle: or_never(own.client_idle_timeout_ms, server.client_idle_timeout),
        server_idle: or_never(own.server_idle_timeout_ms, server.server_idle_timeout),
        half_close: or_never(
            own.half_close_timeout_ms,
            server.half_close_timeout.or(idle),
        ),
        lifetime: or_never(own.max_lifetime_ms, None),
    }
}

fn or_never(own: Option<u64>, server: Option<Duration>) -> Option<Duration> {
    match own {
        None => server,
        Some(0) => None,
        Some(millis) => Some(Duration::from_millis(millis)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_goes_before_the_server_and_zero_is_never() {
        let server = Limits::default();
        let mut own = EndpointLimits {
            idle_timeout_ms: Some(7_000),
            ..EndpointLimits::default()
        };
        assert_eq!(relay(&server, &own).idle, Some(Duration::from_secs(7)));
        assert_eq!(
            relay(&server, &own).half_close,
            Some(Duration::from_secs(7))
        );
        own.idle_timeout_ms = Some(0);
        assert_eq!(relay(&server, &own).idle, None);
        assert_eq!(
            relay(&server, &EndpointLimits::default()).idle,
            Some(Duration::from_secs(300))
        );
        assert_eq!(relay(&server, &EndpointLimits::default()).client_idle, None);
    }

    #[test]
    fn the_servers_own_limits_are_shared() {
        let server = Limits::default();
        let none = EndpointLimits::default();
        let servers = Arc::new(relay(&server, &none));
        assert!(Arc::ptr_eq(
            &servers,
            &relay_shared(&servers, &server, &none)
        ));
        let own = EndpointLimits {
            idle_timeout_ms: Some(7_000),
            ..none
        };
        let own = relay_shared(&servers, &server, &own);
        assert_eq!(own.idle, Some(Duration::from_secs(7)));
    }

    #[test]
    fn what_a_policy_sets_goes_before_every_endpoint() {
        let limits = |idle| EndpointLimits {
            idle_timeout_ms: idle,
            ..EndpointLimits::default()
        };
        let (entry, target) = (limits(Some(1)), limits(Some(2)));
        let set = |idle| SetLimits {
            idle,
            lifetime: None,
            connect: None,
        };
        let idle = |set: SetLimits| merged(&entry, &target, &set).idle_timeout_ms;
        assert_eq!(idle(set(None)), Some(1));
        assert_eq!(idle(set(Some(Duration::from_secs(3)))), Some(3_000));
        assert_eq!(idle(set(Some(Duration::ZERO))), Some(0), "for ever");
        assert_eq!(idle(set(Some(Duration::from_micros(1)))), Some(1));
        let none = merged(&limits(None), &target, &set(None));
        assert_eq!(none.idle_timeout_ms, Some(2));
    }

    #[test]
    fn an_establishment_always_has_a_deadline() {
        let own = EndpointLimits {
            connect_timeout_ms: Some(0),
            ..EndpointLimits::default()
        };
        assert_eq!(
            connect_timeout(&Limits::default(), &own),
            Duration::from_secs(10)
        );
    }

    #[test]
    fn the_plan_caps_the_account() {
        let plan = Plan {
            connections_max: Some(9),
            ..Plan::default()
        };
        let own = EndpointLimits {
            connections_max: Some(3),
            ..EndpointLimits::default()
        };
        let caps = caps(&Limits::default(), Some(&plan), &own);
        assert_eq!(
            (caps.endpoint, caps.source, caps.account),
            (3, 1_000, Some(9))
        );
    }
}
