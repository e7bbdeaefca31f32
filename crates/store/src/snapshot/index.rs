//! Lookups in the snapshot's indexes.

use std::sync::Arc;

use super::{Hosts, Pool};

/// The exact name, else the nearest wildcard: `a.b.internal` tries `*.b.internal`, then `*.internal`.
pub(super) fn internal<'a>(hosts: &'a Hosts, host: &str, port: u16) -> Option<&'a Arc<Pool>> {
    if let Some(pool) = hosts.get(host).and_then(|ports| ports.get(&port)) {
        return Some(pool);
    }
    let mut rest = host;
    while let Some((_, parent)) = rest.split_once('.') {
        if let Some(pool) = hosts.get(format!("*.{parent}").as_str()).and_then(|ports| ports.get(&port)) {
            return Some(pool);
        }
        rest = parent;
    }
    None
}
