//! The agent's configuration, in the shape of ngrok.yml version 3: read raw, merged, then checked,
//! with every error at once and its path.
//!
//! Owns the file format. Must never: read the environment; overrides are passed in.

mod check;
mod entry;
mod merge;
mod reader;
mod termination;

use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_model::{Code, Error, Secret};
use serde_json::Value;

use crate::builder::AgentBuilder;
use crate::defaults;
use crate::local_api::LocalAddr;
use crate::options::EndpointOptions;
use crate::server::ConnectCas;

/// When the terminal display is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConsoleUi {
    /// Always.
    On,
    /// Never.
    Off,
    /// On a terminal.
    #[default]
    IfTty,
}

/// Where the log goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    #[default]
    Stderr,
    /// Nowhere.
    Off,
    /// A file, appended to.
    File(PathBuf),
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Term,
    /// `key=value`.
    Logfmt,
    /// One JSON object per line.
    Json,
}

/// Least severe line that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What happens.
    #[default]
    Info,
    /// What may need attention.
    Warn,
    /// What failed.
    Error,
    /// What ended the agent.
    Crit,
}

/// The section `agent:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSection {
    /// A join string or a bare authtoken.
    pub authtoken: Option<Secret>,
    /// For `portcullis api`.
    pub api_key: Option<Secret>,
    /// Where to connect, `host:port`.
    pub connect_url: Option<String>,
    /// How the server's certificate is checked.
    pub connect_cas: ConnectCas,
    /// The whole way to a session.
    pub connect_timeout: Duration,
    /// Time between heartbeats.
    pub heartbeat_interval: Duration,
    /// How much longer an answer may take.
    pub heartbeat_tolerance: Duration,
    /// A proxy on the way out; it may hold a password.
    pub proxy_url: Option<Secret>,
    /// When the terminal display is shown.
    pub console_ui: ConsoleUi,
    /// Where the log goes.
    pub log: LogTarget,
    /// Least severe line that is logged.
    pub log_level: LogLevel,
    /// Form of the log.
    pub log_format: LogFormat,
    /// Free text on the session.
    pub metadata: String,
    /// Whether the API may stop and restart the agent.
    pub remote_management: bool,
    /// Whether clients' bytes go to the server without TLS.
    pub plain_channels: bool,
    /// Where the local API listens; `None` is off.
    pub web_addr: Option<LocalAddr>,
    /// Names in the Host header that the local API accepts beside the loopback ones.
    pub web_allow_hosts: Vec<String>,
}

/// One entry of `endpoints:` or `tunnels:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointEntry {
    /// The endpoint.
    pub options: EndpointOptions,
    /// Where its bytes go.
    pub upstream: String,
}

/// A checked configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AgentConfig {
    /// The section `agent:`.
    pub agent: AgentSection,
    /// The endpoints, those of `tunnels:` behind those of `endpoints:`.
    pub endpoints: Vec<EndpointEntry>,
    /// What was accepted but has no effect, or is deprecated, for the log: `agent.update_check: …`.
    pub notes: Vec<String>,
}

/// What the environment or the command line says instead of the files.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Instead of `agent.authtoken`.
    pub authtoken: Option<Secret>,
    /// Instead of `agent.api_key`.
    pub api_key: Option<Secret>,
    /// Instead of `agent.connect_url`.
    pub connect_url: Option<String>,
    /// Instead of `agent.proxy_url`.
    pub proxy_url: Option<Secret>,
}

impl AgentConfig {
    /// Reads files and merges them left to right: later scalars win, maps are merged, lists replaced.
    /// Relative paths within a file are relative to its directory.
    ///
    /// # Errors
    /// `PTC_CONFIG_UNREADABLE` for a file that cannot be read, `PTC_CONFIG_INVALID` with every
    /// problem and its path.
    pub fn load(files: &[PathBuf], overrides: &Overrides) -> Result<Self, Error> {
        let mut document = Value::Null;
        for file in files {
            let name = file.display().to_string();
            let mut one = yaml(&read_text(file, defaults::CONFIG_BYTES_MAX)?, &name)?;
            merge::anchor_paths(&mut one, file.parent().unwrap_or(Path::new("")));
            merge::merge(&mut document, one);
        }
        let shown: Vec<String> = files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        let name = match shown.as_slice() {
            [] => "the configuration".to_owned(),
            some => some.join(" + "),
        };
        check::document(&document, &name, overrides)
    }

    /// Reads a document that is not in a file; relative paths are relative to `dir`.
    ///
    /// # Errors
    /// `PTC_CONFIG_INVALID` with every problem and its path.
    pub fn parse(text: &str, dir: &Path, overrides: &Overrides) -> Result<Self, Error> {
        let mut document = yaml(text, "the configuration")?;
        merge::anchor_paths(&mut document, dir);
        check::document(&document, "the configuration", overrides)
    }

    /// No file at all: the defaults and the overrides.
    ///
    /// # Errors
    /// `PTC_CONFIG_INVALID` when an override cannot be used.
    pub fn without_file(overrides: &Overrides) -> Result<Self, Error> {
        check::document(&Value::Null, "the environment", overrides)
    }

    /// The endpoint entry of that name.
    pub fn endpoint(&self, name: &str) -> Option<&EndpointEntry> {
        self.endpoints
            .iter()
            .find(|entry| entry.options.name == name)
    }

    /// An agent with these settings; state directory and data directories are for the caller to add.
    pub fn builder(&self) -> AgentBuilder {
        let agent = &self.agent;
        let mut builder = AgentBuilder::default()
            .connect_cas(agent.connect_cas.clone())
            .connect_timeout(agent.connect_timeout)
            .heartbeat(agent.heartbeat_interval, agent.heartbeat_tolerance)
            .metadata(agent.metadata.clone())
            .remote_management(agent.remote_management)
            .plain_channels(agent.plain_channels);
        builder.server.authtoken = agent.authtoken.clone();
        builder.server.connect_url = agent.connect_url.clone();
        builder.proxy_url = agent.proxy_url.clone();
        builder
    }
}

impl EndpointEntry {
    /// One entry in the shape of `endpoints:`, as the local API takes it. No files are read for it.
    ///
    /// # Errors
    /// `PTC_CONFIG_INVALID` with every problem and its path.
    pub fn from_json(entry: &Value) -> Result<Self, Error> {
        check::single_entry(entry)
    }
}

/// Reads a file as text, up to a size.
///
/// # Errors
/// `PTC_CONFIG_UNREADABLE`.
pub(crate) fn read_text(file: &Path, bytes_max: u64) -> Result<String, Error> {
    use std::io::Read as _;
    let unreadable = |cause: &dyn std::fmt::Display| {
        Error::new(
            Code::ConfigUnreadable,
            format!("cannot read {}: {cause}", file.display()),
        )
    };
    let opened = std::fs::File::open(file).map_err(|error| unreadable(&error))?;
    let mut text = String::new();
    let read = opened
        .take(bytes_max + 1)
        .read_to_string(&mut text)
        .map_err(|error| unreadable(&error))?;
    if read as u64 > bytes_max {
        return Err(unreadable(&format_args!(
            "it is larger than {bytes_max} bytes"
        )));
    }
    Ok(text)
}

/// Reads YAML into plain values. The parser's message names line and column, and quotes no line:
/// it may hold a secret.
fn yaml(text: &str, name: &str) -> Result<Value, Error> {
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| Error::new(Code::ConfigInvalid, format!("{name}: {error}")))
}

impl Default for AgentSection {
    fn default() -> Self {
        Self {
            authtoken: None,
            api_key: None,
            connect_url: None,
            connect_cas: ConnectCas::default(),
            connect_timeout: defaults::CONNECT_TIMEOUT,
            heartbeat_interval: defaults::HEARTBEAT_INTERVAL,
            heartbeat_tolerance: defaults::HEARTBEAT_TOLERANCE,
            proxy_url: None,
            console_ui: ConsoleUi::default(),
            log: LogTarget::default(),
            log_level: LogLevel::default(),
            log_format: LogFormat::default(),
            metadata: String::new(),
            remote_management: true,
            plain_channels: false,
            web_addr: defaults::WEB_ADDR.parse().ok().map(LocalAddr::Tcp),
            web_allow_hosts: Vec::new(),
        }
    }
}
