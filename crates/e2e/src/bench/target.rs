//! What is measured: nothing in between, the server alone, the server with an agent.

use std::net::SocketAddr;

use crate::process::Process;
use crate::stack::{AgentProcess, Stack};

/// Limits that are out of a benchmark's way.
const CONFIG: &str =
    "limits:\n  connections_per_source_max: 20000\n  connections_max: 20000\nlog: {level: warn}\n";

/// One way from client to backend.
pub enum Target {
    /// Straight to the backend.
    Direct(SocketAddr),
    /// Through a server that dials the backend itself.
    Server(Box<Stack>, SocketAddr),
    /// Through a server, a TLS tunnel and an agent.
    Agent(Box<Stack>, Box<AgentProcess>),
}

impl Target {
    /// The names in reports, in order.
    pub const NAMES: [&'static str; 3] = ["direct", "server", "agent"];

    /// Starts the target of that name in front of `backend`.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start(name: &str, backend: SocketAddr) -> Self {
        match name {
            "direct" => Self::Direct(backend),
            "server" => {
                let port = crate::ports::one();
                let stack =
                    Stack::start_configured(CONFIG, &["--expose", &format!("{port}={backend}")])
                        .await;
                let at = SocketAddr::from(([127, 0, 0, 1], port));
                crate::eventually("the server answers", || async {
                    tokio::net::TcpStream::connect(at).await.ok()
                })
                .await;
                Self::Server(Box::new(stack), at)
            }
            _ => {
                let stack = Stack::start_configured(CONFIG, &[]).await;
                let agent = stack.tcp(&backend.to_string()).await;
                Self::Agent(Box::new(stack), Box::new(agent))
            }
        }
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        match self {
            Self::Direct(addr) | Self::Server(_, addr) => *addr,
            Self::Agent(_, agent) => agent.addr(),
        }
    }

    fn processes(&self) -> Vec<&Process> {
        match self {
            Self::Direct(_) => vec![],
            Self::Server(stack, _) => stack.server.iter().collect(),
            Self::Agent(stack, agent) => stack.server.iter().chain(agent.process.iter()).collect(),
        }
    }

    /// CPU seconds of its processes so far, user and system.
    pub fn cpu_seconds(&self) -> f64 {
        self.processes()
            .iter()
            .filter_map(|process| cpu(process.pid()))
            .sum()
    }

    /// Resident memory of its processes, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.processes()
            .iter()
            .filter_map(|process| resident(process.pid()))
            .sum()
    }
}

/// Fields 14 and 15 of /proc/PID/stat, in ticks of a hundredth of a second (proc_pid_stat(5)).
fn cpu(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}

fn resident(pid: u32) -> Option<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    line.split_whitespace()
        .next()?
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}
