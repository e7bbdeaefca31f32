//! The agent as a library and as a neighbour: the example of the SDK, and the agent's local API.

use portcullis_e2e::traffic::{Upstream, exchange};
use portcullis_e2e::{Api, Process, Stack, eventually, ports};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// The SDK's example as cargo built it.
fn hello(stack: &Stack) -> Process {
    let path = portcullis_e2e::stack::binary()
        .parent()
        .expect("a file has a directory")
        .join("examples/hello");
    assert!(
        path.exists(),
        "{} is missing; `cargo build -p portcullis-agent --example hello` makes it",
        path.display()
    );
    let mut command = std::process::Command::new(path);
    command.env_clear().env("HOME", stack.dir());
    command.arg(stack.join());
    Process::start("hello", command)
}

fn addr_of(url: &Value) -> std::net::SocketAddr {
    let url = url.as_str().expect("an endpoint has a URL");
    let port = url.rsplit_once(':').expect("tcp://host:port").1;
    std::net::SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_librarys_example_greets_clients_and_its_end_ends_the_endpoint() {
    let stack = Stack::start().await;
    let mut process = hello(&stack);
    let endpoint = eventually("the example is online", || {
        assert!(process.is_running(), "{}", process.output());
        stack.api.endpoint_named("hello")
    })
    .await;
    let url = endpoint["url"].as_str().expect("a URL").to_owned();
    eventually("it says where", || async {
        process.output().contains(&url).then_some(())
    })
    .await;
    let addr = addr_of(&endpoint["url"]);
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = BufReader::new(TcpStream::connect(addr).await.expect("connects"));
        let own = client.get_ref().local_addr().expect("connected");
        let mut greeting = String::new();
        client.read_line(&mut greeting).await.expect("a greeting");
        assert_eq!(
            greeting,
            format!("hello {own}, I will repeat what you say\n")
        );
        clients.push(client);
    }
    for client in &mut clients {
        client.write_all(b"and again\n").await.expect("writes");
        let mut line = String::new();
        client.read_line(&mut line).await.expect("echo");
        assert_eq!(line, "and again\n");
        client.get_mut().shutdown().await.expect("ends");
        line.clear();
        assert_eq!(client.read_line(&mut line).await.expect("a clean end"), 0);
    }
    process.kill9();
    eventually("its endpoint is gone", || async {
        stack
            .api
            .endpoint_named("hello")
            .await
            .is_none()
            .then_some(())
    })
    .await;
    eventually("and its listener", || async {
        TcpStream::connect(addr).await.is_err().then_some(())
    })
    .await;
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agents_local_api_shows_adds_and_removes_endpoints() {
    let stack = Stack::start().await;
    let (one, two) = tokio::join!(
        Upstream::echo(),
        Upstream::serve(|mut stream| async move {
            stream.write_all(b"two").await.expect("writes");
        })
    );
    let web = format!("127.0.0.1:{}", ports::one());
    let agent = stack
        .tcp_with(&one.hostport(), &["--web-addr", web.as_str()])
        .await;
    let token =
        std::fs::read_to_string(agent.state_dir().join("local.token")).expect("the agent wrote it");
    let local = Api::new(&format!("http://{web}"), &token);

    let status = local.get("/api/status").await;
    assert_eq!(status["status"], "online", "{status}");
    let list = local.get("/api/endpoints").await;
    assert_eq!(list["endpoints"].as_array().map(Vec::len), Some(1));
    assert_eq!(list["endpoints"][0]["url"], *agent.url, "{list}");

    let anonymous = status_without_token(&web).await;
    assert_eq!(anonymous, 401, "no token");
    let (status, _) = local
        .with_key("0123456789abcdef")
        .send("GET", "/api/endpoints", None)
        .await
        .expect("answers");
    assert_eq!(status, 401, "another token");

    let added = local
        .post(
            "/api/endpoints",
            json!({"name": "second", "upstream": {"url": two.hostport()}}),
        )
        .await;
    assert_eq!(added["name"], "second", "{added}");
    let addr = addr_of(&added["url"]);
    assert_eq!(exchange(addr, b"").await.expect("answers"), b"two");
    let shown = local.get("/api/endpoints/second").await;
    assert_eq!(shown["url"], added["url"]);
    let seen = stack.api.endpoint_named("second").await;
    assert_eq!(seen.expect("the server has it")["url"], added["url"]);

    local.delete("/api/endpoints/second").await;
    eventually("its listener is closed", || async {
        TcpStream::connect(addr).await.is_err().then_some(())
    })
    .await;
    assert!(stack.api.endpoint_named("second").await.is_none());
    let (status, answer) = local
        .send("GET", "/api/endpoints/second", None)
        .await
        .expect("answers");
    assert_eq!(status, 404, "{answer}");
    assert_eq!(
        exchange(agent.addr(), b"one").await.expect("echo"),
        b"one",
        "the first is untouched"
    );
    stack.balanced().await;
}

/// The status of `/api/status` asked without a token.
async fn status_without_token(web: &str) -> u16 {
    let request = format!("GET /api/status HTTP/1.1\r\nhost: {web}\r\nconnection: close\r\n\r\n");
    let addr: std::net::SocketAddr = web.parse().expect("an address");
    let mut stream = TcpStream::connect(addr).await.expect("connects");
    stream.write_all(request.as_bytes()).await.expect("writes");
    let mut line = String::new();
    BufReader::new(stream)
        .read_line(&mut line)
        .await
        .expect("a status line");
    line.split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .expect("a status")
}
