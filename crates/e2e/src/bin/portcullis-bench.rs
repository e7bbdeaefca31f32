//! `make bench`: direct, server and server with agent, interleaved, several rounds, in one run.
//! Writes `docs/bench/path.md` and `docs/bench/path.json`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use portcullis_e2e::bench::load::{self, Direction};
use portcullis_e2e::bench::report::Report;
use portcullis_e2e::bench::target::Target;
use portcullis_e2e::{Process, eventually};

/// Connections held for the memory figure.
const IDLE: u32 = 2_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    if std::env::args().nth(1).as_deref() == Some("backend") {
        let backend = load::backend().await;
        println!("{}", backend.addr);
        std::future::pending::<()>().await;
    }
    let number = |name: &str, default: u64| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let rounds = number("BENCH_ROUNDS", 5);
    let time = Duration::from_millis(number("BENCH_MILLIS", 1_000));
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.arg("backend");
    let backend = Process::start("backend", command);
    let addr: SocketAddr = eventually("the backend listens", || async {
        backend.output().trim().parse().ok()
    })
    .await;
    let mut report = Report::default();
    for round in 1..=rounds {
        // Another order each round: what drifts with time falls on each target alike.
        let mut names = Target::NAMES.to_vec();
        names.rotate_left(round as usize % Target::NAMES.len());
        for name in names {
            eprintln!("round {round} of {rounds}: {name}");
            let target = Target::start(name, addr).await;
            measure(name, &target, time, &mut report).await?;
        }
    }
    let table = report.markdown(&Target::NAMES, "direct");
    let text = format!(
        "# The path, against a direct connection\n\n\
         Medians of {rounds} rounds of {time:?} each, client, backend and product on one machine of {} cores over loopback; \
         behind `=` the median of the ratios to `direct` in the same round, with the smallest and the largest. \
         `make bench` writes this file.\n\n{table}",
        std::thread::available_parallelism()?
    );
    println!("{text}");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/bench");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("path.md"), &text)?;
    std::fs::write(
        folder.join("path.json"),
        serde_json::to_string_pretty(&report.json())? + "\n",
    )?;
    Ok(())
}

async fn measure(
    name: &str,
    target: &Target,
    time: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    let to = target.addr();
    load::connections(to, 4, time / 5).await?;
    for (streams, direction, title) in [
        (1, Direction::Up, "bulk, 1 stream up"),
        (1, Direction::Down, "bulk, 1 stream down"),
        (8, Direction::Up, "bulk, 8 streams up"),
        (8, Direction::Down, "bulk, 8 streams down"),
    ] {
        let before = target.cpu_seconds();
        let figure = load::bulk(to, streams, direction, time).await?;
        let cpu = target.cpu_seconds() - before;
        report.add(title, "Gbit/s", name, figure.per_second * 8.0 / 1e9);
        report.add(
            &format!("{title}: CPU"),
            "s/GiB",
            name,
            cpu / (figure.count as f64 / f64::from(1 << 30)),
        );
    }
    for at_once in [1, 64] {
        let figure = load::connections(to, at_once, time).await?;
        report.add(
            &format!("connections, {at_once} at once"),
            "1/s",
            name,
            figure.per_second,
        );
        report.add(
            &format!("connections, {at_once} at once: p99"),
            "ms",
            name,
            figure.p99.as_secs_f64() * 1e3,
        );
    }
    for at_once in [1, 64] {
        let figure = load::round_trips(to, at_once, time).await?;
        report.add(
            &format!("round trips, {at_once} connections"),
            "1/s",
            name,
            figure.per_second,
        );
        report.add(
            &format!("round trips, {at_once} connections: p50"),
            "µs",
            name,
            figure.p50.as_secs_f64() * 1e6,
        );
        report.add(
            &format!("round trips, {at_once} connections: p99"),
            "µs",
            name,
            figure.p99.as_secs_f64() * 1e6,
        );
    }
    let before = target.resident_bytes();
    let held = load::hold(to, IDLE).await?;
    let grown = target.resident_bytes().saturating_sub(before);
    report.add(
        "memory of an idle connection",
        "KiB",
        name,
        grown as f64 / 1024.0 / f64::from(IDLE),
    );
    drop(held);
    Ok(())
}
