//! What the edge is told at start.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use portcullis_net::tls::acme::Acme;

use crate::defaults;
use crate::network::Network;
use crate::places::PlaceFiles;

/// Settings of an edge node.
#[derive(Debug, Clone)]
pub struct EdgeConfig {
    /// Where agents connect; port 0 draws one.
    pub agents: SocketAddr,
    /// TLS of the agent port, ALPN `portcullis/1`.
    pub tls: Arc<rustls::ServerConfig>,
    /// Certificates for clients whose TLS is terminated here, where the account has none for the name that they ask
    /// for; `None`: such clients are refused.
    pub certificates: Option<Arc<dyn rustls::server::ResolvesServerCert>>,
    /// The ACME authority whose TLS-ALPN-01 challenges are answered at the port of TLS names.
    pub acme: Option<Acme>,
    /// This node's name, for agents and logs.
    pub node: String,
    /// This node's region.
    pub region: String,
    /// The default public host name, told to agents.
    pub public_host: String,
    /// The release, told to agents.
    pub server_version: String,
    /// Networks whose connections must begin with a PROXY protocol header, and are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Name servers for the upstreams that this node dials itself; empty: the system's.
    pub name_servers: Vec<SocketAddr>,
    /// Multiplexed carriers that each agent keeps; 0: every connection has a channel of its own from the
    /// beginning.
    pub carriers: u32,
    /// Whether agents may bring carriers and channels without TLS. Whoever is on the way can then read and
    /// change what the clients of such an agent say.
    pub plain_links: bool,
    /// Files that say where addresses are, and whose.
    pub places: PlaceFiles,
    /// Options of sockets.
    pub network: Network,
    /// Limits where neither endpoint nor account says otherwise.
    pub limits: Limits,
}

impl EdgeConfig {
    /// Settings with every default.
    pub fn new(agents: SocketAddr, tls: Arc<rustls::ServerConfig>) -> Self {
        Self {
            agents,
            tls,
            certificates: None,
            acme: None,
            node: "local".to_owned(),
            region: "local".to_owned(),
            public_host: "localhost".to_owned(),
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            trusted_proxies: Vec::new(),
            name_servers: Vec::new(),
            carriers: portcullis_proto::defaults::CARRIERS,
            plain_links: false,
            places: PlaceFiles::default(),
            network: Network::default(),
            limits: Limits::default(),
        }
    }
}

/// The server's limits. A duration of `None` is never.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Client connections of the node at once.
    pub connections_max: usize,
    /// Client connections of one endpoint at once.
    pub connections_per_endpoint_max: u32,
    /// Client connections of one source address to one endpoint at once.
    pub connections_per_source_max: u32,
    /// Accept to established.
    pub connect_timeout: Duration,
    /// Over how long the connections of an endpoint with `on_change: drain` are spread when it drains.
    pub drain_timeout: Duration,
    /// Silence of both directions.
    pub idle_timeout: Option<Duration>,
    /// Silence of the client alone.
    pub client_idle_timeout: Option<Duration>,
    /// Silence of the upstream alone.
    pub server_idle_timeout: Option<Duration>,
    /// Silence after one direction has ended; `None`: the idle timeout.
    pub half_close_timeout: Option<Duration>,
    /// Connections on the agent port that have not said who they are.
    pub agent_pending_max: usize,
    /// The same of one source address.
    pub agent_pending_per_source_max: u32,
    /// TLS handshake and first frame on the agent port.
    pub agent_hello_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: defaults::CONNECTIONS_MAX,
            connections_per_endpoint_max: defaults::CONNECTIONS_PER_ENDPOINT_MAX,
            connections_per_source_max: defaults::CONNECTIONS_PER_SOURCE_MAX,
            connect_timeout: defaults::CONNECT_TIMEOUT,
            drain_timeout: defaults::DRAIN_TIMEOUT,
            idle_timeout: Some(defaults::IDLE_TIMEOUT),
            client_idle_timeout: None,
            server_idle_timeout: None,
            half_close_timeout: None,
            agent_pending_max: defaults::AGENT_PENDING_MAX,
            agent_pending_per_source_max: defaults::AGENT_PENDING_PER_SOURCE_MAX,
            agent_hello_timeout: defaults::AGENT_HELLO_TIMEOUT,
        }
    }
}
