//! The server's configuration as a whole: read from YAML, overridden by the command line, complete.
//!
//! Must never: read the environment (see `environment.rs`) or open a socket.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use portcullis_model::account::TcpAccess;
use portcullis_model::{ByteSize, Code, Error, Plan};
use portcullis_net::socket::check_congestion;
use portcullis_store::settings::{PortRange, PortRanges};
use serde::Serialize;

use super::acme::AcmeSettings;
use super::endpoints::{self, DirectEndpoint};
use super::hosts::{self, HostConfig, IpPool};
use super::places::{self, GeoConfig, IpCategories};
use super::reader::{Findings, Section, document};
use super::tls::{self, TlsConfig};
use crate::defaults;

/// How the API proves itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ApiTls {
    /// With a certificate of the server's own CA.
    OwnCa,
    /// With PEM files.
    Files {
        /// The certificate chain.
        cert: PathBuf,
        /// The private key.
        key: PathBuf,
    },
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Threads of the server; what is absent is chosen by the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct RuntimeConfig {
    /// Threads that serve connections and move bytes.
    pub(crate) data_threads: Option<usize>,
    /// Threads for the API, agents' sessions and their handshakes.
    pub(crate) control_threads: Option<usize>,
}

/// Options of sockets; what is absent is the system's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct NetworkConfig {
    /// The congestion control of clients', agents' and upstreams' connections.
    pub(crate) congestion_control: Option<String>,
    /// How long sent bytes may stay without an answer.
    #[serde(serialize_with = "span")]
    pub(crate) user_timeout: Option<Duration>,
}

/// Limits of the whole server; what is absent is the edge's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Limits {
    pub(crate) connections_max: Option<u32>,
    pub(crate) connections_per_endpoint_max: Option<u32>,
    pub(crate) connections_per_source_max: Option<u32>,
    pub(crate) endpoints_per_session_max: Option<u32>,
    #[serde(serialize_with = "span")]
    pub(crate) idle_timeout: Option<Duration>,
    #[serde(serialize_with = "span")]
    pub(crate) client_idle_timeout: Option<Duration>,
    #[serde(serialize_with = "span")]
    pub(crate) server_idle_timeout: Option<Duration>,
    #[serde(serialize_with = "span")]
    pub(crate) half_close_timeout: Option<Duration>,
    #[serde(serialize_with = "span")]
    pub(crate) connect_timeout: Option<Duration>,
    #[serde(serialize_with = "span")]
    pub(crate) drain_timeout: Option<Duration>,
}

/// Numbered shared hosts: `1.tcp.BASE` to `COUNT.tcp.BASE`, or `N.tcp.REGION.BASE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct BaseHost {
    /// The domain below which they are.
    pub(crate) name: String,
    /// How many there are.
    pub(crate) count: u32,
    /// Whether the region is part of the names.
    pub(crate) region: bool,
}

/// Everything that `portcullis server` is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ServerConfig {
    /// Where state lives; settled by the command when absent.
    pub(crate) data_dir: Option<PathBuf>,
    /// The public hostname; found by the command when absent.
    pub(crate) host: Option<String>,
    pub(crate) region: String,
    pub(crate) node_id: Option<String>,
    #[serde(rename = "listen.agents")]
    pub(crate) agents_listen: SocketAddr,
    #[serde(rename = "api.listen")]
    pub(crate) api_listen: SocketAddr,
    #[serde(rename = "api.tls")]
    pub(crate) api_tls: Option<ApiTls>,
    #[serde(rename = "api.rate_limit_per_minute")]
    pub(crate) api_rate_limit_per_minute: Option<u32>,
    #[serde(rename = "api.body_bytes_max")]
    pub(crate) api_body_bytes_max: Option<ByteSize>,
    /// Whether IP restrictions of type `api` are asked.
    #[serde(rename = "api.ip_restrictions")]
    pub(crate) api_ip_restrictions: bool,
    pub(crate) metrics: bool,
    /// Ports of random addresses on the public host.
    pub(crate) ports: PortRanges,
    /// Ports that may be chosen on the public host.
    pub(crate) choose: PortRanges,
    /// IPs that shared hosts listen on; empty: all.
    #[serde(rename = "listen.public")]
    pub(crate) listen_public: Vec<IpAddr>,
    pub(crate) hosts: Vec<HostConfig>,
    pub(crate) tls: TlsConfig,
    pub(crate) base_host: Option<BaseHost>,
    pub(crate) ip_pools: Vec<IpPool>,
    pub(crate) plans: BTreeMap<String, Plan>,
    pub(crate) limits: Limits,
    pub(crate) runtime: RuntimeConfig,
    pub(crate) network: NetworkConfig,
    /// Multiplexed carriers of each agent; 0: none.
    #[serde(rename = "tunnel.carriers")]
    pub(crate) carriers: u32,
    /// Whether agents may bring carriers and channels without TLS.
    #[serde(rename = "tunnel.channels", serialize_with = "channels_word")]
    pub(crate) plain_channels: bool,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) geo: GeoConfig,
    pub(crate) ip_categories: Vec<IpCategories>,
    /// Name servers for upstreams that the server dials; empty: the system's.
    #[serde(rename = "resolver.servers")]
    pub(crate) name_servers: Vec<SocketAddr>,
    #[serde(serialize_with = "whole_span")]
    pub(crate) address_rest: Duration,
    pub(crate) endpoints: Vec<DirectEndpoint>,
    #[serde(rename = "tls.acme")]
    pub(crate) acme: Option<AcmeSettings>,
    #[serde(rename = "log.format")]
    pub(crate) log_format: Option<LogFormat>,
    #[serde(rename = "log.level")]
    pub(crate) log_level: Option<String>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            data_dir: None,
            host: None,
            region: defaults::REGION.to_owned(),
            node_id: None,
            agents_listen: SocketAddr::new(
                IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                defaults::AGENTS_PORT,
            ),
            api_listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), defaults::API_PORT),
            api_tls: None,
            api_rate_limit_per_minute: None,
            api_body_bytes_max: None,
            api_ip_restrictions: true,
            metrics: true,
            ports: range(defaults::PUBLIC_PORTS.0, defaults::PUBLIC_PORTS.1),
            choose: range(1, u16::MAX),
            listen_public: Vec::new(),
            hosts: Vec::new(),
            tls: TlsConfig::default(),
            base_host: None,
            ip_pools: Vec::new(),
            plans: BTreeMap::new(),
            limits: Limits::default(),
            runtime: RuntimeConfig::default(),
            network: NetworkConfig::default(),
            carriers: portcullis_edge::defaults::CARRIERS,
            plain_channels: false,
            trusted_proxies: Vec::new(),
            geo: GeoConfig::default(),
            ip_categories: Vec::new(),
            name_servers: Vec::new(),
            address_rest: defaults::ADDRESS_REST,
            endpoints: Vec::new(),
            acme: None,
            log_format: None,
            log_level: None,
        }
    }
}

impl ServerConfig {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// `PTC_CONFIG_UNREADABLE`, or `PTC_CONFIG_INVALID` with every problem.
    pub(crate) fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::new(
                Code::ConfigUnreadable,
                format!("{}: {error}", path.display()),
            )
        })?;
        Self::parse(
            &text,
            &path.display().to_string(),
            path.parent().unwrap_or(Path::new(".")),
        )
    }

    /// Reads a configuration document; files that it names are found relative to `base`.
    ///
    /// # Errors
    /// `PTC_CONFIG_INVALID` with every problem.
    pub(crate) fn parse(text: &str, source: &str, base: &Path) -> Result<Self, Error> {
        let findings = Findings::default();
        let config = read(document(text, source, &findings)?, base);
        findings.verdict(source)?;
        Ok(config)
    }

    /// The rules that concern more than one key, checked when the command line has had its say.
    ///
    /// # Errors
    /// `PTC_API_NEEDS_TLS` for an API beyond loopback without TLS.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if !self.api_listen.ip().to_canonical().is_loopback() && self.api_tls.is_none() {
            let message = format!(
                "the API would listen on {} without TLS, and its keys would travel in the clear",
                self.api_listen
            );
            return Err(Error::new(Code::ApiNeedsTls, message));
        }
        Ok(())
    }

    /// Reads the files that the configuration names, so that a wrong one is told before anything starts.
    ///
    /// # Errors
    /// `PTC_CERTIFICATE_INVALID`.
    pub(crate) fn check_files(&self) -> Result<(), Error> {
        if let Some(path) = self.acme.as_ref().and_then(|acme| acme.ca_file.as_ref()) {
            let pem = portcullis_net::tls::read_pem(path)?;
            portcullis_net::tls::certificate::pem_chain(&pem)?;
        }
        if let Some(ApiTls::Files { cert, key }) = &self.api_tls {
            portcullis_net::tls::server_config_from_files(
                cert,
                key,
                portcullis_net::tls::Purpose::Http,
            )?;
        }
        Ok(())
    }

    /// The configuration in force, defaults included, for the log. It holds no secret: keys are named
    /// by their files.
    pub(crate) fn effective(&self, data_dir: &Path, host: &str) -> String {
        let mut shown = self.clone();
        shown.data_dir = Some(data_dir.to_owned());
        shown.host = Some(host.to_owned());
        shown.limits = self.limits.with_defaults();
        shown.runtime = self.runtime.with_defaults();
        let mut value = serde_json::to_value(&shown).unwrap_or_default();
        if let Some(map) = value.as_object_mut() {
            map.retain(|_, value| !value.is_null() && !value.as_array().is_some_and(Vec::is_empty));
        }
        value.to_string()
    }
}

impl Limits {
    /// The same with the edge's defaults where nothing is said.
    fn with_defaults(&self) -> Self {
        let edge = portcullis_edge::Limits::default();
        let known = |span: Option<Duration>| Some(span.unwrap_or(Duration::ZERO));
        Self {
            connections_max: self
                .connections_max
                .or(u32::try_from(edge.connections_max).ok()),
            connections_per_endpoint_max: self
                .connections_per_endpoint_max
                .or(Some(edge.connections_per_endpoint_max)),
            connections_per_source_max: self
                .connections_per_source_max
                .or(Some(edge.connections_per_source_max)),
            endpoints_per_session_max: self
                .endpoints_per_session_max
                .or(Some(portcullis_store::defaults::SESSION_ENDPOINTS_MAX)),
            idle_timeout: self.idle_timeout.or(known(edge.idle_timeout)),
            client_idle_timeout: self.client_idle_timeout.or(known(edge.client_idle_timeout)),
            server_idle_timeout: self.server_idle_timeout.or(known(edge.server_idle_timeout)),
            half_close_timeout: self
                .half_close_timeout
                .or(self.idle_timeout)
                .or(known(edge.idle_timeout)),
            connect_timeout: self.connect_timeout.or(Some(edge.connect_timeout)),
            drain_timeout: self.drain_timeout.or(Some(defaults::DRAIN_TIMEOUT)),
        }
    }
}

/// A time span as the configuration writes it.
fn span<S: serde::Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match span {
        None => serializer.serialize_none(),
        Some(Duration::ZERO) => serializer.serialize_str("0"),
        Some(span) => serializer.collect_str(&humantime::format_duration(*span)),
    }
}

fn whole_span<S: serde::Serializer>(given: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    span(&Some(*given), serializer)
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's signature of a serializer"
)]
fn channels_word<S: serde::Serializer>(plain: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *plain { "plain" } else { "tls" })
}

fn read(mut top: Section, base: &Path) -> ServerConfig {
    let fallback = ServerConfig::default();
    let ports = top
        .parsed("ports")
        .unwrap_or_else(|| fallback.ports.clone());
    let choose = top
        .parsed("choose")
        .unwrap_or_else(|| fallback.choose.clone());
    let (carriers, plain_channels) = tunnel(&mut top);
    let (tls, acme) = tls::tls(&mut top, base);
    let mut config = ServerConfig {
        data_dir: top.file("data_dir"),
        host: hosts::hostname(&mut top, "host"),
        region: top.text("region").unwrap_or(fallback.region.clone()),
        node_id: top.text("node_id"),
        metrics: top.flag("metrics").unwrap_or(true),
        hosts: hosts::hosts(&mut top, &ports, &choose),
        tls,
        ports,
        choose,
        base_host: base_host(&mut top),
        ip_pools: hosts::ip_pools(&mut top),
        plans: plans(&mut top),
        limits: limits(&mut top),
        runtime: runtime(&mut top),
        network: network(&mut top),
        carriers: carriers.unwrap_or(fallback.carriers),
        plain_channels,
        trusted_proxies: trusted_proxies(&mut top),
        geo: places::geo(&mut top, base),
        ip_categories: places::ip_categories(&mut top, base),
        name_servers: name_servers(&mut top),
        address_rest: top
            .duration("address_rest")
            .unwrap_or(fallback.address_rest),
        endpoints: endpoints::endpoints(&mut top, base),
        acme,
        ..fallback
    };
    listen(&mut top, &mut config);
    api(&mut top, &mut config, base);
    log(&mut top, &mut config);
    top.renamed("port_range", "ports");
    top.renamed("domain", "host");
    top.renamed("agents_listen", "listen.agents");
    top.renamed("api_listen", "api.listen");
    top.finish();
    config
}

fn range(first: u16, last: u16) -> PortRanges {
    PortRanges(vec![PortRange { first, last }])
}

/// `base_host` as a name, or as `name`, `count` and `region`.
fn base_host(top: &mut Section) -> Option<BaseHost> {
    if top.is_text("base_host") {
        let name = hosts::hostname(top, "base_host")?;
        return Some(BaseHost {
            name,
            count: 1,
            region: false,
        });
    }
    let given = top.has("base_host");
    let mut section = top.section("base_host");
    let name = hosts::hostname(&mut section, "name");
    let count = section
        .number("count", 1, defaults::BASE_HOSTS_MAX)
        .and_then(|count| u32::try_from(count).ok());
    let region = section.flag("region").unwrap_or(false);
    if given && name.is_none() {
        section.problem_here("`name` is required");
    }
    section.finish();
    Some(BaseHost {
        name: name?,
        count: count.unwrap_or(1),
        region,
    })
}

fn listen(top: &mut Section, config: &mut ServerConfig) {
    let mut listen = top.section("listen");
    if let Some(Listen(addr)) = listen.parsed::<Listen>("agents") {
        config.agents_listen = addr;
    }
    config.listen_public = listen.parsed_list("public");
    listen.finish();
}

fn api(top: &mut Section, config: &mut ServerConfig, base: &Path) {
    let mut api = top.section("api");
    if let Some(Listen(addr)) = api.parsed::<Listen>("listen") {
        config.api_listen = addr;
    }
    config.api_rate_limit_per_minute = api.count("rate_limit_per_minute");
    config.api_body_bytes_max = api.size("body_bytes_max");
    config.api_ip_restrictions = api.flag("ip_restrictions").unwrap_or(true);
    config.api_tls = match api.take("tls") {
        None => None,
        Some(serde_json::Value::String(word)) if word == "own_ca" => Some(ApiTls::OwnCa),
        Some(serde_json::Value::Object(map)) => api_files(&map, base)
            .map_err(|cause| api.problem("tls", cause))
            .ok(),
        Some(_) => {
            api.problem(
                "tls",
                "expected `own_ca`, or `cert` and `key` with the paths of PEM files",
            );
            None
        }
    };
    api.finish();
}

fn api_files(
    map: &serde_json::Map<String, serde_json::Value>,
    base: &Path,
) -> Result<ApiTls, String> {
    if let Some(key) = map
        .keys()
        .find(|key| !["cert", "key"].contains(&key.as_str()))
    {
        return Err(format!("unknown key `{key}`; known here: cert, key"));
    }
    let file = |key: &str| match map.get(key).and_then(serde_json::Value::as_str) {
        Some(path) => Ok(base.join(path)),
        None => Err(format!("`{key}` with the path of a PEM file is required")),
    };
    Ok(ApiTls::Files {
        cert: file("cert")?,
        key: file("key")?,
    })
}

fn runtime(top: &mut Section) -> RuntimeConfig {
    let mut section = top.section("runtime");
    let mut threads = |key| {
        section
            .number(key, 1, defaults::THREADS_MAX)
            .and_then(|count| usize::try_from(count).ok())
    };
    let config = RuntimeConfig {
        data_threads: threads("data_threads"),
        control_threads: threads("control_threads"),
    };
    section.finish();
    config
}

/// How many carriers, and whether links without TLS are taken.
fn tunnel(top: &mut Section) -> (Option<u32>, bool) {
    let mut section = top.section("tunnel");
    let most = u64::from(portcullis_edge::defaults::CARRIERS_MAX);
    let carriers = section.number("carriers", 0, most);
    let plain = match section.text("channels").as_deref() {
        None | Some("tls") => false,
        Some("plain") => true,
        Some(other) => {
            section.problem("channels", format!("`{other}` is not one of tls, plain"));
            false
        }
    };
    section.finish();
    (carriers.and_then(|count| u32::try_from(count).ok()), plain)
}

fn network(top: &mut Section) -> NetworkConfig {
    let mut section = top.section("network");
    let congestion_control = section.text("congestion_control");
    if let Some(name) = &congestion_control
        && let Err(error) = check_congestion(name)
    {
        section.problem("congestion_control", error.to_string());
    }
    let user_timeout = section
        .duration("user_timeout")
        .filter(|span| !span.is_zero());
    section.finish();
    NetworkConfig {
        congestion_control,
        user_timeout,
    }
}

fn log(top: &mut Section, config: &mut ServerConfig) {
    let mut log = top.section("log");
    config.log_level = log.text("level");
    if let Some(Err(cause)) = config
        .log_level
        .as_deref()
        .map(crate::logging::check_filter)
    {
        log.problem("level", cause);
    }
    config.log_format = match log.text("format").as_deref() {
        None => None,
        Some("text") => Some(LogFormat::Text),
        Some("json") => Some(LogFormat::Json),
        Some(other) => {
            log.problem("format", format!("`{other}` is not text or json"));
            None
        }
    };
    log.finish();
}

fn limits(top: &mut Section) -> Limits {
    let mut section = top.section("limits");
    let limits = Limits {
        connections_max: section.count("connections_max"),
        connections_per_endpoint_max: section.count("connections_per_endpoint_max"),
        connections_per_source_max: section.count("connections_per_source_max"),
        endpoints_per_session_max: section.count("endpoints_per_session_max"),
        idle_timeout: section.duration("idle_timeout"),
        client_idle_timeout: section.duration("client_idle_timeout"),
        server_idle_timeout: section.duration("server_idle_timeout"),
        half_close_timeout: section.duration("half_close_timeout"),
        connect_timeout: section.duration("connect_timeout"),
        drain_timeout: section.duration("drain_timeout"),
    };
    if limits.connect_timeout == Some(Duration::ZERO) {
        section.problem(
            "connect_timeout",
            "0 would refuse every connection; give a time span such as 10s",
        );
    }
    section.finish();
    limits
}

fn plans(top: &mut Section) -> BTreeMap<String, Plan> {
    let mut plans = BTreeMap::new();
    for (name, mut section) in top.named("plans") {
        let mut quota = |key| {
            section
                .number(key, 0, u64::from(u32::MAX))
                .and_then(|number| u32::try_from(number).ok())
        };
        let plan = Plan {
            endpoints_max: quota("endpoints_max"),
            addresses_max: quota("addresses_max"),
            sessions_max: quota("sessions_max"),
            connections_max: quota("connections_max"),
            tcp: tcp_access(&mut section),
            verify_hint: section.text("verify_hint"),
        };
        section.finish();
        plans.insert(name, plan);
    }
    plans
}

fn tcp_access(section: &mut Section) -> TcpAccess {
    match section.text("tcp").as_deref() {
        None | Some("allowed") => TcpAccess::Allowed,
        Some("verified") => TcpAccess::Verified,
        Some("denied") => TcpAccess::Denied,
        Some(other) => {
            section.problem(
                "tcp",
                format!("`{other}` is not allowed, verified or denied"),
            );
            TcpAccess::Denied
        }
    }
}

/// A network, or a single address as its own network.
struct Net(IpNet);

impl std::str::FromStr for Net {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let single = text.parse::<IpAddr>().ok().map(IpNet::from);
        single
            .or_else(|| text.parse().ok())
            .map(Self)
            .ok_or("not a network; write one as 10.0.0.0/8")
    }
}

fn trusted_proxies(top: &mut Section) -> Vec<IpNet> {
    top.parsed_list::<Net>("trusted_proxies")
        .into_iter()
        .map(|Net(net)| net)
        .collect()
}

/// A name server, `IP` or `IP:PORT`.
struct NameServer(SocketAddr);

impl std::str::FromStr for NameServer {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = text
            .parse::<IpAddr>()
            .ok()
            .map(|ip| SocketAddr::new(ip, 53));
        plain
            .or_else(|| text.parse().ok())
            .map(Self)
            .ok_or("not a name server; write IP or IP:PORT")
    }
}

fn name_servers(top: &mut Section) -> Vec<SocketAddr> {
    let mut resolver = top.section("resolver");
    let servers = resolver.parsed_list::<NameServer>("servers");
    resolver.finish();
    servers.into_iter().map(|NameServer(addr)| addr).collect()
}

/// An address to listen on: `IP:PORT`, or `:PORT` or `PORT` for all addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listen(pub(crate) SocketAddr);

impl std::str::FromStr for Listen {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str =
            "not an address to listen on; write IP:PORT, such as 127.0.0.1:7480 or [::]:7443";
        let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return Ok(Self(addr));
        }
        if let Some(rest) = text.strip_prefix("localhost:") {
            return rest
                .parse()
                .map(|port| Self(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)))
                .map_err(|_| FORM);
        }
        let port = text
            .strip_prefix(':')
            .or_else(|| text.strip_prefix("*:"))
            .unwrap_or(text);
        port.parse()
            .map(|port| Self(SocketAddr::new(any, port)))
            .map_err(|_| FORM)
    }
}

#[cfg(test)]
mod tests;
