//! Closing right behind the last byte: nothing that was sent before is lost.

use futures_util::future::try_join_all;
use tokio::net::TcpStream;

use crate::pattern::Numbers;
use crate::rig::{Rig, Side};
use crate::verdict::{Outcome, Stop, size};
use crate::wire::{self, failed};

/// Connections of [`urgent_many`] that are open at a time.
const AT_A_TIME: usize = 16;

/// One end writes and closes at once.
pub(super) async fn urgent(rig: &Rig, side: Side) -> Outcome {
    for bytes in [
        1,
        1000,
        (64 << 10) + 1,
        1 << 20,
        (4 << 20) + 7,
        rig.scale(64 << 20, 16 << 20),
    ] {
        rig.step(size(bytes));
        let pair = rig.pair_by(side).await?;
        write_and_close(rig, pair, bytes, side).await?;
    }
    Ok(String::new())
}

/// The same on many connections, from either side, with sizes by lot.
pub(super) async fn urgent_many(rig: &Rig) -> Outcome {
    let mut numbers = Numbers::new(rig.seed());
    for round in 0..rig.scale(40, 10) {
        rig.step(format!("round {round}"));
        let side = match round % 2 {
            0 => Side::Client,
            _ => Side::Target,
        };
        let mut running = Vec::new();
        for _ in 0..AT_A_TIME {
            let pair = rig.pair_by(side).await?;
            let bytes = 1 + numbers.below(256 << 10);
            running.push(write_and_close(rig, pair, bytes, side));
        }
        try_join_all(running).await?;
    }
    Ok(String::new())
}

/// Both ends finish at the same moment.
pub(super) async fn simultaneous(rig: &Rig) -> Outcome {
    let patience = rig.patience();
    for round in 0..rig.scale(100, 30) {
        rig.step(format!("round {round}"));
        let bytes = [0, 1, 64 << 10][round % 3];
        let (client, target) = rig.pair().await?;
        let (up, down) = (rig.pattern(), rig.pattern());
        let finish = async |stream: &TcpStream, pattern| {
            wire::send(stream, pattern, 0, bytes, patience).await?;
            wire::finish(stream)
        };
        let (one, other) = tokio::join!(finish(&client, up), finish(&target, down));
        let (at_target, at_client) = tokio::join!(
            wire::receive(&target, up, patience),
            wire::receive(&client, down, patience)
        );
        at_target.whole(bytes, "the target", "all that the client sent")?;
        at_client.whole(bytes, "the client", "all that the target sent")?;
        one.and(other).map_err(failed("sending and ending"))?;
    }
    Ok(String::new())
}

/// The target replies and closes; the client, which has the reply in its kernel, sends more (which
/// makes a reset), and only then reads.
pub(super) async fn last_words(rig: &Rig) -> Outcome {
    let patience = rig.patience();
    let reply = 20_000;
    for _ in 0..rig.scale(10, 3) {
        let (client, target) = rig.pair().await?;
        let (up, down) = (rig.pattern(), rig.pattern());
        wire::send(&client, up, 0, 100, patience)
            .await
            .map_err(failed("sending the request"))?;
        let request = wire::receive_part(&target, up, 0, 100, patience).await;
        request.exactly(100, wire::End::Open, "the target", "the request")?;
        wire::send(&target, down, 0, reply, patience)
            .await
            .map_err(failed("sending the reply"))?;
        drop(target);
        tokio::time::sleep(rig.a_while()).await;
        // Where the connection is gone already this fails; what was sent before counts.
        drop(wire::send(&client, up, 100, 10, patience).await);
        tokio::time::sleep(rig.a_while()).await;
        let received = wire::receive(&client, down, patience).await;
        received.whole(reply, "the client", "the reply before the close")?;
    }
    Ok(String::new())
}

/// The target replies and closes without having read the request. Its kernel sends RST then, so
/// that no client can count on the reply.
pub(super) async fn with_unread(rig: &Rig) -> Outcome {
    let patience = rig.patience();
    let reply = 4 << 20;
    let (client, target) = rig.pair().await?;
    let (up, down) = (rig.pattern(), rig.pattern());
    wire::send(&client, up, 0, 4096, patience)
        .await
        .map_err(failed("sending the request"))?;
    tokio::time::sleep(rig.a_while()).await;
    let answer = async {
        let sent = wire::send(&target, down, 0, reply, patience).await;
        drop(target);
        sent
    };
    let (sent, received) = tokio::join!(answer, wire::receive(&client, down, patience));
    received.whole(reply, "the client", "the reply before the close")?;
    sent.map_err(failed("sending the reply"))?;
    Ok(String::new())
}

async fn write_and_close(
    rig: &Rig,
    (acting, watching): (TcpStream, TcpStream),
    bytes: u64,
    side: Side,
) -> Result<(), Stop> {
    let pattern = rig.pattern();
    let write = async {
        let sent = wire::send(&acting, pattern, 0, bytes, rig.patience()).await;
        drop(acting);
        sent
    };
    let (sent, received) = tokio::join!(write, wire::receive(&watching, pattern, rig.patience()));
    received.whole(bytes, side.other_name(), "all before the close")?;
    sent.map_err(failed("sending before the close"))
}
