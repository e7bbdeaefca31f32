//! Memory of connections that were busy once and are idle now, each kind on a target started anew.

use std::time::{Duration, Instant};

use super::names;
use crate::bench::Bench;
use crate::child::Helper;
use crate::load::{MESSAGE, Work};
use crate::report::{Column, number};
use crate::target::Shape;
use crate::usage::Memory;

/// How busy each connection was, in words.
pub const BUSY: &str = "64 KiB each way";
/// The other kind: it was never busy.
const ECHO: &str = "64 bytes each way";
/// What is held and released before anything counts: pools fill, code is paged in.
const WARM: usize = 64;
/// Between two looks at memory that still moves, and how long it may move.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const SETTLE: Duration = Duration::from_secs(4);
/// Less than this between two looks is at rest.
const REST: f64 = 256.0 * 1024.0;

/// Both kinds, of all targets.
pub async fn measure(bench: &mut Bench) {
    let all = [Shape::Direct, Shape::Forward, Shape::Tunnel];
    let most = bench.options.idle.iter().copied().max().unwrap_or(2_000);
    // The busy kind is the gate; the other, once, says what the first bytes alone cost.
    let least = bench.options.idle.iter().copied().min().unwrap_or(2_000);
    let mut kinds = vec![(BUSY, 64 * 1024, most)];
    if !bench.options.quick && bench.round == 1 {
        kinds.push((ECHO, MESSAGE, least));
    }
    for (after, bytes, most) in kinds {
        let mut counts = bench.options.idle.clone();
        counts.sort_unstable();
        counts.retain(|count| *count <= most);
        for (name, _) in bench.shuffled(&all) {
            if let Err((count, error)) = kind(bench, name, after, bytes, &counts).await {
                bench.fail(&names::memory(count, after), name, &error);
            }
        }
    }
}

/// One kind of one target; the count at which it failed.
async fn kind(
    bench: &Bench,
    target: &str,
    after: &str,
    bytes: usize,
    counts: &[usize],
) -> Result<(), (usize, anyhow::Error)> {
    let first = counts.first().copied().unwrap_or_default();
    let running = bench.start(target).await.map_err(|error| (first, error))?;
    let warm = Work::Connections { at_once: WARM };
    let warmed = bench.measure(&bench.job(warm, &running)).await;
    warmed.map_err(|error| (first, error))?;
    let mut warm = Helper::hold(running.addr, bytes).map_err(|error| (first, error))?;
    warm.hold_until(WARM).map_err(|error| (first, error))?;
    drop(warm);
    let before = settled(&running.pids).await;
    let mut holder = Helper::hold(running.addr, bytes).map_err(|error| (first, error))?;
    for count in counts {
        let held = holder.hold_until(*count);
        held.map_err(|error| (*count, error))?;
        let now = settled(&running.pids).await;
        let each = |now: f64, before: f64| (now - before) / 1024.0 / *count as f64;
        let resident = each(now.resident, before.resident);
        let section = names::memory(*count, after);
        let mut report = bench.report.borrow_mut();
        for (column, value) in [
            (Column::lower("resident", "KiB"), resident),
            (
                Column::lower("proportional", "KiB"),
                each(now.proportional, before.proportional),
            ),
            (
                Column::lower("kernel's slab", "KiB"),
                each(now.slab, before.slab),
            ),
            (
                Column::lower("in socket buffers", "KiB"),
                each(now.sockets, before.sockets),
            ),
        ] {
            report.add(&section, column, target, bench.round, value);
        }
        drop(report);
        bench.say(format_args!(
            "{section}: {target} {} KiB each",
            number(resident)
        ));
    }
    Ok(())
}

/// Memory once it does not move any more.
pub(super) async fn settled(pids: &[u32]) -> Memory {
    let until = Instant::now() + SETTLE;
    let mut last = Memory::now(pids);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = Memory::now(pids);
        let still = (now.resident - last.resident).abs() < REST;
        if still || Instant::now() > until {
            return now;
        }
        last = now;
    }
}
