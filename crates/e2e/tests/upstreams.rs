//! Upstreams by name: several addresses, the next tried before a byte has moved, names looked up again.

use std::path::Path;
use std::process::Command;

use portcullis_e2e::process::Process;
use portcullis_e2e::traffic::{Upstream, exchange};
use portcullis_e2e::{Stack, eventually, ports};

/// A DNS server with records of the test's.
fn dnsmasq(dir: &Path, port: u16, records: &[String]) -> Process {
    let mut command = Command::new("dnsmasq");
    command.args([
        "--no-daemon",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        "--listen-address=127.0.0.1",
        "--conf-file=/dev/null",
    ]);
    command
        .args([&format!("--port={port}"), "--user=root", "--local-ttl=1"])
        .args(records)
        .current_dir(dir);
    Process::start("dnsmasq", command)
}

async fn reader(name: &'static [u8], at: [u8; 4], port: u16) -> Upstream {
    Upstream::serve_at(
        std::net::SocketAddr::from((at, port)),
        move |mut stream| async move {
            drop(tokio::io::AsyncWriteExt::write_all(&mut stream, name).await);
        },
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_looked_up_again_and_the_next_address_is_tried() {
    let dir = tempfile::Builder::new()
        .prefix("ptc-dns-")
        .tempdir()
        .expect("a directory");
    let (dns, upstream, public) = (ports::one(), ports::one(), ports::block(2));
    // Two addresses, one of which nobody listens on; and a name of SRV records only.
    let records = [
        "--host-record=db.gate.test,127.0.0.21".to_owned(),
        "--host-record=db.gate.test,127.0.0.22".to_owned(),
        "--host-record=one.gate.test,127.0.0.22".to_owned(),
        format!("--srv-host=_db._tcp.gate.test,one.gate.test,{upstream}"),
    ];
    let mut server = dnsmasq(dir.path(), dns, &records);
    let _second = reader(b"second", [127, 0, 0, 22], upstream).await;
    let first = public.start().to_string();
    let yaml = format!(
        "resolver: {{servers: ['127.0.0.1:{dns}']}}\nendpoints:\n  - port: {first}\n    upstream: tcp://db.gate.test:{upstream}\n  \
         - port: {}\n    upstream: srv:_db._tcp.gate.test\n",
        public.end()
    );
    let stack = Stack::start_configured(&yaml, &[]).await;
    let at = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    for _ in 0..6 {
        let answer = exchange(at(*public.start()), b"")
            .await
            .expect("one address answers");
        assert_eq!(answer, b"second");
    }
    assert_eq!(
        exchange(at(*public.end()), b"").await.expect("by SRV"),
        b"second"
    );
    // The name moves: within its TTL of a second, new connections go to the new place.
    let _third = reader(b"third", [127, 0, 0, 23], upstream).await;
    assert!(
        server
            .terminate(std::time::Duration::from_secs(10))
            .code()
            .is_some()
    );
    let _moved = dnsmasq(
        dir.path(),
        dns,
        &["--host-record=db.gate.test,127.0.0.23".to_owned()],
    );
    eventually("the new address is used", || async {
        (exchange(at(*public.start()), b"").await.ok()? == b"third").then_some(())
    })
    .await;
    stack.balanced().await;
}
