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

fn conditions(options: &Options) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let control = read("/proc/sys/net/ipv4/tcp_congestion_control");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let mut text = format!(
        "`make bench` writes this file; [README.md](README.md) says how it measures, [peers.md](peers.md) how the peers \
         are set up.\n\n{} rounds of {} ms each; client, backend and target on one machine of {cores} cores over \
         loopback; Linux {}, congestion control {}.\n",
        options.rounds,
        options.time.as_millis(),
        kernel.trim(),
        control.trim()
    );
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
    std::fs::write(folder.join("path.md"), markdown(bench))?;
    let report = bench.report.borrow();
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
