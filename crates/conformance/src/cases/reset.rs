//! One end resets; the other must see that the connection broke, not that it is complete.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::rig::{Rig, Side};
use crate::verdict::{Outcome, Stop};
use crate::wire::{self, End, Received, failed};

/// Bytes of the small exchanges before a reset.
const SOME: u64 = 10_000;

/// After an exchange, with nothing in flight.
pub(super) async fn quiet(rig: &Rig, side: Side) -> Outcome {
    let (acting, watching) = rig.pair_by(side).await?;
    exchange(rig, &acting, &watching).await?;
    wire::reset(acting).map_err(failed("resetting"))?;
    let received = wire::drain(&watching, rig.patience()).await;
    received.cut(0, side.other_name())?;
    Ok(String::new())
}

/// In the middle of a stream that the other end reads.
pub(super) async fn in_stream(rig: &Rig, side: Side) -> Outcome {
    let patience = rig.patience();
    for sent in [64 << 10, 1 << 20, rig.scale(32 << 20, 8 << 20)] {
        let (acting, watching) = rig.pair_by(side).await?;
        let pattern = rig.pattern();
        let stream = async {
            let result = wire::send(&acting, pattern, 0, sent, patience).await;
            wire::reset(acting).and(result)
        };
        let (result, received) = tokio::join!(stream, wire::receive(&watching, pattern, patience));
        received.cut(sent, side.other_name())?;
        result.map_err(failed("sending before the reset"))?;
    }
    Ok(String::new())
}

/// While the path holds bytes that the other end has not read: it gets a part of them at most.
pub(super) async fn undelivered(rig: &Rig, side: Side) -> Outcome {
    let patience = rig.patience();
    for most in [1, 64 << 10, 1 << 20, rig.options.stalled_bytes_max] {
        let (acting, watching) = rig.pair_by(side).await?;
        let pattern = rig.pattern();
        let sent = wire::fill(&acting, pattern, most, rig.quiet())
            .await
            .map_err(failed("filling the path"))?;
        wire::reset(acting).map_err(failed("resetting"))?;
        tokio::time::sleep(rig.quiet()).await;
        let received = wire::receive(&watching, pattern, patience).await;
        received.cut(sent, side.other_name())?;
    }
    Ok(String::new())
}

/// Before either end sent a byte: right when the target has accepted, when a proxy may not know yet that
/// it is connected, and a little later.
pub(super) async fn before_bytes(rig: &Rig, side: Side) -> Outcome {
    for time in 0..rig.scale(100, 30) {
        rig.step(format!("the {time}th time"));
        let (acting, watching) = rig.pair_by(side).await?;
        tokio::time::sleep(Duration::from_millis(time % 5)).await;
        wire::reset(acting).map_err(failed("resetting"))?;
        let received = wire::drain(&watching, rig.patience()).await;
        received.cut(0, side.other_name())?;
    }
    Ok(String::new())
}

/// The same end half-closed before it resets: the other one, which may never read or write again,
/// must find its connection broken.
pub(super) async fn after_own_fin(rig: &Rig, side: Side) -> Outcome {
    let (acting, watching) = rig.pair_by(side).await?;
    send_and_end(rig, &acting, &watching, side).await?;
    wire::reset(acting).map_err(failed("resetting"))?;
    let cause = format!("{} half-closed and then reset", side.name());
    wire::must_break(&watching, rig.patience(), side.other_name(), &cause).await?;
    Ok(String::new())
}

/// The other end half-closed and waits: what it gets must not look complete.
pub(super) async fn after_their_fin(rig: &Rig, side: Side) -> Outcome {
    for part in [0, SOME] {
        let (acting, watching) = rig.pair_by(side).await?;
        let other = match side {
            Side::Client => Side::Target,
            Side::Target => Side::Client,
        };
        send_and_end(rig, &watching, &acting, other).await?;
        let pattern = rig.pattern();
        wire::send(&acting, pattern, 0, part, rig.patience())
            .await
            .map_err(failed("sending before the reset"))?;
        let got = wire::receive_part(&watching, pattern, 0, part, rig.patience()).await;
        got.exactly(part, End::Open, side.other_name(), "sent before the reset")?;
        wire::reset(acting).map_err(failed("resetting"))?;
        let received: Received = wire::drain(&watching, rig.patience()).await;
        received.cut(0, side.other_name())?;
    }
    Ok(String::new())
}

async fn exchange(rig: &Rig, one: &TcpStream, other: &TcpStream) -> Result<(), Stop> {
    let patience = rig.patience();
    for (from, to) in [(one, other), (other, one)] {
        let pattern = rig.pattern();
        wire::send(from, pattern, 0, SOME, patience)
            .await
            .map_err(failed("a small exchange"))?;
        wire::receive_part(to, pattern, 0, SOME, patience)
            .await
            .exactly(SOME, End::Open, "an end", "a small exchange")?;
    }
    Ok(())
}

async fn send_and_end(rig: &Rig, from: &TcpStream, to: &TcpStream, side: Side) -> Result<(), Stop> {
    let pattern = rig.pattern();
    wire::send(from, pattern, 0, SOME, rig.patience())
        .await
        .map_err(failed("sending before the half-close"))?;
    wire::finish(from).map_err(failed("half-closing"))?;
    let received = wire::receive(to, pattern, rig.patience()).await;
    received.whole(SOME, side.other_name(), "all before the half-close")
}
