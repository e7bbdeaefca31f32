//! Traffic Policies with conditions, first bytes, requests and state, by real clients.

use std::net::SocketAddr;

use portcullis_e2e::Stack;
use portcullis_e2e::servers::{
    MariaDb, Minecraft, Mosquitto, Nginx, Postgres, Redis, Sshd, Xrdp, minecraft_login,
    minecraft_status,
};
use portcullis_e2e::shell::{sh_async, try_sh};
use portcullis_e2e::stack::AgentProcess;
use portcullis_e2e::traffic::{Upstream, exchange};
use portcullis_e2e::wait::eventually;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Both documents as they are published for TCP endpoints.
const HELLO: &str = "on_http_request:
  - actions:
      - type: custom-response
        config:
          status_code: 200
          headers: {content-type: text/plain}
          body: \"Hello world!\"
";
const FORWARD: &str = "on_http_request:
  - actions:
      - type: forward-internal
        config: {url: \"tcp://example-service.internal:8443\"}
";

/// A cloud endpoint with this policy, made by the command line; where it listens.
async fn cloud(stack: &Stack, policy: &str) -> (String, SocketAddr) {
    let file = stack.dir().join("traffic-policy.yml");
    std::fs::write(&file, policy).expect("ours");
    let (status, output) = stack.run(&[
        "api",
        "endpoints",
        "create",
        "--url",
        "tcp://",
        "--traffic-policy-file",
        &file.display().to_string(),
        "--output",
        "json",
    ]);
    assert_eq!(status, 0, "{output}");
    let begin = output.find('{').expect("an object");
    let made: Value = serde_json::from_str(&output[begin..]).expect("JSON");
    let port: u16 = made["port"]
        .as_u64()
        .and_then(|port| port.try_into().ok())
        .expect("a port");
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    eventually("it listens", || async {
        TcpStream::connect(at).await.is_ok().then_some(())
    })
    .await;
    (made["id"].as_str().expect("an id").to_owned(), at)
}

/// An internal endpoint in front of a port of this machine.
async fn internal(stack: &Stack, port: u16, name: &str) -> AgentProcess {
    let url = format!("tcp://{name}.internal:8443");
    stack.tcp_with(&port.to_string(), &["--url", &url]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_published_answer_to_http_works_on_a_tcp_endpoint() {
    let stack = Stack::start().await;
    let (_, at) = cloud(&stack, HELLO).await;
    let out = sh_async(format!("curl -sS -i --noproxy '*' http://{at}/")).await;
    assert!(out.starts_with("HTTP/1.1 200 OK\r\n"), "{out}");
    assert!(
        out.to_lowercase().contains("content-type: text/plain\r\n"),
        "{out}"
    );
    assert!(out.ends_with("\r\n\r\nHello world!"), "{out}");
    let out = sh_async(format!("curl -sS -I --noproxy '*' http://{at}/")).await;
    assert!(out.contains("200 OK") && !out.contains("Hello"), "{out}");
    // What is no HTTP is closed, and the record says why.
    let end = exchange(at, b"\x16\x03\x01 no request at all\r\n\r\n").await;
    assert!(end.is_err() || end.is_ok_and(|answer| answer.is_empty()));
    eventually("the reason is told", || async {
        stack.log().contains("PTC_NOT_HTTP").then_some(())
    })
    .await;
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_published_forward_carries_http_and_psql() {
    let (stack, nginx, postgres) =
        tokio::join!(Stack::start(), Nginx::start(false), Postgres::start());
    let (_, at) = cloud(&stack, FORWARD).await;
    {
        let _agent = internal(&stack, nginx.port, "example-service").await;
        let out = sh_async(format!("curl -sS --noproxy '*' http://{at}/")).await;
        assert_eq!(out.trim(), "127.0.0.1");
    }
    let _agent = internal(&stack, postgres.port, "example-service").await;
    let out = eventually("psql gets through", || async {
        let line = format!(
            "psql -h 127.0.0.1 -p {} -U postgres -Atc 'select 6*7'",
            at.port()
        );
        let (status, out) = try_sh(&line);
        (status == 0).then_some(out)
    })
    .await;
    assert_eq!(out.trim(), "42");
    stack.balanced().await;
}

/// One port; who speaks what, decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_port_serves_every_protocol() {
    let (stack, sshd, nginx, postgres) = tokio::join!(
        Stack::start(),
        Sshd::start(),
        Nginx::start(false),
        Postgres::start()
    );
    let (redis, broker, rdp, maria) = tokio::join!(
        Redis::start(),
        Mosquitto::start(),
        Xrdp::start(),
        MariaDb::start()
    );
    let tls = TlsServer::start(&stack);
    let lobby = Minecraft::start("the lobby").await;
    let minecraft = lobby.upstream.addr.port();
    let ports = [
        ("ssh", sshd.port),
        ("http", nginx.port),
        ("postgres", postgres.port),
        ("redis", redis.port),
        ("mqtt", broker.port),
        ("rdp", rdp.port),
        ("tls", tls.port),
        ("minecraft", minecraft),
        ("unknown", maria.port),
    ];
    let mut agents = Vec::new();
    let mut rules = String::new();
    for (protocol, port) in ports {
        agents.push(internal(&stack, port, protocol).await);
        rules += &format!(
            "  - expressions: [\"conn.protocol == '{protocol}'{}\"]\n    actions: [{{type: forward-internal, config: {{url: 'tcp://{protocol}.internal:8443'}}}}]\n",
            match protocol {
                "tls" => " && conn.sni == 'git.example.com'",
                "minecraft" => " && conn.minecraft.host == 'mc.example.io'",
                _ => "",
            }
        );
    }
    let policy = format!(
        "on_tcp_connect:\n  - actions: [{{type: sniff, config: {{timeout: 2s}}}}]\n{rules}  - actions: [{{type: deny}}]\n"
    );
    let (_, at) = cloud(&stack, &policy).await;
    let port = at.port();
    let ssh = sh_async(format!(
        "ssh {} -p {port} root@127.0.0.1 'echo gate $((6*7))'",
        sshd.options()
    ));
    assert_eq!(ssh.await.trim(), "gate 42");
    let curl = sh_async(format!("curl -sS --noproxy '*' http://{at}/"));
    assert_eq!(curl.await.trim(), "127.0.0.1");
    let psql = sh_async(format!(
        "psql 'host=127.0.0.1 port={port} user=postgres sslmode=prefer' -Atc 'select 6*7'"
    ));
    assert_eq!(psql.await.trim(), "42");
    let cli = format!("redis-cli -h 127.0.0.1 -p {port}");
    let out = sh_async(format!("{cli} set gate open && {cli} get gate")).await;
    assert_eq!(out.trim(), "OK\nopen");
    let publish = sh_async(format!(
        "mosquitto_pub -h 127.0.0.1 -p {port} -q 1 -r -t gate/state -m open"
    ));
    let subscribe = sh_async(format!(
        "mosquitto_sub -h 127.0.0.1 -p {port} -t 'gate/#' -C 1 -W 30"
    ));
    let (_, message) = tokio::join!(publish, subscribe);
    assert_eq!(message.trim(), "open");
    let (_, out) = try_sh(&format!(
        "xvfb-run -a timeout 40 xfreerdp /v:127.0.0.1:{port} /u:nobody /p:nothing /cert:ignore /sec:tls +auth-only /log-level:INFO 2>&1"
    ));
    assert!(out.contains("Authentication only, exit status 0"), "{out}");
    let status = minecraft_status(at, "mc.example.io").await.expect("a pong");
    assert!(status.contains("the lobby"), "{status}");
    let player = minecraft_login(at, "mc.example.io", "guest").await;
    assert_eq!(player.expect("it lets in"), "guest");
    assert!(minecraft_status(at, "other.example.io").await.is_err());
    let s_client = |name: &str| {
        format!(
            "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -quiet -connect {at} -servername {name} 2>/dev/null"
        )
    };
    let out = sh_async(s_client("git.example.com")).await;
    assert!(out.contains("200 ok"), "{out}");
    let (_, out) = try_sh(&s_client("other.example.com"));
    assert!(!out.contains("200 ok"), "another name must not get in");
    // A client that waits for the server to speak waits for the sniffing's end, and is served.
    let out = sh_async(format!(
        "mariadb --no-defaults -h 127.0.0.1 -P {port} -u root --protocol=tcp --skip-ssl -BNe 'select 6*7'"
    ))
    .await;
    assert_eq!(out.trim(), "42");
    drop(agents);
    stack.balanced().await;
}

/// `openssl s_server`, which answers any request with its own state.
struct TlsServer {
    port: u16,
    _process: portcullis_e2e::process::Process,
}

impl TlsServer {
    fn start(stack: &Stack) -> Self {
        let dir = stack.dir().display();
        let port = portcullis_e2e::ports::one();
        let (status, out) = try_sh(&format!(
            "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=git.example.com -days 2 -keyout {dir}/key -out {dir}/crt 2>&1"
        ));
        assert_eq!(status, 0, "{out}");
        let mut command = std::process::Command::new("openssl");
        command.args(["s_server", "-www", "-accept", &format!("127.0.0.1:{port}")]);
        command
            .args(["-key", &format!("{dir}/key")])
            .args(["-cert", &format!("{dir}/crt")]);
        Self {
            port,
            _process: portcullis_e2e::process::Process::start("s_server", command),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_share_by_weight_and_a_limit_limits() {
    let stack = Stack::start().await;
    let named = |name: &'static [u8]| {
        Upstream::serve(move |mut stream| async move {
            // An error is a client that has gone.
            drop(stream.write_all(name).await);
        })
    };
    let (blue, green) = tokio::join!(named(b"blue"), named(b"green"));
    let _blue = stack
        .tcp_with(&blue.hostport(), &["--url", "tcp://blue.internal:1"])
        .await;
    let _green = stack
        .tcp_with(&green.hostport(), &["--url", "tcp://green.internal:1"])
        .await;
    let targets = "on_tcp_connect:
  - expressions: [\"inCidrRange(conn.client_ip, '127.0.0.0/8')\"]
    actions:
      - type: forward-internal
        config:
          strategy: weighted
          targets:
            - {url: 'tcp://blue.internal:1', weight: 3}
            - {url: 'tcp://green.internal:1', weight: 1}
  - actions: [{type: deny}]
";
    let (id, at) = cloud(&stack, targets).await;
    // The one that found it listening has had its turn.
    eventually("nobody is there", || async {
        let open = stack.api.metric("portcullis_connections_open").await;
        let closed = stack
            .api
            .metric("portcullis_connections_closed_total")
            .await;
        (open < 0.5 && closed > 0.5).then_some(())
    })
    .await;
    let said = || async {
        let mut said = String::new();
        let heard = async {
            TcpStream::connect(at)
                .await?
                .read_to_string(&mut said)
                .await
        };
        match heard.await {
            Ok(_) => said,
            Err(error) => error.kind().to_string(), // one that is refused is reset at once
        }
    };
    let mut blues = 0;
    for _ in 0..40 {
        match said().await.as_str() {
            "blue" => blues += 1,
            "green" => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!(blues, 30);
    // A change counts for the next connection.
    let limited = "on_tcp_connect:
  - actions:
      - {type: rate-limit, config: {capacity: 3, interval: 1h}}
      - {type: forward-internal, config: {url: 'tcp://blue.internal:1'}}
";
    stack
        .api
        .patch(
            &format!("/endpoints/{id}"),
            json!({"traffic_policy": limited}),
        )
        .await;
    let mut all = Vec::new();
    for _ in 0..6 {
        all.push(said().await);
    }
    assert_eq!(
        all.iter().filter(|said| *said == "blue").count(),
        3,
        "{all:?}"
    );
    eventually("the limit is named", || async {
        stack.log().contains("PTC_RATE_LIMITED").then_some(())
    })
    .await;
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_policies_and_secrets_are_shared_changed_and_guarded() {
    let stack = Stack::start().await;
    let echo = Upstream::echo().await;
    let _agent = stack
        .tcp_with(&echo.hostport(), &["--url", "tcp://echo.internal:7"])
        .await;
    let office = stack
        .api
        .post("/ip_policies", json!({"description": "office"}))
        .await;
    let office = office["id"].as_str().expect("an id").to_owned();
    let rule = stack
        .api
        .post(
            "/ip_policy_rules",
            json!({"ip_policy_id": office, "cidr": "127.0.0.0/8", "action": "allow"}),
        )
        .await;
    let rule = rule["id"].as_str().expect("an id").to_owned();
    let vault = stack.api.post("/vaults", json!({"name": "gate"})).await;
    let secret = stack
        .api
        .post(
            "/vault_secrets",
            json!({"vault_id": vault["id"], "name": "word", "value": "sesame"}),
        )
        .await;
    let policy = format!(
        "on_tcp_connect:
  - actions: [{{type: restrict-ips, config: {{ip_policies: [{office}]}}}}]
  - expressions: [\"secrets.get('gate', 'word') == 'sesame'\"]
    actions: [{{type: forward-internal, config: {{url: 'tcp://echo.internal:7'}}}}]
  - actions: [{{type: deny}}]
"
    );
    let (_, at) = cloud(&stack, &policy).await;
    let echo = exchange(at, b"open").await.expect("it lets in");
    assert_eq!(echo, b"open");
    let (status, answer) = stack
        .api
        .send("DELETE", &format!("/ip_policies/{office}"), None)
        .await
        .expect("an answer");
    assert_eq!(answer["error_code"], "ERR_NGROK_1420", "{status} {answer}");
    let secret = secret["id"].as_str().expect("an id");
    let (_, answer) = stack
        .api
        .send("DELETE", &format!("/vault_secrets/{secret}"), None)
        .await
        .expect("an answer");
    assert_eq!(answer["details"]["code"], "PTC_SECRET_IN_USE", "{answer}");
    let other = json!({"url": "tcp://", "traffic_policy": policy.replace("'word'", "'other'")});
    let (status, answer) = stack
        .api
        .send("POST", "/endpoints", Some(other))
        .await
        .expect("an answer");
    assert_eq!(
        answer["details"]["code"], "PTC_POLICY_REFERENCE",
        "{status} {answer}"
    );
    stack
        .api
        .patch(
            &format!("/ip_policy_rules/{rule}"),
            json!({"cidr": "192.0.2.0/24"}),
        )
        .await;
    let end = exchange(at, b"open").await;
    assert!(end.is_err() || end.is_ok_and(|answer| answer.is_empty()));
    eventually("the restriction is named", || async {
        stack.log().contains("PTC_IP_RESTRICTED").then_some(())
    })
    .await;
    assert!(!stack.log().contains("sesame"));
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_is_tried_without_a_server() {
    let stack = Stack::start().await;
    let file = stack.dir().join("try.yml");
    let policy = "on_tcp_connect:
  - actions: [{type: sniff}]
  - name: ssh
    expressions: [\"conn.protocol == 'ssh'\", \"conn.geo.country_code == 'DE'\"]
    actions: [{type: forward-internal, config: {url: 'tcp://ssh.internal:22'}}]
  - name: nobody else
    actions: [{type: deny}]
";
    std::fs::write(&file, policy).expect("ours");
    let file = file.display().to_string();
    let test = |extra: &[&str]| {
        let mut args = vec!["policy", "test", file.as_str(), "--output", "json"];
        args.extend(extra);
        let (status, output) = stack.run(&args);
        assert_eq!(status, 0, "{output}");
        serde_json::from_str::<Value>(output.trim()).expect("JSON")
    };
    let told = test(&[
        "--set",
        "conn.protocol=ssh",
        "--set",
        "conn.geo.country_code=DE",
    ]);
    assert_eq!(told["outcome"], "forward", "{told}");
    let told = test(&["--set", "conn.protocol=ssh"]);
    assert_eq!(told["outcome"], "deny", "{told}");
    assert!(
        told["detail"]
            .as_str()
            .expect("text")
            .contains("nobody else"),
        "{told}"
    );
}
