//! The test bed: a node with a store in a directory of its own and a loopback address of its own, so
//! that tests run side by side without sharing a port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use portcullis_edge::{Edge, EdgeConfig, EdgeHandle};
use portcullis_model::{Account, AccountId, CredentialId, Endpoint, Plan, Secret};
use portcullis_net::seal::MasterKey;
use portcullis_net::tls::{self, CertAuthority, Purpose, Trust};
use portcullis_store::{
    Clock, DirectSpec, NewAccount, NewAddress, NewCloudEndpoint, NewCredential, PortRange,
    PortRanges, Registry, Settings, SqliteStore,
};
use portcullis_telemetry::{CloseReason, EndpointState, NodeCommands as _, Records};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::time::Instant;

/// How long a wait may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// A port of this machine that is free on all addresses. From a range of its own: a bed's other ports are
/// on its own address only, and a socket on all addresses would be in the way of every other test's.
/// All stay below 10,240, from where other tests of the workspace take theirs.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 1_000).expect("below 1,000");
    (0..1_000)
        .map(|_| 6_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 1_000)
        .find(|port| std::net::TcpListener::bind(("::", *port)).is_ok())
        .expect("one of a thousand ports is free")
}

/// The shared host of every bed.
pub(crate) const HOST: &str = "edge.test";

pub(crate) struct Bed {
    pub(crate) edge: EdgeHandle,
    pub(crate) records: Records,
    pub(crate) registry: Registry,
    pub(crate) account: AccountId,
    /// The address that this bed's public ports are on.
    pub(crate) ip: IpAddr,
    pub(crate) trust: Trust,
    /// The server's own CA, in PEM.
    pub(crate) ca: String,
    _dir: tempfile::TempDir,
}

/// A loopback address that no other test of this machine is likely to use at the same time.
fn own_ip() -> IpAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id().to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(
        127,
        process[3].max(1),
        process[2],
        u8::try_from(next).expect("few tests"),
    ))
}

impl Bed {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(configure: impl FnOnce(&mut EdgeConfig)) -> Self {
        Self::shaped(|_, _| {}, configure).await
    }

    /// With settings of the registry that know the bed's own address.
    pub(crate) async fn shaped(
        shape: impl FnOnce(&mut Settings, IpAddr),
        configure: impl FnOnce(&mut EdgeConfig),
    ) -> Self {
        let ip = own_ip();
        let dir = tempfile::tempdir().expect("directory");
        let store = SqliteStore::open(dir.path().join("store.sqlite")).expect("store");
        let mut settings = Settings::new("test", "local", HOST);
        settings.hosts[0].bind = vec![ip];
        let two = Plan {
            connections_max: Some(2),
            ..Plan::default()
        };
        settings.plans.insert("two-connections".to_owned(), two);
        settings.hosts[0].ports = PortRanges(vec![PortRange {
            first: 8_000,
            last: 8_999,
        }]);
        shape(&mut settings, ip);
        let registry = Registry::open(Arc::new(store), settings, Clock::system())
            .await
            .expect("registry");
        let account = new_account(&registry, "first").await.id;
        let key = MasterKey::load_or_create(&dir.path().join("master.key")).expect("key");
        let authority = CertAuthority::load_or_create(dir.path(), &key).expect("authority");
        let names = [HOST.to_owned()];
        let server = tls::server_config(&authority, &names, &[ip], Purpose::Agents).expect("tls");
        let mut config = EdgeConfig::new(SocketAddr::new(ip, 0), server);
        let own = tls::server_config(&authority, &names, &[ip], Purpose::Http).expect("tls");
        config.certificates = Some(Arc::clone(&own.cert_resolver));
        configure(&mut config);
        let records = Records::new();
        let edge = Edge::start(
            config,
            registry.clone(),
            records.clone(),
            &Handle::current(),
        )
        .await
        .expect("edge");
        Self {
            edge,
            records,
            registry,
            account,
            ip,
            trust: Trust::Pin(authority.pin()),
            ca: authority.certificate_pem().to_owned(),
            _dir: dir,
        }
    }

    pub(crate) async fn credential(&self) -> (CredentialId, Secret) {
        let new = NewCredential::default();
        let (credential, token) = self
            .registry
            .create_credential(&self.account, new)
            .await
            .expect("credential")
            .value;
        (credential.id, token)
    }

    /// An endpoint that the edge dials itself.
    pub(crate) async fn direct(&self, url: &str, upstream: SocketAddr) -> Endpoint {
        self.direct_with(url, upstream, |_| {}).await
    }

    pub(crate) async fn direct_with(
        &self,
        url: &str,
        upstream: SocketAddr,
        change: impl FnOnce(&mut DirectSpec),
    ) -> Endpoint {
        static NAMES: AtomicU16 = AtomicU16::new(0);
        let mut spec = DirectSpec {
            name: format!("direct-{}", NAMES.fetch_add(1, Ordering::Relaxed)),
            url: url.to_owned(),
            upstream: format!("tcp://{upstream}"),
            ..DirectSpec::default()
        };
        change(&mut spec);
        let endpoint = self
            .registry
            .bind_direct(&self.account, spec)
            .await
            .expect("direct endpoint")
            .value;
        self.programmed(&endpoint).await;
        endpoint
    }

    /// A cloud endpoint with a policy.
    pub(crate) async fn cloud(&self, url: &str, policy: &str) -> Endpoint {
        let new = NewCloudEndpoint {
            url: url.to_owned(),
            traffic_policy: policy.to_owned(),
            ..NewCloudEndpoint::default()
        };
        let endpoint = self
            .registry
            .create_cloud_endpoint(&self.account, new)
            .await
            .expect("cloud endpoint")
            .value;
        self.programmed(&endpoint).await;
        endpoint
    }

    pub(crate) async fn programmed(&self, endpoint: &Endpoint) {
        let state = self.edge.settled(&endpoint.id, PATIENCE).await;
        assert_eq!(state, EndpointState::Programmed, "{}", endpoint.url);
    }

    /// Where clients reach an endpoint.
    pub(crate) fn address(&self, endpoint: &Endpoint) -> SocketAddr {
        SocketAddr::new(self.ip, endpoint.url.port())
    }

    pub(crate) async fn connect(&self, endpoint: &Endpoint) -> TcpStream {
        dial(self.address(endpoint))
    }

    /// Reserves a port of the shared host, so that agents may bind it by name.
    pub(crate) async fn reserve(&self, port: u16) {
        let new = NewAddress {
            host: Some(HOST.to_owned()),
            port: Some(port),
            ..NewAddress::default()
        };
        self.registry
            .reserve_address(&self.account, new)
            .await
            .expect("reserved");
    }

    /// Waits until a connection has ended for a reason.
    pub(crate) async fn closed(&self, reason: CloseReason) {
        let metrics = self.records.metrics();
        let deadline = Instant::now() + PATIENCE;
        while metrics.count_closed(reason) == 0 {
            let others = CloseReason::ALL.iter();
            let others: Vec<_> = others.filter(|it| metrics.count_closed(**it) > 0).collect();
            assert!(
                Instant::now() < deadline,
                "no connection ended as {reason} within {PATIENCE:?}; {} are open, the others ended as {others:?}",
                metrics.count_open()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the node, and checks the books.
    pub(crate) async fn finish(self) {
        let metrics = self.records.metrics();
        eventually("every connection has ended", || metrics.count_open() == 0).await;
        assert_eq!(
            metrics.count_opened(),
            metrics.count_closed_all(),
            "opened = closed"
        );
        assert_eq!(
            metrics.count_closed(CloseReason::Aborted),
            0,
            "no record was dropped"
        );
        assert_eq!(
            metrics.count_closed(CloseReason::Internal),
            0,
            "nothing went wrong inside"
        );
        assert_eq!(self.records.live().count(), 0);
        self.edge.drain(Duration::from_secs(1)).await;
    }
}

pub(crate) async fn new_account(registry: &Registry, name: &str) -> Account {
    let new = NewAccount {
        name: name.to_owned(),
        ..NewAccount::default()
    };
    registry.create_account(new).await.expect("account").value
}

/// Connects. The runtime's own connect would report a reset that follows the handshake at once as
/// a failed connect.
pub(crate) fn dial(address: SocketAddr) -> TcpStream {
    let stream = std::net::TcpStream::connect(address).expect("the port is open");
    stream.set_nonblocking(true).expect("a socket");
    TcpStream::from_std(stream).expect("a runtime")
}

/// Waits for a state.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Bounds a wait.
pub(crate) async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// A service that first says who it is and then echoes.
pub(crate) async fn echo(tag: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("listener");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                if write.write_all(tag.as_bytes()).await.is_ok()
                    && tokio::io::copy(&mut read, &mut write).await.is_ok()
                {
                    drop(write.shutdown().await);
                }
            });
        }
    });
    address
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("listener");
    listener.local_addr().expect("address")
}

/// Reads exactly the tag of a service.
pub(crate) async fn greeting(stream: &mut TcpStream, length: usize) -> String {
    let mut tag = vec![0; length];
    soon("the service's greeting", stream.read_exact(&mut tag))
        .await
        .expect("greeting");
    String::from_utf8(tag).expect("text")
}

/// Sends bytes, half-closes, and reads until the end.
pub(crate) async fn exchange(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    stream.write_all(bytes).await.expect("write");
    stream.shutdown().await.expect("half-close");
    let mut answer = Vec::new();
    soon("the answer's end", stream.read_to_end(&mut answer))
        .await
        .expect("a clean end");
    answer
}

/// How a client's connection ended: `Ok` by FIN with so many bytes, or the error.
pub(crate) async fn ending(stream: &mut TcpStream) -> std::io::Result<usize> {
    let mut rest = Vec::new();
    soon("the connection's end", stream.read_to_end(&mut rest)).await
}

/// Asserts that a client was reset.
pub(crate) async fn assert_reset(stream: &mut TcpStream) {
    let end = ending(stream).await;
    assert_eq!(
        end.map_err(|error| error.kind()),
        Err(std::io::ErrorKind::ConnectionReset)
    );
}
