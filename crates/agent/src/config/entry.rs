//! One entry of `endpoints:`, and one of `tunnels:` as version 2 wrote them.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use portcullis_model::endpoint::ProxyVersion;
use portcullis_model::pool::WEIGHT_MAX;
use portcullis_model::{Binding, EndpointLimits, Error, HealthCheck, PoolTerms};
use portcullis_net::upstream;
use serde_json::Value;

use super::EndpointEntry;
use super::reader::Section;
use super::termination::termination;
use crate::defaults;
use crate::options::EndpointOptions;
use crate::policy_text;

/// Whether an entry may name files of this machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    /// In a configuration file.
    Allowed,
    /// From the local API.
    Refused,
}

/// Reads an entry of `endpoints:`.
pub(super) fn endpoint(
    section: Section<'_>,
    notes: &mut Vec<String>,
    files: Files,
) -> EndpointEntry {
    let upstream = section.child("upstream");
    let (url, proxy_protocol, health) = match upstream {
        Some(upstream) => read_upstream(upstream, notes),
        None => {
            section.problem(
                "upstream",
                "is missing; give upstream.url, such as localhost:5432",
            );
            (String::new(), None, None)
        }
    };
    let binding = binding(&section);
    let options = EndpointOptions {
        name: section
            .text_within("name", defaults::NAME_BYTES_MAX)
            .unwrap_or_default(),
        url: endpoint_url(&section, "url", binding),
        binding,
        description: section
            .text_within("description", defaults::DESCRIPTION_BYTES_MAX)
            .unwrap_or_default(),
        metadata: section
            .text_within("metadata", defaults::METADATA_BYTES_MAX)
            .unwrap_or_default(),
        pooling_enabled: section.flag("pooling_enabled").unwrap_or_default(),
        traffic_policy: traffic_policy(&section, files),
        proxy_protocol,
        limits: section.child("limits").map(limits).unwrap_or_default(),
        ephemeral: section.flag("ephemeral").unwrap_or_default(),
        cidr_allow: cidrs(&section, "cidr_allow"),
        cidr_deny: cidrs(&section, "cidr_deny"),
        tls_termination: section
            .child("agent_tls_termination")
            .and_then(|tls| termination(tls, files)),
        on_change: parsed(&section, "on_change"),
        pool: PoolTerms {
            strategy: parsed(&section, "pool_strategy"),
            weight: weight(&section),
        },
        health,
    };
    if section.value("inspect").is_some() {
        notes.push(format!(
            "{} has no effect: connections are inspected at the server",
            section.at("inspect")
        ));
    }
    check_policy(&section, &options);
    section.finish(&[
        ("binding", "bindings"),
        ("proto", "url"),
        ("addr", "upstream.url"),
        ("remote_addr", "url"),
        ("proxy_proto", "upstream.proxy_protocol"),
        ("policy", "traffic_policy"),
        ("policy_file", "traffic_policy_file"),
    ]);
    EndpointEntry {
        options,
        upstream: url,
    }
}

/// Reads an entry of `tunnels:`; only those of proto tcp and tls are possible.
pub(super) fn tunnel(name: String, section: Section<'_>, notes: &mut Vec<String>) -> EndpointEntry {
    let url = match section.text("proto").as_deref() {
        Some("tcp") => tunnel_address(&section),
        Some("tls") => tunnel_name(&section),
        Some(other) => {
            section.problem(
                "proto",
                format_args!("`{other}` is not possible; only tcp and tls are"),
            );
            String::new()
        }
        None => {
            section.problem("proto", "is missing; write tcp or tls");
            String::new()
        }
    };
    let upstream = upstream_url(&section, "addr");
    let restriction = section.child("ip_restriction");
    let (cidr_allow, cidr_deny) = match restriction {
        Some(restriction) => {
            let both = (
                cidrs(&restriction, "allow_cidrs"),
                cidrs(&restriction, "deny_cidrs"),
            );
            restriction.finish(&[]);
            both
        }
        None => Default::default(),
    };
    let options = EndpointOptions {
        name,
        url,
        metadata: section
            .text_within("metadata", defaults::METADATA_BYTES_MAX)
            .unwrap_or_default(),
        traffic_policy: tunnel_policy(&section, notes),
        proxy_protocol: proxy_version(&section, "proxy_proto"),
        cidr_allow,
        cidr_deny,
        ..EndpointOptions::default()
    };
    if section.value("inspect").is_some() {
        notes.push(format!(
            "{} has no effect: connections are inspected at the server",
            section.at("inspect")
        ));
    }
    check_policy(&section, &options);
    section.finish(&[
        ("upstream", "addr"),
        ("url", "remote_addr"),
        ("traffic_policy_file", "endpoints[].traffic_policy_file"),
    ]);
    EndpointEntry { options, upstream }
}

/// Where a tunnel of proto tcp is.
fn tunnel_address(section: &Section<'_>) -> String {
    match section.text("remote_addr") {
        Some(addr) => {
            let url = format!("tcp://{}", addr.trim_start_matches("tcp://"));
            checked_url(section, "remote_addr", url, None)
        }
        None => String::new(),
    }
}

/// The name of a tunnel of proto tls, which older files call its host name.
fn tunnel_name(section: &Section<'_>) -> String {
    let mut url = "tls://".to_owned();
    for key in ["domain", "hostname"] {
        if let Some(name) = section.text(key) {
            url = checked_url(section, key, format!("tls://{name}"), None);
        }
    }
    url
}

/// What the server does with its connections and its pool, by a word of its own.
fn parsed<T: FromStr<Err = Error> + Default>(section: &Section<'_>, key: &'static str) -> T {
    let word = section.text(key).unwrap_or_default();
    if word.is_empty() {
        return T::default();
    }
    word.parse().unwrap_or_else(|error: Error| {
        section.problem(key, error.message);
        T::default()
    })
}

fn weight(section: &Section<'_>) -> u32 {
    let weight = section.number("weight", 0..=u64::from(WEIGHT_MAX));
    let weight = weight.and_then(|weight| u32::try_from(weight).ok());
    weight.unwrap_or(PoolTerms::default().weight)
}

fn health(section: &Section<'_>, upstream: &str) -> Option<HealthCheck> {
    let check = match HealthCheck::read(section.value("health")?) {
        Ok(check) => check,
        Err(error) => {
            section.problem("health", format_args!("{} ({})", error.message, error.code));
            return None;
        }
    };
    // An upstream that cannot be read has its own problem.
    let upstream = crate::upstream::parse(upstream).ok()?;
    if let Err(error) = upstream::health::fits(&check, &upstream) {
        section.problem("health", format_args!("{} ({})", error.message, error.code));
    }
    Some(check)
}

fn read_upstream(
    section: Section<'_>,
    notes: &mut Vec<String>,
) -> (String, Option<ProxyVersion>, Option<HealthCheck>) {
    let url = upstream_url(&section, "url");
    let proxy_protocol = proxy_version(&section, "proxy_protocol");
    if section
        .word("protocol", &[("http1", ()), ("http2", ())])
        .is_some()
    {
        notes.push(format!(
            "{} has no effect on a tcp endpoint",
            section.at("protocol")
        ));
    }
    let health = health(&section, &url);
    section.finish(&[("addr", "url"), ("proxy_proto", "proxy_protocol")]);
    (url, proxy_protocol, health)
}

fn upstream_url(section: &Section<'_>, key: &'static str) -> String {
    let Some(text) = section.text_or_number(key) else {
        if !section.has(key) {
            section.problem(
                key,
                "is missing; give a port, host:port, tcp://, tls:// or unix:/path",
            );
        }
        return String::new();
    };
    if let Err(error) = crate::upstream::parse(&text) {
        section.problem(key, error);
    }
    text
}

fn proxy_version(section: &Section<'_>, key: &'static str) -> Option<ProxyVersion> {
    let words = [
        ("1", Some(ProxyVersion::V1)),
        ("2", Some(ProxyVersion::V2)),
        ("", None),
    ];
    section.word(key, &words).flatten()
}

fn binding(section: &Section<'_>) -> Option<Binding> {
    let bindings = section.texts("bindings");
    if bindings.len() > 1 {
        section.problem(
            "bindings",
            "more than one binding was given; give exactly one (PTC_BINDING_DUPLICATE)",
        );
        return None;
    }
    let word = bindings.first()?;
    match word.parse() {
        Ok(binding) => Some(binding),
        Err(why) => {
            section.problem("bindings[0]", why);
            None
        }
    }
}

fn endpoint_url(section: &Section<'_>, key: &'static str, binding: Option<Binding>) -> String {
    let url = section.text(key).unwrap_or_default();
    checked_url(section, key, url, binding)
}

fn checked_url(section: &Section<'_>, key: &str, url: String, binding: Option<Binding>) -> String {
    if let Err(error) = portcullis_model::url::parse(&url, binding) {
        section.problem(key, error);
    }
    url
}

/// The policy inline or from a file, as text.
fn traffic_policy(section: &Section<'_>, files: Files) -> String {
    let inline = section.value("traffic_policy");
    let file = section.text("traffic_policy_file");
    match (inline, file) {
        (Some(_), Some(_)) => {
            section.problem(
                "traffic_policy_file",
                "cannot be given together with traffic_policy",
            );
            String::new()
        }
        (Some(inline), None) => policy_value(section, inline),
        (None, Some(_)) if files == Files::Refused => {
            section.problem(
                "traffic_policy_file",
                "is possible in a configuration file only",
            );
            String::new()
        }
        (None, Some(path)) => super::read_text(Path::new(&path), defaults::POLICY_BYTES_MAX)
            .unwrap_or_else(|error| {
                section.problem("traffic_policy_file", error.message);
                String::new()
            }),
        (None, None) => String::new(),
    }
}

fn policy_value(section: &Section<'_>, value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(_) => value.to_string(),
        _ => {
            section.problem("traffic_policy", "must be a map or a text");
            String::new()
        }
    }
}

/// Version 2 called the phase `inbound`; `outbound` never did anything on tcp.
fn tunnel_policy(section: &Section<'_>, notes: &mut Vec<String>) -> String {
    let Some(value) = section.value("traffic_policy") else {
        return String::new();
    };
    let mut value = value.clone();
    if let Value::Object(phases) = &mut value {
        if let Some(rules) = phases.remove("inbound") {
            notes.push(format!(
                "{}.inbound is read as on_tcp_connect",
                section.at("traffic_policy")
            ));
            phases.insert("on_tcp_connect".to_owned(), rules);
        }
        if phases.remove("outbound").is_some() {
            notes.push(format!(
                "{}.outbound has no effect on tcp",
                section.at("traffic_policy")
            ));
        }
    }
    policy_value(section, &value)
}

fn cidrs(section: &Section<'_>, key: &'static str) -> Vec<String> {
    let texts = section.texts(key);
    for (at, text) in texts.iter().enumerate() {
        if let Err(error) = policy_text::network(text) {
            section.problem(&format!("{key}[{at}]"), error);
        }
    }
    texts
}

/// Networks were checked one by one; here the document itself is.
fn check_policy(section: &Section<'_>, options: &EndpointOptions) {
    if let Err(error) = policy_text::check(&options.traffic_policy) {
        let key = if section.has("traffic_policy_file") {
            "traffic_policy_file"
        } else {
            "traffic_policy"
        };
        section.problem(key, error);
    }
}

fn limits(section: Section<'_>) -> EndpointLimits {
    let time = |key: &'static str, millis: &'static str| {
        let range = Duration::ZERO..=Duration::from_millis(u64::from(u32::MAX));
        let written = section
            .duration(key, &range)
            .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        written.or_else(|| section.number(millis, 0..=u64::from(u32::MAX)))
    };
    let count = |key| {
        section
            .number(key, 1..=u64::from(u32::MAX))
            .and_then(|n| u32::try_from(n).ok())
    };
    let limits = EndpointLimits {
        idle_timeout_ms: time("idle_timeout", "idle_timeout_ms"),
        client_idle_timeout_ms: time("client_idle_timeout", "client_idle_timeout_ms"),
        server_idle_timeout_ms: time("server_idle_timeout", "server_idle_timeout_ms"),
        half_close_timeout_ms: time("half_close_timeout", "half_close_timeout_ms"),
        connect_timeout_ms: time("connect_timeout", "connect_timeout_ms"),
        max_lifetime_ms: time("max_lifetime", "max_lifetime_ms"),
        connections_max: count("connections_max"),
        connections_per_source_max: count("connections_per_source_max"),
    };
    section.finish(&[]);
    limits
}
