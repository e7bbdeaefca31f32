//! How an agent is put together: where it connects, as whom, and how patiently.
//!
//! Must never: read the environment; whoever may passes values in.

use std::path::PathBuf;
use std::time::Duration;

use portcullis_model::{Code, Error, Secret};

use crate::Agent;
use crate::defaults;
use crate::dialler::Dialler;
use crate::server::ServerSources;
use crate::settings::Settings;

/// Settings of an agent. Ends with [`connect`](Self::connect) or [`start`](Self::start).
#[derive(Debug, Clone)]
pub struct AgentBuilder {
    pub(crate) server: ServerSources,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) connect_timeout: Duration,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) heartbeat_tolerance: Duration,
    pub(crate) proxy_url: Option<Secret>,
    pub(crate) metadata: String,
    pub(crate) remote_management: bool,
    pub(crate) plain_channels: bool,
    pub(crate) agent_version: String,
    pub(crate) backoff_first: Duration,
    pub(crate) backoff_max: Duration,
}

impl Default for AgentBuilder {
    fn default() -> Self {
        Self {
            server: ServerSources::default(),
            state_dir: None,
            connect_timeout: defaults::CONNECT_TIMEOUT,
            heartbeat_interval: defaults::HEARTBEAT_INTERVAL,
            heartbeat_tolerance: defaults::HEARTBEAT_TOLERANCE,
            proxy_url: None,
            metadata: String::new(),
            remote_management: true,
            plain_channels: false,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            backoff_first: defaults::BACKOFF_FIRST,
            backoff_max: defaults::BACKOFF_MAX,
        }
    }
}

impl AgentBuilder {
    /// The credential: a join string (`pc1.…`), which names the server as well, or a bare authtoken.
    #[must_use]
    pub fn authtoken(mut self, token: impl Into<Secret>) -> Self {
        self.server.authtoken = Some(token.into());
        self
    }

    /// Where to connect, `host` or `host:port`. Wins over the join string's.
    #[must_use]
    pub fn server(mut self, hostport: impl Into<String>) -> Self {
        self.server.connect_url = Some(hostport.into());
        self
    }

    /// How the server's certificate is checked. A join string's pin wins over the default.
    #[must_use]
    pub fn connect_cas(mut self, cas: crate::ConnectCas) -> Self {
        self.server.connect_cas = cas;
        self
    }

    /// Data directories of a server on this machine, in order: their `join` file serves where no
    /// token was given, their `ca.pem` where nothing else says whom to trust.
    #[must_use]
    pub fn data_dirs(mut self, dirs: Vec<PathBuf>) -> Self {
        self.server.data_dirs = dirs;
        self
    }

    /// Where the agent keeps its identity, and with it its random addresses, across restarts.
    /// Without one the identity lives as long as the value.
    #[must_use]
    pub fn state_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(dir.into());
        self
    }

    /// The whole way from the dial to the server's welcome. Default: 10 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Time between heartbeats, and how much longer an answer may take. Default: 10 s and 15 s.
    #[must_use]
    pub fn heartbeat(mut self, interval: Duration, tolerance: Duration) -> Self {
        self.heartbeat_interval = interval;
        self.heartbeat_tolerance = tolerance;
        self
    }

    /// A proxy on the way out: `http://[user:password@]host:port` or `socks5://…`.
    #[must_use]
    pub fn proxy_url(mut self, url: impl Into<Secret>) -> Self {
        self.proxy_url = Some(url.into());
        self
    }

    /// Free text on the session, at most 4,096 bytes.
    #[must_use]
    pub fn metadata(mut self, metadata: impl Into<String>) -> Self {
        self.metadata = metadata.into();
        self
    }

    /// Whether the API may stop and restart this agent. Default: yes.
    #[must_use]
    pub fn remote_management(mut self, allowed: bool) -> Self {
        self.remote_management = allowed;
        self
    }

    /// Whether the bytes of client connections go to the server without TLS, if the server takes that:
    /// whoever is on the way can read and change them. Default: no. What is said about the session stays
    /// in TLS.
    #[must_use]
    pub fn plain_channels(mut self, plain: bool) -> Self {
        self.plain_channels = plain;
        self
    }

    /// The release that the session shows; programs put their own here.
    #[must_use]
    pub fn agent_version(mut self, version: impl Into<String>) -> Self {
        self.agent_version = version.into();
        self
    }

    /// First and longest wait between attempts. Default: 500 ms and 30 s, with full jitter.
    #[must_use]
    pub fn backoff(mut self, first: Duration, max: Duration) -> Self {
        self.backoff_first = first;
        self.backoff_max = max;
        self
    }

    /// Connects, and returns once the session is up. After that the agent reconnects by itself.
    ///
    /// # Errors
    /// Why the first attempt failed: `PTC_AUTHTOKEN_…`, `PTC_SERVER_…`, `PTC_CONFIG_INVALID`, ….
    pub async fn connect(self) -> Result<Agent, Error> {
        let agent = self.start()?;
        match agent.first_attempt().await {
            Ok(()) => Ok(agent),
            Err(error) => {
                agent.shutdown(Duration::ZERO).await;
                Err(error)
            }
        }
    }

    /// Starts connecting in the background and returns at once; [`Agent::status`] tells the rest.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// What no attempt could mend: a missing or malformed token, settings out of range, a state
    /// directory that cannot be used.
    pub fn start(self) -> Result<Agent, Error> {
        self.check()?;
        Agent::start(self)
    }

    /// A dialler with these settings, for internal endpoints of the account; no agent is started.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn dialler(self) -> Result<Dialler, Error> {
        self.check()?;
        Ok(Dialler::new(Settings::of(&self)?))
    }

    fn check(&self) -> Result<(), Error> {
        if self.metadata.len() > defaults::METADATA_BYTES_MAX {
            return Err(Error::of(Code::SessionMetadataTooLong));
        }
        let range = defaults::HEARTBEAT_RANGE;
        if !range.contains(&self.heartbeat_interval) || !range.contains(&self.heartbeat_tolerance) {
            return Err(Error::of(Code::HeartbeatInvalid));
        }
        Ok(())
    }
}
