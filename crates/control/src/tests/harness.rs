//! One registry, one fake node, and requests as ngrok's clients send them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use portcullis_model::id::ConnectionId;
use portcullis_model::{
    AccountId, AgentId, Code, CredentialId, EndpointId, Error, Sealed, Secret, SessionId,
    Timestamp, TunnelSession,
};
use portcullis_net::seal::MasterKey;
use portcullis_store::{BindSpec, Clock, NewSession, Registry, Settings};
use portcullis_store::{Sealer, SqliteStore};
use portcullis_telemetry::{
    ConnectionView, DrainOutcome, EndpointState, EndpointStatus, NodeCommands, Records,
    UpstreamFailure,
};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::app::{App, Shared};
use crate::config::ControlConfig;
use crate::router::router;
use crate::web::Peer;

/// The shared host of every test.
pub(crate) const HOST: &str = "edge.example.net";
/// A policy that a cloud endpoint may have.
pub(crate) const DENY: &str = r#"{"on_tcp_connect":[{"actions":[{"type":"deny"}]}]}"#;

/// Seals with a master key, as a node does.
#[derive(Debug)]
struct Seals(MasterKey);

impl Sealer for Seals {
    fn seal(&self, plain: &[u8], place: &str) -> Result<Sealed, Error> {
        Ok(Sealed::new(&self.0.seal_for(plain, place)?))
    }

    fn open(&self, sealed: &Sealed, place: &str) -> Result<Secret<Vec<u8>>, Error> {
        self.0.open_for(&sealed.bytes().unwrap_or_default(), place)
    }

    fn is_newest(&self, sealed: &Sealed) -> bool {
        self.0.is_newest(&sealed.bytes().unwrap_or_default())
    }
}

/// A node that remembers what it was told.
#[derive(Default)]
pub(crate) struct FakeNode {
    pub(crate) stopped: Mutex<Vec<(SessionId, bool)>>,
    pub(crate) ended: Mutex<Vec<ConnectionId>>,
    pub(crate) live: Mutex<Vec<ConnectionView>>,
    pub(crate) failed: Mutex<Option<Error>>,
}

#[async_trait]
impl NodeCommands for FakeNode {
    async fn stop_session(&self, id: &SessionId, restart: bool) -> Result<(), Error> {
        self.stopped.lock().unwrap().push((id.clone(), restart));
        Ok(())
    }

    async fn end_connection(&self, id: &ConnectionId) -> Result<(), Error> {
        self.ended.lock().unwrap().push(id.clone());
        Ok(())
    }

    fn connections(&self) -> Vec<ConnectionView> {
        self.live.lock().unwrap().clone()
    }

    fn endpoint_status(&self, _: &EndpointId) -> EndpointStatus {
        let failed = self.failed.lock().unwrap().clone();
        EndpointStatus {
            state: failed
                .clone()
                .map_or(EndpointState::Programmed, EndpointState::Failed),
            last_upstream_error: failed.map(|error| UpstreamFailure { error, at: now() }),
            connections_open: 3,
            health: portcullis_telemetry::EndpointHealth::default(),
        }
    }

    async fn drain(&self, _: Duration) -> DrainOutcome {
        DrainOutcome::default()
    }
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from(jiff::Timestamp::now())
}

/// The API of one test.
pub(crate) struct Api {
    pub(crate) app: App,
    pub(crate) node: Arc<FakeNode>,
    pub(crate) registry: Registry,
    /// The first account.
    pub(crate) account: AccountId,
    /// Its admin key.
    pub(crate) admin: String,
    router: Router,
    _dir: tempfile::TempDir,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Got {
    /// The `PTC_…` code of an error, after the body's form was checked.
    pub(crate) fn code(&self) -> &str {
        assert!(self.status.as_u16() >= 400, "{self:?}");
        assert_eq!(self.body["status_code"], self.status.as_u16(), "{self:?}");
        assert!(
            self.body["details"]["operation_id"]
                .as_str()
                .unwrap()
                .starts_with("op_"),
            "{self:?}"
        );
        assert!(!self.body["msg"].as_str().unwrap().is_empty(), "{self:?}");
        self.body["details"]["code"].as_str().unwrap()
    }

    /// ngrok's code of an error.
    pub(crate) fn ngrok(&self) -> &str {
        self.body["error_code"].as_str().unwrap()
    }

    pub(crate) fn message(&self) -> &str {
        self.body["msg"].as_str().unwrap()
    }

    pub(crate) fn id(&self) -> String {
        self.body["id"]
            .as_str()
            .unwrap_or_else(|| panic!("an id: {self:?}"))
            .to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A request with ngrok's headers, ready to be changed.
pub(crate) fn request(method: &str, path: &str, key: &str, body: Option<&Value>) -> Request<Body> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "api.test:7480")
        .header("ngrok-version", "2")
        .header("authorization", format!("Bearer {key}"));
    match body {
        Some(body) => request
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))
            .unwrap(),
        None => request.body(Body::empty()).unwrap(),
    }
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut ControlConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(dir.path().join("store.sqlite")).unwrap());
        let key = MasterKey::load_or_create(&dir.path().join("master.key")).unwrap();
        let mut settings = Settings::new("node-1", "eu", HOST);
        settings.sealer = Some(Arc::new(Seals(key)));
        let registry = Registry::open(store, settings, Clock::system())
            .await
            .unwrap();
        let first = registry.bootstrap().await.unwrap();
        let mut config = ControlConfig::new("node-1", "eu");
        config.rate_limit_per_minute = 0;
        change(&mut config);
        let node = Arc::new(FakeNode::default());
        let app = Shared::new(config, registry.clone(), node.clone(), Records::new());
        Self {
            router: router(&app),
            app,
            node,
            registry,
            account: first.account.id.clone(),
            admin: first
                .admin_key
                .expect("the first start makes one")
                .expose()
                .clone(),
            _dir: dir,
        }
    }

    /// Sends a request as it is, from this machine.
    pub(crate) async fn send(&self, request: Request<Body>) -> Got {
        self.send_from(request, IpAddr::V4(Ipv4Addr::LOCALHOST))
            .await
    }

    pub(crate) async fn send_from(&self, mut request: Request<Body>, from: IpAddr) -> Got {
        request.extensions_mut().insert(Peer {
            addr: SocketAddr::new(from, 40_000),
            tls: false,
        });
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Got {
            status: head.status,
            headers: head.headers,
            body,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Got {
        self.get_as(&self.admin, path).await
    }

    pub(crate) async fn get_as(&self, key: &str, path: &str) -> Got {
        self.send(request("GET", path, key, None)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Got {
        self.post_as(&self.admin, path, body).await
    }

    pub(crate) async fn post_as(&self, key: &str, path: &str, body: Value) -> Got {
        self.send(request("POST", path, key, Some(&body))).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Got {
        self.send(request("PATCH", path, &self.admin, Some(&body)))
            .await
    }

    pub(crate) async fn delete(&self, path: &str) -> Got {
        self.send(request("DELETE", path, &self.admin, None)).await
    }

    /// Another account with a plain key of its own.
    pub(crate) async fn another(&self, name: &str) -> (String, String) {
        let account = self
            .post("/accounts", serde_json::json!({ "name": name }))
            .await;
        assert_eq!(account.status, StatusCode::CREATED, "{account:?}");
        let mut make = request(
            "POST",
            "/api_keys",
            &self.admin,
            Some(&serde_json::json!({})),
        );
        make.headers_mut()
            .insert("portcullis-account", account.id().parse().unwrap());
        let key = self.send(make).await;
        assert_eq!(key.status, StatusCode::CREATED, "{key:?}");
        (account.id(), key.body["token"].as_str().unwrap().to_owned())
    }

    /// A session of an agent of the first account.
    pub(crate) async fn session(&self) -> TunnelSession {
        let made = self.post("/credentials", serde_json::json!({})).await;
        let credential: CredentialId = made.id().parse().unwrap();
        let new = NewSession {
            credential,
            agent: AgentId::new(1_700_000_000, [7; 16]),
            agent_secret: Secret::new("the agent's own secret".to_owned()),
            generation: 1,
            ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)),
            agent_version: "0.1.0".to_owned(),
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            hostname: "db-1".to_owned(),
            metadata: "rack 4".to_owned(),
        };
        self.registry.open_session(new).await.unwrap().value.session
    }

    /// An agent's endpoint at a random address.
    pub(crate) async fn agent_endpoint(&self, session: &TunnelSession) -> EndpointId {
        let spec = BindSpec {
            name: "postgres".to_owned(),
            url: "tcp://".to_owned(),
            upstream_url: "tcp://localhost:5432".to_owned(),
            metadata: "m".to_owned(),
            ..BindSpec::default()
        };
        self.registry
            .bind_endpoint(&session.id, spec)
            .await
            .unwrap()
            .value
            .id
    }
}

/// A live connection of an account.
pub(crate) fn connection(n: u8, account: &AccountId) -> ConnectionView {
    let addr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, n)), 50_000);
    ConnectionView {
        id: ConnectionId::new(1_700_000_000 + i64::from(n), [n; 16]),
        opened_at: now(),
        listener: "203.0.113.1:20001".parse().unwrap(),
        peer: addr,
        client: addr,
        account: Some(account.clone()),
        entry: Some(EndpointId::new(1_700_000_000, [1; 16])),
        endpoint: Some(EndpointId::new(1_700_000_000, [2; 16])),
        url: Some("tcp://db.internal:5432".to_owned()),
        session: None,
        upstream: Some("tcp://10.0.0.1:5432".to_owned()),
        established: true,
        bytes_in: 10,
        bytes_out: 20,
    }
}

/// An error that a node may report.
pub(crate) fn port_taken() -> Error {
    Error::new(Code::PortTaken, "port 20001 is taken by nginx")
}
