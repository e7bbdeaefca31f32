//! Thousands of connections that are reset with data in flight. Each carries its own stream, known by
//! an id in its first bytes; the target checks every byte and sends it back, the client checks again.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::net::TcpStream;

use crate::echo::Server;
use crate::pattern::{Numbers, Pattern};
use crate::rig::Rig;
use crate::verdict::{Outcome, Stop, fail};
use crate::wire::{self, End, Received, failed};

/// Connections that are open at a time.
const AT_A_TIME: usize = 64;
/// Most bytes of most connections.
const SMALL: u64 = 64 << 10;
/// Most bytes of one in eight: a tunnel may carry what has much to send in another way.
const LARGE: u64 = 512 << 10;
/// First bytes of each stream, before its id.
const MAGIC: [u8; 8] = *b"conform\n";
/// Bytes of magic and id.
const HEADER: usize = 16;

/// How a connection of the case ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The client resets with data in flight.
    ByClient,
    /// The target resets with data in flight.
    ByTarget,
    /// Both end, with everything delivered: it must not suffer from its neighbours.
    Whole,
}

impl Ending {
    /// Six in eight are reset.
    fn of(id: u64) -> Self {
        match id % 8 {
            0 => Self::ByTarget,
            1 | 2 => Self::Whole,
            _ => Self::ByClient,
        }
    }
}

/// Most bytes of a connection.
fn most(id: u64) -> u64 {
    match (id / 8) % 8 {
        0 => LARGE,
        _ => SMALL,
    }
}

/// What the target saw.
#[derive(Debug, Default)]
struct Seen {
    ids: HashSet<u64>,
    open: usize,
    /// The first thing that must not be.
    breach: Option<String>,
}

type Shared = Arc<Mutex<Seen>>;

/// Resets on and on; no byte of one connection is seen on another.
pub(super) async fn under_resets(rig: &Rig) -> Outcome {
    let listener = rig
        .listener()
        .ok_or_else(|| Stop::Fail("the target does not listen".to_owned()))?;
    let seen = Shared::default();
    let patience = rig.patience() * 4;
    let for_target = Arc::clone(&seen);
    let _target = Server::new(listener, move |stream| {
        let seen = Arc::clone(&for_target);
        async move { serve(&stream, &seen, patience).await }
    });
    let resets = rig.scale(10_000, 1200);
    let count = resets * 8 / 6 + 1;
    let mut clients = stream::iter((0..count).map(|_| client(rig, rig.seed(), patience)))
        .buffer_unordered(AT_A_TIME);
    let mut ended = 0_u64;
    while let Some(outcome) = clients.next().await {
        ended += 1;
        rig.step(format!("{ended} of {count} connections"));
        outcome?;
        if let Some(breach) = breach(&seen) {
            return fail(breach);
        }
    }
    rig.step("waiting for the target's connections to end");
    all_end(&seen, patience).await?;
    Ok(format!("{resets} resets"))
}

/// One client: its own stream back, as far as it comes.
async fn client(rig: &Rig, id: u64, patience: Duration) -> Result<(), Stop> {
    let mut numbers = Numbers::new(id);
    let stream = rig.connect().await?;
    let mut bytes = header(id).to_vec();
    let len = 1 + numbers.below(most(id));
    bytes.extend(Pattern::new(id).bytes(0, usize::try_from(len).unwrap_or(0)));
    if Ending::of(id) == Ending::ByClient {
        let echoed = cut_short(&stream, &bytes, &mut numbers, patience).await?;
        wire::reset(stream).map_err(failed("resetting"))?;
        return belongs(echoed);
    }
    // No half-close: this is about whose bytes they are. A client knows how many come back.
    let (sent, echoed) = tokio::join!(
        wire::write(&stream, &bytes, patience),
        own(&stream, &bytes, patience)
    );
    belongs(echoed)?;
    if Ending::of(id) == Ending::Whole {
        let (all, who) = (bytes.len() as u64, "a client that nobody reset");
        echoed.exactly(all, End::Open, who, "its own bytes")?;
        sent.map_err(failed("sending beside resets"))?;
    }
    Ok(())
}

/// Sends, and stops right behind the last byte or behind a part of the echo.
async fn cut_short(
    stream: &TcpStream,
    bytes: &[u8],
    numbers: &mut Numbers,
    patience: Duration,
) -> Result<Received, Stop> {
    let send = wire::write(stream, bytes, patience);
    if numbers.below(2) == 0 {
        return tokio::select! {
            biased;
            echoed = own(stream, bytes, patience) => Ok(echoed),
            sent = send => {
                sent.map_err(failed("sending before the reset"))?;
                Ok(Received { bytes: 0, end: End::Open })
            }
        };
    }
    let part = usize::try_from(numbers.below(bytes.len() as u64)).unwrap_or(0);
    let (_, echoed) = tokio::join!(send, own(stream, &bytes[..part], patience));
    Ok(echoed)
}

/// Receives `bytes` and stops behind them.
async fn own(stream: &TcpStream, bytes: &[u8], patience: Duration) -> Received {
    let mut buffer = vec![0; 16 << 10];
    let mut at = 0;
    while at < bytes.len() {
        let n = buffer.len().min(bytes.len() - at);
        let end = match wire::read(stream, &mut buffer[..n], patience).await {
            Ok(0) => End::Clean,
            Err(end) => end,
            Ok(n) if buffer[..n] == bytes[at..at + n] => {
                at += n;
                continue;
            }
            Ok(_) => End::Wrong(at as u64),
        };
        return Received {
            bytes: at as u64,
            end,
        };
    }
    Received {
        bytes: at as u64,
        end: End::Open,
    }
}

fn belongs(received: Received) -> Result<(), Stop> {
    match received.end {
        End::Wrong(at) => fail(format!(
            "a client expected its own bytes back; the piece from {at} on holds others"
        )),
        End::Silent(time) => fail(format!(
            "a client expected its own bytes back or an end; after {} came {time:?} of silence",
            received.bytes
        )),
        _ => Ok(()),
    }
}

/// One connection at the target: checks and sends back what comes.
async fn serve(stream: &TcpStream, seen: &Shared, patience: Duration) {
    lock(seen).open += 1;
    if let Err(breach) = check_and_echo(stream, seen, patience).await {
        lock(seen).breach.get_or_insert(breach);
    }
    lock(seen).open -= 1;
}

async fn check_and_echo(
    stream: &TcpStream,
    seen: &Shared,
    patience: Duration,
) -> Result<(), String> {
    let mut bytes = Vec::with_capacity(16 << 10);
    let mut buffer = vec![0; 16 << 10];
    let mut id = None;
    let mut at = 0;
    loop {
        let n = match wire::read(stream, &mut buffer, patience).await {
            Ok(0) => {
                // Where the client is gone nobody is there to be told.
                drop(wire::finish(stream));
                return Ok(());
            }
            Ok(n) => n,
            Err(End::Silent(time)) => {
                return Err(format!(
                    "a connection stayed open and silent at the target for {time:?}"
                ));
            }
            Err(_) => return Ok(()),
        };
        // Until the header is whole nothing is known about the bytes.
        bytes.extend_from_slice(&buffer[..n]);
        if wire::write(stream, &buffer[..n], patience).await.is_err() {
            return Ok(());
        }
        if id.is_none() && bytes.len() >= HEADER {
            let new = id_of(&bytes[..HEADER]).ok_or_else(|| {
                format!(
                    "a connection at the target began with bytes of another: {:?}",
                    &bytes[..HEADER]
                )
            })?;
            if !lock(seen).ids.insert(new) {
                return Err(format!("the stream of client {new:#x} came twice"));
            }
            bytes.drain(..HEADER);
            id = Some(new);
        }
        let Some(id) = id else { continue };
        if let Some(wrong) = Pattern::new(id).differs_at(at, &bytes) {
            return Err(format!(
                "the connection of client {id:#x} carried a byte at {wrong} that it did not send"
            ));
        }
        at += bytes.len() as u64;
        bytes.clear();
        if Ending::of(id) == Ending::ByTarget && at > most(id) / 4 {
            return socket2::SockRef::from(stream)
                .set_linger(Some(Duration::ZERO))
                .map_err(|error| error.to_string());
        }
    }
}

/// Waits until no connection is open at the target.
async fn all_end(seen: &Shared, patience: Duration) -> Result<(), Stop> {
    let waited = tokio::time::timeout(patience * 2, async {
        while lock(seen).open > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    match (breach(seen), waited) {
        (Some(breach), _) => fail(breach),
        (None, Err(_)) => fail(format!(
            "all clients are gone and {} connections are open at the target",
            lock(seen).open
        )),
        (None, Ok(())) => Ok(()),
    }
}

fn breach(seen: &Shared) -> Option<String> {
    lock(seen).breach.clone()
}

fn lock(seen: &Shared) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn header(id: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..].copy_from_slice(&id.to_le_bytes());
    header
}

fn id_of(header: &[u8]) -> Option<u64> {
    let id = header.strip_prefix(&MAGIC)?;
    Some(u64::from_le_bytes(id.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_comes_back_and_other_bytes_are_none() {
        assert_eq!(id_of(&header(77)), Some(77));
        assert_eq!(id_of(&[0; HEADER]), None);
    }

    #[test]
    fn six_in_eight_are_reset() {
        let whole = (0..800).filter(|id| Ending::of(*id) == Ending::Whole);
        assert_eq!(whole.count(), 200);
    }
}
