//! Instructions in user space, counted by callgrind: a figure that a busy machine does not change. The
//! kernel's own are not in it, and it knows nothing of caches.
//!
//! Of the hot loops (`portcullis-hot`) two counts are run, and their difference is divided. Of the built
//! binary, server and agent run under callgrind, and its counters are read (`callgrind_control --dump`)
//! before and after an exact amount of work.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use portcullis_e2e::stack::AgentProcess;
use portcullis_e2e::{Launch, Process, Stack, ports, process};
use serde_json::{Value, json};

use crate::child::Helper;
use crate::report::number;
use crate::target;

/// Longest that one run under valgrind may take.
const PATIENCE: Duration = Duration::from_secs(180);
/// Turns of a loop in the shorter of its two runs.
const TURNS: u32 = 2_000;
/// What is done before the counters are read first: caches, pools and tables fill.
const WARM: Work = Work {
    name: "",
    unit: "",
    connections: 50,
    trips: 2,
    bytes: 64,
    units: 1.0,
};
/// How often each work is done; the least of the counts is told, since whatever disturbs adds to it.
const REPEATS: usize = 3;

/// An exact amount of work, and by what its instructions are divided.
struct Work {
    name: &'static str,
    unit: &'static str,
    connections: u32,
    trips: u32,
    bytes: usize,
    units: f64,
}

const WORKS: &[Work] = &[
    Work {
        name: "connection of one message",
        unit: "connection",
        connections: 300,
        trips: 1,
        bytes: 64,
        units: 300.0,
    },
    Work {
        name: "round trip of 64 bytes",
        unit: "round trip",
        connections: 1,
        trips: 3_000,
        bytes: 64,
        units: 3_000.0,
    },
    Work {
        name: "bulk, there and back",
        unit: "MiB",
        connections: 1,
        trips: 64,
        bytes: 1 << 20,
        units: 128.0,
    },
];

/// Counts everything and writes `instructions.json` to `folder`, if there is one.
///
/// # Errors
/// When valgrind is not there or something does not run under it.
pub async fn run(folder: Option<&Path>) -> anyhow::Result<()> {
    let mut rows = loops()?;
    for name in ["server", "agent"] {
        match target::caught(binary(name)).await {
            Ok(found) => rows.extend(found),
            Err(error) => {
                eprintln!("{name} failed: {error:#}");
                rows.push(json!({"what": name, "failed": format!("{error:#}")}));
            }
        }
    }
    println!("| | instructions | of |\n|---|---|---|");
    for row in &rows {
        let count = row["instructions"].as_f64();
        let count = count.map_or_else(|| row["failed"].to_string(), number);
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        println!("| {} | {count} | {} |", text("what"), text("unit"));
    }
    if let Some(folder) = folder {
        let text = serde_json::to_string_pretty(&json!({ "instructions": rows }))? + "\n";
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let path = folder.join("instructions.json");
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        println!("\nwritten: {}", path.display());
    }
    Ok(())
}

/// What stands before a command to count its instructions into `file`.
fn callgrind(file: &Path) -> Vec<String> {
    let out = format!("--callgrind-out-file={}", file.display());
    ["valgrind", "--tool=callgrind", &out]
        .map(str::to_owned)
        .to_vec()
}

fn loops() -> anyhow::Result<Vec<Value>> {
    let hot = std::env::current_exe()?.with_file_name("portcullis-hot");
    let hot = hot.to_str().context("a path in UTF-8")?.to_owned();
    let names = process::run(&hot, ["list"], PATIENCE);
    let mut rows = Vec::new();
    for name in names.lines() {
        let less = counted(&hot, name, TURNS)?;
        let more = counted(&hot, name, TURNS * 3)?;
        let each = (more - less) / f64::from(TURNS * 2);
        eprintln!("{name}: {}", number(each));
        rows.push(json!({"what": name, "unit": "turn", "instructions": each.round()}));
    }
    Ok(rows)
}

fn counted(hot: &str, name: &str, turns: u32) -> anyhow::Result<f64> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("count");
    let words = callgrind(&file);
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .args([hot, name, &turns.to_string()]);
    let (status, output) = process::finish("valgrind", command, PATIENCE);
    anyhow::ensure!(status.success(), "{output}");
    total(&file)
}

/// The line `totals: 123` of a dump.
fn total(file: &Path) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total = line.and_then(|line| line.trim().parse().ok());
    total.with_context(|| format!("{} has no totals", file.display()))
}

/// A process under callgrind, and how often its counters were read.
struct Counted {
    pid: u32,
    file: PathBuf,
    dumps: u32,
}

impl Counted {
    fn new(process: Option<&Process>, file: PathBuf) -> anyhow::Result<Self> {
        let pid = process.context("it runs")?.pid();
        Ok(Self {
            pid,
            file,
            dumps: 0,
        })
    }

    /// Instructions since the last time.
    fn read(&mut self) -> anyhow::Result<f64> {
        let pid = self.pid.to_string();
        process::run("callgrind_control", ["--dump", &pid], PATIENCE);
        self.dumps += 1;
        let mut file = self.file.clone().into_os_string();
        file.push(format!(".{}", self.dumps));
        total(Path::new(&file))
    }
}

/// The built server, alone or with an agent, under callgrind.
async fn binary(name: &str) -> anyhow::Result<Vec<Value>> {
    let (_helper, backend) = Helper::backend()?;
    let dir = tempfile::tempdir()?;
    let port = ports::one();
    let expose = format!("{port}={backend}");
    let extra: &[&str] = if name == "server" {
        &["--expose", &expose]
    } else {
        &[]
    };
    let file = dir.path().join("server");
    let launch = Launch {
        wrapper: callgrind(&file),
        yaml: target::CONFIG,
        extra,
        ..Launch::default()
    };
    let stack = Stack::launch(launch).await;
    let mut counted = vec![Counted::new(stack.server.as_ref(), file)?];
    let mut to = ([127, 0, 0, 1], port).into();
    let mut agent: Option<AgentProcess> = None;
    if name == "agent" {
        let file = dir.path().join("agent");
        let mut started = stack.agent_behind(callgrind(&file), &backend.to_string(), &[]);
        started.online().await;
        to = started.addr();
        counted.push(Counted::new(started.process.as_ref(), file)?);
        agent = Some(started);
    }
    target::carries(to).await?;
    do_work(to, &WARM)?;
    let mut rows = Vec::new();
    for work in WORKS {
        let mut least: Option<Vec<f64>> = None;
        for _ in 0..REPEATS {
            read_all(&mut counted)?;
            do_work(to, work)?;
            let found = read_all(&mut counted)?;
            let sum = |counts: &Vec<f64>| counts.iter().sum::<f64>();
            if least.as_ref().is_none_or(|least| sum(&found) < sum(least)) {
                least = Some(found);
            }
        }
        let parts = least.unwrap_or_default();
        let each = parts.iter().sum::<f64>() / work.units;
        eprintln!("{name}, {}: {} per {}", work.name, number(each), work.unit);
        rows.push(json!({
            "what": format!("{name}: {}", work.name), "unit": work.unit,
            "instructions": each.round(),
            "by_process": parts.iter().map(|part| (part / work.units).round()).collect::<Vec<_>>(),
        }));
    }
    drop(agent);
    Ok(rows)
}

fn read_all(counted: &mut [Counted]) -> anyhow::Result<Vec<f64>> {
    counted.iter_mut().map(Counted::read).collect()
}

fn do_work(to: std::net::SocketAddr, work: &Work) -> anyhow::Result<()> {
    crate::load::exact(to, work.connections, work.trips, work.bytes)
}
