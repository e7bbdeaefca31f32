//! Round trips of small messages on connections that stay open.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::epoll::EpollFlags;

use super::{ECHO, Job, MESSAGE, Outcome, STUCK, Window};
use crate::poll::{Poll, read, write};

/// Longest wait for the first answer of each connection.
const FIRST: Duration = Duration::from_secs(10);

struct Client {
    stream: TcpStream,
    began: Instant,
    received: usize,
    gone: bool,
}

pub(super) fn run(job: &Job, at_once: usize) -> anyhow::Result<Outcome> {
    let poll = Poll::new()?;
    let message = [ECHO; MESSAGE];
    let mut buffer = vec![0; 64 * 1024];
    let mut clients = Vec::new();
    for number in 0..at_once {
        let mut stream = TcpStream::connect(job.to).context("connects")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(FIRST))?;
        stream.write_all(&message)?;
        stream
            .read_exact(&mut buffer[..MESSAGE])
            .context("the first answer")?;
        stream.set_nonblocking(true)?;
        poll.add(&stream, EpollFlags::EPOLLIN, number)?;
        clients.push(Client {
            stream,
            began: Instant::now(),
            received: 0,
            gone: false,
        });
    }
    let mut window = Window::new(job)?;
    for client in &mut clients {
        client.began = Instant::now();
        write(&client.stream, &message)?;
    }
    let mut ready = Vec::new();
    loop {
        poll.wait(&mut ready, window.deadline())?;
        if Instant::now() >= window.deadline() && !window.turn() {
            break;
        }
        for (number, _) in ready.iter().copied() {
            let client = &mut clients[number];
            if !client.gone && client.turn(&message, &mut buffer, &mut window).is_err() {
                window.errors += 1;
                client.gone = true;
                poll.remove(&client.stream)?;
            }
        }
    }
    let late = |client: &&Client| !client.gone && client.began.elapsed() > STUCK;
    let stuck = clients.iter().filter(late).count() as u64;
    let outcome = window.finish(Instant::now(), stuck)?;
    anyhow::ensure!(outcome.operations > 0, "no round trip came through");
    Ok(outcome)
}

impl Client {
    fn turn(
        &mut self,
        message: &[u8],
        buffer: &mut [u8],
        window: &mut Window<'_>,
    ) -> anyhow::Result<()> {
        match read(&self.stream, buffer)? {
            None => {}
            Some(0) => anyhow::bail!("the connection ended"),
            Some(count) => {
                self.received += count;
                if self.received >= MESSAGE {
                    let now = Instant::now();
                    window.done(self.began, now);
                    self.received = 0;
                    self.began = now;
                    write(&self.stream, message)?;
                }
            }
        }
        Ok(())
    }
}
