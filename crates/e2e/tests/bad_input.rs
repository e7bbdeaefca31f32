//! What a user gets wrong: each gives one clear message with its code, a non-zero exit where it is a
//! command, and nothing lost.

use std::os::unix::fs::PermissionsExt as _;

use portcullis_e2e::traffic::{Upstream, exchange};
use portcullis_e2e::{Stack, eventually, process};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Runs a command that must fail with `exit` and `code`, in one message without a panic.
async fn refused(stack: &Stack, args: &[&str], exit: i32, code: &str) {
    let command = stack.cli(args);
    let line = args.join(" ");
    let (status, output) = tokio::task::spawn_blocking(move || {
        process::finish("portcullis", command, std::time::Duration::from_secs(30))
    })
    .await
    .expect("no panic");
    assert_eq!(status.code(), Some(exit), "{line}: {output}");
    assert!(output.contains(code), "{line}: {output}");
    assert!(!output.contains("panicked"), "{line}: {output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_urls_name_what_is_wrong() {
    let stack = Stack::start().await;
    let state = stack.dir().join("s").display().to_string();
    let join = stack.join();
    for (url, code) in [
        ("tcp://localhost:99999", "PTC_URL_PORT_RANGE"),
        ("tcp://localhost:x", "PTC_URL_PORT_NOT_NUMERIC"),
        ("tcp://localhost:1/", "PTC_URL_TRAILING_SLASH"),
        ("tcp://user@localhost:1", "PTC_URL_PART_NOT_ALLOWED"),
        ("udp://localhost:1", "PTC_URL_SCHEME"),
        ("tcp://*.localhost:1", "PTC_URL_WILDCARD"),
        ("tcp://a.internal", "PTC_URL"),
        ("tcp://db.team:5432", "PTC_ADDRESS"),
    ] {
        let args = [
            "tcp",
            "1",
            "--url",
            url,
            "--authtoken",
            &join,
            "--state-dir",
            &state,
            "--web-addr",
            "false",
        ];
        let command = stack.cli(&args);
        let (status, output) = tokio::task::spawn_blocking(move || {
            process::finish("tcp", command, std::time::Duration::from_secs(30))
        })
        .await
        .expect("no panic");
        assert!(
            !status.success() && output.contains(code),
            "{url}: {status} {output}"
        );
    }
    refused(
        &stack,
        &[
            "tcp",
            "1",
            "--url",
            "tcp://db.team:5432",
            "--binding",
            "kubernetes",
            "--authtoken",
            &join,
            "--state-dir",
            &state,
        ],
        1,
        "PTC_NO_OPERATOR",
    )
    .await;
    refused(
        &stack,
        &["tcp", "70000", "--authtoken", &join, "--state-dir", &state],
        1,
        "PTC_UPSTREAM_INVALID",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_tokens_are_refused_and_never_repeated() {
    let stack = Stack::start().await;
    let state = stack.dir().join("s").display().to_string();
    let mut join = portcullis_model::join::JoinString::parse(&stack.join()).expect("own form");
    let secret = format!(
        "{}x",
        &join.authtoken.expose()[..join.authtoken.expose().len() - 1]
    );
    join.authtoken = secret.clone().into();
    let wrong = join.reveal();
    refused(
        &stack,
        &[
            "tcp",
            "1",
            "--authtoken",
            wrong.expose(),
            "--state-dir",
            &state,
        ],
        4,
        "PTC_AUTHTOKEN_UNKNOWN",
    )
    .await;
    refused(
        &stack,
        &["tcp", "1", "--authtoken", "pc1.%%%", "--state-dir", &state],
        4,
        "PTC_AUTHTOKEN_MALFORMED",
    )
    .await;
    join.trust = portcullis_model::join::ServerTrust::Pin([0; 32]);
    let mistrusted = join.reveal();
    refused(
        &stack,
        &[
            "tcp",
            "1",
            "--authtoken",
            mistrusted.expose(),
            "--state-dir",
            &state,
        ],
        6,
        "PTC_SERVER_UNTRUSTED",
    )
    .await;
    assert!(!stack.log().contains(&secret), "a token in the log");
    refused(
        &stack,
        &["api", "endpoints", "list", "--api-key", "nonsense"],
        4,
        "PTC_API_KEY",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_configuration_names_every_error_by_its_path() {
    let stack = Stack::start().await;
    let write = |name: &str, text: &str| {
        let path = stack.dir().join(name);
        std::fs::write(&path, text).expect("ours");
        path.display().to_string()
    };
    let agent = write(
        "agent.yml",
        "version: 3\nagent:\n  autotoken: x\nendpoints:\n  - name: a\n    upstream: {url: '70000'}\n",
    );
    refused(
        &stack,
        &["config", "check", "--config", &agent],
        3,
        "PTC_CONFIG_INVALID",
    )
    .await;
    let (_, output) = stack.run(&["config", "check", "--config", &agent]);
    assert!(output.contains("autotoken"), "{output}");
    let server = write("server.yml", "limits:\n  idle_timeout: soon\nhots: []\n");
    refused(
        &stack,
        &["server", "--config", &server, "--data-dir", "other"],
        3,
        "PTC_CONFIG_INVALID",
    )
    .await;
    refused(
        &stack,
        &["server", "--config", "/nowhere.yml", "--data-dir", "other"],
        3,
        "PTC_CONFIG_UNREADABLE",
    )
    .await;
    let beyond = write(
        "beyond.yml",
        "api:\n  listen: 127.0.0.1:0\n  tls: {cert: /nowhere, key: /nowhere}\n",
    );
    refused(
        &stack,
        &["server", "--config", &beyond, "--data-dir", "other"],
        3,
        "PTC_CERTIFICATE_INVALID",
    )
    .await;
    let misspelt = ["server", "--log-level", "inof", "--data-dir", "other"];
    refused(&stack, &misspelt, 3, "PTC_CONFIG_INVALID").await;
    let (status, output) = stack.run(&["api", "endpoints", "list", "--api-url", "edge"]);
    assert!(status == 2 && output.contains("`edge`"), "{output}");
    let (status, output) = stack.run(&["api", "endpoints", "list", "--api-key", ""]);
    assert!(status == 2 && output.contains("--api-key"), "{output}");
    // What can be seen at once is told alone, before an agent starts.
    let (status, output) = stack.run(&["tcp", "postgres", "--authtoken", &stack.join()]);
    assert!(
        status == 1 && output.starts_with("error: the upstream `postgres`"),
        "{output}"
    );
    assert_eq!(
        stack.api.get("/endpoints").await["endpoints"],
        json!([]),
        "the running server is untouched"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_the_same_data_is_refused() {
    let stack = Stack::start().await;
    refused(
        &stack,
        &[
            "server",
            "--data-dir",
            "data",
            "--agents-listen",
            "127.0.0.1:0",
            "--api-listen",
            "127.0.0.1:0",
        ],
        5,
        "PTC_STATE_DIR_LOCKED",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taken_and_forbidden_ports_are_named() {
    let stack = Stack::start().await;
    let agents = stack.agents.to_string();
    refused(
        &stack,
        &[
            "server",
            "--data-dir",
            "other",
            "--agents-listen",
            &agents,
            "--api-listen",
            "127.0.0.1:0",
        ],
        5,
        "PTC_PORT_TAKEN",
    )
    .await;
    // A public port that another program holds: the endpoint says so, and serves once it is free.
    let port = *stack.ports.start();
    let holder = std::net::TcpListener::bind(("::", port)).expect("free");
    stack
        .api
        .post(
            "/reserved_addrs",
            json!({"host": "localhost", "port": port}),
        )
        .await;
    let policy = r#"{"on_tcp_connect":[{"actions":[{"type":"close-connection"}]}]}"#;
    let cloud = stack
        .api
        .post(
            "/endpoints",
            json!({"url": format!("tcp://localhost:{port}"), "traffic_policy": policy}),
        )
        .await;
    let path = format!("/endpoints/{}", cloud["id"].as_str().expect("an id"));
    eventually("the endpoint names the cause", || async {
        stack.api.get(&path).await["error"]
            .to_string()
            .contains("PTC_PORT_TAKEN")
            .then_some(())
    })
    .await;
    drop(holder);
    eventually("it serves once the port is free", || async {
        (stack.api.get(&path).await["status"] == "programmed").then_some(())
    })
    .await;
    // Without the capability, a low port is refused with what to do. Root needs to become somebody else first.
    let home = tempfile::Builder::new()
        .prefix("ptc-low-")
        .tempdir()
        .expect("a directory");
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o777)).expect("ours");
    let binary = home.path().join("portcullis");
    std::fs::copy(portcullis_e2e::stack::binary(), &binary).expect("copies");
    let mut command = std::process::Command::new("setpriv");
    command
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--bounding-set=-all",
        ])
        .arg(binary);
    command.args([
        "server",
        "--data-dir",
        "d",
        "--agents-listen",
        "127.0.0.1:443",
        "--api-listen",
        "127.0.0.1:0",
    ]);
    command.current_dir(home.path()).env("HOME", home.path());
    let low =
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").expect("Linux");
    if low.trim().parse::<u16>().is_ok_and(|start| start <= 443) {
        portcullis_e2e::skip(
            "low_port_without_permission",
            "this system lets everybody listen on low ports",
        );
        return;
    }
    let (status, output) = tokio::task::spawn_blocking(move || {
        process::finish("server", command, std::time::Duration::from_secs(30))
    })
    .await
    .expect("no panic");
    assert!(
        !status.success() && output.contains("PTC_PORT_NOT_PERMITTED"),
        "{output}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_json_and_frames_are_refused_and_the_server_lives_on() {
    let stack = Stack::start().await;
    let url = format!("{}/endpoints", stack.api.url);
    let line = format!(
        "curl -sS --noproxy '*' -X POST -H 'Authorization: Bearer {}' -H 'Ngrok-Version: 2' -H 'Content-Type: application/json' -d '{{\"url\": ' {url}",
        stack.api.key
    );
    let answer = portcullis_e2e::shell::sh_async(line).await;
    assert!(
        answer.contains("ERR_NGROK_213") && answer.contains("PTC_API_BODY_UNPARSABLE"),
        "{answer}"
    );
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xFF; 4096],
        &[22, 3, 1, 0xFF, 0xFF, 0],
        b"",
    ] {
        let mut stream = TcpStream::connect(stack.agents).await.expect("connects");
        stream.write_all(garbage).await.expect("writes");
        stream.shutdown().await.expect("ends");
        let mut answer = Vec::new();
        // A reset is as good an answer as an alert.
        drop(
            tokio::time::timeout(
                std::time::Duration::from_secs(20),
                stream.read_to_end(&mut answer),
            )
            .await
            .expect("is let go"),
        );
    }
    let upstream = Upstream::echo().await;
    let agent = stack.tcp(&upstream.hostport()).await;
    assert_eq!(
        exchange(agent.addr(), b"alive").await.expect("echo"),
        b"alive"
    );
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_and_loses_nothing() {
    // A small filesystem of its own; tmpfs says "no space" as any disk does.
    let mount = tempfile::Builder::new()
        .prefix("ptc-full-")
        .tempdir()
        .expect("a directory");
    let path = mount.path().display().to_string();
    let (status, output) =
        portcullis_e2e::shell::try_sh(&format!("mount -t tmpfs -o size=8m tmpfs {path}"));
    if status != 0 {
        portcullis_e2e::skip("full_disk", &output);
        return;
    }
    let _unmount = Unmount(path.clone());
    let stack = Stack::start_on(mount.path()).await;
    let filler = mount.path().join("filler");
    portcullis_e2e::shell::try_sh(&format!(
        "dd if=/dev/zero of={} bs=64k status=none",
        filler.display()
    ));
    let mut kept = Vec::new();
    let refusal = loop {
        let body = json!({"description": "kept", "metadata": "m".repeat(4000)});
        let (status, answer) = stack
            .api
            .send("POST", "/credentials", Some(body))
            .await
            .expect("the API answers");
        if status != 201 {
            break (status, answer);
        }
        kept.push(answer["id"].clone());
        assert!(kept.len() < 5_000, "six MiB must fill up");
    };
    assert_eq!(refusal.0, 507, "{}", refusal.1);
    assert!(
        refusal.1.to_string().contains("PTC_STORE_FULL"),
        "{}",
        refusal.1
    );
    std::fs::remove_file(filler).expect("ours");
    stack
        .api
        .post("/credentials", json!({"description": "after"}))
        .await;
    for id in kept {
        stack
            .api
            .get(&format!("/credentials/{}", id.as_str().expect("an id")))
            .await;
    }
    drop(stack);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_turns_read_only_refuses_writes_and_keeps_serving() {
    // A filesystem of its own on a file, which is then aborted as a failing disk's is: open files
    // stay open, and no write succeeds any more.
    let place = tempfile::Builder::new()
        .prefix("ptc-ro-")
        .tempdir()
        .expect("a directory");
    let image = place.path().join("image").display().to_string();
    let path = place.path().join("disk").display().to_string();
    let (status, output) = portcullis_e2e::shell::try_sh(&format!(
        "mkdir {path} && truncate -s 24M {image} && mkfs.ext4 -q -F {image} && mount -o loop,errors=remount-ro {image} {path}"
    ));
    if status != 0 {
        portcullis_e2e::skip("read_only_disk", &output);
        return;
    }
    let _unmount = Unmount(path.clone());
    let data = std::path::PathBuf::from(&path).join("data");
    let mut stack = Stack::start_on(&data).await;
    let upstream = Upstream::echo().await;
    let agent = stack.tcp(&upstream.hostport()).await;
    let kept = stack
        .api
        .post("/credentials", json!({"description": "kept"}))
        .await;

    portcullis_e2e::shell::sh(&format!("sync && mount -o remount,abort {path}"));
    for _ in 0..3 {
        let (status, answer) = stack
            .api
            .send("POST", "/credentials", Some(json!({})))
            .await
            .expect("the API answers");
        assert_eq!(status, 503, "{answer}");
        assert!(
            answer.to_string().contains("PTC_STORE_READ_ONLY"),
            "{answer}"
        );
    }
    assert_eq!(
        exchange(agent.addr(), b"alive").await.expect("echo"),
        b"alive"
    );
    let id = kept["id"].as_str().expect("an id");
    stack.api.get(&format!("/credentials/{id}")).await;

    let mut server = stack.server.take().expect("runs");
    server.terminate(std::time::Duration::from_secs(30));
    let data = data.display().to_string();
    let args = [
        "server",
        "--data-dir",
        &data,
        "--agents-listen",
        "127.0.0.1:0",
        "--api-listen",
        "127.0.0.1:0",
    ];
    refused(&stack, &args, 7, "PTC_STORE_READ_ONLY").await;
    // Mended, it has everything that was acknowledged.
    portcullis_e2e::shell::sh(&format!("umount {path} && mount -o loop {image} {path}"));
    stack.up().await;
    stack.api.get(&format!("/credentials/{id}")).await;
    drop(stack);
}

/// Unmounts when the test ends.
struct Unmount(String);

impl Drop for Unmount {
    fn drop(&mut self) {
        portcullis_e2e::shell::try_sh(&format!("umount -l {}", self.0));
    }
}
