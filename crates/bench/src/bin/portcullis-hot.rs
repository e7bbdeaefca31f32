//! The hot loops, each alone, so many times as asked: `portcullis-hot LOOP COUNT`. Under callgrind the
//! difference of two counts is what one turn takes, whatever starting and ending take.
//! `portcullis-hot list` names the loops.

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use anyhow::Context as _;
use ipnet::{IpNet, Ipv4Net};
use portcullis_net::{Counters, RelayLimits, TcpConn, relay};
use portcullis_policy::{Conn, Policy};
use portcullis_proto::{ChannelState, FrameType, Header, Role};
use tokio_util::sync::CancellationToken;

type Loop = fn(u32) -> anyhow::Result<()>;

const LOOPS: &[(&str, Loop)] = &[
    ("policy-none", |count| decide(count, 0)),
    ("policy-1000-cidrs", |count| decide(count, 1_000)),
    ("frame-header", frame_headers),
    ("channel-life", channel_lives),
    ("relay-64-bytes", |count| relay_messages(count, 64)),
    ("relay-64-kib", |count| relay_messages(count, 64 * 1024)),
];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["list"] => {
            for (name, _) in LOOPS {
                println!("{name}");
            }
            Ok(())
        }
        [name, count] => {
            let found = LOOPS.iter().find(|(known, _)| known == name);
            let (_, run) = found.with_context(|| format!("there is no loop {name}"))?;
            run(count.parse().context("a count")?)
        }
        _ => anyhow::bail!("usage: portcullis-hot list | LOOP COUNT"),
    }
}

/// A policy's decision on a client; half of the networks allow, half deny.
fn decide(count: u32, networks: u32) -> anyhow::Result<()> {
    // Knuth's multiplicative hash scatters them over the 32 bits.
    let scatter = |n: u32| Ipv4Addr::from_bits(n.wrapping_mul(2_654_435_761));
    let network = |n: u32| {
        let length = 16 + u8::try_from(n % 16).unwrap_or_default();
        IpNet::V4(Ipv4Net::new_assert(scatter(n), length).trunc())
    };
    let networks: Vec<IpNet> = (0..networks).map(network).collect();
    let (deny, allow) = networks.split_at(networks.len() / 2);
    let policy = Policy::from_cidrs(allow, deny);
    let server = SocketAddr::from(([203, 0, 113, 5], 20_001));
    for n in 0..count {
        let client = SocketAddr::new(IpAddr::V4(scatter(n.wrapping_add(7))), 40_000);
        let conn = Conn::new(client, server);
        black_box(policy.on_tcp_connect(black_box(&conn)).decision);
    }
    Ok(())
}

/// A DATA frame's header, written and read.
fn frame_headers(count: u32) -> anyhow::Result<()> {
    for n in 0..count {
        let length = 1 + (n % 65_000) as usize;
        let header = Header::new(FrameType::Data, black_box(n | 1), length)?;
        black_box(Header::decode(black_box(header.encode()))?);
    }
    Ok(())
}

/// One client connection on a recycled channel, both ends: opened, a frame each way, ended, released.
fn channel_lives(count: u32) -> anyhow::Result<()> {
    let mut edge = ChannelState::new(Role::Edge);
    let mut agent = ChannelState::new(Role::Agent);
    for _ in 0..count {
        let number = edge.open_next()?;
        agent.on_recv(&wire(FrameType::Open, number, 120)?)?;
        say(&mut agent, &mut edge, FrameType::Opened, number, 0)?;
        say(&mut edge, &mut agent, FrameType::Data, number, 64)?;
        say(&mut agent, &mut edge, FrameType::Data, number, 64)?;
        say(&mut edge, &mut agent, FrameType::End, number, 0)?;
        say(&mut agent, &mut edge, FrameType::End, number, 0)?;
        say(&mut edge, &mut agent, FrameType::Released, number, 0)?;
        say(&mut agent, &mut edge, FrameType::Released, number, 0)?;
        anyhow::ensure!(edge.is_free() && agent.is_free(), "the channel is not free");
    }
    Ok(())
}

fn wire(kind: FrameType, number: u32, length: usize) -> anyhow::Result<Header> {
    let header = Header::new(kind, number, length)?;
    Ok(Header::decode(black_box(header.encode()))?)
}

fn say(
    from: &mut ChannelState,
    to: &mut ChannelState,
    kind: FrameType,
    number: u32,
    length: usize,
) -> anyhow::Result<()> {
    let header = wire(kind, number, length)?;
    from.on_send(&header)?;
    to.on_recv(&header)?;
    Ok(())
}

/// `bytes` through the relay and back, over sockets of loopback. The peers are a thread that does
/// nothing but write and read.
fn relay_messages(count: u32, bytes: usize) -> anyhow::Result<()> {
    let (client, near_client) = tcp_pair()?;
    let (upstream, near_upstream) = tcp_pair()?;
    let peers = std::thread::spawn(move || exchange(client, upstream, count, bytes));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut near_client = TcpConn::new(tokio::net::TcpStream::from_std(near_client)?);
        let mut near_upstream = TcpConn::new(tokio::net::TcpStream::from_std(near_upstream)?);
        let (counters, kill) = (Counters::new(), CancellationToken::new());
        let limits = RelayLimits::default();
        relay(
            &mut near_client,
            &mut near_upstream,
            &limits,
            &counters,
            &kill,
        )
        .await;
        anyhow::Ok(())
    })?;
    peers
        .join()
        .map_err(|_| anyhow::anyhow!("the peers panicked"))?
}

fn exchange(
    mut client: TcpStream,
    mut upstream: TcpStream,
    count: u32,
    bytes: usize,
) -> anyhow::Result<()> {
    let mut message = vec![7; bytes];
    for _ in 0..count {
        client.write_all(&message)?;
        upstream.read_exact(&mut message)?;
        upstream.write_all(&message)?;
        client.read_exact(&mut message)?;
    }
    Ok(())
}

/// A connection; the second end is for a runtime.
fn tcp_pair() -> anyhow::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    far.set_nonblocking(true)?;
    Ok((near, far))
}
