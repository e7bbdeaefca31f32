//! Policies that change while clients come: is every connection decided by a policy that was in force while it
//! was decided, and is none lost?
//!
//! A version of the policy is *in force* from some moment between the API's being asked for it and the API's
//! answer. A connection is decided at some moment between its `connect` and its first byte. So the versions that
//! may decide it are those from the last one that was answered before its `connect`, to the last one that was
//! asked for before its first byte. Anything else is a wrong decision: an older one, a newer one, a mixture.
//!
//! There are three kinds of clients, by source address. What they get tells which version decided:
//! most are forwarded, by versions of one parity to `blue`, by the others to `green`; some are answered with the
//! version's number; and some are always denied, and must never get a byte.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::Stack;
use crate::traffic::Upstream;
use crate::wait::eventually;

/// Longest that one connection may take; beyond it, it counts as lost.
const STUCK: Duration = Duration::from_secs(20);
/// How many of what went wrong are told.
const TOLD_MAX: usize = 10;

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Connections in a second; more are not begun.
    pub rate: u32,
    /// Connections at once.
    pub at_once: u32,
    /// How long.
    pub time: Duration,
    /// Between two versions.
    pub every: Duration,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Connections that were decided.
    pub connections: u64,
    /// In what time.
    pub seconds: f64,
    /// Versions that came into force meanwhile.
    pub versions: u64,
    /// Connections that a version decided that was not in force.
    pub wrong: u64,
    /// Connections that got nothing, though every version lets them in.
    pub lost: u64,
    /// Some of both, in words.
    pub told: Vec<String>,
}

impl Found {
    /// Connections in a second.
    pub fn rate(&self) -> f64 {
        self.connections as f64 / self.seconds
    }
}

/// What becomes of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Forwarded,
    Answered,
    Denied,
}

impl Kind {
    fn of(number: u64) -> Self {
        match number % 20 {
            0..=2 => Self::Answered,
            3 => Self::Denied,
            _ => Self::Forwarded,
        }
    }

    /// Its source address: many, so that ports do not run out.
    fn source(self, number: u64) -> SocketAddr {
        let net = match self {
            Self::Forwarded => 3,
            Self::Answered => 4,
            Self::Denied => 5,
        };
        let host = u8::try_from(number / 20 % 200).unwrap_or(0) + 1;
        SocketAddr::from(([127, 0, net, host], 0))
    }
}

/// The document of a version.
fn document(version: u64) -> String {
    let target = target(version);
    format!(
        "on_tcp_connect:
  - expressions: [\"inCidrRange(conn.client_ip, '127.0.5.0/24')\"]
    actions: [{{type: deny}}]
  - expressions: [\"inCidrRange(conn.client_ip, '127.0.4.0/24')\"]
    actions: [{{type: custom-response, config: {{text: 'v{version}'}}}}]
  - actions: [{{type: forward-internal, config: {{url: 'tcp://{target}.internal:1'}}}}]
"
    )
}

fn target(version: u64) -> &'static str {
    if version.is_multiple_of(2) {
        "blue"
    } else {
        "green"
    }
}

/// Versions that were asked for, and answered.
#[derive(Default)]
struct Versions {
    asked: AtomicU64,
    answered: AtomicU64,
}

/// Whether a version between the two explains what a client got; `None`: it got nothing, and should have.
fn explains(kind: Kind, got: &[u8], (first, last): (u64, u64)) -> Option<bool> {
    let got = std::str::from_utf8(got).unwrap_or("?");
    match kind {
        Kind::Denied => Some(got.is_empty()),
        _ if got.is_empty() => None,
        Kind::Answered => Some((first..=last).any(|version| got == format!("v{version}"))),
        Kind::Forwarded => Some((first..=last).any(|version| got == target(version))),
    }
}

/// A server with two internal endpoints that tell their names, and one whose policy changes.
pub struct Reloading {
    /// The server.
    pub stack: Stack,
    /// Where the endpoint listens whose policy changes.
    pub at: SocketAddr,
    path: String,
    _upstreams: [Upstream; 2],
}

impl Reloading {
    /// Starts them, with version 0 in force. `config` is the server's, but for its endpoints.
    ///
    /// # Panics
    /// When that fails.
    pub async fn start(config: &str) -> Self {
        let blue = named("blue").await;
        let green = named("green").await;
        let config = format!(
            "{config}endpoints:\n  - {{name: blue, url: 'tcp://blue.internal:1', upstream: '{}'}}\n  \
             - {{name: green, url: 'tcp://green.internal:1', upstream: '{}'}}\n",
            blue.hostport(),
            green.hostport()
        );
        let stack = Stack::start_configured(&config, &[]).await;
        let body = json!({"url": "tcp://", "traffic_policy": document(0)});
        let made = stack.api.post("/endpoints", body).await;
        let port = made["port"].as_u64().and_then(|port| port.try_into().ok());
        let at = SocketAddr::from(([127, 0, 0, 1], port.expect("a port")));
        eventually("it listens", || async {
            TcpStream::connect(at).await.is_ok().then_some(())
        })
        .await;
        Self {
            path: format!("/endpoints/{}", made["id"].as_str().expect("an id")),
            stack,
            at,
            _upstreams: [blue, green],
        }
    }

    /// Changes the policy under load.
    ///
    /// # Panics
    /// When the API refuses a version.
    pub async fn under(&self, load: Load) -> Found {
        let versions = Arc::new(Versions::default());
        let found = Arc::new(Mutex::new(Found::default()));
        let next = Arc::new(AtomicU64::new(0));
        let began = Instant::now();
        let until = began + load.time;
        let clients: Vec<_> = (0..load.at_once)
            .map(|_| {
                let (versions, found, next) =
                    (Arc::clone(&versions), Arc::clone(&found), Arc::clone(&next));
                let at = self.at;
                tokio::spawn(async move {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let turn = Duration::from_secs_f64(number as f64 / f64::from(load.rate));
                        let turn = began + turn;
                        if turn >= until || Instant::now() >= until {
                            return;
                        }
                        if turn > Instant::now() {
                            tokio::time::sleep_until(turn.into()).await;
                        }
                        client(at, number, &versions, &found).await;
                    }
                })
            })
            .collect();
        let mut turn = began;
        for version in 1.. {
            turn += load.every;
            if turn >= until {
                break;
            }
            tokio::time::sleep_until(turn.into()).await;
            versions.asked.store(version, Ordering::SeqCst);
            let body = json!({"traffic_policy": document(version)});
            self.stack.api.patch(&self.path, body).await;
            versions.answered.store(version, Ordering::SeqCst);
        }
        for client in clients {
            client.await.expect("a client does not panic");
        }
        let mut found = std::mem::take(&mut *found.lock().expect("no client panics"));
        found.seconds = began.elapsed().as_secs_f64();
        found.versions = versions.answered.load(Ordering::SeqCst);
        found
    }
}

/// An upstream that tells its name.
async fn named(name: &'static str) -> Upstream {
    Upstream::serve(move |mut stream| async move {
        // An error is a client that has gone, which the client tells.
        drop(stream.write_all(name.as_bytes()).await);
    })
    .await
}

/// One client, and what it says of the versions.
async fn client(at: SocketAddr, number: u64, versions: &Versions, found: &Mutex<Found>) {
    let kind = Kind::of(number);
    let first = versions.answered.load(Ordering::SeqCst);
    let talk = talk(at, kind.source(number), versions);
    let said = match tokio::time::timeout(STUCK, talk).await {
        Ok(Ok((got, last))) => match explains(kind, &got, (first, last)) {
            Some(true) => Ok(()),
            Some(false) => Err((
                true,
                format!("{kind:?} got {got:?} of versions {first} to {last}"),
            )),
            None => Err((false, format!("{kind:?} got nothing"))),
        },
        Ok(Err(error)) => Err((false, format!("{kind:?}: {error}"))),
        Err(_) => Err((false, format!("{kind:?} is stuck"))),
    };
    let mut found = found.lock().expect("no client panics");
    found.connections += 1;
    if let Err((wrong, text)) = said {
        if wrong {
            found.wrong += 1;
        } else {
            found.lost += 1;
        }
        if found.told.len() < TOLD_MAX {
            found.told.push(text);
        }
    }
}

/// Connects and reads to the end: what came, and the last version that was asked for when its first byte did.
async fn talk(
    at: SocketAddr,
    source: SocketAddr,
    versions: &Versions,
) -> std::io::Result<(Vec<u8>, u64)> {
    let socket = TcpSocket::new_v4()?;
    // The port is drawn by `connect`: a search for one that is free for all would end after some thousands.
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    socket.bind(source)?;
    let mut stream = socket.connect(at).await?;
    let mut got = Vec::with_capacity(16);
    let read = stream.read_buf(&mut got).await;
    let last = versions.asked.load(Ordering::SeqCst);
    if let Err(error) = read {
        return if error.kind() == std::io::ErrorKind::ConnectionReset {
            Ok((got, last)) // a refusal; whoever is let in must have got something
        } else {
            Err(error)
        };
    }
    stream.read_to_end(&mut got).await?;
    Ok((got, last))
}
