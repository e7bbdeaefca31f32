//! Short connections: connect, one message, its answer, close. Without pauses, or in bursts.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollFlags;

use super::{ECHO, Job, MESSAGE, Outcome, STUCK, Window};
use crate::poll::{Poll, begin, read, write};

/// Failures in a row with nothing in between after which nothing is measured.
const FAILURES_MAX: u64 = 20_000;

/// A connection's place, filled again when it is through.
struct Slot {
    stream: Option<TcpStream>,
    began: Instant,
    sent: bool,
    received: usize,
    /// In bursts: its connection of this burst is through.
    through: bool,
}

struct Clients<'a> {
    to: SocketAddr,
    poll: Poll,
    slots: Vec<Slot>,
    window: Window<'a>,
    bursts: bool,
    stuck: u64,
    failed: u64,
    message: [u8; MESSAGE],
    buffer: Vec<u8>,
}

pub(super) fn run(job: &Job, at_once: usize, pause: Option<Duration>) -> anyhow::Result<Outcome> {
    let now = Instant::now();
    let empty = || Slot {
        stream: None,
        began: now,
        sent: false,
        received: 0,
        through: true,
    };
    let mut clients = Clients {
        to: job.to,
        poll: Poll::new()?,
        slots: std::iter::repeat_with(empty).take(at_once).collect(),
        window: Window::new(job)?,
        bursts: pause.is_some(),
        stuck: 0,
        failed: 0,
        message: [ECHO; MESSAGE],
        buffer: vec![0; 64 * 1024],
    };
    match pause {
        None => clients.without_pause()?,
        Some(pause) => clients.in_bursts(pause)?,
    }
    let stuck = clients.stuck;
    let outcome = clients.window.finish(Instant::now(), stuck)?;
    anyhow::ensure!(
        outcome.operations > 0,
        "no connection came through in time ({} failed, {stuck} stuck)",
        outcome.errors
    );
    Ok(outcome)
}

impl Clients<'_> {
    fn without_pause(&mut self) -> anyhow::Result<()> {
        for number in 0..self.slots.len() {
            self.open(number)?;
        }
        let mut ready = Vec::new();
        let mut look = Instant::now() + STUCK;
        loop {
            self.poll.wait(&mut ready, self.window.deadline())?;
            if Instant::now() >= self.window.deadline() && !self.window.turn() {
                return Ok(());
            }
            for (number, _) in ready.iter().copied() {
                self.turn(number)?;
            }
            for number in 0..self.slots.len() {
                if self.slots[number].stream.is_none() {
                    self.open(number)?;
                }
            }
            if Instant::now() >= look {
                look += STUCK / 5;
                self.give_up()?;
            }
        }
    }

    fn in_bursts(&mut self, pause: Duration) -> anyhow::Result<()> {
        let mut ready = Vec::new();
        loop {
            for number in 0..self.slots.len() {
                self.slots[number].through = false;
                self.open(number)?;
            }
            while self.slots.iter().any(|slot| !slot.through) {
                let patience = Instant::now() + Duration::from_millis(100);
                self.poll.wait(&mut ready, patience)?;
                for (number, _) in ready.iter().copied() {
                    self.turn(number)?;
                }
                self.give_up()?;
            }
            if Instant::now() >= self.window.deadline() && !self.window.turn() {
                return Ok(());
            }
            let until = Instant::now() + pause;
            while Instant::now() < until {
                self.poll.wait(&mut ready, until)?;
            }
        }
    }

    /// Begins a connection and says the message at once, if the handshake is over already.
    fn open(&mut self, number: usize) -> anyhow::Result<()> {
        let began = Instant::now();
        let Ok(stream) = begin(self.to) else {
            return self.failed(number);
        };
        let sent = match write(&stream, &self.message) {
            Ok(sent) => sent.is_some(),
            Err(_) => return self.failed(number),
        };
        let flags = if sent {
            EpollFlags::EPOLLIN
        } else {
            EpollFlags::EPOLLOUT
        };
        self.poll.add(&stream, flags, number)?;
        self.slots[number] = Slot {
            stream: Some(stream),
            began,
            sent,
            received: 0,
            through: false,
        };
        Ok(())
    }

    fn turn(&mut self, number: usize) -> anyhow::Result<()> {
        let slot = &mut self.slots[number];
        let Some(stream) = &slot.stream else {
            return Ok(());
        };
        if !slot.sent {
            match write(stream, &self.message) {
                Ok(None) => return Ok(()),
                Err(_) => return self.failed(number),
                Ok(Some(_)) => {}
            }
            slot.sent = true;
            self.poll.change(stream, EpollFlags::EPOLLIN, number)?;
            return Ok(());
        }
        match read(stream, &mut self.buffer) {
            Ok(None) => {}
            Ok(Some(0)) | Err(_) => return self.failed(number),
            Ok(Some(count)) => {
                let now = Instant::now();
                // A burst looks at the first byte, the rest at the whole answer.
                if self.bursts && slot.received == 0 {
                    self.window.done(slot.began, now);
                }
                slot.received += count;
                if slot.received >= MESSAGE {
                    if !self.bursts {
                        self.window.done(slot.began, now);
                    }
                    slot.stream = None;
                    slot.through = true;
                    self.failed = 0;
                }
            }
        }
        Ok(())
    }

    fn failed(&mut self, number: usize) -> anyhow::Result<()> {
        self.window.errors += 1;
        self.failed += 1;
        anyhow::ensure!(
            self.failed < FAILURES_MAX,
            "{} connections failed in a row",
            self.failed
        );
        self.slots[number].stream = None;
        self.slots[number].through = true;
        Ok(())
    }

    /// Drops what has been under way for too long.
    fn give_up(&mut self) -> anyhow::Result<()> {
        for slot in &mut self.slots {
            if slot.stream.is_some() && slot.began.elapsed() > STUCK {
                slot.stream = None;
                slot.through = true;
                self.stuck += 1;
            }
        }
        Ok(())
    }
}
