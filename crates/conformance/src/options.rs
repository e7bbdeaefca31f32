//! What a run is told.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::memory;

/// Hops of a proxy in front of a tunnel: client, proxy, near end, far end, target.
const HOPS: u64 = 4;
/// What a proxy may hold itself.
const MEMORY: u64 = 64 << 20;

/// What a run is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of the proxy in the report.
    pub name: String,
    /// Version of the proxy in the report; may be empty.
    pub version: String,
    /// Where the suite listens: the proxy forwards here.
    pub target: SocketAddr,
    /// The proxy's public side; the target itself in a run without a proxy.
    pub listen: SocketAddr,
    /// Cases to run; all when empty.
    pub only: Vec<String>,
    /// Silence after which the proxy ends a connection, where it is known and not endless.
    pub idle_limit: Option<Duration>,
    /// The proxy's processes, whose resident memory is read.
    pub pids: Vec<u32>,
    /// Smaller sizes and counts.
    pub quick: bool,
    /// How long a case waits for something that should come at once.
    pub patience: Duration,
    /// Most bytes that may be taken from a sender whose other side does not read: the proxy's and all
    /// that the kernel's buffers on the way hold.
    pub stalled_bytes_max: u64,
    /// Most bytes by which the proxy's own memory may grow meanwhile.
    pub memory_growth_max: u64,
    /// Seed of all bytes and choices.
    pub seed: u64,
}

impl Options {
    /// A run against the proxy at `listen`, which forwards to `target`.
    pub fn new(listen: SocketAddr, target: SocketAddr) -> Self {
        Self {
            name: "proxy".to_owned(),
            version: String::new(),
            target,
            listen,
            only: Vec::new(),
            idle_limit: None,
            pids: Vec::new(),
            quick: false,
            patience: Duration::from_secs(5),
            stalled_bytes_max: memory::hop_max() * HOPS + MEMORY,
            memory_growth_max: MEMORY,
            seed: 1,
        }
    }

    /// A run without a proxy, on a port of the kernel's choice.
    pub fn direct() -> Self {
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            name: "direct".to_owned(),
            ..Self::new(anywhere, anywhere)
        }
    }

    /// Whether no proxy stands between.
    pub fn is_direct(&self) -> bool {
        self.listen == self.target
    }
}
