//! Collects figures by target and round; prints medians and same-round ratios with their spread.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

/// Figures: by name, then target, one value a round.
#[derive(Default)]
pub struct Report {
    names: Vec<(String, &'static str)>,
    values: BTreeMap<(String, String), Vec<f64>>,
}

impl Report {
    /// Adds the value of a round.
    pub fn add(&mut self, name: &str, unit: &'static str, target: &str, value: f64) {
        if !self.names.iter().any(|(known, _)| known == name) {
            self.names.push((name.to_owned(), unit));
        }
        self.values
            .entry((name.to_owned(), target.to_owned()))
            .or_default()
            .push(value);
    }

    /// A Markdown table: a row a figure; for each target its median and the ratio to `base`.
    pub fn markdown(&self, targets: &[&str], base: &str) -> String {
        let mut text = String::from("| figure | unit |");
        for target in targets {
            write!(text, " {target} |").expect("a String takes it");
        }
        text.push_str("\n|---|---|");
        text.push_str(&"---|".repeat(targets.len()));
        for (name, unit) in &self.names {
            write!(text, "\n| {name} | {unit} |").expect("a String takes it");
            for target in targets {
                let cell = self
                    .cell(name, target, base)
                    .unwrap_or_else(|| "–".to_owned());
                write!(text, " {cell} |").expect("a String takes it");
            }
        }
        text.push('\n');
        text
    }

    /// Everything, for machines.
    pub fn json(&self) -> Value {
        let rows = self.values.iter().map(
            |((name, target), values)| json!({"figure": name, "target": target, "rounds": values}),
        );
        json!({ "figures": rows.collect::<Vec<_>>() })
    }

    fn cell(&self, name: &str, target: &str, base: &str) -> Option<String> {
        let own = self.values.get(&(name.to_owned(), target.to_owned()))?;
        let middle = format!("{:.4}", median(own))
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned();
        let other = self.values.get(&(name.to_owned(), base.to_owned()));
        let Some(other) = other.filter(|_| target != base) else {
            return Some(middle);
        };
        let ratios: Vec<f64> = own
            .iter()
            .zip(other)
            .filter(|(_, base)| **base > 0.0)
            .map(|(own, base)| own / base)
            .collect();
        if ratios.is_empty() {
            return Some(middle);
        }
        let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let high = ratios.iter().copied().fold(0.0, f64::max);
        Some(format!(
            "{middle} = {:.2}x [{low:.2}–{high:.2}]",
            median(&ratios)
        ))
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
