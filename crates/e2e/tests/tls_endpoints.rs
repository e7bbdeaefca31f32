//! TLS endpoints: services with certificates of their own share one port by name, and nobody between them and
//! their clients has a key.

use std::path::{Path, PathBuf};
use std::process::Command;

use portcullis_e2e::process::Process;
use portcullis_e2e::servers::{Nginx, Postgres};
use portcullis_e2e::shell::{sh, sh_async, try_sh};
use portcullis_e2e::{AgentProcess, Stack, eventually, ports};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::tls::{Pki, psql, takes_tls};

/// A server with TLS, and the certificate that it shows.
struct Web {
    upstream: String,
    certificate: PathBuf,
    _process: Process,
}

/// A self-signed certificate for names; its file, with that of its key beside it.
fn certificate(dir: &Path, file: &str, names: &[&str]) -> PathBuf {
    let path = dir.join(format!("{file}.pem"));
    let names: Vec<String> = names.iter().map(|name| format!("DNS:{name}")).collect();
    sh(&format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={file} \
         -addext subjectAltName={} -keyout {}.key -out {} 2>&1",
        names.join(","),
        path.display(),
        path.display()
    ));
    path
}

/// An nginx that says who it is and which name it was asked for.
async fn web(dir: &Path, file: &str, names: &[&str]) -> Web {
    let certificate = certificate(dir, file, names);
    let port = ports::one();
    let (root, cert) = (dir.join(file), certificate.display());
    std::fs::create_dir_all(&root).expect("ours");
    let root = root.display();
    let config = format!(
        "daemon off; pid {root}/pid; error_log stderr; worker_processes 1;\n\
         events {{ worker_connections 256; }}\n\
         http {{ access_log off; client_body_temp_path {root}/b; proxy_temp_path {root}/p;\n\
         fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;\n\
         server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {cert}; ssl_certificate_key {cert}.key;\n\
         location / {{ return 200 \"{file} $ssl_server_name\\n\"; }} }} }}\n"
    );
    let path = dir.join(format!("{file}.conf"));
    std::fs::write(&path, config).expect("ours");
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&path).arg("-e").arg("stderr");
    let mut process = Process::start("nginx", command);
    eventually("nginx listens", || {
        assert!(process.is_running(), "nginx ended:\n{}", process.output());
        async move { TcpStream::connect(("127.0.0.1", port)).await.ok() }
    })
    .await;
    Web {
        upstream: format!("127.0.0.1:{port}"),
        certificate,
        _process: process,
    }
}

/// A server whose port for TLS endpoints is this one.
async fn server() -> (Stack, u16) {
    let port = ports::one();
    let stack = Stack::start_configured(&format!("tls: {{ port: {port} }}\n"), &[]).await;
    (stack, port)
}

fn curl(name: &str, port: u16, authority: &Path) -> String {
    format!(
        "curl -sS --max-time 30 --cacert {} --resolve {name}:{port}:127.0.0.1 https://{name}:{port}/ 2>&1",
        authority.display()
    )
}

/// What the service behind a name says, with its certificate verified.
async fn asked(name: &str, port: u16, web: &Web) -> String {
    let answer = sh_async(curl(name, port, &web.certificate)).await;
    answer.trim().to_owned()
}

fn s_client(arguments: &str, port: u16) -> String {
    let line = format!("openssl s_client -connect 127.0.0.1:{port} {arguments} </dev/null 2>&1");
    try_sh(&line).1
}

async fn tls(stack: &Stack, web: &Web, url: &str, extra: &[&str]) -> AgentProcess {
    let extra = [&["--url", url], extra].concat();
    stack.tls_with(&web.upstream, &extra).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_share_a_port_by_name_and_show_their_own_certificates() {
    let (stack, port) = server().await;
    let a = web(stack.dir(), "a", &["a.localhost"]).await;
    let b = web(stack.dir(), "b", &["b.localhost"]).await;
    let wild = web(stack.dir(), "wild", &["x.w.localhost", "y.w.localhost"]).await;
    let first = tls(&stack, &a, "tls://a.localhost", &[]).await;
    let _second = tls(&stack, &b, "b.localhost", &[]).await;
    let _third = tls(&stack, &wild, "tls://*.w.localhost", &[]).await;
    assert_eq!(first.url, format!("tls://a.localhost:{port}"));
    for (name, web, answer) in [
        ("a.localhost", &a, "a a.localhost"),
        ("b.localhost", &b, "b b.localhost"),
        ("x.w.localhost", &wild, "wild x.w.localhost"),
        ("y.w.localhost", &wild, "wild y.w.localhost"),
    ] {
        assert_eq!(asked(name, port, web).await, answer);
    }
    // It is the service's certificate and no other's.
    let (status, output) = try_sh(&curl("a.localhost", port, &b.certificate));
    assert_eq!(status, 60, "{output}");
    let shown = s_client(
        &format!(
            "-servername b.localhost -CAfile {} -verify_return_error",
            b.certificate.display()
        ),
        port,
    );
    assert!(shown.contains("Verify return code: 0"), "{shown}");
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_nobody_is_told_so_in_tls() {
    let (stack, port) = server().await;
    let a = web(stack.dir(), "a", &["a.localhost"]).await;
    let _agent = tls(&stack, &a, "tls://a.localhost", &[]).await;
    let unknown = s_client("-servername c.localhost", port);
    assert!(unknown.contains("unrecognized name"), "{unknown}");
    let nameless = s_client("-noservername", port);
    assert!(nameless.contains("missing extension"), "{nameless}");
    let (status, _) = try_sh(&format!(
        "curl -sS --max-time 30 http://127.0.0.1:{port}/ 2>&1"
    ));
    assert_ne!(status, 0, "it speaks no HTTP");
    stack.balanced().await;
}

/// The ClientHello that a real client says for a name.
async fn real_hello(name: &'static str) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("address").port();
    let client = tokio::task::spawn_blocking(move || {
        s_client(&format!("-servername {name}"), port);
    });
    let (mut stream, _) = listener.accept().await.expect("a client");
    let mut header = [0; 5];
    stream.read_exact(&mut header).await.expect("a record");
    let mut rest = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    stream.read_exact(&mut rest).await.expect("its content");
    drop(stream);
    client.await.expect("the client ends");
    [header.to_vec(), rest].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hello_in_single_bytes_reaches_its_service() {
    let (stack, port) = server().await;
    let a = web(stack.dir(), "a", &["a.localhost"]).await;
    let _agent = tls(&stack, &a, "tls://a.localhost", &[]).await;
    let hello = real_hello("a.localhost").await;
    let mut client = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("connects");
    client.set_nodelay(true).expect("a socket");
    for byte in &hello {
        client.write_all(&[*byte]).await.expect("write");
        tokio::task::yield_now().await;
    }
    let mut answer = [0; 6];
    client.read_exact(&mut answer).await.expect("an answer");
    assert_eq!((answer[0], answer[5]), (22, 2), "a ServerHello");
    drop(client);
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_comes_back_has_its_random_name_again() {
    let (stack, port) = server().await;
    let any = web(stack.dir(), "any", &["*.localhost", "a.localhost"]).await;
    let mut agent = stack.tls_with(&any.upstream, &[]).await;
    let url = agent.url.clone();
    let name = url.strip_prefix("tls://").expect("a name");
    let name = name.strip_suffix(&format!(":{port}")).expect("the port");
    assert!(name.ends_with(".localhost"), "{url}");
    let answers = |name: String| {
        // A random name is in no certificate; what counts here is whom it reaches.
        sh_async(format!(
            "curl -sSk --max-time 30 --resolve {name}:{port}:127.0.0.1 https://{name}:{port}/ 2>&1"
        ))
    };
    assert_eq!(answers(name.to_owned()).await.trim(), format!("any {name}"));
    let before = agent.online().await;
    agent.process.as_mut().expect("it runs").kill9();
    agent.process = None;
    agent.up();
    eventually("another endpoint has the name", || async {
        let endpoint = stack.api.endpoint_named(&agent.name).await?;
        let is_new = endpoint["id"] != before["id"] && endpoint["status"] == "programmed";
        is_new.then_some(())
    })
    .await;
    agent.online().await;
    assert_eq!(agent.url, url);
    assert_eq!(answers(name.to_owned()).await.trim(), format!("any {name}"));
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_pool_take_turns_at_a_name() {
    let (stack, port) = server().await;
    let one = web(stack.dir(), "one", &["a.localhost"]).await;
    let two = web(stack.dir(), "two", &["a.localhost"]).await;
    let pooled = &["--pooling-enabled"];
    let _one = tls(&stack, &one, "tls://a.localhost", pooled).await;
    let _two = tls(&stack, &two, "tls://a.localhost", pooled).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..60 {
        let answer = sh_async(format!(
            "curl -sSk --max-time 30 --resolve a.localhost:{port}:127.0.0.1 https://a.localhost:{port}/"
        ))
        .await;
        seen.insert(answer.trim().to_owned());
        if seen.len() == 2 {
            break;
        }
    }
    let all: Vec<_> = seen.into_iter().collect();
    assert_eq!(all, ["one a.localhost", "two a.localhost"]);
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cloud_endpoint_hands_names_to_internal_ones() {
    let (stack, port) = server().await;
    let blue = web(stack.dir(), "blue", &["blue.localhost"]).await;
    let rest = web(stack.dir(), "rest", &["green.localhost"]).await;
    let _blue = tls(&stack, &blue, "tls://blue.internal", &[]).await;
    let _rest = tls(&stack, &rest, "tls://*.internal:8443", &[]).await;
    let policy = "
on_tcp_connect:
  - expressions: [\"conn.sni.startsWith('blue.')\"]
    actions: [{type: forward-internal, config: {url: 'tls://blue.internal'}}]
  - actions: [{type: forward-internal, config: {url: 'tls://rest.internal:8443'}}]
";
    let file = stack.dir().join("policy.yml");
    std::fs::write(&file, policy).expect("ours");
    let (status, output) = stack.run(&[
        "api",
        "endpoints",
        "create",
        "--url",
        "tls://*.localhost",
        "--traffic-policy-file",
        &file.display().to_string(),
        "--output",
        "json",
    ]);
    assert_eq!(status, 0, "{output}");
    let made: Value = serde_json::from_str(&output).expect("JSON");
    assert_eq!(
        (&made["proto"], &made["scheme"], &made["hostport"]),
        (
            &json!("tls"),
            &json!("tls"),
            &json!(format!("*.localhost:{port}"))
        )
    );
    assert_eq!(
        asked("blue.localhost", port, &blue).await,
        "blue blue.localhost"
    );
    assert_eq!(
        asked("green.localhost", port, &rest).await,
        "rest green.localhost"
    );
    let filter = "/endpoints?filter=obj.proto%20%3D%3D%20%22tls%22%20%26%26%20obj.url.startsWith(%22tls%3A%2F%2F*.localhost%22)";
    let found = stack.api.get(filter).await;
    assert_eq!(
        found["endpoints"].as_array().map(Vec::len),
        Some(1),
        "{found}"
    );
    let id = made["id"].as_str().expect("an id");
    let (status, answer) = stack
        .api
        .send(
            "PATCH",
            &format!("/endpoints/{id}"),
            Some(json!({"url": "tcp://x.internal:1"})),
        )
        .await
        .expect("answers");
    assert!(
        status == 400 && answer.to_string().contains("PTC_URL_SCHEME_CHANGE"),
        "{answer}"
    );
    let (status, answer) = stack
        .api
        .send(
            "POST",
            "/reserved_addrs",
            Some(json!({"host": "localhost", "port": port})),
        )
        .await
        .expect("answers");
    assert!(
        status == 400
            && answer
                .to_string()
                .contains("PTC_ADDRESS_PORT_NOT_PERMITTED"),
        "{answer}"
    );
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_itself_serves_names_too() {
    let port = ports::one();
    let dir = tempfile::tempdir().expect("a directory");
    let own = web(dir.path(), "own", &["own.example.org"]).await;
    let yaml = format!(
        "tls: {{ port: {port}, any_name: true }}\nendpoints:\n  - {{ name: own, url: 'tls://own.example.org', upstream: '{}' }}\n",
        own.upstream
    );
    let stack = Stack::start_configured(&yaml, &[]).await;
    let answer = asked("own.example.org", port, &own).await;
    assert_eq!(answer, "own own.example.org");
    stack.balanced().await;
}

/// Two servers of PostgreSQL behind the one port: their clients ask for TLS their own way, and for a name in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_reaches_its_server_by_name_and_verifies_it() {
    let ((stack, port), one, two) = tokio::join!(server(), Postgres::start(), Postgres::start());
    let pki = Pki::new(&["one.localhost", "two.localhost"]);
    let mut agents = Vec::new();
    for (postgres, name) in [(&one, "one.localhost"), (&two, "two.localhost")] {
        takes_tls(postgres, &pki, name).await;
        let extra = ["--url", name];
        agents.push(stack.tls_with(&postgres.port.to_string(), &extra).await);
    }
    let at = agents[0].addr();
    assert_eq!(at.port(), port);
    let full = format!(
        "sslmode=verify-full sslrootcert={}",
        pki.path("ca.pem").display()
    );
    for (postgres, name) in [(&one, "one.localhost"), (&two, "two.localhost")] {
        let (status, out) = psql(at, name, &full, "show port");
        assert_eq!(
            (status, out.trim()),
            (0, postgres.port.to_string().as_str())
        );
        let encrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
        assert_eq!(psql(at, name, &full, encrypted).1.trim(), "t");
    }
    let (status, out) = psql(at, "three.localhost", &full, "select 1");
    assert_ne!(status, 0, "{out}");
    let (status, out) = psql(at, "one.localhost", "sslmode=disable", "select 1");
    assert_ne!(status, 0, "a name is in TLS alone: {out}");
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_may_terminate_tls_at_a_name() {
    let (stack, port) = server().await;
    let plain = Nginx::start(false).await;
    let pki = Pki::new(&["app.localhost"]);
    let policy = format!(
        "on_tcp_connect:\n  - actions:\n{}",
        pki.terminate("app.localhost", None)
    );
    let file = stack.dir().join("policy.yml");
    std::fs::write(&file, policy).expect("ours");
    let file = file.display().to_string();
    let extra = [
        "--url",
        "tls://app.localhost",
        "--traffic-policy-file",
        &file,
    ];
    let _agent = stack.tls_with(&plain.port.to_string(), &extra).await;
    let answer = sh_async(curl("app.localhost", port, &pki.path("ca.pem"))).await;
    assert_eq!(answer.trim(), "127.0.0.1");
    stack.balanced().await;
}
