//! Both ends of the proxy: the target's listener and the way to the proxy's public side.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use crate::options::Options;
use crate::pattern::Pattern;
use crate::verdict::{Stop, fail};
use crate::wire;

/// Connections that may wait at the target; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// How long a proxy may take to forward, at first and again after a case that hurt it.
const RECOVERY: Duration = Duration::from_secs(20);
/// The same for one that did not forward before the last case either.
const STILL_DOWN: Duration = Duration::from_secs(1);
/// Bytes by which a probe is known.
const PROBE: usize = 16;
/// A connection that waits at the target while a probe is looked for gets this long to say its id.
const PROBE_WAIT: Duration = Duration::from_secs(1);

/// Who does something first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The end that connects to the proxy.
    Client,
    /// The end that the proxy connects to.
    Target,
}

impl Side {
    /// Its name in sentences.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Client => "the client",
            Self::Target => "the target",
        }
    }

    /// The name of the end that watches.
    pub(crate) fn other_name(self) -> &'static str {
        match self {
            Self::Client => Self::Target.name(),
            Self::Target => Self::Client.name(),
        }
    }
}

/// Both ends of the proxy.
pub(crate) struct Rig {
    /// What the run was told.
    pub(crate) options: Options,
    listener: Mutex<Option<Arc<TcpListener>>>,
    target: SocketAddr,
    listen: SocketAddr,
    seeds: AtomicU64,
    step: Mutex<String>,
    is_down: AtomicBool,
}

impl Rig {
    /// Listens at the target.
    pub(crate) fn new(options: &Options) -> std::io::Result<Self> {
        let listener = listen(options.target)?;
        let target = listener.local_addr()?;
        let direct = options.is_direct();
        Ok(Self {
            listen: if direct { target } else { options.listen },
            options: options.clone(),
            listener: Mutex::new(Some(Arc::new(listener))),
            target,
            seeds: AtomicU64::new(options.seed << 32),
            step: Mutex::new(String::new()),
            is_down: AtomicBool::new(false),
        })
    }

    /// How long to wait for what should come at once.
    pub(crate) fn patience(&self) -> Duration {
        self.options.patience
    }

    /// The first in a full run, the second in a quick one.
    pub(crate) fn scale<T>(&self, full: T, quick: T) -> T {
        if self.options.quick { quick } else { full }
    }

    /// A path that takes no byte for so long is full.
    pub(crate) fn quiet(&self) -> Duration {
        self.scale(Duration::from_millis(700), Duration::from_millis(300))
    }

    /// Time for something to happen of which the suite sees no sign.
    pub(crate) fn a_while(&self) -> Duration {
        self.scale(Duration::from_millis(500), Duration::from_millis(250))
    }

    /// A stream of bytes that no other connection of the run has.
    pub(crate) fn pattern(&self) -> Pattern {
        Pattern::new(self.seed())
    }

    /// A number that the run has not used yet.
    pub(crate) fn seed(&self) -> u64 {
        self.seeds.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes what the case does now, for the sentence of one that runs out of time.
    pub(crate) fn step(&self, step: impl Into<String>) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = step.into();
    }

    /// What the case did last.
    pub(crate) fn last_step(&self) -> String {
        self.step
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Connects a client.
    pub(crate) async fn connect(&self) -> Result<TcpStream, Stop> {
        match timeout(self.patience(), TcpStream::connect(self.listen)).await {
            Err(_) => fail(format!(
                "a client could not connect to {} within {:?}",
                self.listen,
                self.patience()
            )),
            Ok(Err(error)) => fail(format!(
                "a client could not connect to {}: {error}",
                self.listen
            )),
            Ok(Ok(stream)) => Ok(stream),
        }
    }

    /// Connects a client where that may be refused.
    pub(crate) async fn try_connect(&self) -> std::io::Result<TcpStream> {
        timeout(self.patience(), TcpStream::connect(self.listen))
            .await
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
    }

    /// Accepts the proxy's next connection to the target.
    pub(crate) async fn accept(&self) -> Result<TcpStream, Stop> {
        match self.accept_within(self.patience()).await {
            Some(stream) => Ok(stream),
            None => fail(format!(
                "the proxy made no connection to the target within {:?}",
                self.patience()
            )),
        }
    }

    /// The same where none may come.
    pub(crate) async fn accept_within(&self, patience: Duration) -> Option<TcpStream> {
        let listener = self.listener()?;
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match timeout(left, listener.accept()).await {
                Err(_) => return None,
                Ok(Ok((stream, _))) => return Some(stream),
                // A connection that was gone before it was accepted; the next one counts.
                Ok(Err(_)) => tokio::task::yield_now().await,
            }
        }
    }

    /// A client and the target's end of its connection.
    pub(crate) async fn pair(&self) -> Result<(TcpStream, TcpStream), Stop> {
        let client = self.connect().await?;
        let target = self.accept().await?;
        Ok((client, target))
    }

    /// The same with the acting side first.
    pub(crate) async fn pair_by(&self, side: Side) -> Result<(TcpStream, TcpStream), Stop> {
        let (client, target) = self.pair().await?;
        Ok(match side {
            Side::Client => (client, target),
            Side::Target => (target, client),
        })
    }

    /// The target's listener, unless it is closed.
    pub(crate) fn listener(&self) -> Option<Arc<TcpListener>> {
        self.listener
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Nobody listens at the target from now on.
    pub(crate) fn close_target(&self) {
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Listens at the target again.
    pub(crate) fn open_target(&self) -> std::io::Result<()> {
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if listener.is_none() {
            *listener = Some(Arc::new(listen(self.target)?));
        }
        Ok(())
    }

    /// Throws away what earlier cases left and waits until a new connection goes through.
    pub(crate) async fn settle(&self) -> Result<(), Stop> {
        self.step("waiting for the proxy to forward");
        let recovery = match self.is_down.load(Ordering::Relaxed) {
            true => STILL_DOWN,
            false => RECOVERY,
        };
        let deadline = Instant::now() + recovery;
        loop {
            self.drain().await;
            let seen = self.probe().await;
            self.drain().await;
            let late = Instant::now() > deadline;
            self.is_down.store(seen.is_err() && late, Ordering::Relaxed);
            match seen {
                Ok(()) => return Ok(()),
                Err(why) if late => {
                    return fail(format!(
                        "before the case began, no new connection went through for {recovery:?}: {why}"
                    ));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    async fn drain(&self) {
        while self
            .accept_within(Duration::from_millis(20))
            .await
            .is_some()
        {}
    }

    async fn probe(&self) -> Result<(), String> {
        let id = self.pattern().bytes(0, PROBE);
        let say = |error: std::io::Error| error.to_string();
        let client = self.try_connect().await.map_err(say)?;
        wire::write(&client, &id, PROBE_WAIT).await.map_err(say)?;
        loop {
            let Some(target) = self.accept_within(PROBE_WAIT).await else {
                return Err("the target saw no connection".to_owned());
            };
            let mut seen = [0; PROBE];
            if read_exactly(&target, &mut seen).await && seen[..] == id[..] {
                wire::write(&target, &id, PROBE_WAIT).await.map_err(say)?;
                let mut back = [0; PROBE];
                let answered = read_exactly(&client, &mut back).await && back[..] == id[..];
                // Only now: how a connection ends is for the cases.
                drop((client, target));
                return match answered {
                    true => Ok(()),
                    false => Err("the client did not get the target's answer".to_owned()),
                };
            }
        }
    }
}

async fn read_exactly(stream: &TcpStream, buffer: &mut [u8]) -> bool {
    let mut at = 0;
    while at < buffer.len() {
        match wire::read(stream, &mut buffer[at..], PROBE_WAIT).await {
            Ok(n) if n > 0 => at += n,
            _ => return false,
        }
    }
    true
}

fn listen(at: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
