//! Bulk: as many bytes as go through.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::epoll::EpollFlags;

use super::{CHUNK, COUNT, Direction, Job, Outcome, SINK, SOURCE, Window};
use crate::poll::{Poll, discard, write};

/// Bytes that are discarded at once.
const READ: usize = 1 << 20;
/// Writes (or reads) of one connection before the next one's turn.
const TURNS: usize = 8;
/// Longest wait for the other side to finish after the measurement. Some proxies pass no half-close
/// on; what is under way is then cut.
const FINISH: Duration = Duration::from_secs(2);

pub(super) fn run(job: &Job, streams: usize, direction: Direction) -> anyhow::Result<Outcome> {
    let poll = Poll::new()?;
    let (kind, flags) = match direction {
        Direction::Up => (SINK, EpollFlags::EPOLLOUT),
        Direction::Down => (SOURCE, EpollFlags::EPOLLIN),
    };
    let mut open = Vec::new();
    for number in 0..streams {
        let mut stream = TcpStream::connect(job.to).context("bulk connects")?;
        stream.set_nodelay(true)?;
        stream.write_all(&[kind])?;
        stream.set_nonblocking(true)?;
        poll.add(&stream, flags, number)?;
        open.push(Some(stream));
    }
    // Bytes that the backend got count, not those that some queue took.
    let mut counter = Counter::new(job.backend)?;
    let mut window = Window::new(job)?;
    let mut buffer = vec![7; READ];
    let mut ready = Vec::new();
    let mut base = 0;
    loop {
        poll.wait(&mut ready, window.deadline())?;
        if Instant::now() >= window.deadline() {
            let received = counter.ask()?;
            if !window.turn() {
                if direction == Direction::Up {
                    window.operations = received - base;
                }
                break;
            }
            base = received;
        }
        for (number, _) in ready.iter().copied() {
            let Some(stream) = &open[number] else {
                continue;
            };
            match turn(stream, direction, &mut buffer) {
                Ok(count) => window.operations += count,
                Err(error) => {
                    eprintln!("bulk: {error}");
                    window.errors += 1;
                    open[number] = None;
                }
            }
        }
    }
    let outcome = window.finish(Instant::now(), 0)?;
    anyhow::ensure!(outcome.operations > 0, "no byte came through");
    for stream in open.iter().flatten() {
        // One that was reset meanwhile has ended already.
        drop(stream.shutdown(Shutdown::Write));
    }
    drain(open.into_iter().flatten(), &mut buffer);
    Ok(outcome)
}

/// Moves a few chunks; how many bytes came (or zero where the backend counts them).
fn turn(stream: &TcpStream, direction: Direction, buffer: &mut [u8]) -> anyhow::Result<u64> {
    let mut moved = 0;
    for _ in 0..TURNS {
        match direction {
            Direction::Up => {
                if write(stream, &buffer[..CHUNK])?.is_none_or(|count| count < CHUNK) {
                    break;
                }
            }
            Direction::Down => match discard(stream, buffer)? {
                None => break,
                Some(0) => anyhow::bail!("the stream ended in the middle"),
                Some(count) => moved += count as u64,
            },
        }
    }
    Ok(moved)
}

/// Reads what is still under way, so that the next measurement does not share the machine with it.
fn drain(streams: impl Iterator<Item = TcpStream>, buffer: &mut [u8]) {
    let until = Instant::now() + FINISH;
    for mut stream in streams {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let waits = stream
                .set_nonblocking(false)
                .and_then(|()| stream.set_read_timeout(Some(left.max(Duration::from_millis(1)))));
            if waits.is_err() || left.is_zero() || !matches!(stream.read(buffer), Ok(1..)) {
                break;
            }
        }
    }
}

/// A connection to the backend itself, which tells how many bytes its sinks got.
struct Counter(TcpStream);

impl Counter {
    fn new(backend: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(backend).context("the backend answers")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(FINISH))?;
        Ok(Self(stream))
    }

    fn ask(&mut self) -> anyhow::Result<u64> {
        self.0.write_all(&[COUNT])?;
        let mut answer = [0; 8];
        self.0
            .read_exact(&mut answer)
            .context("the backend counts")?;
        Ok(u64::from_be_bytes(answer))
    }
}
