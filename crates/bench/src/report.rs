//! Collects figures by section, column, target and round; gives medians, and ratios formed within a
//! round with their spread, as Markdown and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

/// Which values are the better ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// The higher ones.
    Higher,
    /// The lower ones.
    Lower,
}

/// What is told of each target in a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name, unique in its section.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Which values are the better ones.
    pub better: Better,
}

impl Column {
    /// A column of which higher values are better.
    pub const fn higher(name: &'static str, unit: &'static str) -> Self {
        let better = Better::Higher;
        Self { name, unit, better }
    }

    /// A column of which lower values are better.
    pub const fn lower(name: &'static str, unit: &'static str) -> Self {
        let better = Better::Lower;
        Self { name, unit, better }
    }
}

/// Values by round.
type Rounds = BTreeMap<u32, f64>;

/// Everything that was measured.
#[derive(Default)]
pub struct Report {
    sections: Vec<(String, Vec<Column>)>,
    values: BTreeMap<(String, &'static str, String), Rounds>,
    failures: BTreeMap<(String, String), String>,
}

/// A median with its smallest and its largest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The median; of an even number of values the mean of the middle two.
    pub median: f64,
    /// The smallest.
    pub low: f64,
    /// The largest.
    pub high: f64,
}

impl Spread {
    /// Of these values; `None` of none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], upper)
        } else {
            upper
        };
        Some(Self {
            median,
            low: *sorted.first()?,
            high: *sorted.last()?,
        })
    }

    /// `2.41 [2.20–2.60]`
    pub fn text(&self) -> String {
        let Self { median, low, high } = *self;
        if (high - low).abs() < f64::EPSILON {
            return number(median);
        }
        format!("{} [{}–{}]", number(median), number(low), number(high))
    }
}

impl Report {
    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.sections.is_empty() && self.failures.is_empty()
    }

    /// Adds what a round found.
    pub fn add(&mut self, section: &str, column: Column, target: &str, round: u32, value: f64) {
        let at = self.sections.iter().position(|(name, _)| name == section);
        let at = at.unwrap_or_else(|| {
            self.sections.push((section.to_owned(), Vec::new()));
            self.sections.len() - 1
        });
        if !self.sections[at].1.contains(&column) {
            self.sections[at].1.push(column);
        }
        let key = (section.to_owned(), column.name, target.to_owned());
        self.values.entry(key).or_default().insert(round, value);
    }

    /// Adds that a target could not be measured, and why.
    pub fn fail(&mut self, section: &str, target: &str, why: &str) {
        let why = why.lines().next().unwrap_or("it does not say why");
        let key = (section.to_owned(), target.to_owned());
        self.failures.insert(key, why.to_owned());
    }

    /// What a target's rounds gave.
    pub fn rounds(&self, section: &str, column: &str, target: &str) -> Option<&Rounds> {
        self.values
            .iter()
            .find(|((s, c, t), _)| s == section && *c == column && t == target)
            .map(|(_, rounds)| rounds)
    }

    /// Why a target could not be measured.
    pub fn failure(&self, section: &str, target: &str) -> Option<&str> {
        let key = (section.to_owned(), target.to_owned());
        self.failures.get(&key).map(String::as_str)
    }

    /// The median of a target's rounds.
    pub fn spread(&self, section: &str, column: &str, target: &str) -> Option<Spread> {
        let rounds = self.rounds(section, column, target)?;
        Spread::of(&rounds.values().copied().collect::<Vec<_>>())
    }

    /// `ours` over `base`, round by round.
    pub fn ratios(&self, section: &str, column: &str, ours: &str, base: &str) -> Rounds {
        let (Some(ours), Some(base)) = (
            self.rounds(section, column, ours),
            self.rounds(section, column, base),
        ) else {
            return Rounds::new();
        };
        let both = ours
            .iter()
            .filter_map(|(round, own)| Some((*round, own / base.get(round)?)));
        both.filter(|(_, ratio)| ratio.is_finite()).collect()
    }

    /// A table for each section: a row a target, and the ratio of the first column to `direct`.
    pub fn tables(&self, targets: &[&str]) -> String {
        let mut text = String::new();
        for (section, columns) in &self.sections {
            text.push_str(&self.table(section, columns, targets));
        }
        text
    }

    /// A table for each section without ratios: a row for whatever has values or failed.
    pub fn plain_tables(&self) -> String {
        let mut text = String::new();
        for (section, columns) in &self.sections {
            text.push_str(&heading(section, columns));
            text.push_str("\n|---|");
            text.push_str(&"---|".repeat(columns.len()));
            for target in self.with_others(section, &[]) {
                let cells = self.cells(section, columns, target);
                write!(text, "\n| {target} | {} |", cells.join(" | ")).ok();
            }
            text.push('\n');
        }
        for ((section, target), why) in &self.failures {
            writeln!(text, "\n{section}: {target} failed: {why}").ok();
        }
        text
    }

    fn cells(&self, section: &str, columns: &[Column], target: &str) -> Vec<String> {
        let cell = |column: &Column| {
            let spread = self.spread(section, column.name, target);
            spread.map_or_else(|| "–".to_owned(), |spread| spread.text())
        };
        columns.iter().map(cell).collect()
    }

    fn table(&self, section: &str, columns: &[Column], targets: &[&str]) -> String {
        let mut text = heading(section, columns);
        text.push_str(" to direct |\n|---|");
        text.push_str(&"---|".repeat(columns.len() + 1));
        for target in self.with_others(section, targets) {
            let cells = self.cells(section, columns, target);
            let failure = self.failure(section, target);
            if failure.is_none() && cells.iter().all(|cell| cell == "–") {
                continue;
            }
            let ratio = columns.first().and_then(|column| {
                let ratios = self.ratios(section, column.name, target, "direct");
                Spread::of(&ratios.into_values().collect::<Vec<_>>())
            });
            let mut ratio = ratio.map_or_else(|| "–".to_owned(), |spread| spread.text());
            if let Some(why) = failure {
                ratio = format!("failed: {}", why.replace('|', "/"));
            }
            write!(text, "\n| {target} | {} | {ratio} |", cells.join(" | ")).ok();
        }
        text.push('\n');
        text
    }

    /// The targets, and what else has values in a section.
    fn with_others<'a>(&'a self, section: &str, targets: &[&'a str]) -> Vec<&'a str> {
        let mut names = targets.to_vec();
        for (own, _, target) in self.values.keys() {
            if own == section && !names.contains(&target.as_str()) {
                names.push(target);
            }
        }
        names
    }

    /// Everything, for machines.
    pub fn json(&self) -> Value {
        let mut figures = Vec::new();
        for (section, columns) in &self.sections {
            for column in columns {
                let of_column = self
                    .values
                    .iter()
                    .filter(|((s, c, _), _)| s == section && *c == column.name);
                for ((_, _, target), rounds) in of_column {
                    let spread = self.spread(section, column.name, target);
                    figures.push(json!({
                        "section": section, "column": column.name, "unit": column.unit,
                        "better": if column.better == Better::Higher { "higher" } else { "lower" },
                        "target": target, "rounds": rounds,
                        "median": spread.map(|s| s.median),
                        "min": spread.map(|s| s.low), "max": spread.map(|s| s.high),
                    }));
                }
            }
        }
        let failures = self.failures.iter().map(
            |((section, target), why)| json!({"section": section, "target": target, "why": why}),
        );
        json!({ "figures": figures, "failures": failures.collect::<Vec<_>>() })
    }
}

fn heading(section: &str, columns: &[Column]) -> String {
    let mut text = format!("\n### {section}\n\n| |");
    for Column { name, unit, .. } in columns {
        let comma = if unit.is_empty() { "" } else { ", " };
        write!(text, " {name}{comma}{unit} |").ok();
    }
    text
}

/// Three digits that say something, and commas between thousands.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 1_000.0 {
        let digits = format!("{value:.0}");
        let (sign, digits) = digits
            .strip_prefix('-')
            .map_or(("", digits.as_str()), |rest| ("-", rest));
        let mut text = String::from(sign);
        for (at, digit) in digits.char_indices() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        return text;
    }
    match size {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        0.1.. => format!("{value:.2}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Column = Column::higher("rate", "1/s");

    #[test]
    fn ratios_are_formed_within_a_round() {
        let mut report = Report::default();
        for (round, (ours, base)) in [(10.0, 20.0), (30.0, 40.0), (7.0, 0.0)]
            .into_iter()
            .enumerate()
        {
            report.add("s", RATE, "ours", round as u32, ours);
            report.add("s", RATE, "base", round as u32, base);
        }
        report.add("s", RATE, "ours", 9, 1.0);
        let ratios = report.ratios("s", "rate", "ours", "base");
        assert_eq!(ratios, Rounds::from([(0, 0.5), (1, 0.75)]));
    }

    #[test]
    fn a_median_of_two_lies_between_them() {
        let spread = Spread::of(&[3.0, 1.0]).expect("two values");
        assert_eq!((spread.median, spread.low, spread.high), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn failures_stand_in_the_table() {
        let mut report = Report::default();
        report.add("s", RATE, "direct", 1, 4.0);
        report.add("s", RATE, "a", 1, 2.0);
        report.fail("s", "b", "no such\nline");
        let text = report.tables(&["direct", "a", "b", "c"]);
        assert!(text.contains("| a | 2.00 | 0.50 |"), "{text}");
        assert!(text.contains("| b | – | failed: no such |"), "{text}");
        assert!(!text.contains("| c |"), "{text}");
    }

    #[test]
    fn numbers_keep_three_digits() {
        let texts = [0.0, 0.0123, 0.5, 12.34, 123.4, 1_234.5, 1_234_567.0].map(number);
        let wanted = ["0", "0.012", "0.50", "12.3", "123", "1,234", "1,234,567"];
        assert_eq!(texts, wanted);
    }
}
