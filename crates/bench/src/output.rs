//! What a run leaves behind: `path.md` for people, `path.json` for machines.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;

use crate::bench::Bench;
use crate::figures::names::{
    CONNECTIONS_64, CONNECTIONS_256, MEMORY_BUSY, ROUND_TRIPS_64, bulk_sections,
};
use crate::options::Options;
use crate::peers;
use crate::reach;
use crate::report::{Report, Spread};
use crate::target::Shape;

/// The whole text of `path.md`.
pub fn markdown(bench: &Bench) -> String {
    let report = bench.report.borrow();
    let options = &bench.options;
    let found = reach::found(&report);
    let targets: Vec<&str> = options.targets.iter().map(|(name, _)| *name).collect();
    let mut text = String::from("# The path, measured\n\n");
    text.push_str(&conditions(options));
    text.push_str("\n## To reach\n\n");
    text.push_str(
        "Ratios to the target named, formed within each round: median [smallest–largest]. Where a row joins \
         several measurements (`parts`), the ratio of a round is their geometric mean. A row whose bound a throw-away prototype \
         met is a gate, one beyond it a goal.\n\n",
    );
    text.push_str(&reach::table(&found, &report));
    text.push_str("\n## Ours against each peer\n\n");
    text.push_str("Ratios within a round, median [smallest–largest]; CPU, p99 and memory are better below 1.\n");
    text.push_str(&against(&report, options));
    text.push_str("\n## Each figure\n\n");
    text.push_str(
        "Median [smallest–largest] of the rounds; the last column is the ratio of the first to `direct`. `CPU` is user and \
         system time of the target's processes, `chain` that of the whole machine but for foreign processes: client, backend \
         and the kernel's own threads included, where splice hides work.\n",
    );
    text.push_str(&report.tables(&targets));
    text
}

/// The whole text of `policy.md`.
pub fn policy_markdown(bench: &Bench) -> String {
    let mut text = String::from("# Policies, measured\n\n");
    text.push_str(&machine(&bench.options));
    text.push_str(
        "\nShort connections (connect, 64 bytes, 64 bytes, close) through listeners of one server that differ in nothing \
         but their policies, in short turns; `to no policy` is the ratio to the mean of the two listeners without one in the \
         same turn, which also show how far two that are alike differ. The median of a round's turns, then median \
         [smallest–largest] of the rounds. `CPU` is that of the server for a connection. To reach: 0.98 without a policy, \
         0.95 with ten rules or 100,000 networks.\n\n\
         Memory is resident memory of a server that has just started with so many internal endpoints. The change \
         every 50 ms is [reload.rs](../../crates/e2e/src/reload.rs) at 5,000 connections in a second at the most: what is \
         decided by a version that was not in force, and what got nothing.\n",
    );
    text.push_str(&bench.policies.borrow().plain_tables());
    text
}

fn machine(options: &Options) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let control = read("/proc/sys/net/ipv4/tcp_congestion_control");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!(
        "`make bench` writes this file; [README.md](README.md) says how it measures, [peers.md](peers.md) how the peers \
         are set up.\n\n{} rounds of {} ms each; client, backend and target on one machine of {cores} cores over \
         loopback; Linux {}, congestion control {}.\n",
        options.rounds,
        options.time.as_millis(),
        kernel.trim(),
        control.trim()
    )
}

fn conditions(options: &Options) -> String {
    let mut text = machine(options);
    let versions = options.targets.iter().filter_map(|(name, _)| {
        let version = peers::version(name)?;
        Some(format!("{name} {version}"))
    });
    let versions: Vec<String> = versions.collect();
    if !versions.is_empty() {
        writeln!(text, "Peers: {}.", versions.join(", ")).ok();
    }
    for (name, _) in peers::NAMES {
        if let Some(why) = peers::missing(name) {
            writeln!(text, "Not measured: {name} ({}).", why.trim()).ok();
        }
    }
    text
}

/// Headline figures: section, column, and what they are called.
fn headlines() -> Vec<(String, &'static str, String)> {
    let mut lines = Vec::new();
    for streams in [1, 8] {
        for section in bulk_sections(streams) {
            lines.push((section.clone(), "rate", section.clone()));
            lines.push((section.clone(), "CPU", format!("{section}: CPU")));
        }
    }
    for (section, columns) in [
        (CONNECTIONS_64, &["rate", "p99", "CPU"][..]),
        (CONNECTIONS_256, &["rate", "CPU"]),
        (ROUND_TRIPS_64, &["rate", "p99", "CPU"]),
        (MEMORY_BUSY, &["resident"]),
    ] {
        for column in columns {
            let title = if *column == "rate" {
                section.to_owned()
            } else {
                format!("{section}: {column}")
            };
            lines.push((section.to_owned(), column, title));
        }
    }
    lines
}

/// A table for each of ours: a row a headline, a column a peer of its shape.
fn against(report: &Report, options: &Options) -> String {
    let mut text = String::new();
    for (ours, shape) in &options.targets {
        if peers::NAMES.iter().any(|(name, _)| name == ours) || *shape == Shape::Direct {
            continue;
        }
        let same = options.targets.iter().filter(|(name, other)| {
            other == shape && peers::NAMES.iter().any(|(known, _)| known == name)
        });
        let mut bases = vec!["direct"];
        bases.extend(same.map(|(name, _)| *name));
        write!(text, "\n### {ours}\n\n| | {} |\n|---|", bases.join(" | ")).ok();
        text.push_str(&"---|".repeat(bases.len()));
        for (section, column, title) in headlines() {
            let cells = bases.iter().map(|base| {
                let ratios = report.ratios(&section, column, ours, base);
                let spread = Spread::of(&ratios.into_values().collect::<Vec<_>>());
                spread.map_or_else(|| "–".to_owned(), |spread| spread.text())
            });
            let cells: Vec<String> = cells.collect();
            if cells.iter().any(|cell| cell != "–") {
                write!(text, "\n| {title} | {} |", cells.join(" | ")).ok();
            }
        }
        text.push('\n');
    }
    text
}

/// Writes both files.
///
/// # Errors
/// When the folder cannot be written.
pub fn write(bench: &Bench, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let policies = bench.policies.borrow();
    if !policies.is_empty() {
        std::fs::write(folder.join("policy.md"), policy_markdown(bench))?;
        let text = serde_json::to_string_pretty(&policies.json())? + "\n";
        std::fs::write(folder.join("policy.json"), text)?;
    }
    let report = bench.report.borrow();
    if report.is_empty() {
        return Ok(());
    }
    std::fs::write(folder.join("path.md"), markdown(bench))?;
    let rows: Vec<_> = reach::found(&report)
        .iter()
        .map(reach::Found::json)
        .collect();
    let mut value = report.json();
    value["reach"] = json!(rows);
    value["rounds"] = json!(bench.options.rounds);
    value["millis"] = json!(bench.options.time.as_millis() as u64);
    let text = serde_json::to_string_pretty(&value)? + "\n";
    std::fs::write(folder.join("path.json"), text)?;
    Ok(())
}
