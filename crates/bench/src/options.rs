//! What a run measures, from the environment: `make bench BENCH_TARGETS=direct,agent` and the like.

use std::time::Duration;

use crate::peers;
use crate::target::{self, Shape};

/// The figures, in the order in which they are measured.
pub const FIGURES: &[&str] = &[
    "bulk",
    "connections",
    "round-trips",
    "fairness",
    "memory",
    "postgres",
    "redis",
    "long-link",
    "burst",
    "listeners",
    "policies",
    "iperf3",
];
/// The figures of the quick form.
const QUICK_FIGURES: &[&str] = &["bulk", "connections", "round-trips", "memory", "policies"];
/// The targets of the quick form.
const QUICK_TARGETS: &[&str] = &[
    "direct",
    "server",
    "agent",
    "agent-plain",
    "haproxy",
    "haproxy-tuned",
    "rathole",
    "rathole-tls",
];

/// What is measured, how long, and how often.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether it is the quick form.
    pub quick: bool,
    /// Rounds (`BENCH_ROUNDS`).
    pub rounds: u32,
    /// Time of each measurement (`BENCH_MILLIS`).
    pub time: Duration,
    /// Times that a measurement is made at most when others use the machine (`BENCH_REPEATS`).
    pub repeats: u32,
    /// Targets (`BENCH_TARGETS`, a comma list), those that are installed.
    pub targets: Vec<(&'static str, Shape)>,
    /// Figures (`BENCH_FIGURES`, a comma list).
    pub figures: Vec<&'static str>,
    /// Rate of the long link in Mbit/s, 0 without bound (`BENCH_LINK_MBIT`).
    pub link_mbit: u64,
    /// Connections held for the memory figure (`BENCH_IDLE`, a comma list).
    pub idle: Vec<usize>,
    /// Whether memory, PostgreSQL and Redis are measured in every round instead of every second one
    /// (`BENCH_EVERY_ROUND=yes`).
    pub every_round: bool,
    /// Where the report is written (`BENCH_WRITE`: `docs`, the full form's default; a folder; `no`).
    pub write: Option<std::path::PathBuf>,
}

impl Options {
    /// Reads them; `quick` sets what they are where the environment says nothing.
    ///
    /// # Errors
    /// When a value cannot be understood, or a list names what there is not.
    pub fn read(quick: bool) -> anyhow::Result<Self> {
        let targets = target::all();
        let names: Vec<&'static str> = targets.iter().map(|(name, _)| *name).collect();
        let wanted = list("BENCH_TARGETS", &names, quick.then_some(QUICK_TARGETS))?;
        Ok(Self {
            quick,
            rounds: number("BENCH_ROUNDS", if quick { 2 } else { 5 })?,
            time: Duration::from_millis(number("BENCH_MILLIS", 500)?),
            repeats: number("BENCH_REPEATS", if quick { 2 } else { 3 })?,
            targets: targets
                .into_iter()
                .filter(|(name, _)| wanted.contains(name) && peers::missing(name).is_none())
                .collect(),
            figures: list("BENCH_FIGURES", FIGURES, quick.then_some(QUICK_FIGURES))?,
            link_mbit: number("BENCH_LINK_MBIT", 1_000)?,
            idle: idle(quick)?,
            every_round: variable("BENCH_EVERY_ROUND").as_deref() == Some("yes"),
            write: folder(quick),
        })
    }

    /// Whether a figure is measured.
    pub fn has(&self, figure: &str) -> bool {
        self.figures.contains(&figure)
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> anyhow::Result<T> {
    let Some(text) = variable(name) else {
        return Ok(default);
    };
    text.parse()
        .map_err(|_| anyhow::anyhow!("{name}={text} is no number"))
}

fn list(
    name: &str,
    known: &[&'static str],
    default: Option<&[&'static str]>,
) -> anyhow::Result<Vec<&'static str>> {
    let Some(text) = variable(name) else {
        return Ok(default.unwrap_or(known).to_vec());
    };
    let words = text.split(',').map(str::trim);
    words
        .map(|word| {
            let found = known.iter().find(|known| **known == word);
            found.copied().ok_or_else(|| {
                anyhow::anyhow!("{name}: there is no {word}; there are {}", known.join(", "))
            })
        })
        .collect()
}

fn idle(quick: bool) -> anyhow::Result<Vec<usize>> {
    let Some(text) = variable("BENCH_IDLE") else {
        return Ok(if quick {
            vec![8_000]
        } else {
            vec![2_000, 8_000]
        });
    };
    let parsed: Result<Vec<usize>, _> = text.split(',').map(|word| word.trim().parse()).collect();
    parsed.map_err(|_| anyhow::anyhow!("BENCH_IDLE={text} is no list of numbers"))
}

/// Where a report is written: `BENCH_WRITE`.
pub fn folder(quick: bool) -> Option<std::path::PathBuf> {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/bench");
    match variable("BENCH_WRITE").as_deref() {
        Some("no") => None,
        None if quick => None,
        None | Some("docs") => Some(docs.into()),
        Some(folder) => Some(folder.into()),
    }
}
