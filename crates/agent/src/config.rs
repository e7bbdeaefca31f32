//! The agent's configuration, in the shape of ngrok.yml version 3: read raw, merged, then checked,
//! with every error at once and its path.
//!
//! Owns the file format. Must never: read the environment; overrides are passed in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_model::{Error, Secret};

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
        let _ = (files, overrides);
        Err(Error::internal("not built yet"))
    }

    /// Reads a document that is not in a file; relative paths are relative to `dir`.
    ///
    /// # Errors
    /// `PTC_CONFIG_INVALID` with every problem and its path.
    pub fn parse(text: &str, dir: &Path, overrides: &Overrides) -> Result<Self, Error> {
        let _ = (text, dir, overrides);
        Err(Error::internal("not built yet"))
    }

    /// The endpoint entry of that name.
    pub fn endpoint(&self, name: &str) -> Option<&EndpointEntry> {
        self.endpoints.iter().find(|entry| entry.options.name == name)
    }

    /// An agent with these settings; state directory and data directories are for the caller to add.
    pub fn builder(&self) -> AgentBuilder {
        AgentBuilder::default()
    }
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
            web_addr: None,
            web_allow_hosts: Vec::new(),
        }
    }
}
