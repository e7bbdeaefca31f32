//! Policies that ask where a client is, with files that change while the server runs.

use std::net::SocketAddr;
use std::path::Path;

use portcullis_e2e::traffic::Upstream;
use portcullis_e2e::{Stack, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

/// Lets in who is in Germany or of a category.
const POLICY: &str = "on_tcp_connect:
  - expressions: [\"conn.geo.country_code != 'DE' && !('com.example' in conn.client_ip.categories)\"]
    actions: [{type: deny}]
";

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../edge/fixtures");
    std::fs::read(path.join(name)).expect("a fixture")
}

/// Puts a file in the place of another, as the documentation says.
fn replace(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, bytes).expect("ours");
    std::fs::rename(&beside, path).expect("ours");
}

/// Whether a client from this address of the machine is let in.
async fn lets_in(at: SocketAddr, from: &str) -> bool {
    let socket = TcpSocket::new_v4().expect("a socket");
    let from: SocketAddr = format!("{from}:0").parse().expect("an address");
    socket.bind(from).expect("loopback has all of it");
    let mut stream = socket.connect(at).await.expect("connects");
    let mut heard = [0; 2];
    let exchanged = async {
        stream.write_all(b"hi").await?;
        stream.read_exact(&mut heard).await
    };
    exchanged.await.is_ok() && heard == *b"hi"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_knows_where_clients_are_and_follows_the_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let (city, list) = (dir.path().join("city.mmdb"), dir.path().join("friends.txt"));
    replace(&city, &fixture("city.mmdb"));
    replace(&list, b"# nobody yet\n");
    let yaml = format!(
        "geo: {{city: {}}}\nip_categories: [{{file: {}, category: com.example.friends}}]\n",
        city.display(),
        list.display()
    );
    let stack = Stack::start_configured(&yaml, &[]).await;
    let upstream = Upstream::echo().await;
    let agent = stack
        .tcp_with(&upstream.hostport(), &["--traffic-policy", POLICY])
        .await;
    let at = agent.addr();
    assert!(lets_in(at, "127.0.0.2").await, "Berlin");
    assert!(!lets_in(at, "127.0.0.3").await, "Paris");
    assert!(!lets_in(at, "127.0.0.4").await, "nowhere");
    // A broken file takes nothing away, and is told.
    replace(&city, b"<html>");
    eventually("the broken file is noticed", || async {
        let (_, text) = stack.api.send("GET", "/metrics", None).await.ok()?;
        let line = "portcullis_place_file_reads_total{file=\"city\",outcome=\"failed\"} 1";
        text.as_str()?.contains(line).then_some(())
    })
    .await;
    assert!(lets_in(at, "127.0.0.2").await, "still Berlin");
    // The two places change, and a friend comes.
    replace(&city, &fixture("city-2.mmdb"));
    replace(&list, b"127.0.0.4\n");
    eventually("the new files are in force", || async {
        let friend = lets_in(at, "127.0.0.4").await;
        (friend && lets_in(at, "127.0.0.3").await).then_some(())
    })
    .await;
    assert!(!lets_in(at, "127.0.0.2").await, "Paris now");
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policy_test_reads_the_same_files() {
    let stack = Stack::start().await;
    let dir = stack.dir();
    for (name, bytes) in [
        ("p.yml", POLICY.as_bytes().to_vec()),
        ("city.mmdb", fixture("city.mmdb")),
        ("list", b"192.0.2.0/24\n".to_vec()),
    ] {
        std::fs::write(dir.join(name), bytes).expect("ours");
    }
    let outcome = |client: &str| {
        let (status, output) = stack.run(&[
            "policy",
            "test",
            "p.yml",
            "--geo-city",
            "city.mmdb",
            "--ip-category",
            "com.example.x=list",
            "--client-ip",
            client,
            "--output",
            "json",
        ]);
        assert_eq!(status, 0, "{output}");
        let told: serde_json::Value = serde_json::from_str(&output).expect("JSON");
        told["outcome"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(outcome("198.51.100.1"), "upstream");
    assert_eq!(outcome("203.0.113.1"), "deny");
    assert_eq!(outcome("192.0.2.1"), "upstream");
    let (status, output) = stack.run(&["policy", "test", "p.yml", "--geo-asn", "city.mmdb"]);
    assert_ne!(status, 0);
    assert!(output.contains("PTC_CONFIG_INVALID"), "{output}");
}
