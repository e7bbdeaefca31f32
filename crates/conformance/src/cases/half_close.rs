//! One direction ends, the other goes on.

use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::net::TcpStream;

use crate::rig::{Rig, Side};
use crate::verdict::{Outcome, Stop, size};
use crate::wire::{self, failed};

/// What comes after the half-close.
const SIZES: [u64; 6] = [0, 1, 1 << 10, 64 << 10, 1 << 20, 16 << 20];

/// The other direction goes on at once.
pub(super) async fn at_once(rig: &Rig, side: Side) -> Outcome {
    for late in SIZES {
        rig.step(format!("{} after the half-close", size(late)));
        one(rig, rig.pair_by(side).await?, side, late, Duration::ZERO).await?;
    }
    Ok(String::new())
}

/// The other direction goes on after a while.
pub(super) async fn late(rig: &Rig, side: Side) -> Outcome {
    let delays: &[u64] = rig.scale(&[1000, 3000, 10_000], &[500, 1500]);
    let longest = delays.last().copied().unwrap_or_default();
    let mut waiting = Vec::new();
    for delay in delays {
        let delay = Duration::from_millis(*delay);
        // An idle limit that is not much longer than the pause may end the connection.
        if rig
            .options
            .idle_limit
            .is_some_and(|limit| delay > limit * 3 / 4)
        {
            continue;
        }
        for late in &SIZES[..5] {
            let pair = rig.pair_by(side).await?;
            waiting.push(one(rig, pair, side, *late, delay));
        }
    }
    rig.step(format!("bytes up to {longest} ms after the half-close"));
    try_join_all(waiting).await?;
    Ok(String::new())
}

/// `ending` sends and ends; `going_on` gets that, waits, and sends `late` bytes.
async fn one(
    rig: &Rig,
    (ending, going_on): (TcpStream, TcpStream),
    side: Side,
    late: u64,
    delay: Duration,
) -> Result<(), Stop> {
    let patience = rig.patience();
    let (first, second) = (rig.pattern(), rig.pattern());
    let upto = late.min(1 << 20);
    let send_and_end = async {
        wire::send(&ending, first, 0, upto, patience).await?;
        wire::finish(&ending)
    };
    let (sent, received) = tokio::join!(send_and_end, wire::receive(&going_on, first, patience));
    sent.map_err(failed("sending before the half-close"))?;
    received.whole(upto, side.other_name(), "all before the half-close")?;
    let go_on = async {
        tokio::time::sleep(delay).await;
        let sent = wire::send(&going_on, second, 0, late, patience).await;
        drop(going_on);
        sent
    };
    let (sent, received) = tokio::join!(go_on, wire::receive(&ending, second, patience + delay));
    let what = format!("sent {delay:?} after its half-close");
    received.whole(late, side.name(), &what)?;
    sent.map_err(failed("sending towards the half-closed end"))
}
