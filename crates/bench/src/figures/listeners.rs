//! One server with one listener against one with ten thousand: how long until all accept, and whether
//! one of many accepts as fast.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use portcullis_e2e::{Process, ports, stack};

use super::names::LISTENERS;
use crate::bench::Bench;
use crate::load::Work;
use crate::report::{Column, Spread, number};
use crate::target::{self, Running};
use crate::usage::{Cpu, Memory};

/// The larger number.
const MANY: u16 = 10_000;
/// Longest until all accept; far beyond what is to be reached, so that a miss has a figure too.
const PATIENCE: Duration = Duration::from_secs(90);

/// Times that the two are measured in turn; the median of a round counts.
const TURNS: usize = 3;
/// Longest wait until a server that has started does nothing any more, and what counts as nothing.
const SETTLE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(250);
const NOTHING: f64 = 0.02;

/// Both at once, and then in turn.
pub async fn measure(bench: &mut Bench) {
    if !bench
        .options
        .targets
        .iter()
        .any(|(name, _)| *name == "server")
    {
        return;
    }
    let mut running = Vec::new();
    for (count, name) in [(1, "1 listener"), (MANY, "10,000 listeners")] {
        match target::caught(one(bench, count, name)).await {
            Ok(started) => running.push((name, started, Vec::new())),
            Err(error) => bench.fail(LISTENERS, name, &error),
        }
    }
    for _ in 0..TURNS {
        for (name, target, outcomes) in &mut running {
            let job = bench.job(Work::Connections { at_once: 64 }, target);
            match bench.measure(&job).await {
                Ok(outcome) => outcomes.push((outcome.rate(), outcome.p99 / 1e3)),
                Err(error) => bench.fail(LISTENERS, name, &error),
            }
        }
        running.reverse();
    }
    for (name, _, outcomes) in &running {
        let (rates, times): (Vec<f64>, Vec<f64>) = outcomes.iter().copied().unzip();
        let (Some(rate), Some(p99)) = (Spread::of(&rates), Spread::of(&times)) else {
            continue;
        };
        let mut report = bench.report.borrow_mut();
        let columns = [
            (Column::higher("rate", "1/s"), rate.median),
            (Column::lower("p99", "ms"), p99.median),
        ];
        for (column, value) in columns {
            report.add(LISTENERS, column, name, bench.round, value);
        }
        drop(report);
        bench.say(format_args!(
            "{LISTENERS}: {name} {}/s",
            number(rate.median)
        ));
    }
}

/// Starts a server with so many listeners and notes how long that takes.
async fn one(bench: &Bench, count: u16, name: &str) -> anyhow::Result<Running> {
    // Two more for agents and API.
    let block = ports::block(count + 2);
    let (agents, api) = (*block.end() - 1, *block.end());
    let ports = *block.start()..=agents - 1;
    let mut config = format!(
        "{}api: {{listen: \"127.0.0.1:{api}\"}}\nendpoints:\n",
        target::CONFIG
    );
    for port in ports.clone() {
        let backend = bench.backend;
        writeln!(config, "  - {{port: {port}, upstream: \"{backend}\"}}")?;
    }
    let dir = tempfile::Builder::new().prefix("ptc-").tempdir()?;
    let path = dir.path().join("server.yml");
    std::fs::write(&path, config)?;
    let mut command = stack::portcullis(dir.path());
    command.args([
        "server",
        "--host",
        "localhost",
        "--port-range",
        "10000-10001",
    ]);
    command.args(["--agents-listen", &format!("127.0.0.1:{agents}")]);
    command.arg("--data-dir").arg(dir.path().join("data"));
    command.arg("--config").arg(path);
    let began = Instant::now();
    let server = Process::start("server", command);
    let all = tokio::task::spawn_blocking(move || all_accept(ports, began));
    let (first, start) = all.await?.with_context(|| server.output())?;
    let pids = vec![server.pid()];
    let resident = Memory::now(&pids).resident;
    let running = Running {
        addr: first,
        pids,
        guards: vec![Box::new(server), Box::new(dir)],
    };
    target::carries(running.addr).await?;
    settled(&running.pids).await;
    let mut report = bench.report.borrow_mut();
    for (column, value) in [
        (Column::lower("start", "s"), start.as_secs_f64()),
        (Column::lower("resident", "MiB"), resident / 1_048_576.0),
    ] {
        report.add(LISTENERS, column, name, bench.round, value);
    }
    drop(report);
    bench.say(format_args!(
        "{LISTENERS}: {name} all accept after {} s",
        number(start.as_secs_f64())
    ));
    Ok(running)
}

/// Until the processes use next to no CPU: what a start leaves behind is not the rate's business.
async fn settled(pids: &[u32]) {
    let until = Instant::now() + SETTLE;
    loop {
        let before = Cpu::now();
        tokio::time::sleep(LOOK_EVERY).await;
        let used = Cpu::now().since(&before, pids, &[]).target;
        if used <= NOTHING || Instant::now() > until {
            return;
        }
    }
}

/// Connects to each port until it accepts, from the last to the first; the first one, and how long that took.
fn all_accept(
    ports: std::ops::RangeInclusive<u16>,
    began: Instant,
) -> anyhow::Result<(SocketAddr, Duration)> {
    let first = SocketAddr::from(([127, 0, 0, 1], *ports.start()));
    for port in ports.rev() {
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        while TcpStream::connect(addr).is_err() {
            anyhow::ensure!(began.elapsed() < PATIENCE, "{addr} does not accept");
            pause();
        }
    }
    Ok((first, began.elapsed()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "between two looks at a port, on a thread of its own"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(2));
}
