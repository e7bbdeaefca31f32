//! `portcullis connect`: internal endpoints from a laptop, with the policies, records and limits of any
//! connection.

use std::net::SocketAddr;
use std::time::Duration;

use portcullis_e2e::process::Process;
use portcullis_e2e::servers::{Postgres, Redis, Sshd};
use portcullis_e2e::shell::{sh_async, try_sh};
use portcullis_e2e::stack::{AgentProcess, binary};
use portcullis_e2e::traffic::{self, Upstream, checksum, exchange, pattern};
use portcullis_e2e::{Stack, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const MOMENT: Duration = Duration::from_secs(20);

/// An internal endpoint in front of a service of this machine.
async fn internal(stack: &Stack, upstream: &str, url: &str, extra: &[&str]) -> AgentProcess {
    stack
        .tcp_with(upstream, &[&["--url", url][..], extra].concat())
        .await
}

/// `portcullis connect`, and where it listens.
async fn connect(stack: &Stack, url: &str, extra: &[&str]) -> (Process, SocketAddr) {
    let args = [&["connect", url][..], extra].concat();
    let mut process = Process::start("connect", stack.cli(&args));
    let at = eventually("it listens", || {
        assert!(process.is_running(), "it ended:\n{}", process.output());
        let output = process.output();
        let line = output.lines().find(|line| line.contains(" -> "));
        let at = line.and_then(|line| line.split(' ').next()?.parse().ok());
        async move { at }
    })
    .await;
    (process, at)
}

/// The only connection that the API shows.
async fn only_connection(stack: &Stack) -> Value {
    eventually("one connection is open", || async {
        let list = stack.api.get("/connections").await;
        let all = list["connections"].as_array()?.clone();
        let [one] = all.as_slice() else { return None };
        (one["established"] == true).then(|| one.clone())
    })
    .await
}

/// What the server counted of a reason.
async fn closed(stack: &Stack, reason: &str) -> bool {
    let (_, text) = stack
        .api
        .send("GET", "/metrics", None)
        .await
        .expect("metrics");
    let label = format!("reason=\"{reason}\"");
    let lines = text.as_str().unwrap_or_default().lines();
    lines
        .filter(|line| line.contains(&label))
        .any(|line| !line.ends_with(" 0"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_are_reached_by_their_own_clients() {
    let (stack, postgres, redis) = tokio::join!(Stack::start(), Postgres::start(), Redis::start());
    let (pg, rd) = ("tcp://pg.internal:5432", "tcp://redis.internal:6379");
    let _pg = internal(&stack, &postgres.port.to_string(), pg, &[]).await;
    let _redis = internal(&stack, &redis.port.to_string(), rd, &[]).await;
    let (_one, at) = connect(&stack, pg, &["0"]).await;
    let line = format!(
        "psql -h 127.0.0.1 -p {} -U postgres -XAtc 'select 6*7, count(*) from generate_series(1, 200000)'",
        at.port()
    );
    assert_eq!(sh_async(line).await.trim(), "42|200000");
    // A port that is asked for is the port.
    let port = portcullis_e2e::ports::one();
    let (_two, at) = connect(&stack, "redis.internal:6379", &[&port.to_string()]).await;
    assert_eq!(at.port(), port);
    let line = format!("redis-cli -p {port} set a b; redis-cli -p {port} get a");
    assert_eq!(sh_async(line).await.trim(), "OK\nb");
    // One that is taken is told by its name.
    let (status, output) = stack.run(&["connect", rd, &port.to_string()]);
    assert_ne!(status, 0);
    assert!(output.contains("PTC_PORT_TAKEN"), "{output}");
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ssh_comes_through_as_a_proxy_command() {
    let (stack, sshd) = tokio::join!(Stack::start(), Sshd::start());
    let url = "tcp://host.internal:22";
    let _agent = internal(&stack, &sshd.port.to_string(), url, &[]).await;
    let command = format!(
        "{} connect {url} - --authtoken {}",
        binary().display(),
        stack.join()
    );
    let ssh = format!(
        "ssh {} -o ProxyCommand='{command}' root@host.internal",
        sshd.options()
    );
    let out = sh_async(format!("{ssh} 'echo gate $((6*7))'")).await;
    assert_eq!(out.trim(), "gate 42");
    // Both ways, whole: what goes in comes out, and the end of it ends the command.
    let out = sh_async(format!(
        "head -c 20000000 /dev/zero | {ssh} 'cat' | sha256sum"
    ));
    let expected = checksum(&vec![0; 20_000_000]);
    assert!(out.await.starts_with(&expected));
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_and_half_closes_pass_both_ways_whole() {
    let stack = Stack::start().await;
    // Answers only after the client's end: a lost half-close would lose the answer.
    let upstream = Upstream::serve(|mut stream| async move {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).await.expect("reads");
        let mut answer = checksum(&request).into_bytes();
        answer.extend(pattern(9, 30_000_000));
        stream.write_all(&answer).await.expect("writes");
        stream.shutdown().await.expect("ends");
    })
    .await;
    let url = "tcp://sum.internal:7000";
    let _agent = internal(&stack, &upstream.hostport(), url, &[]).await;
    let (_connect, at) = connect(&stack, url, &[]).await;
    let request = pattern(1, 20_000_000);
    let answer = exchange(at, &request).await.expect("no reset");
    assert_eq!(&answer[..64], checksum(&request).as_bytes());
    assert!(checksum(&answer[64..]) == checksum(&pattern(9, 30_000_000)));
    // The same on standard input and output.
    let line = format!(
        "head -c 1000000 /dev/zero | {} connect {url} --stdio --authtoken {} | (head -c 64; cat > /dev/null)",
        binary().display(),
        stack.join()
    );
    assert_eq!(sh_async(line).await, checksum(&vec![0; 1_000_000]));
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_ends_first_still_hears_the_rest() {
    let stack = Stack::start().await;
    let (report, mut reported) = tokio::sync::mpsc::channel(1);
    let upstream = Upstream::serve(move |mut stream| {
        let report = report.clone();
        async move {
            stream.write_all(b"bye").await.expect("writes");
            stream.shutdown().await.expect("ends its direction");
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.expect("reads");
            report.send(checksum(&rest)).await.expect("the test waits");
        }
    })
    .await;
    let url = "tcp://bye.internal:7000";
    let _agent = internal(&stack, &upstream.hostport(), url, &[]).await;
    let (_connect, at) = connect(&stack, url, &[]).await;
    let mut client = TcpStream::connect(at).await.expect("connects");
    let mut greeting = Vec::new();
    client.read_to_end(&mut greeting).await.expect("an end");
    assert_eq!(greeting, b"bye");
    let rest = pattern(3, 5_000_000);
    client.write_all(&rest).await.expect("the other direction");
    client.shutdown().await.expect("ends");
    assert_eq!(reported.recv().await, Some(checksum(&rest)));
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_passes_both_ways() {
    let stack = Stack::start().await;
    let (seen, mut resets) = tokio::sync::mpsc::channel(4);
    let upstream = Upstream::serve(move |mut stream| {
        let seen = seen.clone();
        async move {
            let mut first = [0];
            stream.read_exact(&mut first).await.expect("a byte");
            if first == *b"r" {
                traffic::reset_on_close(&stream);
                return;
            }
            stream.write_all(b"x").await.expect("writes");
            let end = stream.read(&mut first).await;
            let kind = end.map_err(|error| error.kind());
            seen.send(kind).await.expect("the test waits");
        }
    })
    .await;
    let url = "tcp://reset.internal:7000";
    let _agent = internal(&stack, &upstream.hostport(), url, &[]).await;
    let (_connect, at) = connect(&stack, url, &[]).await;
    let reset = std::io::ErrorKind::ConnectionReset;
    let mut client = TcpStream::connect(at).await.expect("connects");
    client.write_all(b"r").await.expect("writes");
    let error = client.read(&mut [0]).await.expect_err("a reset");
    assert_eq!(error.kind(), reset);
    let mut client = TcpStream::connect(at).await.expect("connects");
    client.write_all(b"g").await.expect("writes");
    client.read_exact(&mut [0]).await.expect("it is there");
    traffic::reset_on_close(&client);
    drop(client);
    assert_eq!(resets.recv().await, Some(Err(reset)));
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_is_told_with_its_code() {
    let stack = Stack::start().await;
    let upstream = Upstream::echo().await;
    let (open, shut) = ("tcp://open.internal:7000", "tcp://shut.internal:7000");
    let deny = "on_tcp_connect: [{actions: [{type: deny}]}]";
    let _open = internal(&stack, &upstream.hostport(), open, &[]).await;
    let policy = ["--traffic-policy", deny];
    let _shut = internal(&stack, &upstream.hostport(), shut, &policy).await;
    let says = "on_tcp_connect: [{actions: [{type: custom-response, config: {text: closed}}]}]";
    let told = "tcp://told.internal:7000";
    let policy = ["--traffic-policy", says];
    let _told = internal(&stack, &upstream.hostport(), told, &policy).await;

    // At once, where the first look says it.
    let refused = |args: &[&str]| {
        let (status, output) = stack.run(&[&["connect"][..], args].concat());
        assert_ne!(status, 0, "{args:?}: {output}");
        output
    };
    let absent = refused(&["tcp://absent.internal:1"]);
    assert!(absent.contains("PTC_FORWARD_TARGET_MISSING"), "{absent}");
    let public = refused(&["tcp://localhost:20001", "-"]);
    assert!(public.contains("PTC_DIAL_NOT_INTERNAL"), "{public}");
    let unknown = stack.api.post("/credentials", json!({})).await;
    let token = unknown["token"].as_str().expect("a token").to_owned();
    stack
        .api
        .delete(&format!(
            "/credentials/{}",
            unknown["id"].as_str().expect("an id")
        ))
        .await;
    let at = stack.agents.to_string();
    let wrong = refused(&[open, "--authtoken", &token, "--server", &at]);
    assert!(wrong.contains("PTC_AUTHTOKEN_UNKNOWN"), "{wrong}");

    // By the policy, for each connection.
    let (process, at) = connect(&stack, shut, &[]).await;
    assert!(exchange(at, b"hello").await.is_err(), "it is cut");
    eventually("the user is told", || async {
        process.output().contains("PTC_POLICY_DENIED").then_some(())
    })
    .await;
    assert!(closed(&stack, "policy_denied").await);
    let denied = refused(&[shut, "-"]);
    assert!(denied.contains("PTC_POLICY_DENIED"), "{denied}");

    // A policy's own answer comes whole.
    let (_process, at) = connect(&stack, told, &[]).await;
    assert_eq!(exchange(at, b"hello").await.expect("an answer"), b"closed");

    let (_process, at) = connect(&stack, open, &[]).await;
    assert_eq!(exchange(at, b"hello").await.expect("an echo"), b"hello");
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_reaches_what_its_rules_cover_and_ends_its_connections() {
    let stack = Stack::start().await;
    let upstream = Upstream::echo().await;
    let (db, other) = ("tcp://db.internal:5432", "tcp://other.internal:5432");
    let _db = internal(&stack, &upstream.hostport(), db, &[]).await;
    let _other = internal(&stack, &upstream.hostport(), other, &[]).await;
    let rules = json!({"acl": ["bind:db.internal:5432"]});
    let credential = stack.api.post("/credentials", rules).await;
    let id = credential["id"].as_str().expect("an id").to_owned();
    let token = credential["token"].as_str().expect("a token").to_owned();
    let at = stack.agents.to_string();
    let as_it = ["--authtoken", &token, "--server", &at];
    let (status, output) = stack.run(&[&["connect", other][..], &as_it].concat());
    assert_ne!(status, 0);
    assert!(output.contains("PTC_CREDENTIAL_ACL"), "{output}");

    let (mut process, local) = connect(&stack, db, &as_it).await;
    let mut client = TcpStream::connect(local).await.expect("connects");
    client.write_all(b"x").await.expect("writes");
    client.read_exact(&mut [0]).await.expect("an echo");
    let shown = only_connection(&stack).await;
    assert_eq!(shown["listener"], at, "{shown}");
    stack.api.delete(&format!("/credentials/{id}")).await;
    let end = client.read(&mut [0]).await;
    assert!(end.is_err(), "it is cut: {end:?}");
    let status = process.wait(MOMENT).expect("nothing is left to do");
    assert!(!status.success());
    let output = process.output();
    assert!(output.contains("PTC_CREDENTIAL_REVOKED"), "{output}");
    assert!(closed(&stack, "credential_revoked").await);
    let log = stack.log();
    assert!(log.contains(&format!("connected by {id}")), "{log}");
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_reads_first_bytes_and_forwards_as_it_does_for_anyone() {
    let stack = Stack::start().await;
    let (upstream, port) = (Upstream::echo().await, stack.agents.port());
    let behind = "tcp://behind.internal:6379";
    let _behind = internal(&stack, &upstream.hostport(), behind, &[]).await;
    let policy = format!(
        "on_tcp_connect:
  - actions: [{{type: sniff, config: {{timeout: 5s}}}}]
  - expressions: [\"conn.protocol == 'redis' && conn.client_ip == '127.0.0.1' && conn.server_port == {port}\"]
    actions: [{{type: forward-internal, config: {{url: '{behind}'}}}}]
  - actions: [{{type: deny}}]
"
    );
    let gate = "tcp://gate.internal:1";
    let endpoint = json!({
        "url": gate, "type": "cloud", "bindings": ["internal"], "traffic_policy": policy,
    });
    stack.api.post("/endpoints", endpoint).await;
    let (process, at) = connect(&stack, gate, &[]).await;
    let ping = b"*1\r\n$4\r\nPING\r\n";
    assert_eq!(exchange(at, ping).await.expect("forwarded"), ping);
    assert!(exchange(at, b"SSH-2.0-x\r\n").await.is_err(), "denied");
    eventually("the user is told", || async {
        process.output().contains("PTC_POLICY_DENIED").then_some(())
    })
    .await;
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_counts_against_limits_and_ends_by_the_api() {
    let stack = Stack::start().await;
    let upstream = Upstream::echo().await;
    let url = "tcp://one.internal:7000";
    let one = ["--connections-max", "1"];
    let _agent = internal(&stack, &upstream.hostport(), url, &one).await;
    let (process, at) = connect(&stack, url, &[]).await;
    let mut client = TcpStream::connect(at).await.expect("connects");
    client.write_all(b"x").await.expect("writes");
    client.read_exact(&mut [0]).await.expect("an echo");
    assert!(exchange(at, b"y").await.is_err(), "there is one already");
    eventually("the user is told", || async {
        process
            .output()
            .contains("PTC_LIMIT_ENDPOINT")
            .then_some(())
    })
    .await;
    let shown = only_connection(&stack).await;
    let id = shown["id"].as_str().expect("an id").to_owned();
    stack.api.delete(&format!("/connections/{id}")).await;
    assert!(client.read(&mut [0]).await.is_err(), "it is cut");
    eventually("the user is told", || async {
        process
            .output()
            .contains("PTC_ENDED_BY_OPERATOR")
            .then_some(())
    })
    .await;
    assert!(process.output().contains("connection from 127.0.0.1:"));
    assert_eq!(exchange(at, b"z").await.expect("there is room"), b"z");
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_connection_works_when_the_server_is_back() {
    let mut stack = Stack::start().await;
    let upstream = Upstream::echo().await;
    let url = "tcp://back.internal:7000";
    let mut agent = internal(&stack, &upstream.hostport(), url, &[]).await;
    let (_process, at) = connect(&stack, url, &[]).await;
    assert_eq!(exchange(at, b"before").await.expect("echo"), b"before");
    let mut open = TcpStream::connect(at).await.expect("connects");
    open.write_all(b"x").await.expect("writes");
    open.read_exact(&mut [0]).await.expect("an echo");
    stack.server.as_mut().expect("it runs").kill9();
    stack.server = None;
    assert!(open.read(&mut [0]).await.is_err(), "cut, and not an end");
    assert!(exchange(at, b"during").await.is_err(), "nobody is there");
    stack.up().await;
    agent.online().await;
    eventually("it works again", || async {
        let echo = exchange(at, b"after").await;
        echo.is_ok_and(|echo| echo == b"after").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_ends_leaves_nothing_behind() {
    let stack = Stack::start().await;
    let upstream = Upstream::echo().await;
    let url = "tcp://gone.internal:7000";
    let _agent = internal(&stack, &upstream.hostport(), url, &[]).await;
    let (mut process, at) = connect(&stack, url, &[]).await;
    let mut client = TcpStream::connect(at).await.expect("connects");
    client.write_all(b"x").await.expect("writes");
    client.read_exact(&mut [0]).await.expect("an echo");
    only_connection(&stack).await;
    assert!(
        process.terminate(MOMENT).success(),
        "a signal is no failure"
    );
    assert!(client.read(&mut [0]).await.is_err(), "cut, and not an end");
    eventually("the server has noticed", || async {
        let open = stack.api.metric("portcullis_connections_open").await;
        (open < 0.5).then_some(())
    })
    .await;
    // Who asks without a terminal hears of it by the status.
    let line = format!("{} connect {url} - < /dev/null", binary().display());
    let home = stack.dir().display();
    let (status, output) = try_sh(&format!("cd {home} && {line}"));
    assert_eq!(status, 0, "{output}");
    stack.balanced().await;
}
