//! The configuration as the parts take it: registry, edge, API.
//!
//! Must never: invent a default that a part has already.

use std::net::IpAddr;
use std::time::Duration;

use portcullis_control::ControlConfig;
use portcullis_edge::EdgeConfig;
use portcullis_model::account::Plan;
use portcullis_model::{Code, Error};
use portcullis_store::{
    DirectSpec, IpPool, PoolIp, PortRanges, Settings, SharedHost, TlsHost, TlsSettings,
};

use crate::config::endpoints::{At, ip_of};
use crate::config::hosts::HostConfig;
use crate::config::{DirectEndpoint, ServerConfig};

/// What the registry needs to know.
pub(crate) fn registry(config: &ServerConfig, node: &str, host: &str) -> Result<Settings, Error> {
    let mut settings = Settings::new(node, config.region.clone(), host);
    settings.hosts = hosts(config, host);
    settings.ip_pools = config
        .ip_pools
        .iter()
        .map(|pool| ip_pool(config, pool))
        .collect();
    settings.plans = config
        .plans
        .iter()
        .map(|(name, plan)| (name.clone(), Plan::clone(plan)))
        .collect();
    settings.tls = tls(config);
    settings.address_rest = config.address_rest;
    if let Some(max) = config.limits.endpoints_per_session_max {
        settings.session_endpoints_max = max;
    }
    settings.checked()
}

/// The public host first, then those that are configured, then a host for every IP that an exposed
/// port names.
fn hosts(config: &ServerConfig, host: &str) -> Vec<SharedHost> {
    let shared = |name: &str, region: &str, ports: &PortRanges, choose: &PortRanges| SharedHost {
        ports: ports.clone(),
        choose: choose.clone(),
        ..SharedHost::new(name, region)
    };
    let mut hosts: Vec<SharedHost> = Vec::new();
    if let Some(base) = &config.base_host {
        let numbered = SharedHost::numbered(&base.name, &config.region, base.region, base.count);
        hosts.extend(numbered.into_iter().map(|host| SharedHost {
            ports: config.ports.clone(),
            choose: config.choose.clone(),
            ..host
        }));
    }
    for HostConfig {
        host,
        region,
        ports,
        choose,
        accounts,
        bind,
    } in &config.hosts
    {
        let region = region.as_deref().unwrap_or(&config.region);
        hosts.push(SharedHost {
            accounts: accounts.clone(),
            bind: bind.clone(),
            ..shared(host, region, ports, choose)
        });
    }
    if !hosts.iter().any(|known| known.host == host) {
        let bind = config.listen_public.clone();
        hosts.insert(
            0,
            SharedHost {
                bind,
                ..shared(host, &config.region, &config.ports, &config.choose)
            },
        );
    }
    for ip in config
        .endpoints
        .iter()
        .filter_map(|endpoint| ip_of(&endpoint.at))
    {
        if !hosts.iter().any(|known| known.host == ip.to_string()) && !is_public_ip(config, ip) {
            hosts.push(SharedHost {
                bind: vec![ip],
                ..shared(
                    &ip.to_string(),
                    &config.region,
                    // Without a range: nobody is given a random address on it.
                    &PortRanges::default(),
                    &config.choose,
                )
            });
        }
    }
    hosts
}

fn tls(config: &ServerConfig) -> TlsSettings {
    let tls = &config.tls;
    let listen = match tls.listen.as_slice() {
        [] => &config.listen_public,
        _ => &tls.listen,
    };
    TlsSettings {
        port: (tls.port != 0).then_some(tls.port),
        reserved: tls.is_given,
        bind: listen.clone(),
        hosts: tls
            .hosts
            .iter()
            .map(|base| TlsHost {
                host: base.host.clone(),
                accounts: base.accounts.clone(),
            })
            .collect(),
        any_name: tls.any_name,
    }
}

fn is_public_ip(config: &ServerConfig, ip: IpAddr) -> bool {
    config
        .ip_pools
        .iter()
        .any(|pool| pool.ips.iter().any(|entry| entry.public == ip))
}

fn ip_pool(config: &ServerConfig, pool: &crate::config::hosts::IpPool) -> IpPool {
    IpPool {
        name: pool.name.clone(),
        region: pool.region.clone().unwrap_or_else(|| config.region.clone()),
        ips: pool
            .ips
            .iter()
            .map(|ip| PoolIp {
                public: ip.public,
                bind: ip.bind,
            })
            .collect(),
        host_pattern: pool.host_pattern.clone(),
        accounts: pool.accounts.clone(),
    }
}

/// What the edge needs to know beyond its defaults.
pub(crate) fn edge(
    config: &ServerConfig,
    mut edge: EdgeConfig,
    node: &str,
    host: &str,
) -> EdgeConfig {
    node.clone_into(&mut edge.node);
    host.clone_into(&mut edge.public_host);
    edge.region.clone_from(&config.region);
    env!("CARGO_PKG_VERSION").clone_into(&mut edge.server_version);
    edge.trusted_proxies.clone_from(&config.trusted_proxies);
    edge.places = crate::config::places::files(&config.geo, &config.ip_categories);
    edge.name_servers.clone_from(&config.name_servers);
    edge.carriers = config.carriers;
    edge.plain_links = config.plain_channels;
    edge.network
        .congestion_control
        .clone_from(&config.network.congestion_control);
    edge.network.user_timeout = config.network.user_timeout;
    let limits = &config.limits;
    let set = &mut edge.limits;
    if let Some(max) = limits.connections_max {
        set.connections_max = usize::try_from(max).unwrap_or(usize::MAX);
    }
    if let Some(max) = limits.connections_per_endpoint_max {
        set.connections_per_endpoint_max = max;
    }
    if let Some(max) = limits.connections_per_source_max {
        set.connections_per_source_max = max;
    }
    if let Some(span) = limits.connect_timeout {
        set.connect_timeout = span;
    }
    if let Some(span) = limits.drain_timeout {
        set.drain_timeout = span;
    }
    for (given, field) in [
        (limits.idle_timeout, &mut set.idle_timeout),
        (limits.client_idle_timeout, &mut set.client_idle_timeout),
        (limits.server_idle_timeout, &mut set.server_idle_timeout),
        (limits.half_close_timeout, &mut set.half_close_timeout),
    ] {
        if let Some(span) = given {
            *field = (span > Duration::ZERO).then_some(span);
        }
    }
    edge
}

/// What the API needs to know beyond its defaults.
pub(crate) fn control(config: &ServerConfig, node: &str) -> ControlConfig {
    let mut control = ControlConfig::new(node, config.region.clone());
    control.listen = config.api_listen;
    env!("CARGO_PKG_VERSION").clone_into(&mut control.version);
    control.metrics = config.metrics;
    control.ip_restrictions = config.api_ip_restrictions;
    if let Some(limit) = config.api_rate_limit_per_minute {
        control.rate_limit_per_minute = limit;
    }
    if let Some(size) = config.api_body_bytes_max {
        control.body_bytes_max = usize::try_from(size.0).unwrap_or(usize::MAX);
    }
    control
}

/// An endpoint of the server's own, as the registry takes it.
///
/// # Errors
/// `PTC_UPSTREAM_INVALID` when the upstream cannot be read.
pub(crate) fn direct(endpoint: &DirectEndpoint) -> Result<DirectSpec, Error> {
    let upstream: portcullis_net::upstream::Upstream =
        endpoint.upstream.parse().map_err(|error: Error| {
            Error::new(
                Code::UpstreamInvalid,
                format!("{}: {}", endpoint.name, error.message),
            )
        })?;
    if let Some(check) = &endpoint.health {
        portcullis_net::upstream::health::fits(check, &upstream)?;
    }
    let (url, port) = match &endpoint.at {
        At::Url(url) => (url.clone(), None),
        At::Port {
            host: None,
            port: 0,
        } => ("tcp://".to_owned(), None),
        At::Port { host: None, port } => (String::new(), Some(*port)),
        At::Port { host: Some(_), .. } => (format!("tcp://{}", endpoint.at), None),
    };
    Ok(DirectSpec {
        name: endpoint.name.clone(),
        url,
        port,
        binding: endpoint.binding,
        upstream: upstream.to_string(),
        proxy_protocol: endpoint.proxy_protocol,
        pooling_enabled: endpoint.pooling_enabled,
        traffic_policy: endpoint.traffic_policy.clone(),
        description: endpoint.description.clone(),
        metadata: endpoint.metadata.clone(),
        limits: endpoint.limits,
        on_change: endpoint.on_change,
        pool: endpoint.pool,
        health: endpoint.health.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::endpoints::Expose;

    #[test]
    fn the_public_host_comes_first_and_exposed_ips_get_hosts() {
        let Expose(endpoints) = "192.0.2.9:25=x:25".parse().unwrap();
        let config = ServerConfig {
            endpoints,
            ..ServerConfig::default()
        };
        let settings = registry(&config, "n1", "edge.example.com").unwrap();
        let names: Vec<&str> = settings
            .hosts
            .iter()
            .map(|host| host.host.as_str())
            .collect();
        assert_eq!(names, ["edge.example.com", "192.0.2.9"]);
        assert_eq!(
            settings.hosts[1].bind,
            ["192.0.2.9".parse::<IpAddr>().unwrap()]
        );
    }
}
