//! Bulk, short connections, round trips, and small exchanges beside bulk, of all targets at once: all
//! of them run throughout a round, and those whose turn it is not do nothing. So two that are compared
//! are measured seconds apart. CPU that one of the others takes counts as foreign.

use std::collections::BTreeMap;
use std::time::Duration;

use super::names::{BESIDE, SETUP, bulk_sections, connections, round_trips};
use crate::bench::Bench;
use crate::load::{Direction, Outcome, Work};
use crate::report::{Column, number};
use crate::target::{Running, Shape};

const ALL: &[Shape] = &[Shape::Direct, Shape::Forward, Shape::Tunnel];
const GIB: f64 = (1_u64 << 30) as f64;

/// Targets that run, by name.
type Targets = BTreeMap<&'static str, Running>;

/// One measurement that is made of every target in turn.
struct Step {
    section: String,
    work: Work,
}

/// All of them.
pub async fn measure(bench: &mut Bench) {
    let steps = steps(bench);
    if steps.is_empty() && !bench.options.has("fairness") {
        return;
    }
    let mut targets = Targets::new();
    for (name, _) in bench.shuffled(ALL) {
        match bench.start(name).await {
            Ok(running) => drop(targets.insert(name, running)),
            Err(error) => {
                for step in &steps {
                    bench.fail(&step.section, name, &error);
                }
                bench.fail(BESIDE, name, &error);
            }
        }
    }
    let mut medians = BTreeMap::new();
    for step in &steps {
        for (name, _) in bench.shuffled(ALL) {
            let Some(running) = targets.get(name) else {
                continue;
            };
            match bench.measure(&bench.job(step.work, running)).await {
                Err(error) => bench.fail(&step.section, name, &error),
                Ok(outcome) => {
                    note(bench, step, name, &outcome);
                    medians.insert((name, step.section.clone()), outcome.p50);
                }
            }
        }
    }
    setup(bench, &medians);
    if bench.options.has("fairness") {
        for (name, _) in bench.shuffled(ALL) {
            if let Some(running) = targets.get(name)
                && let Err(error) = beside(bench, name, running).await
            {
                bench.fail(BESIDE, name, &error);
            }
        }
    }
}

fn steps(bench: &Bench) -> Vec<Step> {
    let mut steps = Vec::new();
    let (few, many): (&[usize], &[usize]) = if bench.options.quick {
        (&[64], &[64])
    } else {
        (&[1, 64, 256], &[1, 64])
    };
    if bench.options.has("bulk") {
        for streams in [1, 8] {
            let both = [Direction::Up, Direction::Down];
            for (section, direction) in bulk_sections(streams).into_iter().zip(both) {
                let work = Work::Bulk { streams, direction };
                steps.push(Step { section, work });
            }
        }
    }
    if bench.options.has("connections") {
        steps.extend(few.iter().map(|at_once| Step {
            section: connections(*at_once),
            work: Work::Connections { at_once: *at_once },
        }));
    }
    if bench.options.has("round-trips") {
        steps.extend(many.iter().map(|at_once| Step {
            section: round_trips(*at_once),
            work: Work::RoundTrips { at_once: *at_once },
        }));
    }
    steps
}

fn note(bench: &Bench, step: &Step, target: &str, outcome: &Outcome) {
    let mut report = bench.report.borrow_mut();
    let mut add = |column: Column, value: f64| {
        report.add(&step.section, column, target, bench.round, value);
    };
    let operations = outcome.operations as f64;
    let (rate, unit) = if let Work::Bulk { .. } = step.work {
        let rate = outcome.rate() * 8.0 / 1e9;
        add(Column::higher("rate", "Gbit/s"), rate);
        let gib = operations / GIB;
        add(Column::lower("CPU", "s/GiB"), outcome.cpu.target / gib);
        add(Column::lower("chain", "s/GiB"), outcome.cpu.chain / gib);
        (rate, "Gbit/s")
    } else {
        add(Column::higher("rate", "1/s"), outcome.rate());
        add(Column::lower("p50", "ms"), outcome.p50 / 1e3);
        add(Column::lower("p99", "ms"), outcome.p99 / 1e3);
        add(Column::lower("p99.9", "ms"), outcome.p999 / 1e3);
        let micros = 1e6 / operations;
        add(Column::lower("CPU", "µs"), outcome.cpu.target * micros);
        add(Column::lower("chain", "µs"), outcome.cpu.chain * micros);
        let trouble = outcome.errors + outcome.stuck;
        add(Column::lower("failed or stuck", ""), trouble as f64);
        (outcome.rate(), "/s")
    };
    drop(report);
    let foreign = outcome.cpu.foreign / outcome.seconds;
    let loud = if foreign > 0.2 {
        format!(" (others took {foreign:.1} cores)")
    } else {
        String::new()
    };
    bench.say(format_args!(
        "{}: {target} {}{unit}{loud}",
        step.section,
        number(rate)
    ));
}

/// What a target adds to the set-up of a connection: a connection with its first answer takes longer
/// than a round trip on one that is open; how much longer than it does without the target.
fn setup(bench: &Bench, medians: &BTreeMap<(&'static str, String), f64>) {
    let extra = |target: &'static str| {
        let connection = medians.get(&(target, connections(1)))?;
        let trip = medians.get(&(target, round_trips(1)))?;
        Some(connection - trip)
    };
    let Some(direct) = extra("direct") else {
        return;
    };
    let column = Column::lower("added", "µs");
    for (target, _) in &bench.options.targets {
        if let Some(own) = extra(target).filter(|_| *target != "direct") {
            let mut report = bench.report.borrow_mut();
            report.add(SETUP, column, target, bench.round, own - direct);
        }
    }
}

/// The p99 of one connection's round trips, alone and beside a stream that takes all it can get.
async fn beside(bench: &Bench, target: &str, running: &Running) -> anyhow::Result<()> {
    let small = bench.job(Work::RoundTrips { at_once: 1 }, running);
    let alone = bench.measure(&small).await?;
    let mut worst = 0.0_f64;
    let mut found = Vec::new();
    for (direction, p99, rate) in [
        (
            Direction::Up,
            Column::lower("p99 beside up", "ms"),
            Column::higher("bulk up", "Gbit/s"),
        ),
        (
            Direction::Down,
            Column::lower("p99 beside down", "ms"),
            Column::higher("bulk down", "Gbit/s"),
        ),
    ] {
        let mut bulk = bench.job(
            Work::Bulk {
                streams: 1,
                direction,
            },
            running,
        );
        // It begins before and ends after; the small one's process is beside it on purpose.
        bulk.time = small.warm + small.time + Duration::from_millis(100);
        let (beside, moved) =
            tokio::join!(crate::child::client(&small), crate::child::client(&bulk));
        let (beside, moved) = (beside?, moved?);
        found.push((p99, beside.p99 / 1e3));
        found.push((rate, moved.rate() * 8.0 / 1e9));
        worst = worst.max(beside.p99);
    }
    let ratio = worst / alone.p99;
    let mut report = bench.report.borrow_mut();
    let first = [
        (Column::lower("p99 beside / alone", "×"), ratio),
        (Column::lower("p99 alone", "ms"), alone.p99 / 1e3),
    ];
    for (column, value) in first.into_iter().chain(found) {
        report.add(BESIDE, column, target, bench.round, value);
    }
    drop(report);
    bench.say(format_args!(
        "{BESIDE}: {target} p99 × {} (alone {} ms)",
        number(ratio),
        number(alone.p99 / 1e3)
    ));
    Ok(())
}
