//! Carriers and channels without TLS, on both sides' word, and what then can be seen on the way.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis_e2e::Stack;
use portcullis_e2e::servers::Postgres;
use portcullis_e2e::shell::sh_async;
use portcullis_e2e::traffic::{Upstream, exchange, pattern};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const ALLOWED: &str = "tunnel:\n  channels: plain\n";

/// A relay to `server` that writes down what agents say to it.
async fn watched(server: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((agent, _)) = listener.accept().await {
            let notes = Arc::clone(&notes);
            tokio::spawn(async move {
                let Ok(edge) = TcpStream::connect(server).await else {
                    return;
                };
                let (mut from_agent, mut to_agent) = agent.into_split();
                let (mut from_edge, mut to_edge) = edge.into_split();
                let back = tokio::spawn(async move {
                    tokio::io::copy(&mut from_edge, &mut to_agent).await.ok();
                });
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(read @ 1..) = from_agent.read(&mut buffer).await {
                    notes
                        .lock()
                        .expect("sound")
                        .extend_from_slice(&buffer[..read]);
                    if to_edge.write_all(&buffer[..read]).await.is_err() {
                        break;
                    }
                }
                drop(to_edge);
                back.await.ok();
            });
        }
    });
    (address, seen)
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_channels_carry_everything_and_control_stays_in_tls() {
    let stack = Stack::start_configured(ALLOWED, &[]).await;
    let echo = Upstream::echo().await;
    let (server, seen) = watched(stack.agents).await;
    let extra = ["--channels", "plain", "--server", &server.to_string()];
    let agent = stack.tcp_with(&echo.hostport(), &extra).await;
    let words = b"these words pass where anyone can read them";
    let answer = exchange(agent.addr(), words).await.expect("an answer");
    assert_eq!(answer, words);
    // More than any buffer holds, which leaves the carrier for a channel.
    let bulk = pattern(7, 8 * 1024 * 1024);
    let answer = exchange(agent.addr(), &bulk).await.expect("an answer");
    assert!(answer == bulk, "8 MiB come back as they went");
    let seen = seen.lock().expect("sound").clone();
    assert!(holds(&seen, words) && holds(&seen, b"PTCL"));
    for secret in ["\"authtoken\"", "\"hello\"", "session_key"] {
        assert!(
            !holds(&seen, secret.as_bytes()),
            "{secret} passed in the clear"
        );
    }
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_works_over_plain_channels() {
    let (stack, postgres) = tokio::join!(Stack::start_configured(ALLOWED, &[]), Postgres::start());
    let agent = stack
        .tcp_with(&postgres.port.to_string(), &["--channels", "plain"])
        .await;
    let psql = format!("psql -h 127.0.0.1 -p {} -U postgres", agent.port());
    let out = sh_async(format!(
        "{psql} -Atc 'select sum(a) from generate_series(1, 1000000) a'"
    ))
    .await;
    assert_eq!(out.trim(), "500000500000");
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_with_plain_channels_is_refused_by_a_server_without() {
    let stack = Stack::start().await;
    let echo = Upstream::echo().await;
    let mut agent = stack.agent(&echo.hostport(), &["--channels", "plain"]);
    let process = agent.process.as_mut().expect("it was started");
    let status = process
        .wait(Duration::from_secs(30))
        .expect("it ends by itself");
    assert!(!status.success());
    let output = agent.output();
    assert!(output.contains("PTC_PLAIN_REFUSED"), "{output}");
}
