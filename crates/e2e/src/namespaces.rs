//! Machines of a test: network namespaces around a router, each with IPv4 and IPv6 addresses, whose
//! links can be cut, mended and made to reset. Everything goes when its owner does.
//!
//! Must never: touch the network of the machine that the test runs on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::shell::try_sh;
use crate::traffic::Upstream;

/// How long a connect inside a namespace may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A namespace; deleted on drop.
struct Namespace(String);

impl Namespace {
    fn new(role: &str) -> Option<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ptc-{}-{number}-{role}", std::process::id());
        let (status, _) = try_sh(&format!("ip netns add {name}"));
        (status == 0).then_some(Self(name))
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.0)
    }

    fn sh(&self, line: &str) -> String {
        let (status, output) = try_sh(&format!("nsenter --net={} {line}", self.path()));
        assert!(status == 0, "`{line}` in {} failed:\n{output}", self.0);
        output
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let (status, output) = try_sh(&format!("ip netns del {}", self.0));
        if status != 0 {
            eprintln!("{} stays behind: {output}", self.0);
        }
    }
}

/// A machine behind the router.
pub struct Host {
    namespace: Namespace,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// A second one, on the same link.
    pub v4_second: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}

impl Host {
    fn new(role: &str, number: u8, router: &Namespace) -> Option<Self> {
        let host = Self {
            namespace: Namespace::new(role)?,
            v4: Ipv4Addr::new(10, 77, number, 2),
            v4_second: Ipv4Addr::new(10, 77, number, 3),
            v6: Ipv6Addr::new(0xfd77, number.into(), 0, 0, 0, 0, 0, 2),
        };
        let (own, hub) = (&host.namespace, router);
        let (status, _) = try_sh(&format!(
            "ip link add eth0 netns {} type veth peer name {role} netns {}",
            own.0, hub.0
        ));
        (status == 0).then_some(())?;
        hub.sh(&format!("ip addr add 10.77.{number}.1/24 dev {role}"));
        hub.sh(&format!("ip addr add fd77:{number}::1/64 dev {role} nodad"));
        hub.sh(&format!("ip link set {role} up"));
        own.sh("ip link set lo up");
        own.sh(&format!("ip addr add {}/24 dev eth0", host.v4));
        own.sh(&format!("ip addr add {}/24 dev eth0", host.v4_second));
        own.sh(&format!("ip addr add {}/64 dev eth0 nodad", host.v6));
        own.sh("ip link set eth0 up");
        own.sh(&format!("ip route add default via 10.77.{number}.1"));
        own.sh(&format!("ip -6 route add default via fd77:{number}::1"));
        Some(host)
    }

    /// What stands before a command that is to run on this machine.
    pub fn wrapper(&self) -> Vec<String> {
        vec![
            "nsenter".to_owned(),
            format!("--net={}", self.namespace.path()),
        ]
    }

    /// Runs a command on this machine; its output.
    ///
    /// # Panics
    /// When it fails.
    pub fn sh(&self, line: &str) -> String {
        self.namespace.sh(line)
    }

    /// Connects from this machine.
    ///
    /// # Errors
    /// Whatever the socket says.
    pub fn connect(&self, addr: SocketAddr) -> std::io::Result<TcpStream> {
        connect_in(&self.namespace.path(), addr)
    }

    /// Listens on this machine's loopback.
    ///
    /// # Panics
    /// When it cannot.
    pub fn listen(&self) -> TcpListener {
        let bind = || std::net::TcpListener::bind("127.0.0.1:0");
        let listener = enter(&self.namespace.path(), bind).expect("loopback has free ports");
        listener.set_nonblocking(true).expect("a socket");
        TcpListener::from_std(listener).expect("inside a runtime")
    }

    /// A port of the test's own machine that leads to one on this machine's loopback.
    pub async fn forwarded(&self, port: u16) -> Upstream {
        let path = self.namespace.path();
        let inside = at(Ipv4Addr::LOCALHOST, port);
        Upstream::serve(move |mut client| {
            let path = path.clone();
            async move {
                // A server that is not up yet: the client sees the end and tries again.
                if let Ok(mut server) = connect_in(&path, inside) {
                    drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
                }
            }
        })
        .await
    }

    /// Takes its IPv4 addresses away.
    pub fn without_v4(&self) {
        self.sh("ip -4 addr flush dev eth0");
    }

    fn is_either_end(&self) -> [String; 4] {
        [
            format!("ip saddr {}", self.v4),
            format!("ip daddr {}", self.v4),
            format!("ip6 saddr {}", self.v6),
            format!("ip6 daddr {}", self.v6),
        ]
    }
}

/// Runs `make` on a thread of its own inside a namespace: sockets made there stay there.
fn enter<T: Send>(path: &str, make: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            join_namespace(path);
            make()
        });
        thread.join().expect("the thread does not panic by itself")
    })
}

fn connect_in(path: &str, addr: SocketAddr) -> std::io::Result<TcpStream> {
    let connect = || std::net::TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT);
    let stream = enter(path, connect)?;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

#[expect(unsafe_code, reason = "the only way of a thread into a namespace")]
fn join_namespace(path: &str) {
    let file = std::fs::File::open(path).expect("the namespace exists");
    // SAFETY: takes an open descriptor and changes this thread alone, which ends soon.
    let status = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
    assert_eq!(status, 0, "setns: {}", std::io::Error::last_os_error());
}

/// Three machines around a router.
pub struct Network {
    /// For the server.
    pub server: Host,
    /// For the agent and its upstream.
    pub agent: Host,
    /// For clients.
    pub client: Host,
    router: Namespace,
}

impl Network {
    /// Makes it; `None` where this user or kernel has no namespaces.
    pub fn new() -> Option<Self> {
        let router = Namespace::new("router")?;
        let network = Self {
            server: Host::new("server", 1, &router)?,
            agent: Host::new("agent", 2, &router)?,
            client: Host::new("client", 3, &router)?,
            router,
        };
        let router = &network.router;
        router.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        router.sh("nft add table inet path");
        router.sh("nft 'add chain inet path forwarded { type filter hook forward priority 0; }'");
        Some(network)
    }

    /// From now on everything from and to `host` is lost without a word.
    pub fn cut(&self, host: &Host) {
        for packet in host.is_either_end() {
            self.rule(&format!("{packet} drop"));
        }
    }

    /// From now on every TCP packet from and to `host` is answered with a reset.
    pub fn reset(&self, host: &Host) {
        for packet in host.is_either_end() {
            self.rule(&format!("{packet} meta l4proto tcp reject with tcp reset"));
        }
    }

    /// Takes [`Network::cut`] and [`Network::reset`] back.
    pub fn mend(&self) {
        self.router.sh("nft flush chain inet path forwarded");
    }

    /// Unplugs the agent's cable at the router (IPv4 alone survives that), or plugs it in again.
    pub fn agent_link(&self, up: bool) {
        let state = if up { "up" } else { "down" };
        self.router.sh(&format!("ip link set agent {state}"));
    }

    fn rule(&self, rule: &str) {
        self.router
            .sh(&format!("nft add rule inet path forwarded {rule}"));
    }
}

/// A socket address on a machine.
pub fn at(ip: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(ip.into(), port)
}
