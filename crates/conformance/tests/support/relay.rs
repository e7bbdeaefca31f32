//! A relay in this process: right, or with one fault.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What is wrong with a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The first end of one direction ends both.
    DropsHalfClose,
    /// A reset on one side is a clean end on the other.
    ResetBecomesEnd,
    /// Gathers bytes for a moment, and loses what it gathered when the end comes.
    Truncates,
    /// What a reset leaves in a buffer goes to the next connection.
    MixesConnections,
    /// Reads on while the other side does not take it.
    BuffersWithoutBound,
    /// Finds a reset only when it reads.
    LooksOnlyWhenItReads,
}

/// Bytes of one read.
const CHUNK: usize = 16 << 10;
/// How long [`Fault::Truncates`] gathers.
const MOMENT: Duration = Duration::from_millis(50);
/// The first bytes of the suite's connections in a crowd: only there [`Fault::MixesConnections`] mixes,
/// as it needs connections beside each other.
const CROWD: &[u8] = b"conform\n";
/// Bytes that a reset left; only [`Fault::MixesConnections`] looks at them.
type Stale = Arc<Mutex<Vec<u8>>>;

/// Relays from a port of its own, whose address it gives, to `target`, for as long as the runtime lives.
pub(crate) async fn start(target: SocketAddr, fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port");
    let addr = listener.local_addr().expect("bound");
    let stale = Stale::default();
    tokio::spawn(async move {
        loop {
            if let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, target, fault, Arc::clone(&stale)));
            }
        }
    });
    addr
}

async fn relay(client: TcpStream, target: SocketAddr, fault: Fault, stale: Stale) {
    let Ok(upstream) = TcpStream::connect(target).await else {
        return reset(&client);
    };
    let up = direction(&client, &upstream, fault, &stale);
    let down = direction(&upstream, &client, fault, &stale);
    let both = async {
        match fault {
            Fault::DropsHalfClose => tokio::select! {
                ended = up => ended,
                ended = down => ended,
            },
            _ => tokio::try_join!(up, down).map(|_| ()),
        }
    };
    // Where nothing is read, because the other side is full or this one has ended, a reset shows
    // only to who looks for it.
    let watches = fault != Fault::LooksOnlyWhenItReads;
    let ended = tokio::select! {
        biased;
        ended = both => ended,
        () = broken(&client), if watches => Err(io::ErrorKind::ConnectionReset.into()),
        () = broken(&upstream), if watches => Err(io::ErrorKind::ConnectionReset.into()),
    };
    match (ended, fault) {
        (Ok(()), _) | (Err(_), Fault::ResetBecomesEnd) => {}
        (Err(_), _) => {
            reset(&client);
            reset(&upstream);
        }
    }
}

/// Moves bytes until their end, which it passes on; an error is either side's.
async fn direction(
    from: &TcpStream,
    to: &TcpStream,
    fault: Fault,
    stale: &Stale,
) -> io::Result<()> {
    match fault {
        Fault::BuffersWithoutBound => unbounded(from, to).await?,
        Fault::Truncates => truncated(from, to).await?,
        Fault::MixesConnections => mixed(from, to, stale).await?,
        _ => {
            let mut buffer = vec![0; CHUNK];
            loop {
                let n = read(from, &mut buffer).await?;
                if n == 0 {
                    break;
                }
                write(to, &buffer[..n]).await?;
            }
        }
    }
    SockRef::from(to).shutdown(Shutdown::Write)
}

async fn truncated(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let mut gathered = Vec::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match tokio::time::timeout(MOMENT, read(from, &mut buffer)).await {
            Ok(Ok(0)) => return Ok(()),
            Ok(n) => {
                let new = buffer[..n?].to_vec();
                write(to, &std::mem::replace(&mut gathered, new)).await?;
            }
            Err(_) => write(to, &std::mem::take(&mut gathered)).await?,
        }
    }
}

async fn mixed(from: &TcpStream, to: &TcpStream, stale: &Stale) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut in_a_crowd = None;
    loop {
        let n = match read(from, &mut buffer).await {
            Ok(n) => n,
            Err(error) => {
                *lock(stale) = buffer[..100].to_vec();
                return Err(error);
            }
        };
        if n == 0 {
            return Ok(());
        }
        if in_a_crowd.is_none() {
            in_a_crowd = Some(buffer[..n].starts_with(CROWD));
            let others = std::mem::take(&mut *lock(stale));
            if in_a_crowd == Some(true) {
                write(to, &others).await?;
            }
        }
        write(to, &buffer[..n]).await?;
    }
}

async fn unbounded(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let held = Mutex::new(VecDeque::new());
    let more = Notify::new();
    let fill = async {
        loop {
            let mut buffer = vec![0; CHUNK];
            let n = read(from, &mut buffer).await?;
            buffer.truncate(n);
            lock(&held).push_back(buffer);
            more.notify_one();
            if n == 0 {
                return Ok(());
            }
        }
    };
    let empty = async {
        loop {
            let next = lock(&held).pop_front();
            match next {
                Some(bytes) if bytes.is_empty() => return Ok::<(), io::Error>(()),
                Some(bytes) => write(to, &bytes).await?,
                None => more.notified().await,
            }
        }
    };
    tokio::try_join!(fill, empty).map(|_| ())
}

async fn read(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

async fn write(stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        stream.writable().await?;
        match stream.try_write(rest) {
            Ok(n) => rest = &rest[n..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn broken(stream: &TcpStream) {
    while let Ok(ready) = stream.ready(Interest::ERROR).await {
        if ready.is_error() {
            return;
        }
    }
}

fn reset(stream: &TcpStream) {
    SockRef::from(stream)
        .set_linger(Some(Duration::ZERO))
        .expect("a socket takes it");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
