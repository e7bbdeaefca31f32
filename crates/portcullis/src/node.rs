//! A running server: data directory, store, registry, edge and API, put together, with what it left
//! for commands on the same machine.
//!
//! Must never: know a command line; `cmd/server.rs` and `cmd/up.rs` do.

pub(crate) mod announce;
mod certificates;
pub(crate) mod data_dir;
pub(crate) mod public_host;
mod seals;
pub(crate) mod settings;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portcullis_control::{Control, ControlHandle, Tls};
use portcullis_edge::{Edge, EdgeConfig, EdgeHandle};
use portcullis_model::join::{JoinString, ServerTrust};
use portcullis_model::{AccountId, Endpoint, Error, Secret};
use portcullis_net::seal::MasterKey;
use portcullis_net::tls::{self, CertAuthority, Purpose};
use portcullis_store::{Bootstrap, Clock, NewApiKey, NewCredential, Registry, SqliteStore};
use portcullis_telemetry::{DrainOutcome, EndpointState, NodeCommands, Records};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::config::{ApiTls, ServerConfig};
use crate::node::certificates::Certificates;
use crate::node::data_dir::DataDir;
use crate::{defaults, environment};

/// The keys that secrets and the CA's key are sealed with.
const MASTER_KEY_FILE: &str = "master.key";
/// The CA of `terminate-tls` is kept there, apart from the one that agents pin.
const ENDPOINTS_FOLDER: &str = "endpoints";

/// Adds a master key to a data directory that no server uses just now; how many there are then, and where.
pub(crate) fn add_master_key(config: &ServerConfig) -> Result<(usize, PathBuf), Error> {
    let dir = config
        .data_dir
        .clone()
        .unwrap_or_else(environment::default_data_dir);
    let data = DataDir::open(&dir)?;
    let path = data.path().join(MASTER_KEY_FILE);
    Ok((MasterKey::add(&path)?, path))
}

/// One of the server's own endpoints.
#[derive(Debug)]
pub(crate) struct Direct {
    /// As it was bound.
    pub(crate) endpoint: Endpoint,
    /// Whether the start fails without it.
    required: bool,
}

/// A server that is up.
pub(crate) struct Server {
    /// The public hostname.
    pub(crate) host: String,
    /// Where agents connect.
    pub(crate) agents: SocketAddr,
    /// The API's base address for this machine.
    pub(crate) api_url: String,
    /// The first admin key, as long as its file is there.
    pub(crate) admin_key: Secret,
    /// What an agent on this machine connects with.
    pub(crate) join_local: JoinString,
    /// What an agent on another machine connects with.
    pub(crate) join_remote: JoinString,
    /// The server's own endpoints, as they were bound.
    pub(crate) direct: Vec<Direct>,
    data: DataDir,
    registry: Registry,
    certificates: Certificates,
    edge: Arc<EdgeHandle>,
    control: ControlHandle,
}

impl Server {
    /// Starts everything: what moves bytes on the runtime `data`, the rest on the caller's.
    ///
    /// # Errors
    /// What the first part that cannot start says; parts that had started are gone then.
    pub(crate) async fn start(config: &ServerConfig, data: &Handle) -> Result<Self, Error> {
        config.check()?;
        config.check_files()?;
        raise_file_limit();
        let ground = Ground::open(config).await?;
        let records = Records::new();
        records.watch_runtime("data", data.clone());
        records.watch_runtime("control", Handle::current());
        let edge = Arc::new(ground.edge(config, records.clone(), data).await?);
        let agents = edge.agent_addr();

        let admin_key = ground.admin_key().await?;
        let token = ground.local_token().await?;
        let trust = ServerTrust::Pin(ground.authority.pin());
        let join = |server: String| JoinString {
            server,
            trust,
            authtoken: token.clone(),
        };
        let join_local = join(reachable_here(agents).to_string());
        let join_remote = join(host_port(&ground.host, agents.port()));
        ground
            .data
            .write(environment::JOIN_FILE, join_local.reveal().expose())?;
        let direct = bind_direct(&ground.registry, config, &ground.bootstrap.account.id).await?;

        // The API comes last: when it says that the server is ready, everything else is.
        let control = ground.control(config, edge.clone(), records).await?;
        let api_url = api_url(config, control.addr, &ground.host);
        ground.data.write(environment::API_URL_FILE, &api_url)?;
        let Ground {
            data,
            registry,
            host,
            certificates,
            ..
        } = ground;
        Ok(Self {
            host,
            agents,
            api_url,
            admin_key,
            join_local,
            join_remote,
            direct,
            data,
            registry,
            certificates,
            edge,
            control,
        })
    }

    /// Where its state is.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.data.path().to_owned()
    }

    /// Waits until every endpoint of the server's own is reachable, or cannot be. One that cannot is
    /// logged, and tried again.
    ///
    /// # Errors
    /// Why one that is required cannot be reached.
    pub(crate) async fn settled(&self, patience: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + patience;
        for Direct { endpoint, required } in &self.direct {
            let left = deadline.saturating_duration_since(Instant::now());
            if let EndpointState::Failed(error) = self.edge.settled(&endpoint.id, left).await {
                unavailable(&endpoint.name, error, *required)?;
            }
        }
        Ok(())
    }

    /// Stops accepting, waits for connections to end, cuts the rest.
    pub(crate) async fn drain(&self, timeout: Duration) -> DrainOutcome {
        self.control.begin_drain();
        self.edge.drain(timeout).await
    }

    /// Ends the API and gives up what this node holds in the store.
    pub(crate) async fn close(self) {
        self.control.shutdown(defaults::API_SHUTDOWN_GRACE).await;
        self.certificates.stop().await;
        if let Err(error) = self.registry.close().await {
            tracing::warn!(code = %error.code, "the store was not told of the end: {}", error.message);
        }
    }
}

/// Brings the server's own endpoints online. One that others stand in the way of is logged: their
/// clients must not suffer for it.
async fn bind_direct(
    registry: &Registry,
    config: &ServerConfig,
    account: &AccountId,
) -> Result<Vec<Direct>, Error> {
    let specs = config.endpoints.iter().map(settings::direct);
    let specs = specs.collect::<Result<Vec<_>, _>>()?;
    let outcomes = registry.bind_directs(account, specs).await;
    let mut bound = Vec::with_capacity(outcomes.len());
    for (endpoint, outcome) in config.endpoints.iter().zip(outcomes) {
        match outcome {
            Ok(bound_now) => bound.push(Direct {
                endpoint: bound_now,
                required: endpoint.required,
            }),
            Err(error) => unavailable(&endpoint.name, error, endpoint.required)?,
        }
    }
    Ok(bound)
}

/// An endpoint of the server's own that cannot be had: the end of the start if it is required, else a
/// line in the log.
fn unavailable(name: &str, error: Error, required: bool) -> Result<(), Error> {
    if required {
        return Err(Error {
            message: format!("{name}: {}", error.message),
            ..error
        });
    }
    tracing::error!(endpoint = name, code = %error.code, "not available: {}", error.message);
    Ok(())
}

/// What the parts stand on: directory, store, names and keys.
struct Ground {
    data: DataDir,
    host: String,
    node: String,
    registry: Registry,
    bootstrap: Bootstrap,
    authority: CertAuthority,
    certificates: Certificates,
}

impl Ground {
    async fn open(config: &ServerConfig) -> Result<Self, Error> {
        let dir = config
            .data_dir
            .clone()
            .unwrap_or_else(environment::default_data_dir);
        let data = DataDir::open(&dir)?;
        let host = config.host.clone().unwrap_or_else(public_host::find);
        tracing::info!(config = %config.effective(data.path(), &host), "configuration in force");
        let node = node_id(config, &data)?;
        let master = Arc::new(MasterKey::load_or_create(
            &data.path().join(MASTER_KEY_FILE),
        )?);
        let mut settings = settings::registry(config, &node, &host)?;
        settings.sealer = Some(Arc::new(seals::Seals(Arc::clone(&master))));
        let store = SqliteStore::open(data.path().join("store.sqlite"))?;
        let registry = Registry::open(Arc::new(store), settings, Clock::system()).await?;
        let bootstrap = registry.bootstrap().await?;
        seals::reseal(&registry).await?;
        let authority = CertAuthority::load_or_create(data.path(), &master)?;
        let acme = config.acme.as_ref();
        // Never the one that agents pin: endpoints are the accounts', and would pass for the agent port.
        let endpoints = CertAuthority::load_or_create(&data.folder(ENDPOINTS_FOLDER)?, &master)?;
        let certificates = Certificates::start(acme, data.path(), &master, &endpoints, &host)?;
        Ok(Self {
            data,
            host,
            node,
            registry,
            bootstrap,
            authority,
            certificates,
        })
    }

    async fn edge(
        &self,
        config: &ServerConfig,
        records: Records,
        data: &Handle,
    ) -> Result<EdgeHandle, Error> {
        let (names, ips) = certificate_names(&self.host);
        let tls = tls::server_config(&self.authority, &names, &ips, Purpose::Agents)?;
        let mut edge = EdgeConfig::new(config.agents_listen, tls);
        // For `terminate-tls` where the account has no certificate for the name.
        edge.certificates = Some(Arc::clone(&self.certificates.resolver) as _);
        edge.acme = self.certificates.acme.clone();
        let settings = settings::edge(config, edge, &self.node, &self.host);
        Edge::start(settings, self.registry.clone(), records, data).await
    }

    async fn control(
        &self,
        config: &ServerConfig,
        commands: Arc<dyn NodeCommands>,
        records: Records,
    ) -> Result<ControlHandle, Error> {
        let mut settings = settings::control(config, &self.node);
        settings.tls = match &config.api_tls {
            None => Tls::Off,
            Some(ApiTls::OwnCa) => {
                let (names, ips) = certificate_names(&self.host);
                Tls::OwnCa {
                    authority: self.authority.clone(),
                    names,
                    ips,
                }
            }
            Some(ApiTls::Files { cert, key }) => Tls::Files {
                cert: cert.clone(),
                key: key.clone(),
            },
        };
        Control::start(settings, self.registry.clone(), commands, records).await
    }

    /// The first admin key: what the first start made, else what it left, else a fresh one; a crash
    /// between the store and the file must not lock everyone out.
    async fn admin_key(&self) -> Result<Secret, Error> {
        let key = match (
            &self.bootstrap.admin_key,
            self.data.read(environment::ADMIN_KEY_FILE)?,
        ) {
            (Some(made), _) => made.clone(),
            (None, Some(left)) => return Ok(Secret::new(left)),
            (None, None) => {
                tracing::warn!(
                    "{} was gone; a new admin key is in its place",
                    environment::ADMIN_KEY_FILE
                );
                let description = "admin key for local use".to_owned();
                let new = NewApiKey {
                    admin: true,
                    description,
                    ..NewApiKey::default()
                };
                self.registry
                    .create_api_key(&self.bootstrap.account.id, new)
                    .await?
                    .value
                    .1
            }
        };
        self.data.write(environment::ADMIN_KEY_FILE, key.expose())?;
        Ok(key)
    }

    /// The authtoken for local use: as with the admin key.
    async fn local_token(&self) -> Result<Secret, Error> {
        if let Some(token) = &self.bootstrap.authtoken {
            return Ok(token.clone());
        }
        let left = self.data.read(environment::JOIN_FILE)?;
        if let Some(join) = left.and_then(|text| JoinString::parse(&text).ok()) {
            if let Err(error) = self
                .registry
                .authenticate_credential(join.authtoken.expose())
            {
                tracing::warn!(
                    code = %error.code,
                    "the credential in {} is no longer valid; delete the file for a new one",
                    environment::JOIN_FILE
                );
            }
            return Ok(join.authtoken.clone());
        }
        tracing::warn!(
            "{} was gone; a new credential is in its place",
            environment::JOIN_FILE
        );
        let new = NewCredential {
            description: "credential for local use".to_owned(),
            ..NewCredential::default()
        };
        Ok(self
            .registry
            .create_credential(&self.bootstrap.account.id, new)
            .await?
            .value
            .1)
    }
}

/// The node's name: the configured one, else the one that the first start settled on.
fn node_id(config: &ServerConfig, data: &DataDir) -> Result<String, Error> {
    const FILE: &str = "node_id";
    if let Some(node) = config.node_id.clone().or(data.read(FILE)?) {
        return Ok(node);
    }
    let node = public_host::machine_name().unwrap_or_else(|| "local".to_owned());
    data.write(FILE, &node)?;
    Ok(node)
}

/// The names and addresses that certificates of the server's own CA are for.
fn certificate_names(host: &str) -> (Vec<String>, Vec<IpAddr>) {
    let mut names = vec!["localhost".to_owned()];
    let mut ips = vec![
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ];
    match host.parse() {
        Ok(ip) if !ips.contains(&ip) => ips.push(ip),
        Ok(_) => {}
        Err(_) if host != "localhost" => names.push(host.to_owned()),
        Err(_) => {}
    }
    names.extend(public_host::machine_name().filter(|name| name != host));
    (names, ips)
}

/// The API's address for commands on this machine.
fn api_url(config: &ServerConfig, addr: SocketAddr, host: &str) -> String {
    match &config.api_tls {
        None => format!("http://{}", reachable_here(addr)),
        Some(ApiTls::OwnCa) => format!("https://{}", reachable_here(addr)),
        Some(ApiTls::Files { .. }) => format!("https://{}", host_port(host, addr.port())),
    }
}

/// An address to connect to from this machine, for one to listen on.
fn reachable_here(addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), addr.port())
    } else {
        addr
    }
}

/// `host:port`, an IPv6 address in brackets.
pub(crate) fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Raises the soft limit on file descriptors to the hard one: each connection takes two.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?
        }
        Ok(hard)
    });
    match raised {
        Ok(limit) => tracing::debug!(limit, "file descriptors"),
        Err(error) => tracing::warn!(%error, "the limit on file descriptors stays as it is"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_for_this_machine_and_for_others() {
        assert_eq!(
            reachable_here("[::]:7443".parse().unwrap()).to_string(),
            "127.0.0.1:7443"
        );
        assert_eq!(
            reachable_here("10.0.0.1:7443".parse().unwrap()).to_string(),
            "10.0.0.1:7443"
        );
        assert_eq!(host_port("2001:db8::1", 1), "[2001:db8::1]:1");
        let config = ServerConfig {
            api_tls: Some(ApiTls::OwnCa),
            ..ServerConfig::default()
        };
        assert_eq!(
            api_url(&config, "0.0.0.0:7480".parse().unwrap(), "edge"),
            "https://127.0.0.1:7480"
        );
    }

    #[test]
    fn certificates_name_the_host_once() {
        assert!(
            certificate_names("edge.example.com")
                .0
                .contains(&"edge.example.com".to_owned())
        );
        assert_eq!(certificate_names("127.0.0.1").1.len(), 2);
        assert_eq!(certificate_names("192.0.2.1").1.len(), 3);
    }
}
