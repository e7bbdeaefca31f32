//! From the raw document to a checked [`AgentConfig`]: every rule, every problem at once.
//!
//! Must never: touch the network.

use std::collections::BTreeMap;
use std::path::PathBuf;

use portcullis_model::{Code, Error, Secret};
use serde_json::Value;

use super::reader::{Problems, Section};
use super::{
    AgentConfig, AgentSection, ConsoleUi, EndpointEntry, LogFormat, LogLevel, LogTarget, Overrides,
    entry,
};
use crate::defaults;
use crate::local_api::LocalAddr;
use crate::server::{self, ConnectCas};

/// Where the settings of version 2 went.
const RENAMED: &[(&str, &str)] = &[
    ("authtoken", "agent.authtoken"),
    ("api_key", "agent.api_key"),
    ("server_addr", "agent.connect_url"),
    ("root_cas", "agent.connect_cas"),
    ("proxy_url", "agent.proxy_url"),
    ("console_ui", "agent.console_ui"),
    ("log", "agent.log"),
    ("log_level", "agent.log_level"),
    ("log_format", "agent.log_format"),
    ("metadata", "agent.metadata"),
    ("remote_management", "agent.remote_management"),
    ("web_addr", "agent.web_addr"),
    ("heartbeat_interval", "agent.heartbeat_interval"),
    ("heartbeat_tolerance", "agent.heartbeat_tolerance"),
];

/// Known settings of ngrok's agent that change nothing here, and why.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("update_check", "this agent never updates itself"),
    ("update_channel", "this agent never updates itself"),
    ("inspect_db_size", "connections are inspected at the server"),
    ("console_ui_color", "the terminal's own colours are used"),
    ("crl_noverify", "the server's certificate is pinned"),
    ("crl_url", "the server's certificate is pinned"),
    ("dns_resolver_ips", "names are resolved by the system"),
    ("connect_interface", "the system's routes are used"),
    ("region", "the server's address says where it is"),
];

/// Checks a whole document.
pub(super) fn document(
    document: &Value,
    name: &str,
    overrides: &Overrides,
) -> Result<AgentConfig, Error> {
    let problems = Problems::default();
    let mut notes = Vec::new();
    let top = Section::new(document, "", &problems);
    version(&top);
    let mut agent = match top.child("agent") {
        Some(section) => agent_section(section, &mut notes),
        None => AgentSection::default(),
    };
    apply(&mut agent, overrides, &problems);
    let endpoints = endpoints(&top, &mut notes);
    top.finish(RENAMED);
    refuse_any(problems, name)?;
    Ok(AgentConfig {
        agent,
        endpoints,
        notes,
    })
}

/// Checks one endpoint entry, as the local API takes it.
pub(super) fn single_entry(value: &Value) -> Result<EndpointEntry, Error> {
    let problems = Problems::default();
    let mut notes = Vec::new();
    let entry = entry::endpoint(
        Section::new(value, "", &problems),
        &mut notes,
        entry::Files::Refused,
    );
    refuse_any(problems, "the endpoint")?;
    Ok(entry)
}

fn refuse_any(problems: Problems, name: &str) -> Result<(), Error> {
    let list = problems.into_list();
    match list.as_slice() {
        [] => Ok(()),
        [one] => Err(Error::new(Code::ConfigInvalid, format!("{name}: {one}"))),
        many => Err(Error::new(
            Code::ConfigInvalid,
            format!("{name} has {} errors:\n  {}", many.len(), many.join("\n  ")),
        )),
    }
}

fn version(top: &Section<'_>) {
    match top.text_or_number("version").as_deref() {
        None | Some("3") => {}
        Some("2") => {
            top.problem("version", "2 keeps the agent's settings at the top; put them under `agent:` and set version: 3");
        }
        Some(_) => top.problem("version", "only version 3 is known"),
    }
}

fn agent_section(section: Section<'_>, notes: &mut Vec<String>) -> AgentSection {
    let default = AgentSection::default();
    let agent = AgentSection {
        authtoken: section.secret("authtoken"),
        api_key: section.secret("api_key"),
        connect_url: section
            .text("connect_url")
            .and_then(|text| connect_url(&section, &text)),
        connect_cas: connect_cas(&section),
        connect_timeout: section
            .duration("connect_timeout", &defaults::CONNECT_TIMEOUT_RANGE)
            .unwrap_or(default.connect_timeout),
        heartbeat_interval: section
            .duration("heartbeat_interval", &defaults::HEARTBEAT_RANGE)
            .unwrap_or(default.heartbeat_interval),
        heartbeat_tolerance: section
            .duration("heartbeat_tolerance", &defaults::HEARTBEAT_RANGE)
            .unwrap_or(default.heartbeat_tolerance),
        proxy_url: section
            .secret("proxy_url")
            .filter(|url| proxy_url_is_usable(url, &section)),
        console_ui: console_ui(&section),
        log: log_target(&section),
        log_level: log_level(&section),
        log_format: log_format(&section),
        metadata: section
            .text_within("metadata", defaults::METADATA_BYTES_MAX)
            .unwrap_or_default(),
        remote_management: section.flag("remote_management").unwrap_or(true),
        plain_channels: section
            .word("channels", &[("tls", false), ("plain", true)])
            .unwrap_or_default(),
        web_addr: web_addr(&section, default.web_addr),
        web_allow_hosts: section.texts("web_allow_hosts"),
    };
    for (key, why) in WITHOUT_EFFECT {
        if section.value(key).is_some() {
            notes.push(format!("{} has no effect: {why}", section.at(key)));
        }
    }
    section.finish(&[("server_addr", "connect_url"), ("root_cas", "connect_cas")]);
    agent
}

fn connect_url(section: &Section<'_>, text: &str) -> Option<String> {
    match server::hostport(text) {
        Ok(address) => Some(address),
        Err(why) => {
            section.problem("connect_url", why);
            None
        }
    }
}

fn connect_cas(section: &Section<'_>) -> ConnectCas {
    match section.text("connect_cas").as_deref() {
        None | Some("" | "trusted") => ConnectCas::Trusted,
        Some("host") => ConnectCas::Host,
        Some(path) => ConnectCas::File(PathBuf::from(path)),
    }
}

/// The URL may hold a password: problems say nothing of it.
fn proxy_url_is_usable(url: &Secret, section: &Section<'_>) -> bool {
    let usable = check_proxy(url);
    if !usable {
        section.problem("proxy_url", "is not http://host:port or socks5://host:port");
    }
    usable
}

fn check_proxy(url: &Secret) -> bool {
    ["http://", "socks5://", "socks5h://"]
        .iter()
        .any(|scheme| url.expose().starts_with(scheme))
}

fn console_ui(section: &Section<'_>) -> ConsoleUi {
    let words = [
        ("true", ConsoleUi::On),
        ("false", ConsoleUi::Off),
        ("iftty", ConsoleUi::IfTty),
    ];
    section.word("console_ui", &words).unwrap_or_default()
}

fn log_target(section: &Section<'_>) -> LogTarget {
    match section.value("log") {
        None => LogTarget::default(),
        Some(Value::Bool(false)) => LogTarget::Off,
        Some(Value::String(text)) => match text.as_str() {
            "stdout" => LogTarget::Stdout,
            "stderr" | "" => LogTarget::Stderr,
            "false" => LogTarget::Off,
            path => LogTarget::File(PathBuf::from(path)),
        },
        Some(_) => {
            section.problem("log", "must be stdout, stderr, false or a path");
            LogTarget::default()
        }
    }
}

fn log_level(section: &Section<'_>) -> LogLevel {
    use LogLevel::{Crit, Debug, Error, Info, Warn};
    let words = [
        ("debug", Debug),
        ("info", Info),
        ("warn", Warn),
        ("error", Error),
        ("crit", Crit),
    ];
    section.word("log_level", &words).unwrap_or_default()
}

fn log_format(section: &Section<'_>) -> LogFormat {
    let words = [
        ("term", LogFormat::Term),
        ("logfmt", LogFormat::Logfmt),
        ("json", LogFormat::Json),
    ];
    section.word("log_format", &words).unwrap_or_default()
}

fn web_addr(section: &Section<'_>, default: Option<LocalAddr>) -> Option<LocalAddr> {
    match section.value("web_addr") {
        None | Some(Value::Bool(true)) => default,
        Some(Value::Bool(false)) => None,
        Some(Value::String(text)) if text == "false" => None,
        Some(Value::String(text)) => match text.parse() {
            Ok(addr) => Some(addr),
            Err(why) => {
                section.problem("web_addr", why);
                None
            }
        },
        Some(_) => {
            section.problem(
                "web_addr",
                "must be an address such as 127.0.0.1:4040, unix:/path, or false",
            );
            None
        }
    }
}

fn apply(agent: &mut AgentSection, overrides: &Overrides, problems: &Problems) {
    if overrides.authtoken.is_some() {
        agent.authtoken.clone_from(&overrides.authtoken);
    }
    if overrides.api_key.is_some() {
        agent.api_key.clone_from(&overrides.api_key);
    }
    if let Some(url) = &overrides.connect_url {
        match server::hostport(url) {
            Ok(address) => agent.connect_url = Some(address),
            Err(why) => problems.add("the server's address", why),
        }
    }
    if let Some(url) = &overrides.proxy_url {
        if check_proxy(url) {
            agent.proxy_url = Some(url.clone());
        } else {
            problems.add(
                "the proxy's URL",
                "is not http://host:port or socks5://host:port",
            );
        }
    }
}

fn endpoints(top: &Section<'_>, notes: &mut Vec<String>) -> Vec<EndpointEntry> {
    let mut all = Vec::new();
    let mut first_at: BTreeMap<String, String> = BTreeMap::new();
    let mut keep = |entry: EndpointEntry, path: String| {
        if entry.options.name.is_empty() {
            top.problem(&path, "name is missing");
        } else if let Some(first) = first_at.get(&entry.options.name) {
            top.problem(
                &path,
                format_args!("name `{}` is taken by {first}", entry.options.name),
            );
        } else {
            first_at.insert(entry.options.name.clone(), path);
        }
        all.push(entry);
    };
    for section in top.children("endpoints") {
        let path = section.path().to_owned();
        keep(entry::endpoint(section, notes, entry::Files::Allowed), path);
    }
    for (name, section) in top.named_children("tunnels") {
        let path = section.path().to_owned();
        notes.push(format!(
            "{path}: `tunnels` is deprecated; write it under `endpoints`"
        ));
        keep(entry::tunnel(name, section, notes), path);
    }
    if all.len() > defaults::ENDPOINTS_MAX {
        top.problem(
            "endpoints",
            format_args!("at most {} are possible", defaults::ENDPOINTS_MAX),
        );
    }
    all
}
