//! The command line as a new user types it.

use portcullis_e2e::traffic::{Upstream, exchange};
use portcullis_e2e::{Stack, eventually, process::Process};
use serde_json::Value;

fn json(output: &str) -> Value {
    serde_json::from_str(output).unwrap_or_else(|error| panic!("{error}: {output}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_resource_has_its_verbs_on_the_command_line() {
    let stack = Stack::start().await;
    let run = |args: &[&str]| {
        let (status, output) = stack.run(args);
        assert_eq!(status, 0, "{args:?}: {output}");
        output
    };
    let port = stack.ports.start().to_string();
    let addr = json(&run(&[
        "api",
        "reserved-addrs",
        "create",
        "--host",
        "localhost",
        "--port",
        &port,
        "--description",
        "mine",
        "--output",
        "json",
    ]));
    let id = addr["id"].as_str().expect("an id");
    run(&[
        "api",
        "reserved-addrs",
        "update",
        id,
        "--description",
        "ours",
    ]);
    let shown = run(&["api", "reserved-addrs", "get", id, "--output", "table"]);
    assert!(shown.contains("CNAME") && shown.contains("ours"), "{shown}");
    let policy = r#"{"on_tcp_connect":[{"actions":[{"type":"deny"}]}]}"#;
    let url = format!("tcp://localhost:{port}");
    let endpoint = json(&run(&[
        "api",
        "endpoints",
        "create",
        "--url",
        &url,
        "--bindings",
        "public",
        "--traffic-policy",
        policy,
        "--output",
        "json",
    ]));
    let endpoint = endpoint["id"].as_str().expect("an id").to_owned();
    run(&[
        "api",
        "endpoints",
        "update",
        &endpoint,
        "--description",
        "gate",
    ]);
    let listed = run(&["api", "endpoints", "list", "--output", "table"]);
    assert!(listed.contains(&url), "{listed}");
    let (status, output) = stack.run(&["api", "reserved-addrs", "delete", id]);
    assert!(
        status == 5 && output.contains("PTC_ADDRESS_IN_USE"),
        "{status} {output}"
    );
    run(&["api", "endpoints", "delete", &endpoint]);
    run(&["api", "reserved-addrs", "delete", id]);
    let credential = json(&run(&[
        "api",
        "credentials",
        "create",
        "--acl",
        "bind:localhost:*",
        "--output",
        "json",
    ]));
    run(&[
        "api",
        "credentials",
        "get",
        credential["id"].as_str().expect("an id"),
    ]);
    run(&[
        "api",
        "credentials",
        "update",
        credential["id"].as_str().expect("an id"),
        "--metadata",
        "x",
    ]);
    run(&[
        "api",
        "credentials",
        "delete",
        credential["id"].as_str().expect("an id"),
    ]);
    let key = json(&run(&[
        "api",
        "api-keys",
        "create",
        "--description",
        "ci",
        "--output",
        "json",
    ]));
    run(&[
        "api",
        "endpoints",
        "list",
        "--api-key",
        key["token"].as_str().expect("shown once"),
    ]);
    run(&[
        "api",
        "api-keys",
        "delete",
        key["id"].as_str().expect("an id"),
    ]);
    run(&["api", "tunnel-sessions", "list"]);
    let account = json(&run(&[
        "accounts", "create", "--name", "second", "--output", "json",
    ]));
    assert!(run(&["accounts", "list"]).contains("second"));
    run(&["accounts", "delete", account["id"].as_str().expect("an id")]);
    let (status, output) = stack.run(&["api", "endpoints", "get", "ep_2NfK3notanid"]);
    assert!(
        status != 0 && output.contains("PTC_API_ID_INVALID"),
        "{output}"
    );
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completion", shell]).contains("portcullis"));
    }
    assert!(run(&["version"]).contains(env!("CARGO_PKG_VERSION")));
    assert!(run(&["service", "install", "server", "--print"]).contains("CAP_NET_BIND_SERVICE"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_and_agent_find_each_other_without_a_word() {
    // Nothing but `portcullis server` and `portcullis tcp PORT` in the same home, apart from ports.
    let stack = Stack::start_with(&[]).await;
    let upstream = Upstream::echo().await;
    let port = upstream.addr.port().to_string();
    let mut command = portcullis_e2e::stack::portcullis(stack.dir());
    command.args(["tcp", &port, "--name", "bare", "--web-addr", "false"]);
    let mut process = Process::start("tcp", command);
    let endpoint = eventually("the endpoint is online", || {
        assert!(process.is_running(), "{}", process.output());
        stack.api.endpoint_named("bare")
    })
    .await;
    let at = std::net::SocketAddr::from((
        [127, 0, 0, 1],
        endpoint["port"]
            .as_u64()
            .and_then(|port| port.try_into().ok())
            .expect("a port"),
    ));
    eventually("it answers", || async {
        exchange(at, b"hello")
            .await
            .ok()
            .filter(|echo| echo == b"hello")
    })
    .await;
    assert!(
        process
            .output()
            .contains(endpoint["url"].as_str().expect("a URL")),
        "{}",
        process.output()
    );
    let mut list = portcullis_e2e::stack::portcullis(stack.dir());
    list.args(["api", "endpoints", "list"]);
    let (status, output) =
        portcullis_e2e::process::finish("list", list, std::time::Duration::from_secs(20));
    assert!(status.success() && output.contains("bare"), "{output}");
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn diagnose_says_what_works_and_what_does_not() {
    let mut stack = Stack::start().await;
    let join = stack.join();
    let (status, output) = stack.run(&["diagnose", "--authtoken", &join]);
    assert_eq!(status, 0, "{output}");
    for step in ["DNS", "TCP", "TLS", "protocol"] {
        assert!(
            output.to_lowercase().contains(&step.to_lowercase()),
            "{step}: {output}"
        );
    }
    drop(stack.server.take());
    let (status, output) = stack.run(&["diagnose", "--authtoken", &join]);
    assert!(
        status != 0 && output.contains("PTC_SERVER_UNREACHABLE"),
        "{output}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_starts_everything_and_a_second_run_finds_its_state() {
    let home = tempfile::Builder::new()
        .prefix("ptc-up-")
        .tempdir()
        .expect("a directory");
    let mut addresses = Vec::new();
    for _ in 0..2 {
        let ports = portcullis_e2e::ports::block(2);
        let mut command = portcullis_e2e::stack::portcullis(home.path());
        command.args([
            "up",
            "--data-dir",
            "data",
            "--agents-listen",
            &format!("127.0.0.1:{}", ports.start()),
        ]);
        command.args(["--api-listen", &format!("127.0.0.1:{}", ports.end())]);
        let mut process = Process::start("up", command);
        let address = eventually("the address is printed", || {
            assert!(process.is_running(), "{}", process.output());
            let found = process
                .output()
                .split_whitespace()
                .find(|word| word.starts_with("tcp://"))
                .map(str::to_owned);
            async move { found }
        })
        .await;
        let port: u16 = address
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .expect("tcp://host:port");
        let at = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        eventually("the demo answers", || async {
            exchange(at, b"hello\n")
                .await
                .ok()
                .filter(|echo| !echo.is_empty())
        })
        .await;
        let said = process.output();
        assert!(
            said.contains("http://127.0.0.1:") && said.contains("portcullis tcp"),
            "{said}"
        );
        process.signal(nix::sys::signal::Signal::SIGINT);
        let (status, output) = tokio::task::spawn_blocking(move || {
            (
                process.wait(std::time::Duration::from_secs(30)),
                process.output(),
            )
        })
        .await
        .expect("no panic");
        assert!(status.is_some_and(|status| status.success()), "{output}");
        addresses.push(port);
    }
    assert_eq!(
        addresses[0], addresses[1],
        "the second run finds its address again"
    );
}

/// A proxy of the environment must not see the key on its way to this machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_reach_a_local_api_past_every_proxy() {
    let stack = Stack::start().await;
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    proxy.set_nonblocking(true).expect("set");
    let address = format!("http://{}", proxy.local_addr().expect("bound"));
    let mut command = stack.cli(&["api", "credentials", "list"]);
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(name, &address);
    }
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    assert!(proxy.accept().is_err(), "nobody asked the proxy");
}
