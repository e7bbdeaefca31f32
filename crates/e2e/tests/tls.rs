//! TLS at the edge by real clients: terminated, routed by what a client's certificate says, and passed through
//! behind PostgreSQL's own way of asking for it; with requests to cancel, and with a limit of bandwidth.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use portcullis_e2e::Stack;
use portcullis_e2e::servers::{Nginx, Postgres};
use portcullis_e2e::shell::{sh, sh_async, try_sh};
use portcullis_e2e::stack::AgentProcess;
use portcullis_e2e::traffic::{Upstream, checksum, pattern};
use portcullis_e2e::wait::eventually;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

/// A CA, and a certificate with its key for every name.
pub(crate) struct Pki(tempfile::TempDir);

impl Pki {
    pub(crate) fn new(names: &[&str]) -> Self {
        let pki = Self(tempfile::tempdir().expect("a directory"));
        let dir = pki.0.path().display();
        let new = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        sh(&format!(
            "cd {dir} && openssl {new} -x509 -days 2 -subj '/CN=test CA' -keyout ca.key -out ca.pem 2>&1"
        ));
        for name in names {
            sh(&format!(
                "cd {dir} && openssl {new} -subj '/CN={name}' -keyout {name}.key -out {name}.csr 2>&1 && \
                 printf 'subjectAltName=DNS:{name}' > {name}.ext && \
                 openssl x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
                 -extfile {name}.ext -out {name}.pem 2>&1 && chmod 600 {name}.key"
            ));
        }
        pki
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// A file's text, as a block of YAML this deep.
    fn block(&self, file: &str, deep: usize) -> String {
        let text = std::fs::read_to_string(self.path(file)).expect("ours");
        let indented = text.lines().map(|line| format!("\n{:deep$}{line}", ""));
        format!("|{}", indented.collect::<String>())
    }

    /// `terminate-tls` with a name's certificate, for clients with a certificate of the CA or whoever else.
    pub(crate) fn terminate(&self, name: &str, strategy: Option<&str>) -> String {
        let shown = format!(
            "      - type: terminate-tls\n        config:\n          server_certificate: {}\n          server_private_key: {}\n",
            self.block(&format!("{name}.pem"), 12),
            self.block(&format!("{name}.key"), 12)
        );
        let asks = strategy.map_or(String::new(), |strategy| {
            let authority = self.block("ca.pem", 14);
            format!(
                "          mutual_tls_verification_strategy: {strategy}\n          mutual_tls_certificate_authorities:\n            - {authority}\n"
            )
        });
        shown + &asks
    }
}

/// A cloud endpoint with this policy; where it listens.
async fn cloud(stack: &Stack, policy: &str) -> SocketAddr {
    let file = stack.dir().join("tls-policy.yml");
    std::fs::write(&file, policy).expect("ours");
    let file = file.display().to_string();
    let (status, output) = stack.run(&[
        "api",
        "endpoints",
        "create",
        "--url",
        "tcp://",
        "--traffic-policy-file",
        &file,
        "--output",
        "json",
    ]);
    assert_eq!(status, 0, "{output}\n{policy}");
    let begin = output.find('{').expect("an object");
    let made: Value = serde_json::from_str(&output[begin..]).expect("JSON");
    let port = made["port"].as_u64().and_then(|port| port.try_into().ok());
    let at = SocketAddr::from(([127, 0, 0, 1], port.expect("a port")));
    eventually("it listens", || async {
        tokio::net::TcpStream::connect(at)
            .await
            .is_ok()
            .then_some(())
    })
    .await;
    at
}

async fn internal(stack: &Stack, port: u16, name: &str) -> AgentProcess {
    let url = format!("tcp://{name}.internal:1");
    stack.tcp_with(&port.to_string(), &["--url", &url]).await
}

/// `psql` at a name that is here; what it says of a question, with its exit status.
pub(crate) fn psql(at: SocketAddr, name: &str, options: &str, asks: &str) -> (i32, String) {
    let port = at.port();
    try_sh(&format!(
        "psql 'host={name} hostaddr=127.0.0.1 port={port} user=postgres dbname=postgres {options}' -Atc '{asks}'"
    ))
}

/// Gives a server of PostgreSQL a certificate; it takes TLS from then on.
pub(crate) async fn takes_tls(postgres: &Postgres, pki: &Pki, name: &str) {
    let port = postgres.port;
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let ask = |asks: &str| psql(at, "localhost", "sslmode=disable", asks);
    let (_, data) = ask("show data_directory");
    let (data, pki) = (data.trim().to_owned(), pki.0.path().display());
    sh(&format!(
        "for kind in pem key; do install -o postgres -m 600 {pki}/{name}.$kind {data}/own.$kind; done"
    ));
    for (key, value) in [
        ("ssl_cert_file", "own.pem"),
        ("ssl_key_file", "own.key"),
        ("ssl", "on"),
    ] {
        let (status, output) = ask(&format!("alter system set {key} = \"{value}\""));
        assert_eq!(status, 0, "{output}");
    }
    assert_eq!(ask("select pg_reload_conf()").1.trim(), "t");
    eventually("it takes TLS", || async {
        let (status, _) = psql(at, "localhost", "sslmode=require", "select 1");
        (status == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_in_every_mode_through_termination() {
    let (stack, postgres, other) =
        tokio::join!(Stack::start(), Postgres::start(), Postgres::start());
    let pki = Pki::new(&["db.example", "alice", "bob"]);
    let _agents = (
        internal(&stack, postgres.port, "pg").await,
        internal(&stack, other.port, "alice").await,
    );
    let terminate = pki.terminate("db.example", Some("request"));
    let policy = format!(
        "
on_tcp_connect:
  - actions: [{{type: sniff}}]
  - expressions: [\"conn.sni != ''\"]
    actions:
{terminate}
  - expressions: [\"conn.tls.client.subject.common_name == 'alice'\"]
    actions: [{{type: forward-internal, config: {{url: 'tcp://alice.internal:1'}}}}]
  - actions: [{{type: forward-internal, config: {{url: 'tcp://pg.internal:1'}}}}]
"
    );
    let at = cloud(&stack, &policy).await;
    let ca = pki.path("ca.pem").display().to_string();
    let full = format!("sslmode=verify-full sslrootcert={ca}");
    let with = |name: &str| {
        let (cert, key) = (
            pki.path(&format!("{name}.pem")),
            pki.path(&format!("{name}.key")),
        );
        format!("{full} sslcert={} sslkey={}", cert.display(), key.display())
    };
    let ports = [postgres.port.to_string(), other.port.to_string()];
    for (options, port) in [
        ("sslmode=disable".to_owned(), &ports[0]),
        ("sslmode=require".to_owned(), &ports[0]),
        (full.clone(), &ports[0]),
        (with("alice"), &ports[1]),
        (with("bob"), &ports[0]),
    ] {
        let (status, out) = psql(at, "db.example", &options, "show port");
        assert_eq!((status, out.trim()), (0, port.as_str()), "{options}");
    }
    let (status, out) = psql(at, "other.example", &full, "select 1");
    assert!(status != 0 && out.contains("other.example"), "{out}");
    // What was agreed on is in the record.
    eventually("the record says who it was", || async {
        let log = stack.log();
        (log.contains("sni=db.example") && log.contains("CN=alice")).then_some(())
    })
    .await;

    // The same where every client has to show a certificate.
    let terminate = pki.terminate("db.example", Some("require-and-verify"));
    let policy = format!(
        "
on_tcp_connect:
  - actions:
{terminate}
      - {{type: forward-internal, config: {{url: 'tcp://pg.internal:1'}}}}
"
    );
    let at = cloud(&stack, &policy).await;
    let (status, out) = psql(at, "db.example", &with("bob"), "select 6*7");
    assert_eq!((status, out.trim()), (0, "42"));
    for options in ["sslmode=require", "sslmode=disable"] {
        let (status, out) = psql(at, "db.example", options, "select 1");
        assert!(status != 0, "{options}: {out}");
    }
    eventually("the reason is told", || async {
        let log = stack.log();
        (log.contains("tls_handshake") && log.contains("it shows no certificate")).then_some(())
    })
    .await;
    stack.balanced().await;
}

const BY_NAME: &str = "
on_tcp_connect:
  - actions: [{type: sniff}]
  - expressions: [\"conn.protocol == 'postgres' && conn.sni == 'one.example'\"]
    actions: [{type: forward-internal, config: {url: 'tcp://one.internal:1'}}]
  - expressions: [\"conn.protocol == 'postgres' && conn.sni == 'two.example'\"]
    actions: [{type: forward-internal, config: {url: 'tcp://two.internal:1'}}]
  - expressions: [\"conn.protocol == 'postgres' && conn.sni == 'none.example'\"]
    actions: [{type: forward-internal, config: {url: 'tcp://none.internal:1'}}]
  - actions: [{type: deny}]
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_reaches_two_servers_by_name_and_the_edge_sees_nothing_in_the_clear() {
    let (stack, one, two, none) = tokio::join!(
        Stack::start(),
        Postgres::start(),
        Postgres::start(),
        Postgres::start()
    );
    let pki = Pki::new(&["one.example", "two.example"]);
    takes_tls(&one, &pki, "one.example").await;
    takes_tls(&two, &pki, "two.example").await;
    let _agents = (
        internal(&stack, one.port, "one").await,
        internal(&stack, two.port, "two").await,
        internal(&stack, none.port, "none").await,
    );
    let at = cloud(&stack, BY_NAME).await;
    let ca = pki.path("ca.pem").display().to_string();
    let full = format!("sslmode=verify-full sslrootcert={ca}");
    for (name, port) in [("one.example", one.port), ("two.example", two.port)] {
        for options in [full.as_str(), "sslmode=require", "sslmode=prefer"] {
            let (status, out) = psql(at, name, options, "show port");
            assert_eq!(
                (status, out.trim()),
                (0, port.to_string().as_str()),
                "{out}"
            );
        }
    }
    let (status, out) = psql(at, "none.example", "sslmode=require", "select 1");
    assert!(status != 0, "{out}");
    eventually("the reason is told", || async {
        stack.log().contains("PTC_UPSTREAM_NO_TLS").then_some(())
    })
    .await;
    stack.balanced().await;
}

/// Starts a statement that lasts, interrupts psql as Ctrl-C does, and has it say what came of it.
async fn interrupted(at: SocketAddr, options: &str) -> String {
    let port = at.port();
    let line = format!(
        "psql 'host=db.example hostaddr=127.0.0.1 port={port} user=postgres dbname=postgres {options}' \
         -Atc 'select pg_sleep(100)' & pid=$!; \
         for i in $(seq 200); do sleep 0.3; kill -INT $pid 2>/dev/null || break; done; wait $pid; true"
    );
    sh_async(format!("( {line} ) 2>&1")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_c_in_psql_cancels_at_the_server_that_runs_the_statement() {
    let (stack, one, two) = tokio::join!(Stack::start(), Postgres::start(), Postgres::start());
    let pki = Pki::new(&["db.example"]);
    let _agents = (
        internal(&stack, one.port, "one").await,
        internal(&stack, two.port, "two").await,
    );
    let terminate = pki.terminate("db.example", None);
    let policy = format!(
        "
on_tcp_connect:
  - actions: [{{type: sniff}}]
  - expressions: [\"conn.sni != ''\"]
    actions:
{terminate}
  - actions:
      - type: forward-internal
        config:
          targets: [{{url: 'tcp://one.internal:1', weight: 1}}, {{url: 'tcp://two.internal:1', weight: 1}}]
"
    );
    let at = cloud(&stack, &policy).await;
    for options in ["sslmode=disable", "sslmode=require"] {
        // Twice: the turns would lead a request to the other server each time.
        for _ in 0..2 {
            let out = interrupted(at, options).await;
            assert!(
                out.contains("canceling statement due to user request"),
                "{options}: {out}"
            );
        }
    }
    eventually("the record says whose they were", || async {
        let log = stack.log();
        log.contains("gave out the key of this request to cancel")
            .then_some(())
    })
    .await;
    stack.balanced().await;
}

/// `curl` at a name that is here.
async fn curl(at: SocketAddr, name: &str, options: &str) -> String {
    let port = at.port();
    sh_async(format!(
        "curl -sS --noproxy '*' --resolve {name}:{port}:127.0.0.1 {options} https://{name}:{port}/"
    ))
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_and_openssl_by_the_common_name_of_their_certificate() {
    let stack = Stack::start().await;
    let pki = Pki::new(&["www.example", "alice", "bob"]);
    let (alice, bob) = (answers("for alice").await, answers("for bob").await);
    let _agents = (
        internal(&stack, alice.addr.port(), "alice").await,
        internal(&stack, bob.addr.port(), "bob").await,
    );
    let terminate = pki.terminate("www.example", Some("require-and-verify"));
    let policy = format!(
        "
on_tcp_connect:
  - actions:
{terminate}
  - expressions: [\"conn.tls.client.subject.common_name == 'alice'\"]
    actions: [{{type: forward-internal, config: {{url: 'tcp://alice.internal:1'}}}}]
  - expressions: [\"conn.tls.client.subject.common_name == 'bob'\"]
    actions: [{{type: forward-internal, config: {{url: 'tcp://bob.internal:1'}}}}]
  - actions: [{{type: deny}}]
"
    );
    let at = cloud(&stack, &policy).await;
    let dir = pki.0.path().display().to_string();
    for name in ["alice", "bob"] {
        for version in ["", "--tls-max 1.2"] {
            let options = format!(
                "--cacert {dir}/ca.pem --cert {dir}/{name}.pem --key {dir}/{name}.key {version}"
            );
            let out = curl(at, "www.example", &options).await;
            assert_eq!(out, format!("for {name}"));
        }
        let out = sh_async(format!(
            "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -connect {at} -servername www.example -quiet -ign_eof \
             -verify_return_error -CAfile {dir}/ca.pem -cert {dir}/{name}.pem -key {dir}/{name}.key 2>&1"
        ))
        .await;
        assert!(out.contains(&format!("for {name}")), "{out}");
    }
    let (status, out) = try_sh(&format!(
        "printf x | openssl s_client -connect {at} -servername www.example -tls1_2 -quiet -CAfile {dir}/ca.pem 2>&1"
    ));
    assert!(status != 0 && out.contains("alert"), "{out}");
    stack.balanced().await;
}

/// A server of HTTP that says one thing.
async fn answers(what: &'static str) -> Upstream {
    Upstream::serve(move |mut stream| async move {
        use tokio::io::AsyncReadExt as _;
        drop(stream.read(&mut [0; 4096]).await);
        let length = what.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{what}"
        );
        drop(stream.write_all(answer.as_bytes()).await);
        drop(stream.shutdown().await);
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_own_ca_vouches_where_nothing_else_does() {
    let (stack, nginx) = tokio::join!(Stack::start(), Nginx::start(false));
    let _agent = internal(&stack, nginx.port, "web").await;
    let policy = "
on_tcp_connect:
  - actions:
      - {type: terminate-tls}
      - {type: forward-internal, config: {url: 'tcp://web.internal:1'}}
";
    let at = cloud(&stack, policy).await;
    let ca = stack.data().join("endpoints/ca.pem");
    let options = format!("--cacert {}", ca.display());
    let out = curl(at, "localhost", &options).await;
    assert_eq!(out.trim(), "127.0.0.1");
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_slowed_down_arrives_whole() {
    const BYTES: usize = 3_000_000;
    let stack = Stack::start().await;
    let bytes = pattern(7, BYTES);
    let expected = checksum(&bytes);
    let upstream = Upstream::serve(move |mut stream| {
        let bytes = bytes.clone();
        async move {
            drop(stream.write_all(&bytes).await);
            drop(stream.shutdown().await);
        }
    })
    .await;
    let policy = "
on_tcp_connect:
  - actions:
      - {type: limit-bandwidth, config: {download: 4MB, burst: 500KB, key: \"'all'\"}}
      - {type: forward-internal, config: {url: 'tcp://bulk.internal:1'}}
";
    let _agent = internal(&stack, upstream.addr.port(), "bulk").await;
    let at = cloud(&stack, policy).await;
    let file = |n: u32| stack.dir().join(format!("got-{n}"));
    let fetch = |path: &Path| sh_async(format!("socat -u TCP:{at} CREATE:{}", path.display()));
    let (one, two) = (file(1), file(2));
    tokio::join!(fetch(&one), fetch(&two));
    for path in [one, two] {
        let got = std::fs::read(path).expect("fetched");
        assert_eq!(got.len(), BYTES);
        assert_eq!(checksum(&got), expected);
    }
    stack.balanced().await;
}
