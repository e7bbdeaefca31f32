//! An agent's settings, checked and ready for use by its tasks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use portcullis_model::Error;
use portcullis_net::outbound::ProxyUrl;
use portcullis_net::resolve::Resolver;

use crate::builder::AgentBuilder;
use crate::server::Server;

/// What the tasks of an agent go by.
pub(crate) struct Settings {
    pub(crate) server: Server,
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) resolver: Resolver,
    pub(crate) proxy: Option<ProxyUrl>,
    pub(crate) connect_timeout: Duration,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) heartbeat_tolerance: Duration,
    pub(crate) metadata: String,
    pub(crate) remote_management: bool,
    pub(crate) plain_channels: bool,
    pub(crate) agent_version: String,
    pub(crate) hostname: String,
    pub(crate) backoff_first: Duration,
    pub(crate) backoff_max: Duration,
}

impl Settings {
    /// From a builder.
    ///
    /// # Errors
    /// What no attempt could mend: no token, CAs that cannot be read, a proxy URL that is none.
    pub(crate) fn of(builder: &AgentBuilder) -> Result<Self, Error> {
        let server = builder.server.resolve()?;
        let tls = portcullis_net::tls::client_config(&server.trust)?;
        let proxy = builder
            .proxy_url
            .as_ref()
            .map(|url| url.expose().parse())
            .transpose()?;
        let hostname = nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok());
        Ok(Self {
            server,
            tls,
            resolver: Resolver::system()?,
            proxy,
            connect_timeout: builder.connect_timeout,
            heartbeat_interval: builder.heartbeat_interval,
            heartbeat_tolerance: builder.heartbeat_tolerance,
            metadata: builder.metadata.clone(),
            remote_management: builder.remote_management,
            plain_channels: builder.plain_channels,
            agent_version: builder.agent_version.clone(),
            hostname: hostname.unwrap_or_default(),
            backoff_first: builder.backoff_first,
            backoff_max: builder.backoff_max,
        })
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("server", &self.server.address)
            .finish_non_exhaustive()
    }
}
