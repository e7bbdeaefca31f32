//! What a caller says about an endpoint: its URL, binding, policy and limits.
//!
//! Owns the local checks that need no server. Must never: decide what only the server knows, such as
//! whether an address is free.

use portcullis_model::endpoint::ProxyVersion;
use portcullis_model::{
    Binding, Code, EndpointLimits, Error, HealthCheck, OnChange, PoolStrategy, PoolTerms,
};

use crate::defaults;
use crate::termination::TlsTermination;

/// An endpoint as it is asked for. Everything is optional; the default is a random public address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointOptions {
    /// Names the endpoint within the agent; a random address is given again to the same name.
    /// Empty: `endpoint`, `endpoint-2`, … in the order of creation.
    pub name: String,
    /// `tcp://host:port`, `tcp://host`, `tcp://` or empty for a random public address; `tls://name` or `tls://` for
    /// clients that ask for a name in their TLS.
    pub url: String,
    /// Inferred from the URL when absent.
    pub binding: Option<Binding>,
    /// Free text, at most 255 bytes.
    pub description: String,
    /// Free text, at most 4,096 bytes.
    pub metadata: String,
    /// Whether others may share the URL.
    pub pooling_enabled: bool,
    /// A Traffic Policy document, YAML or JSON; empty: none.
    pub traffic_policy: String,
    /// PROXY protocol header in front of the bytes to the upstream.
    pub proxy_protocol: Option<ProxyVersion>,
    /// Limits that differ from the server's.
    pub limits: EndpointLimits,
    /// Do not keep a random address for this name after the endpoint closes.
    pub ephemeral: bool,
    /// Only clients from these networks.
    pub cidr_allow: Vec<String>,
    /// No clients from these networks.
    pub cidr_deny: Vec<String>,
    /// TLS of clients that the agent terminates; none: bytes are passed on as they come.
    pub tls_termination: Option<TlsTermination>,
    /// What becomes of open connections when the policy changes.
    pub on_change: OnChange,
    /// How it stands in its pool.
    pub pool: PoolTerms,
    /// How its upstream is checked; `None`: not at all.
    pub health: Option<HealthCheck>,
}

impl EndpointOptions {
    /// A random public address.
    pub fn new() -> Self {
        Self::default()
    }

    /// An endpoint at `url`.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ..Self::default()
        }
    }

    /// Sets the name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the binding.
    #[must_use]
    pub fn binding(mut self, binding: Binding) -> Self {
        self.binding = Some(binding);
        self
    }

    /// Sets the description.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// Sets the metadata.
    #[must_use]
    pub fn metadata(mut self, metadata: impl Into<String>) -> Self {
        self.metadata = metadata.into();
        self
    }

    /// Lets others share the URL.
    #[must_use]
    pub fn pooling(mut self, enabled: bool) -> Self {
        self.pooling_enabled = enabled;
        self
    }

    /// Sets the Traffic Policy document.
    #[must_use]
    pub fn traffic_policy(mut self, document: impl Into<String>) -> Self {
        self.traffic_policy = document.into();
        self
    }

    /// Writes a PROXY protocol header to the upstream.
    #[must_use]
    pub fn proxy_protocol(mut self, version: ProxyVersion) -> Self {
        self.proxy_protocol = Some(version);
        self
    }

    /// Sets the limits.
    #[must_use]
    pub fn limits(mut self, limits: EndpointLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets what becomes of open connections when the policy changes.
    #[must_use]
    pub fn on_change(mut self, on_change: OnChange) -> Self {
        self.on_change = on_change;
        self
    }

    /// Sets how members of its pool are chosen; the oldest member's word counts.
    #[must_use]
    pub fn pool_strategy(mut self, strategy: PoolStrategy) -> Self {
        self.pool.strategy = strategy;
        self
    }

    /// Sets its share beside the other members of its pool.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.pool.weight = weight;
        self
    }

    /// Checks its upstream; what fails its checks gets no connections while another member is well.
    #[must_use]
    pub fn health(mut self, check: HealthCheck) -> Self {
        self.health = Some(check);
        self
    }

    /// Allows clients from one more network.
    #[must_use]
    pub fn allow(mut self, cidr: impl Into<String>) -> Self {
        self.cidr_allow.push(cidr.into());
        self
    }

    /// Refuses clients from one more network.
    #[must_use]
    pub fn deny(mut self, cidr: impl Into<String>) -> Self {
        self.cidr_deny.push(cidr.into());
        self
    }

    /// Terminates clients' TLS here, so that the server sees no plain byte.
    #[must_use]
    pub fn tls_termination(mut self, tls: TlsTermination) -> Self {
        self.tls_termination = Some(tls);
        self
    }

    /// Checks what can be checked without the server.
    ///
    /// # Errors
    /// The code of the first rule that is broken: `PTC_URL_…`, `PTC_POLICY_…`, `PTC_CONFIG_INVALID`,
    /// `PTC_CERTIFICATE_INVALID`.
    pub fn check(&self) -> Result<(), Error> {
        let too_long = [
            ("name", self.name.len(), defaults::NAME_BYTES_MAX),
            (
                "description",
                self.description.len(),
                defaults::DESCRIPTION_BYTES_MAX,
            ),
            (
                "metadata",
                self.metadata.len(),
                defaults::METADATA_BYTES_MAX,
            ),
        ];
        if let Some((field, len, max)) = too_long.into_iter().find(|(_, len, max)| len > max) {
            return Err(Error::new(
                Code::ConfigInvalid,
                format!("{field} has {len} bytes; at most {max} are possible"),
            ));
        }
        portcullis_model::url::parse(&self.url, self.binding)?;
        if let Some(tls) = &self.tls_termination {
            tls.check()?;
        }
        self.pool.check()?;
        if let Some(check) = &self.health {
            check.check()?;
        }
        self.policy_document().map(drop)
    }

    /// Takes over what an update gives; its upstream is not among the options.
    pub(crate) fn apply(&mut self, update: &EndpointUpdate) {
        let texts = [
            (&mut self.description, &update.description),
            (&mut self.metadata, &update.metadata),
            (&mut self.traffic_policy, &update.traffic_policy),
        ];
        for (field, new) in texts {
            if let Some(new) = new {
                field.clone_from(new);
            }
        }
        self.pooling_enabled = update.pooling_enabled.unwrap_or(self.pooling_enabled);
        self.on_change = update.on_change.unwrap_or(self.on_change);
        self.pool = update.pool.unwrap_or(self.pool);
    }

    /// The policy document to send: the one given, with the networks in front of its rules.
    ///
    /// # Errors
    /// `PTC_POLICY_…` when the document or a network cannot be read.
    pub fn policy_document(&self) -> Result<String, Error> {
        crate::policy_text::with_cidrs(&self.traffic_policy, &self.cidr_allow, &self.cidr_deny)
    }

    /// What is worth knowing of the Traffic Policy, as `PATH: MESSAGE`: a rule that lets nobody in or waits for a
    /// request, a form that is out of use. Starting the endpoint logs them.
    pub fn policy_notices(&self) -> Vec<String> {
        crate::policy_text::notices(&self.traffic_policy)
    }
}

/// What may change while an endpoint is online; absent fields stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointUpdate {
    /// New description.
    pub description: Option<String>,
    /// New metadata.
    pub metadata: Option<String>,
    /// New Traffic Policy document; empty removes it.
    pub traffic_policy: Option<String>,
    /// Whether others may share the URL.
    pub pooling_enabled: Option<bool>,
    /// New upstream, for forwarders; connections in progress stay with the old one.
    pub upstream: Option<String>,
    /// What becomes of open connections when the policy changes.
    pub on_change: Option<OnChange>,
    /// How it stands in its pool.
    pub pool: Option<PoolTerms>,
}
