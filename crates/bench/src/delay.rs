//! A long link in user space, for a process of its own: a relay that hands on every chunk half a round
//! trip after it came, each way, and no faster than the link's rate if it has one.
//!
//! It is what a kernel without netem allows: both sides speak TCP with the relay, next door, so what
//! they feel of the link is its delay and its rate, not loss and not TCP's own slow start. What grows
//! windows of its own on top of TCP (any multiplexer) feels it whole.
//!
//! A connection costs a round trip before data, as a handshake does: the client's first byte leaves
//! one round trip after `connect` at the earliest, and the server accepts after one and a half.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{Backlog, listen, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use serde::{Deserialize, Serialize};

use crate::poll::{Poll, begin, read, write};

/// A link, and the relay that makes it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Link {
    /// Where the relay listens, if it can; else at a port that the kernel draws.
    pub listen: Option<SocketAddr>,
    /// Where the relay connects.
    pub to: SocketAddr,
    /// Round-trip time.
    pub round_trip: Duration,
    /// Bits a second in each direction, over all connections; `None` is as fast as the relay goes.
    pub rate: Option<u64>,
}

/// Bytes of one read.
const READ: usize = 256 * 1024;
/// Chunks below this are copied out of the read buffer instead of taking it with them.
const SMALL: usize = 8 * 1024;
/// Bytes under way in one direction of one connection: 40 Gbit/s over 50 ms one way.
const UNDER_WAY: usize = 256 << 20;
/// What may wait in front of a link with a rate, in time: a router's queue.
const QUEUE: Duration = Duration::from_millis(20);
/// Receive buffer of the relay's sockets; what waits there is not delayed yet.
const RECEIVE: usize = 256 * 1024;
/// Due times are rounded up to this, so that bulk does not wake the relay for each chunk.
const GRAIN: Duration = Duration::from_micros(250);
/// Most connections that wait to be accepted.
const BACKLOG: i32 = 4096;
/// Number of the listener in epoll; the timer's is one less.
const LISTENER: usize = usize::MAX;
const TIMER: usize = usize::MAX - 1;
/// Longest wait for events; nothing depends on it.
const LOOK: Duration = Duration::from_secs(60);

/// One direction of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Way {
    Up,
    Down,
}

/// What is under way.
enum Item {
    Bytes { bytes: Vec<u8>, at: usize },
    End,
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The head of a lane may be due.
    Due(usize, Way),
    /// A lane that waited for the link may be read again.
    Resume(usize, Way),
    /// The handshake of a connection is over; the other side accepts.
    Connect(usize),
}

#[derive(Default)]
struct Lane {
    items: VecDeque<(Instant, Item)>,
    bytes: usize,
    /// Not read at present: too much is under way, or the link is full.
    paused: bool,
    /// Its reader's end was seen.
    ended: bool,
    /// Its writer takes no more at present.
    blocked: bool,
    /// Its end was handed on.
    through: bool,
}

struct Pair {
    accepted: Instant,
    client: TcpStream,
    server: Option<TcpStream>,
    up: Lane,
    down: Lane,
    /// Client and server: no longer registered, since it ended and the kernel goes on saying so.
    deaf: [bool; 2],
}

impl Way {
    /// Whether its bytes are read from the client.
    fn reader(self) -> bool {
        self == Self::Up
    }

    /// Whether its bytes are written to the client.
    fn writer(self) -> bool {
        self == Self::Down
    }
}

impl Pair {
    fn stream(&self, client: bool) -> Option<&TcpStream> {
        if client {
            Some(&self.client)
        } else {
            self.server.as_ref()
        }
    }

    fn lane(&mut self, way: Way) -> &mut Lane {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }

    /// Where a direction's bytes go, and the direction.
    fn out(&mut self, way: Way) -> (Option<&TcpStream>, &mut Lane) {
        match way {
            Way::Up => (self.server.as_ref(), &mut self.up),
            Way::Down => (Some(&self.client), &mut self.down),
        }
    }
}

struct Relay {
    link: Link,
    poll: Poll,
    listener: TcpListener,
    timer: TimerFd,
    pairs: HashMap<usize, Pair>,
    next: usize,
    events: BinaryHeap<Reverse<(Instant, Event)>>,
    /// Due times are rounded from here.
    start: Instant,
    /// When the link is free again, up and down.
    free: [Instant; 2],
    /// Buffers to read into again.
    pool: Vec<Vec<u8>>,
}

/// Listens, tells where, and relays until the process ends.
///
/// # Errors
/// When it cannot listen or poll.
pub fn serve(link: Link, tell: impl FnOnce(SocketAddr)) -> anyhow::Result<()> {
    let wanted = link.listen.and_then(|at| TcpListener::bind(at).ok());
    let listener = match wanted {
        Some(listener) => listener,
        None => TcpListener::bind("127.0.0.1:0")?,
    };
    setsockopt(&listener, sockopt::RcvBuf, &RECEIVE)?;
    listen(&listener, Backlog::new(BACKLOG)?)?;
    listener.set_nonblocking(true)?;
    let poll = Poll::new()?;
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
    poll.add(&listener, EpollFlags::EPOLLIN, LISTENER)?;
    poll.add(&timer, EpollFlags::EPOLLIN, TIMER)?;
    tell(listener.local_addr()?);
    let now = Instant::now();
    Relay {
        link,
        poll,
        listener,
        timer,
        pairs: HashMap::new(),
        next: 0,
        events: BinaryHeap::new(),
        start: now,
        free: [now, now],
        pool: Vec::new(),
    }
    .run()
}

impl Relay {
    fn run(mut self) -> anyhow::Result<()> {
        let mut ready = Vec::new();
        loop {
            self.arm()?;
            self.poll.wait(&mut ready, Instant::now() + LOOK)?;
            for (number, flags) in ready.iter().copied() {
                match number {
                    LISTENER => self.accept()?,
                    TIMER => drop(self.timer.wait()),
                    _ => self.ready(number / 2, number % 2 == 0, flags)?,
                }
            }
            let now = Instant::now();
            while self
                .events
                .peek()
                .is_some_and(|Reverse((due, _))| *due <= now)
            {
                let Some(Reverse((_, event))) = self.events.pop() else {
                    break;
                };
                match event {
                    Event::Connect(number) => self.connect(number)?,
                    Event::Due(number, way) => self.flush(number, way)?,
                    Event::Resume(number, way) => self.resume(number, way)?,
                }
            }
        }
    }

    fn arm(&self) -> anyhow::Result<()> {
        if let Some(Reverse((due, _))) = self.events.peek() {
            let left = due.saturating_duration_since(Instant::now());
            let left = left.max(Duration::from_micros(1));
            self.timer.set(
                Expiration::OneShot(TimeSpec::from_duration(left)),
                TimerSetTimeFlags::empty(),
            )?;
        }
        Ok(())
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        while let Ok((client, _)) = self.listener.accept() {
            client.set_nodelay(true)?;
            let number = self.next;
            self.next += 1;
            self.poll.add(&client, EpollFlags::EPOLLIN, number * 2)?;
            let accepted = Instant::now();
            self.at(
                accepted + self.link.round_trip * 3 / 2,
                Event::Connect(number),
            );
            let pair = Pair {
                accepted,
                client,
                server: None,
                up: Lane::default(),
                down: Lane::default(),
                deaf: [false; 2],
            };
            self.pairs.insert(number, pair);
        }
        Ok(())
    }

    fn connect(&mut self, number: usize) -> anyhow::Result<()> {
        let Some(pair) = self.pairs.get_mut(&number) else {
            return Ok(());
        };
        let Ok(server) = begin(self.link.to) else {
            self.reset(number);
            return Ok(());
        };
        setsockopt(&server, sockopt::RcvBuf, &RECEIVE)?;
        server.set_nodelay(true)?;
        self.poll
            .add(&server, EpollFlags::EPOLLIN, number * 2 + 1)?;
        pair.server = Some(server);
        self.flush(number, Way::Up)
    }

    fn ready(&mut self, number: usize, client: bool, flags: EpollFlags) -> anyhow::Result<()> {
        let (reads, writes) = if client {
            (Way::Up, Way::Down)
        } else {
            (Way::Down, Way::Up)
        };
        let over = flags.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
        if (over || flags.contains(EpollFlags::EPOLLOUT))
            && let Some(pair) = self.pairs.get_mut(&number)
        {
            pair.lane(writes).blocked = false;
            self.interest(number, writes.writer())?;
            self.flush(number, writes)?;
        }
        if over || flags.contains(EpollFlags::EPOLLIN) {
            self.take(number, reads)?;
        }
        // The kernel reports these whether they are asked for or not.
        if over
            && let Some(pair) = self.pairs.get_mut(&number)
            && pair.lane(reads).ended
            && let Some(stream) = pair.stream(client)
        {
            // It may be off the list already.
            self.poll.remove(stream).ok();
            pair.deaf[usize::from(!client)] = true;
        }
        Ok(())
    }

    /// Reads what came and puts it under way.
    fn take(&mut self, number: usize, way: Way) -> anyhow::Result<()> {
        let Some(pair) = self.pairs.get_mut(&number) else {
            return Ok(());
        };
        let accepted = pair.accepted;
        if pair.lane(way).ended {
            return Ok(());
        }
        let Some(stream) = pair.stream(way.reader()) else {
            return Ok(());
        };
        let mut buffer = self.pool.pop().unwrap_or_else(|| vec![0; READ]);
        let item = match read(stream, &mut buffer) {
            Ok(None) => {
                self.pool.push(buffer);
                return Ok(());
            }
            Ok(Some(0)) => Item::End,
            Err(_) => Item::Reset,
            Ok(Some(count)) if count < SMALL => {
                let bytes = buffer[..count].to_vec();
                self.pool.push(buffer);
                Item::Bytes { bytes, at: 0 }
            }
            Ok(Some(count)) => {
                buffer.truncate(count);
                let bytes = buffer;
                Item::Bytes { bytes, at: 0 }
            }
        };
        let length = match &item {
            Item::Bytes { bytes, .. } => bytes.len(),
            Item::End | Item::Reset => 0,
        };
        let (due, wait) = self.due(accepted, way, length);
        let lane = self.pairs.get_mut(&number).map(|pair| pair.lane(way));
        let Some(lane) = lane else {
            return Ok(());
        };
        lane.ended |= length == 0;
        lane.bytes += length;
        lane.items.push_back((due, item));
        let full = lane.bytes > UNDER_WAY;
        if wait.is_some() || full || lane.ended {
            lane.paused = true;
            self.interest(number, way.reader())?;
        }
        if let Some(resume) = wait {
            self.at(resume, Event::Resume(number, way));
        }
        self.at(due, Event::Due(number, way));
        Ok(())
    }

    /// When so many bytes that came now are to go on, and, if the link is full then, when to read again.
    fn due(&mut self, accepted: Instant, way: Way, length: usize) -> (Instant, Option<Instant>) {
        let now = Instant::now();
        let mut from = now;
        if way == Way::Up {
            from = from.max(accepted + self.link.round_trip);
        }
        let mut wait = None;
        if let Some(rate) = self.link.rate {
            let free = &mut self.free[way as usize];
            let takes = Duration::from_secs_f64(length as f64 * 8.0 / rate as f64);
            *free = (*free).max(now) + takes;
            from = from.max(*free);
            wait = Some(*free)
                .filter(|free| *free > now + QUEUE)
                .map(|free| free - QUEUE / 2);
        }
        (from + self.link.round_trip / 2, wait)
    }

    fn resume(&mut self, number: usize, way: Way) -> anyhow::Result<()> {
        if let Some(pair) = self.pairs.get_mut(&number) {
            let lane = pair.lane(way);
            lane.paused = lane.ended || lane.bytes > UNDER_WAY;
            self.interest(number, way.reader())?;
        }
        Ok(())
    }

    /// Hands on what is due.
    fn flush(&mut self, number: usize, way: Way) -> anyhow::Result<()> {
        let now = Instant::now();
        let Some(pair) = self.pairs.get_mut(&number) else {
            return Ok(());
        };
        let (stream, lane) = pair.out(way);
        let Some(stream) = stream else {
            return Ok(());
        };
        let mut reset = false;
        while let Some((due, item)) = lane.items.front_mut() {
            if *due > now || lane.blocked {
                break;
            }
            match item {
                Item::Bytes { bytes, at } => match write(stream, &bytes[*at..]) {
                    Ok(None) => lane.blocked = true,
                    Err(_) => reset = true,
                    Ok(Some(count)) => {
                        *at += count;
                        lane.bytes -= count;
                    }
                },
                Item::End => {
                    reset = stream.shutdown(Shutdown::Write).is_err();
                    lane.through = true;
                }
                Item::Reset => reset = true,
            }
            if reset {
                break;
            }
            if matches!(item, Item::Bytes { bytes, at } if *at < bytes.len()) {
                continue;
            }
            if let Some((_, Item::Bytes { mut bytes, .. })) = lane.items.pop_front()
                && bytes.capacity() >= READ
            {
                bytes.resize(READ, 0);
                self.pool.push(bytes);
            }
        }
        let blocked = lane.blocked;
        let again = lane.paused && !lane.ended && lane.bytes < UNDER_WAY / 2;
        if reset {
            self.reset(number);
            return Ok(());
        }
        if pair.up.through && pair.down.through {
            self.pairs.remove(&number);
            return Ok(());
        }
        if blocked {
            self.interest(number, way.writer())?;
        }
        if again && self.link.rate.is_none() {
            self.resume(number, way)?;
        }
        Ok(())
    }

    /// Tells epoll what one side of a connection waits for.
    fn interest(&mut self, number: usize, client: bool) -> anyhow::Result<()> {
        let Some(pair) = self.pairs.get(&number) else {
            return Ok(());
        };
        let (reads, writes) = if client {
            (&pair.up, &pair.down)
        } else {
            (&pair.down, &pair.up)
        };
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN, !reads.paused);
        flags.set(EpollFlags::EPOLLOUT, writes.blocked);
        if let Some(stream) = pair.stream(client)
            && !pair.deaf[usize::from(!client)]
        {
            self.poll
                .change(stream, flags, number * 2 + usize::from(!client))?;
        }
        Ok(())
    }

    /// Ends both sides with a reset.
    fn reset(&mut self, number: usize) {
        if let Some(pair) = self.pairs.remove(&number) {
            let linger = nix::libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            for stream in [Some(&pair.client), pair.server.as_ref()]
                .into_iter()
                .flatten()
            {
                // A socket that refuses is closed all the same.
                setsockopt(stream, sockopt::Linger, &linger).ok();
            }
        }
    }

    fn at(&mut self, due: Instant, event: Event) {
        let since = due.saturating_duration_since(self.start);
        let grains = since.as_nanos().div_ceil(GRAIN.as_nanos());
        let due = self.start + GRAIN * u32::try_from(grains).unwrap_or(u32::MAX);
        self.events.push(Reverse((due, event)));
    }
}
