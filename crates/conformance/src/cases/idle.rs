//! Half-closed for longer than the proxy's idle limit.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::rig::{Rig, Side};
use crate::verdict::{Outcome, Stop, fail};
use crate::wire::{self, End, failed};

/// One direction ended, and in the other comes a byte well before each limit: the connection lives.
pub(super) async fn trickle(rig: &Rig) -> Outcome {
    let limit = limit(rig)?;
    let one = rig.pair().await?;
    let other = rig.pair_by(Side::Target).await?;
    rig.step("a byte now and then, towards an end that half-closed");
    tokio::try_join!(
        trickle_to(rig, one, Side::Client, limit),
        trickle_to(rig, other, Side::Target, limit)
    )?;
    Ok(format!("idle limit {limit:?}"))
}

/// One direction ended, and in the other nothing comes: the proxy lets go, and the end that still
/// waited for bytes sees a reset, for nobody told it that there are no more.
pub(super) async fn silent(rig: &Rig) -> Outcome {
    let limit = limit(rig)?;
    let one = rig.pair().await?;
    let other = rig.pair_by(Side::Target).await?;
    rig.step("silence after a half-close");
    tokio::try_join!(
        silent_to(rig, one, Side::Client, limit),
        silent_to(rig, other, Side::Target, limit)
    )?;
    Ok(format!("idle limit {limit:?}"))
}

fn limit(rig: &Rig) -> Result<Duration, Stop> {
    if rig.options.is_direct() {
        return Err(Stop::NotApplicable(
            "without a proxy there is no idle limit".to_owned(),
        ));
    }
    rig.options.idle_limit.ok_or_else(|| {
        Stop::NotApplicable("no idle limit, or none that is known (--idle-limit)".to_owned())
    })
}

async fn trickle_to(
    rig: &Rig,
    (ending, going_on): (TcpStream, TcpStream),
    side: Side,
    limit: Duration,
) -> Result<(), Stop> {
    let pattern = rig.pattern();
    end(rig, &ending, &going_on, side).await?;
    // Six pauses of a quarter: half as long again as the limit.
    let bytes = 6;
    let send = async {
        for at in 0..bytes {
            tokio::time::sleep(limit / 4).await;
            wire::send(&going_on, pattern, at, 1, rig.patience()).await?;
        }
        wire::finish(&going_on)
    };
    let (sent, received) = tokio::join!(
        send,
        wire::receive(&ending, pattern, limit + rig.patience())
    );
    received.whole(bytes, side.name(), "one by one after its half-close")?;
    sent.map_err(failed("sending now and then"))
}

async fn silent_to(
    rig: &Rig,
    (ending, going_on): (TcpStream, TcpStream),
    side: Side,
    limit: Duration,
) -> Result<(), Stop> {
    end(rig, &ending, &going_on, side).await?;
    let longest = limit * 2 + rig.patience();
    let received = wire::drain(&ending, longest).await;
    if received.end != End::Reset || received.bytes > 0 {
        return fail(format!(
            "{} half-closed and expected a reset after the idle limit of {limit:?}; it saw {received}",
            side.name()
        ));
    }
    let cause = "the idle limit has passed";
    wire::must_break(&going_on, rig.patience(), side.other_name(), cause).await
}

async fn end(rig: &Rig, ending: &TcpStream, going_on: &TcpStream, side: Side) -> Result<(), Stop> {
    wire::finish(ending).map_err(failed("half-closing"))?;
    let received = wire::drain(going_on, rig.patience()).await;
    received.whole(0, side.other_name(), "nothing before the half-close")
}
