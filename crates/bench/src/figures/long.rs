//! A link of tens of milliseconds between the two ends of a tunnel, or, for `direct`, between client
//! and backend.

use std::time::Duration;

use super::names::{BURST, LONG_LINK};
use crate::bench::Bench;
use crate::load::{Direction, Work};
use crate::report::{Column, number};
use crate::target::{OURS, Shape};

/// Round trip of the link that one stream is to fill.
const LONG: Duration = Duration::from_millis(60);
/// Round trip of the link that bursts of connections cross.
const SHORTER: Duration = Duration::from_millis(50);
/// Connections of a burst.
const AT_ONCE: usize = 32;
/// Between two bursts.
const PAUSE: Duration = Duration::from_millis(200);
/// Windows that grow by the round trip need some of them.
const GROW: Duration = Duration::from_millis(1_200);

const SHAPES: &[Shape] = &[Shape::Direct, Shape::Tunnel];

/// `direct` and ours in every round, the peers, which no row needs, when there is time for them.
fn targets(bench: &mut Bench) -> Vec<&'static str> {
    let all = bench.is_slow_round();
    let names = bench.shuffled(SHAPES).into_iter().map(|(name, _)| name);
    let ours = |name: &&str| OURS.iter().any(|(ours, _)| ours == name);
    names.filter(|name| all || ours(name)).collect()
}

/// One stream, up and down.
pub async fn measure_stream(bench: &mut Bench) {
    for name in targets(bench) {
        if let Err(error) = stream(bench, name).await {
            bench.fail(LONG_LINK, name, &error);
        }
    }
}

async fn stream(bench: &Bench, target: &str) -> anyhow::Result<()> {
    let rate = bench.options.link_mbit;
    let rate = (rate > 0).then_some(rate * 1_000_000);
    let (running, _relays) = bench.start_over(target, LONG, rate).await?;
    for (direction, column) in [
        (Direction::Up, Column::higher("up", "Mbit/s")),
        (Direction::Down, Column::higher("down", "Mbit/s")),
    ] {
        let streams = 1;
        let mut job = bench.job(Work::Bulk { streams, direction }, &running);
        job.warm = GROW;
        let found = bench.measure(&job).await?.rate() * 8.0 / 1e6;
        let mut report = bench.report.borrow_mut();
        report.add(LONG_LINK, column, target, bench.round, found);
        drop(report);
        let way = column.name;
        bench.say(format_args!(
            "{LONG_LINK}: {target} {way} {} Mbit/s",
            number(found)
        ));
    }
    Ok(())
}

/// Bursts of connections, and one connection after another.
pub async fn measure_bursts(bench: &mut Bench) {
    for name in targets(bench) {
        if let Err(error) = bursts(bench, name).await {
            bench.fail(BURST, name, &error);
        }
    }
}

async fn bursts(bench: &Bench, target: &str) -> anyhow::Result<()> {
    let (running, _relays) = bench.start_over(target, SHORTER, None).await?;
    let burst = Work::Bursts {
        at_once: AT_ONCE,
        pause: PAUSE,
    };
    let mut job = bench.job(burst, &running);
    // At least four bursts, and the first ones do not count: pools adapt to them.
    job.time = job.time.max((SHORTER + PAUSE) * 5);
    job.warm = (SHORTER + PAUSE) * 2;
    let found = bench.measure(&job).await?;
    let serial = Work::Bursts {
        at_once: 1,
        pause: Duration::from_millis(2),
    };
    let serial = bench.measure(&bench.job(serial, &running)).await?;
    let trips = found.p50 / SHORTER.as_secs_f64() / 1e6;
    let mut report = bench.report.borrow_mut();
    for (column, value) in [
        (Column::lower("p50 in round trips", "×"), trips),
        (Column::lower("p50", "ms"), found.p50 / 1e3),
        (Column::lower("p99", "ms"), found.p99 / 1e3),
        (Column::lower("one by one, p50", "ms"), serial.p50 / 1e3),
        (
            Column::lower("failed or stuck", ""),
            (found.errors + found.stuck) as f64,
        ),
    ] {
        report.add(BURST, column, target, bench.round, value);
    }
    drop(report);
    bench.say(format_args!(
        "{BURST}: {target} p50 {} ms",
        number(found.p50 / 1e3)
    ));
    Ok(())
}
