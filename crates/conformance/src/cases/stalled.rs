//! Readers that do not read, beside neighbours that do.

use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::net::TcpStream;

use crate::echo::Server;
use crate::memory;
use crate::pattern::Pattern;
use crate::rig::Rig;
use crate::verdict::{Outcome, Stop, fail, size};
use crate::wire::{self, End, failed};

/// Neighbours of a full run.
const NEIGHBOURS: usize = 1000;
/// Bytes that a neighbour sends and gets back in each round.
const PIECE: u64 = 2000;
/// Rounds of the neighbours while the readers are stalled.
const ROUNDS: u64 = 5;
/// Connections that are opened at a time.
const AT_A_TIME: usize = 50;

struct Neighbour {
    stream: TcpStream,
    pattern: Pattern,
}

/// One reader stalls on each side. The senders are held back after a bounded number of bytes, the
/// neighbours go on, and once the readers read they get everything.
pub(super) async fn stalled(rig: &Rig) -> Outcome {
    let most = rig.options.stalled_bytes_max;
    let (client, idle_target) = rig.pair().await?;
    let (idle_client, target) = rig.pair().await?;
    let listener = rig
        .listener()
        .ok_or_else(|| Stop::Fail("the target does not listen".to_owned()))?;
    let _echo = Server::echo(listener);
    let neighbours = neighbours(rig).await?;
    round(rig, &neighbours, 0, "before anything stalled").await?;
    let before = memory::resident(&rig.options.pids);
    let sockets_before = memory::sockets();
    rig.step("stalling one reader on each side");
    let (up, down) = (rig.pattern(), rig.pattern());
    let (sent_up, sent_down) = tokio::join!(
        wire::fill(&client, up, most + 1, rig.quiet()),
        wire::fill(&target, down, most + 1, rig.quiet())
    );
    let sent_up = sent_up.map_err(failed("sending to a reader that does not read"))?;
    let sent_down = sent_down.map_err(failed("sending to a reader that does not read"))?;
    for turn in 1..=ROUNDS {
        round(rig, &neighbours, turn, "while others were stalled").await?;
    }
    let grown = memory::resident(&rig.options.pids).saturating_sub(before);
    let sockets = sockets_before
        .zip(memory::sockets())
        .map(|(before, now)| now.saturating_sub(before));
    let taken = sent_up.max(sent_down);
    let most_grown = rig.options.memory_growth_max;
    if grown > most_grown {
        return fail(format!(
            "a reader did not read, and the proxy's memory grew by {}; at most {} were expected",
            size(grown),
            size(most_grown)
        ));
    }
    if taken > most {
        return fail(format!(
            "a reader did not read, and the sender expected to be held back; {} were taken and more would have been",
            size(taken)
        ));
    }
    rig.step("the readers read again");
    drain(rig, (&client, &idle_target), up, sent_up, "the target").await?;
    drain(rig, (&target, &idle_client), down, sent_down, "the client").await?;
    round(rig, &neighbours, ROUNDS + 1, "after the stall").await?;
    Ok(note(rig, &neighbours, taken, grown, sockets))
}

fn note(
    rig: &Rig,
    neighbours: &[Neighbour],
    taken: u64,
    grown: u64,
    sockets: Option<u64>,
) -> String {
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let memory = match rig.options.pids.is_empty() {
        true => "resident memory not read (--pid)".to_owned(),
        false => format!("resident memory grew by {}", mib(grown)),
    };
    let sockets = sockets.map_or_else(String::new, |grown| {
        format!(", all sockets of the machine by {}", mib(grown))
    });
    format!(
        "{} neighbours; {} taken; {memory}{sockets}",
        neighbours.len(),
        mib(taken)
    )
}

async fn neighbours(rig: &Rig) -> Result<Vec<Neighbour>, Stop> {
    rig.step("connecting the neighbours");
    let count = rig.scale(NEIGHBOURS, NEIGHBOURS / 5);
    let connect = async || {
        Ok(Neighbour {
            stream: rig.connect().await?,
            pattern: rig.pattern(),
        })
    };
    stream::iter((0..count).map(|_| connect()))
        .buffer_unordered(AT_A_TIME)
        .try_collect()
        .await
}

/// Each neighbour sends a piece and gets it back.
async fn round(rig: &Rig, all: &[Neighbour], turn: u64, when: &str) -> Result<(), Stop> {
    rig.step(format!("round {turn} of the neighbours"));
    let patience = rig.patience() * 2;
    let exchanges = all.iter().map(async |Neighbour { stream, pattern }| {
        let from = turn * PIECE;
        wire::send(stream, *pattern, from, PIECE, patience)
            .await
            .map_err(failed("sending as a neighbour"))?;
        let echo = wire::receive_part(stream, *pattern, from, PIECE, patience).await;
        let who = format!("a neighbour {when}");
        echo.exactly(PIECE, End::Open, &who, "its echo")
    });
    try_join_all(exchanges).await?;
    Ok(())
}

/// The sender ends, and the reader gets all that was taken.
async fn drain(
    rig: &Rig,
    (from, to): (&TcpStream, &TcpStream),
    pattern: Pattern,
    sent: u64,
    who: &str,
) -> Result<(), Stop> {
    wire::finish(from).map_err(failed("ending"))?;
    let received = wire::receive(to, pattern, rig.patience()).await;
    received.whole(sent, who, "all that was sent while it stalled")
}
