//! The local API over real sockets.

use std::path::Path;

use portcullis_agent::{Agent, LocalAddr, LocalApi, LocalApiConfig, local_api};
use portcullis_model::{Code, Error};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::edge::{FakeEdge, Upstream, soon};
use crate::{builder, connect, status};

struct Api {
    api: LocalApi,
    token: String,
    _dir: tempfile::TempDir,
}

async fn serve(agent: &Agent) -> Api {
    let dir = tempfile::tempdir().expect("a directory");
    let addr = LocalAddr::Tcp("127.0.0.1:0".parse().expect("an address"));
    let config = LocalApiConfig {
        addr,
        state_dir: dir.path().to_owned(),
        allow_hosts: Vec::new(),
    };
    let api = local_api::serve(config, agent.clone())
        .await
        .expect("listening");
    let token = std::fs::read_to_string(dir.path().join("local.token"))
        .expect("written")
        .trim()
        .to_owned();
    Api {
        api,
        token,
        _dir: dir,
    }
}

impl Api {
    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        self.ask_as(
            method,
            path,
            body,
            "localhost",
            &format!("Bearer {}", self.token),
        )
        .await
    }

    async fn ask_as(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
        host: &str,
        auth: &str,
    ) -> (u16, Value) {
        let LocalAddr::Tcp(addr) = self.api.addr() else {
            panic!("on TCP")
        };
        let stream = TcpStream::connect(addr).await.expect("connected");
        exchange(stream, method, path, body, host, auth).await
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    body: Option<Value>,
    host: &str,
    auth: &str,
) -> (u16, Value) {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {auth}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream
        .write_all(format!("{head}{body}").as_bytes())
        .await
        .expect("sent");
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer))
        .await
        .expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let code = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .expect("a status");
    (code, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn it_shows_and_changes_endpoints() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let api = serve(&agent).await;
    let upstream = Upstream::start().await;

    let (code, now) = api.ask("GET", "/api/status", None).await;
    assert_eq!((code, now["status"].as_str()), (200, Some("online")));
    assert_eq!(now["session"]["legs"][0]["region"], "here");

    let entry = json!({"name": "db", "upstream": {"url": upstream.url()}, "description": "one"});
    let (code, made) = api.ask("POST", "/api/endpoints", Some(entry.clone())).await;
    assert_eq!((code, made["status"].as_str()), (201, Some("online")));
    assert_eq!(made["uri"], "/api/endpoints/db");
    let (code, conflict) = api.ask("POST", "/api/endpoints", Some(entry)).await;
    assert_eq!(
        (code, conflict["details"]["code"].as_str()),
        (409, Some("PTC_ENDPOINT_CONFLICT"))
    );

    let (_, list) = api.ask("GET", "/api/endpoints", None).await;
    assert_eq!(list["endpoints"].as_array().map(Vec::len), Some(1));
    let (_, tunnel) = api.ask("GET", "/api/tunnels/db", None).await;
    assert_eq!(
        (&tunnel["public_url"], &tunnel["proto"]),
        (&made["url"], &json!("tcp"))
    );

    let changed = json!({"upstream": {"url": upstream.url()}, "description": "two"});
    let (code, shown) = api.ask("PUT", "/api/endpoints/db", Some(changed)).await;
    assert_eq!(
        (code, shown["description"].as_str(), &shown["id"]),
        (200, Some("two"), &made["id"])
    );
    let moved = json!({"url": "tcp://edge.test:21000", "upstream": {"url": upstream.url()}});
    let (code, shown) = api.ask("PUT", "/api/endpoints/db", Some(moved)).await;
    assert_eq!(
        (code, shown["url"].as_str()),
        (200, Some("tcp://edge.test:21000"))
    );
    let (code, _) = api
        .ask(
            "PUT",
            "/api/endpoints/other",
            Some(json!({"upstream": {"url": 80}})),
        )
        .await;
    assert_eq!(code, 201);

    assert_eq!(api.ask("DELETE", "/api/endpoints/db", None).await.0, 204);
    assert_eq!(api.ask("DELETE", "/api/tunnels/other", None).await.0, 204);
    let (code, missing) = api.ask("GET", "/api/endpoints/db", None).await;
    assert_eq!(
        (code, missing["error_code"].as_str()),
        (404, Some("ERR_NGROK_333"))
    );
    assert!(agent.endpoints().is_empty());
}

#[tokio::test]
async fn it_refuses_what_it_should() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let api = serve(&agent).await;
    let bearer = format!("Bearer {}", api.token);
    assert_eq!(
        api.ask_as("GET", "/api/status", None, "localhost", "Bearer wrong")
            .await
            .0,
        401
    );
    assert_eq!(
        api.ask_as("GET", "/api/status", None, "rebound.example", &bearer)
            .await
            .0,
        403
    );
    assert_eq!(api.ask("GET", "/api/nothing", None).await.0, 404);
    assert_eq!(api.ask("PATCH", "/api/status", None).await.0, 405);
    let unknown = json!({"name": "a", "upstream": {"url": 80}, "colour": "red"});
    let (code, body) = api.ask("POST", "/api/endpoints", Some(unknown)).await;
    assert_eq!(code, 400);
    assert!(
        body["msg"].as_str().expect("a message").contains("colour"),
        "{body}"
    );
    let file = json!({"name": "a", "upstream": {"url": 80}, "traffic_policy_file": "/etc/passwd"});
    assert_eq!(api.ask("POST", "/api/endpoints", Some(file)).await.0, 400);
    let huge = json!({"name": "a", "metadata": "m".repeat(200_000)});
    assert_eq!(api.ask("POST", "/api/endpoints", Some(huge)).await.0, 413);
    edge.script(|script| {
        script.refuse_bind = Some(Error::new(Code::AddressTaken, "taken by another"))
    });
    let (code, body) = api
        .ask(
            "POST",
            "/api/endpoints",
            Some(json!({"name": "a", "upstream": {"url": 80}})),
        )
        .await;
    assert_eq!(
        (code, body["msg"].as_str()),
        (409, Some("taken by another"))
    );
    assert!(agent.endpoints().is_empty());
}

#[tokio::test]
async fn it_stays_up_without_a_session_and_says_so() {
    let edge = FakeEdge::start().await;
    let fatal = portcullis_proto::message::Fatal {
        code: Code::ServerDraining,
        message: "gone".into(),
        retry: true,
    };
    edge.script(|script| script.refuse_hello = Some(fatal));
    let agent = builder(&edge).start().expect("started");
    let api = serve(&agent).await;
    status(&agent, "down", |status| status.attempts > 0).await;
    let (code, now) = api.ask("GET", "/api/status", None).await;
    assert_eq!((code, now["status"].as_str()), (200, Some("reconnecting")));
    assert_eq!(now["error"]["code"], "PTC_SERVER_DRAINING");
    let (code, made) = api
        .ask(
            "POST",
            "/api/endpoints",
            Some(json!({"name": "a", "upstream": {"url": 80}})),
        )
        .await;
    assert_eq!((code, made["status"].as_str()), (201, Some("pending")));
    assert_eq!(
        agent.status().borrow().local_api,
        Some(api.api.addr().to_string())
    );
    api.api.close().await;
    status(&agent, "off", |status| status.local_api.is_none()).await;
}

#[tokio::test]
async fn it_listens_on_a_unix_socket_without_a_token() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("api.sock");
    let config = LocalApiConfig {
        addr: LocalAddr::Unix(path.clone()),
        state_dir: dir.path().to_owned(),
        allow_hosts: Vec::new(),
    };
    let api = local_api::serve(config, agent.clone())
        .await
        .expect("listening");
    let stream = UnixStream::connect(&path).await.expect("connected");
    let (code, now) = exchange(stream, "GET", "/api/status", None, "localhost", "none").await;
    assert_eq!((code, now["status"].as_str()), (200, Some("online")));
    api.close().await;
    assert!(!Path::new(&path).exists(), "the socket is removed");
}
