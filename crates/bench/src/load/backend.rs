//! The backend, for a process of its own. The first byte of a connection chooses what it does; bulk
//! has a thread of its own, so that a small exchange beside it does not wait for its writes.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{Backlog, listen};

use super::{CHUNK, COUNT, SINK, SOURCE};
use crate::poll::{Poll, discard, read, write};

/// Most connections that wait to be accepted. The standard library's 128 lose SYNs in a burst of 256.
const BACKLOG: i32 = 4096;
/// Bytes read or discarded at once.
const READ: usize = 1 << 20;
/// The number of the listener in the echo thread's epoll.
const LISTENER: usize = usize::MAX;
/// Longest wait for events; nothing depends on it.
const LOOK: Duration = Duration::from_secs(60);
/// Writes (or reads) of one bulk connection before the next one's turn.
const TURNS: usize = 8;

/// Listens on a port of loopback below those that the kernel draws, as services do, tells it, and serves until the process ends.
///
/// # Errors
/// When it cannot listen or poll.
pub fn serve(tell: impl FnOnce(SocketAddr)) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", portcullis_e2e::ports::one()))?;
    listen(&listener, Backlog::new(BACKLOG)?)?;
    listener.set_nonblocking(true)?;
    let bulk = Arc::new(Bulk::default());
    let queue = Arc::new(Poll::new()?);
    let (served, its_queue) = (Arc::clone(&bulk), Arc::clone(&queue));
    std::thread::spawn(move || {
        if let Err(error) = served.serve(&its_queue) {
            eprintln!("bulk: {error}");
        }
    });
    tell(listener.local_addr()?);
    Echo {
        poll: Poll::new()?,
        listener,
        connections: HashMap::new(),
        next: 0,
        bulk,
        queue,
        buffer: vec![0; READ],
    }
    .serve()
}

struct Echo {
    poll: Poll,
    listener: TcpListener,
    connections: HashMap<usize, Connection>,
    next: usize,
    bulk: Arc<Bulk>,
    queue: Arc<Poll>,
    buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    started: bool,
    counts: bool,
    /// What could not be sent back yet.
    left: Vec<u8>,
}

enum Next {
    Stay,
    Close,
    HandOver(u8),
}

impl Echo {
    fn serve(mut self) -> anyhow::Result<()> {
        self.poll
            .add(&self.listener, EpollFlags::EPOLLIN, LISTENER)?;
        let mut ready = Vec::new();
        loop {
            self.poll.wait(&mut ready, Instant::now() + LOOK)?;
            for (number, flags) in &ready {
                if *number == LISTENER {
                    self.accept()?;
                    continue;
                }
                let Some(connection) = self.connections.get_mut(number) else {
                    continue;
                };
                match connection.turn(*flags, &mut self.buffer, &self.poll, *number, &self.bulk) {
                    Ok(Next::Stay) => {}
                    Ok(Next::Close) | Err(_) => drop(self.connections.remove(number)),
                    Ok(Next::HandOver(kind)) => {
                        if let Some(connection) = self.connections.remove(number) {
                            self.poll.remove(&connection.stream)?;
                            self.bulk
                                .take(&self.queue, *number, connection.stream, kind);
                        }
                    }
                }
            }
        }
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nodelay(true)?;
            self.next += 1;
            self.poll.add(&stream, EpollFlags::EPOLLIN, self.next)?;
            let connection = Connection {
                stream,
                started: false,
                counts: false,
                left: Vec::new(),
            };
            self.connections.insert(self.next, connection);
        }
        Ok(())
    }
}

impl Connection {
    fn turn(
        &mut self,
        flags: EpollFlags,
        buffer: &mut [u8],
        poll: &Poll,
        number: usize,
        bulk: &Bulk,
    ) -> nix::Result<Next> {
        if !self.left.is_empty() {
            let Some(written) = write(&self.stream, &self.left)? else {
                return Ok(Next::Stay);
            };
            self.left.drain(..written);
            if self.left.is_empty() {
                poll.change(&self.stream, EpollFlags::EPOLLIN, number)?;
            }
            return Ok(Next::Stay);
        }
        if flags.is_empty() {
            return Ok(Next::Stay);
        }
        let Some(count) = read(&self.stream, buffer)? else {
            return Ok(Next::Stay);
        };
        if count == 0 {
            return Ok(Next::Close);
        }
        if !self.started {
            self.started = true;
            match buffer[0] {
                kind @ (SINK | SOURCE) => return Ok(Next::HandOver(kind)),
                COUNT => self.counts = true,
                _ => {}
            }
        }
        let answer = bulk.received.load(Ordering::Relaxed).to_be_bytes();
        let answer = if self.counts {
            &answer[..]
        } else {
            &buffer[..count]
        };
        let written = write(&self.stream, answer)?.unwrap_or_default();
        if written < answer.len() {
            self.left.extend_from_slice(&answer[written..]);
            poll.change(&self.stream, EpollFlags::EPOLLOUT, number)?;
        }
        Ok(Next::Stay)
    }
}

/// The connections of the bulk thread.
#[derive(Default)]
struct Bulk {
    connections: Mutex<HashMap<usize, (TcpStream, u8)>>,
    received: AtomicU64,
}

impl Bulk {
    fn take(&self, queue: &Poll, number: usize, stream: TcpStream, kind: u8) {
        let flags = if kind == SINK {
            EpollFlags::EPOLLIN
        } else {
            EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT
        };
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Under the lock: the thread that hears of it waits until it is known.
        match queue.add(&stream, flags, number) {
            Ok(()) => drop(connections.insert(number, (stream, kind))),
            Err(error) => eprintln!("bulk: {error}"),
        }
    }

    fn serve(&self, queue: &Poll) -> nix::Result<()> {
        let mut buffer = vec![7; READ];
        let mut ready = Vec::new();
        loop {
            queue.wait(&mut ready, Instant::now() + LOOK)?;
            for (number, flags) in ready.iter().copied() {
                let mut connections = self
                    .connections
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                let Some((stream, kind)) = connections.get(&number) else {
                    continue;
                };
                let stays = if *kind == SINK {
                    self.sink(stream, &mut buffer)
                } else {
                    source(stream, flags, &buffer[..CHUNK])
                };
                if !matches!(stays, Ok(true)) {
                    connections.remove(&number);
                }
            }
        }
    }

    fn sink(&self, stream: &TcpStream, buffer: &mut [u8]) -> nix::Result<bool> {
        for _ in 0..TURNS {
            match discard(stream, buffer)? {
                None => return Ok(true),
                Some(0) => {
                    // The dot comes when everything was read.
                    write(stream, b".")?;
                    return Ok(false);
                }
                Some(count) => {
                    self.received.fetch_add(count as u64, Ordering::Relaxed);
                }
            }
        }
        Ok(true)
    }
}

/// Writes until the client says something: its end, mostly.
fn source(stream: &TcpStream, flags: EpollFlags, chunk: &[u8]) -> nix::Result<bool> {
    if flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
        return Ok(false);
    }
    for _ in 0..TURNS {
        if write(stream, chunk)?.is_none_or(|count| count < chunk.len()) {
            break;
        }
    }
    Ok(true)
}
