//! What is measured: nothing in between, our server alone, our server with an agent, and the peers.

use std::any::Any;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use portcullis_e2e::{Process, Stack, ports, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::load::ECHO;
use crate::peers;

/// Limits that are out of a benchmark's way, and the address that the peers listen on.
pub const CONFIG: &str = "limits:\n  connections_per_source_max: 20000\n  connections_max: 20000\n\
                          listen: {public: [127.0.0.1]}\nlog: {level: warn}\n";
/// Longest that a target may take until its address answers.
pub const START: Duration = Duration::from_secs(30);

/// Between two tries, and the longest that one may take: a link of 60 ms may be in between.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const ECHO_TIME: Duration = Duration::from_secs(3);

/// What stands between client and backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nothing.
    Direct,
    /// One process that accepts and dials.
    Forward,
    /// Two processes with a connection between them.
    Tunnel,
}

/// Where one end of a tunnel listens, to where the other is to connect: the identity, or the
/// address of a relay in between that it starts.
pub type Map<'a> = &'a dyn Fn(SocketAddr) -> SocketAddr;

/// A target that runs; dropping it ends its processes.
pub struct Running {
    /// Where clients connect.
    pub addr: SocketAddr,
    /// Its processes; what they start themselves is counted with them.
    pub pids: Vec<u32>,
    /// What keeps it running, dropped in this order: processes, directories.
    pub guards: Vec<Box<dyn Any>>,
}

/// Our own targets.
pub const OURS: &[(&str, Shape)] = &[
    ("direct", Shape::Direct),
    ("server", Shape::Forward),
    ("agent", Shape::Tunnel),
    ("agent-plain", Shape::Tunnel),
];

/// All names, ours first.
pub fn all() -> Vec<(&'static str, Shape)> {
    OURS.iter().chain(peers::NAMES).copied().collect()
}

/// Starts the target of that name in front of `backend`.
///
/// # Errors
/// When it does not come up.
pub async fn start(name: &str, backend: SocketAddr, map: Map<'_>) -> anyhow::Result<Running> {
    if let Some(why) = peers::missing(name) {
        anyhow::bail!(why);
    }
    caught(start_any(name, backend, map)).await
}

/// The harness panics, as tests do; here one target's failure is a cell of the report.
///
/// # Errors
/// What `doing` says, or what it panicked with.
pub async fn caught<T>(doing: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let done = AssertUnwindSafe(doing).catch_unwind().await;
    done.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(anyhow::anyhow!("{}", text.unwrap_or("panicked")))
    })
}

/// Waits until `try_it` succeeds: the far end of a tunnel may come up after its near end answers.
///
/// # Errors
/// When it does not within [`START`].
pub async fn answers<F>(addr: SocketAddr, try_it: impl Fn() -> F) -> anyhow::Result<()>
where
    F: Future<Output = bool>,
{
    let deadline = Instant::now() + START;
    while !try_it().await {
        anyhow::ensure!(Instant::now() < deadline, "nothing goes through {addr}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Waits until the backend's echo comes back through `addr`.
///
/// # Errors
/// When it does not within [`START`].
pub async fn carries(addr: SocketAddr) -> anyhow::Result<()> {
    answers(addr, || async {
        let echo = async {
            let mut stream = TcpStream::connect(addr).await?;
            stream.write_all(&[ECHO]).await?;
            stream.read_u8().await
        };
        matches!(timeout(ECHO_TIME, echo).await, Ok(Ok(ECHO)))
    })
    .await
}

async fn start_any(name: &str, backend: SocketAddr, map: Map<'_>) -> anyhow::Result<Running> {
    match name {
        "direct" => Ok(Running {
            addr: map(backend),
            pids: vec![],
            guards: vec![],
        }),
        "server" => {
            let port = ports::one();
            let stack =
                Stack::start_configured(CONFIG, &["--expose", &format!("{port}={backend}")]).await;
            let addr = SocketAddr::from(([127, 0, 0, 1], port));
            within(START, "the server answers", || async {
                TcpStream::connect(addr).await.ok()
            })
            .await;
            Ok(Running {
                addr,
                pids: stack.server.iter().map(Process::pid).collect(),
                guards: vec![Box::new(stack)],
            })
        }
        "agent" => tunnel(backend, map, CONFIG, &[]).await,
        "agent-plain" => {
            let config = format!("{CONFIG}tunnel: {{channels: plain}}\n");
            tunnel(backend, map, &config, &["--channels", "plain"]).await
        }
        _ => peers::start(name, backend, map).await,
    }
}

/// A server and an agent, with what each is to be told beyond the usual.
async fn tunnel(
    backend: SocketAddr,
    map: Map<'_>,
    config: &str,
    extra: &[&str],
) -> anyhow::Result<Running> {
    let stack = Stack::start_configured(config, &[]).await;
    let far = map(stack.agents).to_string();
    let mut arguments = vec!["--server", &far];
    arguments.extend(extra);
    let agent = stack.tcp_with(&backend.to_string(), &arguments).await;
    let processes = stack.server.iter().chain(agent.process.iter());
    Ok(Running {
        addr: agent.addr(),
        pids: processes.map(Process::pid).collect(),
        guards: vec![Box::new(agent), Box::new(stack)],
    })
}
