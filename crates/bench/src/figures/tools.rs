//! The tools of others: pgbench and redis-benchmark against real servers, and iperf3 beside our own
//! load generator.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use portcullis_e2e::process;
use portcullis_e2e::servers::{Postgres, Redis};
use portcullis_e2e::{Process, ports, within};
use serde_json::Value;

use super::names::IPERF;
use crate::bench::Bench;
use crate::report::{Column, number};
use crate::target::{self, Running, Shape};
use crate::usage::Cpu;

/// Longest that a tool may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries of iperf3.
const AGAIN: Duration = Duration::from_millis(200);
/// Rows of `pgbench_accounts`, in units of 100,000.
const SCALE: &str = "10";
/// Requests of one redis-benchmark run, by pipeline depth: about a second each.
const REQUESTS: &[(&str, &str)] = &[("1", "60000"), ("16", "600000")];
const ALL: &[Shape] = &[Shape::Direct, Shape::Forward, Shape::Tunnel];

/// PostgreSQL with pgbench's tables; `None` where it is not installed.
pub async fn postgres() -> Option<Postgres> {
    if !there("pgbench") || !std::path::Path::new("/usr/lib/postgresql").exists() {
        eprintln!("pgbench or PostgreSQL is not installed: no figures of it");
        return None;
    }
    let server = target::caught(async {
        let server = Postgres::start().await;
        let port = server.port.to_string();
        let init = ["-i", "-q", "-s", SCALE, "-h", "127.0.0.1", "-p", &port];
        let words = init.iter().copied().chain(["-U", "postgres", "postgres"]);
        process::run("pgbench", words, PATIENCE);
        Ok(server)
    });
    told("PostgreSQL", server.await)
}

fn told<T>(what: &str, started: anyhow::Result<T>) -> Option<T> {
    if let Err(error) = &started {
        eprintln!("{what} does not start, so there are no figures of it: {error:#}");
    }
    started.ok()
}

/// Redis; `None` where it is not installed.
pub async fn redis() -> Option<Redis> {
    if !there("redis-server") || !there("redis-benchmark") {
        eprintln!("Redis is not installed: no figures of it");
        return None;
    }
    told(
        "Redis",
        target::caught(async { Ok(Redis::start().await) }).await,
    )
}

fn there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

/// Starts a target in front of a server.
async fn start(name: &str, port: u16) -> anyhow::Result<Running> {
    let server = SocketAddr::from(([127, 0, 0, 1], port));
    target::start(name, server, &|at| at).await
}

/// Runs a tool; what it printed, and CPU seconds of the target meanwhile.
async fn tool(words: &[&str], pids: &[u32]) -> anyhow::Result<(String, f64)> {
    let (program, words) = words.split_first().context("a program")?;
    let mut command = tokio::process::Command::new(program);
    command.args(words).stdin(Stdio::null()).kill_on_drop(true);
    let before = Cpu::now();
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.context("it does not come to an end")??;
    let used = Cpu::now().since(&before, pids, &[std::process::id()]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{program}: {}", said.trim());
    Ok((text, used.target))
}

/// pgbench, select-only: on connections that stay, and with one for each transaction.
pub async fn measure_postgres(bench: &mut Bench, port: u16) {
    for (name, _) in bench.shuffled(ALL) {
        let running = start(name, port).await;
        for (section, connect, mode) in [
            ("pgbench, select-only, 8 clients", "", "prepared"),
            ("pgbench, a connection per transaction", "-C", "simple"),
        ] {
            let found = match &running {
                Ok(running) => pgbench(running, connect, mode).await,
                Err(error) => Err(anyhow::anyhow!("{error:#}")),
            };
            note(bench, section, name, "µs/transaction", found);
        }
    }
}

/// Transactions a second, and the target's CPU seconds for each.
async fn pgbench(running: &Running, connect: &str, mode: &str) -> anyhow::Result<(f64, f64)> {
    let at = running.addr.port().to_string();
    let host = running.addr.ip().to_string();
    let mut words = vec!["pgbench", "-n", "-S", "-c", "8", "-j", "1", "-T", "1"];
    words.extend(["-M", mode, "-h", &host, "-p", &at, "-U", "postgres"]);
    words.extend(Some(connect).filter(|connect| !connect.is_empty()));
    words.push("postgres");
    // The far end of a tunnel may come up after its near end answers.
    target::answers(running.addr, || tool_once(&words)).await?;
    let (text, cpu) = tool(&words, &running.pids).await?;
    let rate = value_after(&text, "tps = ").context("pgbench tells tps")?;
    let done = value_after(&text, "transactions actually processed: ");
    Ok((rate, cpu / done.context("pgbench counts")?))
}

async fn tool_once(words: &[&str]) -> bool {
    // The same with a single transaction.
    let mut words = words.to_vec();
    if let Some(time) = words.iter().position(|word| *word == "-T") {
        words[time] = "-t";
    }
    tool(&words, &[]).await.is_ok()
}

/// redis-benchmark, GET on 50 connections.
pub async fn measure_redis(bench: &mut Bench, port: u16) {
    for (name, _) in bench.shuffled(ALL) {
        let running = start(name, port).await;
        for (depth, requests) in REQUESTS {
            let section = format!("redis-benchmark, GET, 50 connections, pipeline {depth}");
            let found = match &running {
                Ok(running) => redis_benchmark(running, depth, requests).await,
                Err(error) => Err(anyhow::anyhow!("{error:#}")),
            };
            note(bench, &section, name, "µs/request", found);
        }
    }
}

async fn redis_benchmark(
    running: &Running,
    depth: &str,
    requests: &str,
) -> anyhow::Result<(f64, f64)> {
    let at = running.addr.port().to_string();
    let host = running.addr.ip().to_string();
    let words = |requests| {
        let mut words = vec!["redis-benchmark", "-h", &host, "-p", &at, "-t", "get"];
        words.extend(["-c", "50", "-P", depth, "-n", requests, "--csv"]);
        words
    };
    let one = words("50");
    target::answers(running.addr, || async { tool(&one, &[]).await.is_ok() }).await?;
    let (text, cpu) = tool(&words(requests), &running.pids).await?;
    // "GET","61349.69",… below a line of titles.
    let line = text.lines().find(|line| line.starts_with("\"GET\""));
    let rate = line.and_then(|line| line.split(',').nth(1)?.trim_matches('"').parse().ok());
    let requests: f64 = requests.parse()?;
    Ok((
        rate.with_context(|| format!("redis-benchmark tells a rate: {text}"))?,
        cpu / requests,
    ))
}

fn note(
    bench: &Bench,
    section: &str,
    target: &str,
    unit: &'static str,
    found: anyhow::Result<(f64, f64)>,
) {
    match found {
        Err(error) => bench.fail(section, target, &error),
        Ok((rate, cpu)) => {
            let mut report = bench.report.borrow_mut();
            for (column, value) in [
                (Column::higher("rate", "1/s"), rate),
                (Column::lower("CPU", unit), cpu * 1e6),
            ] {
                report.add(section, column, target, bench.round, value);
            }
            drop(report);
            bench.say(format_args!("{section}: {target} {}/s", number(rate)));
        }
    }
}

/// iperf3's own figure of the same thing.
pub async fn measure_iperf(bench: &mut Bench) {
    if !there("iperf3") {
        bench.say("iperf3 is not installed: no cross-check");
        return;
    }
    for (name, _) in bench.shuffled(ALL) {
        if let Err(error) = target::caught(iperf(bench, name)).await {
            bench.fail(IPERF, name, &error);
        }
    }
}

async fn iperf(bench: &Bench, target: &str) -> anyhow::Result<()> {
    let port = ports::one();
    let mut server = std::process::Command::new("iperf3");
    server.args([
        "-s",
        "--forceflush",
        "-B",
        "127.0.0.1",
        "-p",
        &port.to_string(),
    ]);
    let server = Process::start("iperf3", server);
    within(target::START, "iperf3 listens", || async {
        server.output().contains("listening").then_some(())
    })
    .await;
    let running = start(target, port).await?;
    let at = running.addr.port().to_string();
    let host = running.addr.ip().to_string();
    for (streams, way, column) in [
        ("1", None, Column::higher("1 stream up", "Gbit/s")),
        ("1", Some("-R"), Column::higher("1 stream down", "Gbit/s")),
        ("8", None, Column::higher("8 streams up", "Gbit/s")),
        ("8", Some("-R"), Column::higher("8 streams down", "Gbit/s")),
    ] {
        let mut words = vec!["iperf3", "-c", &host, "-p", &at, "-t", "1", "-J"];
        words.extend(["-P", streams]);
        words.extend(way);
        let rate = iperf_rate(&words, &running).await?;
        let mut report = bench.report.borrow_mut();
        report.add(IPERF, column, target, bench.round, rate);
        drop(report);
        let name = column.name;
        bench.say(format_args!(
            "{IPERF}: {target} {name} {} Gbit/s",
            number(rate)
        ));
    }
    Ok(())
}

/// Gbit/s that the receiver saw.
async fn iperf_rate(words: &[&str], running: &Running) -> anyhow::Result<f64> {
    let deadline = Instant::now() + target::START;
    loop {
        let failed = match tool(words, &running.pids).await {
            Err(error) => error,
            Ok((text, _)) => {
                let found: Value = serde_json::from_str(&text)?;
                let rate = &found["end"]["sum_received"]["bits_per_second"];
                if let Some(rate) = rate.as_f64() {
                    return Ok(rate / 1e9);
                }
                anyhow::anyhow!("iperf3: {}", found["error"])
            }
        };
        // "The server is busy" until it knows that the run before is over.
        if Instant::now() > deadline {
            return Err(failed);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn value_after(text: &str, key: &str) -> Option<f64> {
    let rest = text.split(key).nth(1)?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pgbench_tells_its_rate() {
        let text = "number of transactions actually processed: 8123/0\ntps = 8101.5 (without initial connection time)\n";
        assert_eq!(value_after(text, "tps = "), Some(8_101.5));
        let counted = value_after(text, "transactions actually processed: ");
        assert_eq!(counted, Some(8_123.0));
        assert_eq!(value_after(text, "latency = "), None);
    }
}
