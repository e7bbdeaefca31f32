//! Both ends send and neither reads, until nothing moves; then one of them does something.

use tokio::net::TcpStream;

use crate::pattern::Pattern;
use crate::rig::{Rig, Side};
use crate::verdict::{Outcome, Stop, fail, size};
use crate::wire::{self, failed};

/// What an end says after the clog has come loose.
const MORE: u64 = 5000;

/// Two ends of a connection that is full in both directions.
struct Clogged {
    acting: TcpStream,
    watching: TcpStream,
    by_acting: (Pattern, u64),
    by_watching: (Pattern, u64),
}

/// FIN behind the clog, then both read: everything arrives, and the other direction is still open.
pub(super) async fn ends(rig: &Rig, side: Side) -> Outcome {
    let patience = rig.patience();
    let clogged = clog(rig, side).await?;
    wire::finish(&clogged.acting).map_err(failed("half-closing"))?;
    tokio::time::sleep(rig.quiet()).await;
    let (acted, sent) = clogged.by_acting;
    let (watched, held) = clogged.by_watching;
    let watching = async {
        let received = wire::receive(&clogged.watching, acted, patience).await;
        let more = wire::send(&clogged.watching, watched, held, MORE, patience).await;
        (received, more.and(wire::finish(&clogged.watching)))
    };
    let (received, (drained, more)) = tokio::join!(
        wire::receive(&clogged.acting, watched, patience * 2),
        watching
    );
    drained.whole(sent, side.other_name(), "all before the half-close")?;
    received.whole(held + MORE, side.name(), "all that the other end sent")?;
    more.map_err(failed("sending after the clog came loose"))?;
    Ok(note(sent, held))
}

/// RST: the other end is told at once, though it neither reads nor writes.
pub(super) async fn resets(rig: &Rig, side: Side) -> Outcome {
    let clogged = clog(rig, side).await?;
    wire::reset(clogged.acting).map_err(failed("resetting"))?;
    let cause = format!("{} reset", side.name());
    wire::must_break(&clogged.watching, rig.patience(), side.other_name(), &cause).await?;
    Ok(note(clogged.by_acting.1, clogged.by_watching.1))
}

/// A plain close: with unread bytes the kernel makes a reset of it.
pub(super) async fn closes(rig: &Rig, side: Side) -> Outcome {
    let clogged = clog(rig, side).await?;
    drop(clogged.acting);
    let cause = format!("{} closed with unread bytes", side.name());
    wire::must_break(&clogged.watching, rig.patience(), side.other_name(), &cause).await?;
    Ok(note(clogged.by_acting.1, clogged.by_watching.1))
}

/// Full in one direction only: the sender resets, and the other end, which does not read, is told at
/// once. The proxy is then waiting to write and has no reason to look at the sender.
pub(super) async fn one_way(rig: &Rig, side: Side) -> Outcome {
    let (acting, watching) = rig.pair_by(side).await?;
    let most = rig.options.stalled_bytes_max;
    rig.step("filling one direction");
    let sent = wire::fill(&acting, rig.pattern(), most, rig.quiet())
        .await
        .map_err(failed("filling the path"))?;
    bounded(sent, most)?;
    wire::reset(acting).map_err(failed("resetting"))?;
    let cause = format!("{} reset", side.name());
    wire::must_break(&watching, rig.patience(), side.other_name(), &cause).await?;
    Ok(String::new())
}

async fn clog(rig: &Rig, side: Side) -> Result<Clogged, Stop> {
    let (acting, watching) = rig.pair_by(side).await?;
    let (acted, watched) = (rig.pattern(), rig.pattern());
    let most = rig.options.stalled_bytes_max;
    rig.step("filling both directions");
    let (sent, held) = tokio::join!(
        wire::fill(&acting, acted, most, rig.quiet()),
        wire::fill(&watching, watched, most, rig.quiet())
    );
    let sent = sent.map_err(failed("filling the path"))?;
    let held = held.map_err(failed("filling the path"))?;
    bounded(sent.max(held), most)?;
    rig.step("clogged");
    Ok(Clogged {
        acting,
        watching,
        by_acting: (acted, sent),
        by_watching: (watched, held),
    })
}

fn bounded(taken: u64, most: u64) -> Result<(), Stop> {
    if taken < most {
        return Ok(());
    }
    fail(format!(
        "nobody read, and yet the proxy took {} from one end",
        size(taken)
    ))
}

fn note(sent: u64, held: u64) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    format!("full at {:.1} and {:.1} MiB", mib(sent), mib(held))
}
