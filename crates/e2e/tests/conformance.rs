//! What users of TCP rely on, by the suite that checks any proxy: `crates/conformance`.

use std::net::SocketAddr;
use std::time::Duration;

use portcullis_conformance::{Options, run};
use portcullis_e2e::{Process, Stack, eventually, ports};

/// Limits out of the suite's way, and an idle limit that a test can wait for.
const CONFIG: &str = "\
limits: {connections_per_source_max: 20000, connections_max: 20000, idle_timeout: 3s}
log: {level: warn}
";
/// `idle_timeout` of [`CONFIG`].
const IDLE: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_alone_keeps_what_users_of_tcp_rely_on() {
    let (target, listen) = (at(ports::one()), at(ports::one()));
    let expose = format!("{}={target}", listen.port());
    let stack = Stack::start_configured(CONFIG, &["--expose", &expose]).await;
    eventually("the exposed port answers", || async {
        tokio::net::TcpStream::connect(listen).await.ok()
    })
    .await;
    nothing_fails(listen, target, stack.server.iter()).await;
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tunnel_keeps_what_users_of_tcp_rely_on() {
    let target = at(ports::one());
    let stack = Stack::start_configured(CONFIG, &[]).await;
    let agent = stack.tcp(&target.to_string()).await;
    let processes = stack.server.iter().chain(&agent.process);
    nothing_fails(agent.addr(), target, processes).await;
    stack.balanced().await;
}

async fn nothing_fails(
    listen: SocketAddr,
    target: SocketAddr,
    processes: impl Iterator<Item = &Process>,
) {
    let options = Options {
        quick: true,
        idle_limit: Some(IDLE),
        pids: processes.map(Process::pid).collect(),
        // It is waited out only where something fails, and other tests run beside this one.
        patience: Duration::from_secs(10),
        ..Options::new(listen, target)
    };
    let report = run(&options, |_| {}).await.expect("the run begins");
    assert!(report.passed(), "{}", report.table());
    let names: Vec<_> = report.names(portcullis_conformance::Verdict::NotApplicable);
    assert_eq!(names, ["close-with-unread"], "{}", report.table());
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
