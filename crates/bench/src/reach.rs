//! What is to be reached: each row of the table against the same-round ratios that were found.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::figures::names::{
    BESIDE, BURST, CONNECTIONS_64, CONNECTIONS_256, LISTENERS, LONG_LINK, MEMORY_BUSY,
    ROUND_TRIPS_64, bulk_sections,
};
use crate::peers;
use crate::report::{Report, Spread, number};

/// How a row is read.
#[derive(Clone, Copy)]
enum Base {
    /// Ratio to a target, in the same round.
    Target(&'static str),
    /// The value itself.
    Own,
}

struct Row {
    what: &'static str,
    against: &'static str,
    ours: &'static str,
    base: Base,
    /// Sections and columns; their ratios are joined by the geometric mean within a round.
    parts: Vec<(String, &'static str)>,
    least: bool,
    bound: f64,
    /// What a throw-away prototype reached; a bound within it is a gate, one beyond it a goal.
    prototype: Option<f64>,
}

/// A row with what was found.
pub struct Found {
    row: Row,
    spread: Option<Spread>,
    why: Option<String>,
}

impl Row {
    fn new(what: &'static str, ours: &'static str, base: &'static str) -> Self {
        Self {
            what,
            against: base,
            ours,
            base: Base::Target(base),
            parts: Vec::new(),
            least: true,
            bound: 1.0,
            prototype: None,
        }
    }

    fn own(mut self, against: &'static str) -> Self {
        self.base = Base::Own;
        self.against = against;
        self
    }

    fn of(mut self, section: &str, column: &'static str) -> Self {
        self.parts.push((section.to_owned(), column));
        self
    }

    fn bulk(mut self, streams: &[usize], column: &'static str) -> Self {
        for section in streams.iter().flat_map(|streams| bulk_sections(*streams)) {
            self.parts.push((section, column));
        }
        self
    }

    fn at_least(mut self, bound: f64, prototype: impl Into<Option<f64>>) -> Self {
        self.bound = bound;
        self.prototype = prototype.into();
        self
    }

    fn at_most(mut self, bound: f64, prototype: impl Into<Option<f64>>) -> Self {
        self.least = false;
        self.at_least(bound, prototype)
    }

    fn is_gate(&self) -> bool {
        self.prototype.is_none_or(|prototype| {
            if self.least {
                self.bound <= prototype
            } else {
                self.bound >= prototype
            }
        })
    }
}

/// The table. Where it gives a range of prototypes, the better end stands here.
fn rows() -> Vec<Row> {
    let mut rows = forward();
    rows.extend(tunnel_bulk());
    rows.extend(tunnel_small());
    rows.extend(alone());
    rows
}

fn forward() -> Vec<Row> {
    let row = |what, base| Row::new(what, "server", base);
    let bulk = "forward, bulk, 1 and 8 streams";
    let cpu = "forward, CPU per GB";
    vec![
        row(bulk, "haproxy")
            .bulk(&[1, 8], "rate")
            .at_least(2.4, 2.6),
        row(bulk, "haproxy-tuned")
            .bulk(&[1, 8], "rate")
            .at_least(1.0, 0.99),
        row(bulk, "nginx").bulk(&[1, 8], "rate").at_least(2.5, 3.2),
        row(cpu, "haproxy").bulk(&[1, 8], "CPU").at_most(0.25, 0.20),
        row(cpu, "haproxy-tuned")
            .bulk(&[1, 8], "CPU")
            .at_most(1.0, 1.15),
        row("forward, connections, 64 at once", "haproxy")
            .of(CONNECTIONS_64, "rate")
            .at_least(1.0, 1.02),
        row("forward, connections, 256 at once", "haproxy")
            .of(CONNECTIONS_256, "rate")
            .at_least(1.0, 1.02),
        row("forward, CPU per connection", "haproxy")
            .of(CONNECTIONS_64, "CPU")
            .of(CONNECTIONS_256, "CPU")
            .at_most(0.95, 0.92),
        row("forward, round trips at 64", "haproxy")
            .of(ROUND_TRIPS_64, "rate")
            .at_least(1.03, 1.04),
        row("forward, p99 of round trips at 64", "haproxy")
            .of(ROUND_TRIPS_64, "p99")
            .at_most(0.8, 0.77),
        row("forward, user memory of an idle connection", "haproxy")
            .of(MEMORY_BUSY, "resident")
            .at_most(0.45, 0.45),
    ]
}

fn tunnel_bulk() -> Vec<Row> {
    let row = |what, base| Row::new(what, "agent", base);
    let one = "tunnel, bulk, 1 stream";
    let eight = "tunnel, bulk, 8 streams";
    let cpu = "tunnel, CPU per GB, both ends";
    vec![
        row(one, "rathole-tls")
            .bulk(&[1], "rate")
            .at_least(2.7, 2.7),
        row(eight, "rathole-tls")
            .bulk(&[8], "rate")
            .at_least(2.4, 2.2),
        row(one, "rathole").bulk(&[1], "rate").at_least(1.65, 1.65),
        row(eight, "rathole").bulk(&[8], "rate").at_least(1.5, 1.45),
        row(one, "wstunnel-tls")
            .bulk(&[1], "rate")
            .at_least(1.05, 0.86),
        row(eight, "wstunnel-tls")
            .bulk(&[8], "rate")
            .at_least(1.15, 1.11),
        row(cpu, "rathole").bulk(&[1, 8], "CPU").at_most(0.65, 0.67),
        row(cpu, "wstunnel-tls")
            .bulk(&[1, 8], "CPU")
            .at_most(0.9, 0.92),
        Row::new("tunnel on plain channels, bulk", "agent-plain", "frp-nomux")
            .bulk(&[1, 8], "rate")
            .at_least(1.2, 1.2),
    ]
}

fn tunnel_small() -> Vec<Row> {
    let row = |what, base| Row::new(what, "agent", base);
    let connections = "tunnel, connections, 64 at once";
    let trips = "tunnel, round trips at 64";
    vec![
        row(connections, "rathole-tls")
            .of(CONNECTIONS_64, "rate")
            .at_least(8.5, 8.2),
        row(connections, "rathole")
            .of(CONNECTIONS_64, "rate")
            .at_least(1.35, 1.35),
        row(connections, "frp-mux")
            .of(CONNECTIONS_64, "rate")
            .at_least(2.8, 2.7),
        row("tunnel, CPU per connection", "rathole")
            .of(CONNECTIONS_64, "CPU")
            .at_most(0.65, 0.63),
        row(trips, "rathole-tls")
            .of(ROUND_TRIPS_64, "rate")
            .at_least(1.2, 1.15),
        row(trips, "rathole")
            .of(ROUND_TRIPS_64, "rate")
            .at_least(1.0, 0.93),
        row("tunnel, memory of an idle connection, both ends", "rathole")
            .of(MEMORY_BUSY, "resident")
            .at_most(0.22, 0.21),
    ]
}

fn alone() -> Vec<Row> {
    let row = |what| Row::new(what, "agent", "direct");
    vec![
        row("50 ms round trip, burst of 32, p50 to first byte")
            .own("one round trip")
            .of(BURST, "p50 in round trips")
            .at_most(1.1, 1.1),
        row("one stream over 60 ms")
            .of(LONG_LINK, "up")
            .of(LONG_LINK, "down")
            .at_least(0.9, None),
        row("small p99 beside bulk, same agent")
            .own("without the bulk")
            .of(BESIDE, "p99 beside / alone")
            .at_most(2.0, None),
        Row::new("10,000 listeners: start", "10,000 listeners", "")
            .own("seconds")
            .of(LISTENERS, "start")
            .at_most(2.0, None),
        Row::new(
            "10,000 listeners: accept rate",
            "10,000 listeners",
            "1 listener",
        )
        .of(LISTENERS, "rate")
        .at_least(0.95, None),
    ]
}

/// Every row with what was found.
pub fn found(report: &Report) -> Vec<Found> {
    rows().into_iter().map(|row| look(report, row)).collect()
}

fn look(report: &Report, row: Row) -> Found {
    let mut joined: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for (section, column) in &row.parts {
        let rounds = match row.base {
            Base::Target(base) => report.ratios(section, column, row.ours, base),
            Base::Own => report
                .rounds(section, column, row.ours)
                .cloned()
                .unwrap_or_default(),
        };
        for (round, value) in rounds {
            joined.entry(round).or_default().push(value);
        }
    }
    // A round that lacks a part would be another figure.
    let whole = joined
        .values()
        .filter(|values| values.len() == row.parts.len());
    let means: Vec<f64> = whole
        .map(|values| {
            let logarithms: f64 = values.iter().map(|value| value.ln()).sum();
            (logarithms / values.len() as f64).exp()
        })
        .collect();
    let why = row.parts.iter().find_map(|(section, _)| {
        let base = match row.base {
            Base::Target(base) => report.failure(section, base),
            Base::Own => None,
        };
        let why = report.failure(section, row.ours).or(base);
        why.map(str::to_owned)
    });
    let why = why.or_else(|| match row.base {
        Base::Target(base) => peers::missing(base),
        Base::Own => None,
    });
    Found {
        spread: Spread::of(&means),
        why,
        row,
    }
}

impl Found {
    fn met(&self) -> Option<bool> {
        let median = self.spread?.median;
        Some(if self.row.least {
            median >= self.row.bound
        } else {
            median <= self.row.bound
        })
    }

    /// Rows without a value and without a reason for that were not asked for.
    fn is_of_this_run(&self) -> bool {
        self.spread.is_some() || self.why.is_some()
    }

    fn verdict(&self) -> String {
        match self.met() {
            Some(true) => "met".to_owned(),
            Some(false) => "**not met**".to_owned(),
            None => {
                let why = self.why.as_deref().unwrap_or("not in this run");
                format!("not measured: {}", why.replace('|', "/"))
            }
        }
    }

    fn line(&self, report: &Report) -> String {
        let row = &self.row;
        let sign = if row.least { "≥" } else { "≤" };
        let prototype = row.prototype.map_or_else(|| "–".to_owned(), number);
        let found = self.spread.map_or_else(|| "–".to_owned(), |s| s.text());
        format!(
            "| {} | {} | {sign} {} | {prototype} | {} | {found} | {} | {} |",
            row.what,
            row.against,
            number(row.bound),
            if row.is_gate() { "gate" } else { "goal" },
            self.parts(report),
            self.verdict(),
        )
    }

    /// The median of each part's ratios, where a row joins several.
    fn parts(&self, report: &Report) -> String {
        let Base::Target(base) = self.row.base else {
            return "–".to_owned();
        };
        let parts = self.row.parts.iter().filter(|_| self.row.parts.len() > 1);
        let texts: Vec<String> = parts
            .filter_map(|(section, column)| {
                let ratios = report.ratios(section, column, self.row.ours, base);
                let spread = Spread::of(&ratios.into_values().collect::<Vec<_>>())?;
                let (_, name) = section.split_once(", ").unwrap_or(("", section));
                let name = if section == LONG_LINK { *column } else { name };
                Some(format!("{name} {}", number(spread.median)))
            })
            .collect();
        if texts.is_empty() {
            return "–".to_owned();
        }
        texts.join(", ")
    }

    /// For machines.
    pub fn json(&self) -> Value {
        json!({
            "what": self.row.what, "ours": self.row.ours, "against": self.row.against,
            "least": self.row.least, "bound": self.row.bound, "prototype": self.row.prototype,
            "kind": if self.row.is_gate() { "gate" } else { "goal" },
            "median": self.spread.map(|s| s.median),
            "min": self.spread.map(|s| s.low), "max": self.spread.map(|s| s.high),
            "met": self.met(), "why": self.why,
        })
    }
}

/// The table.
pub fn table(found: &[Found], report: &Report) -> String {
    let mut text = String::from(
        "| | against | to reach | prototype | kind | parts | measured | |\n|---|---|---|---|---|---|---|---|\n",
    );
    for row in found.iter().filter(|row| row.is_of_this_run()) {
        text.push_str(&row.line(report));
        text.push('\n');
    }
    let met = found.iter().filter(|row| row.met() == Some(true)).count();
    let measured = found.iter().filter(|row| row.met().is_some()).count();
    text.push_str(&format!(
        "\n{met} of the {measured} rows that were measured are met; there are {} in all.\n",
        found.len()
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Column;

    #[test]
    fn every_row_has_parts() {
        for row in rows() {
            assert!(!row.parts.is_empty(), "{}", row.what);
        }
    }

    #[test]
    fn a_row_is_met_by_the_median_of_its_rounds() {
        let mut report = Report::default();
        let rate = Column::higher("rate", "1/s");
        for (round, ours) in [(1, 0.5), (2, 1.2), (3, 1.1)] {
            report.add(CONNECTIONS_64, rate, "server", round, ours);
            report.add(CONNECTIONS_64, rate, "haproxy", round, 1.0);
        }
        let row = Row::new("x", "server", "haproxy").of(CONNECTIONS_64, "rate");
        assert_eq!(look(&report, row.at_least(1.0, 1.0)).met(), Some(true));
        let row = Row::new("x", "server", "haproxy").of(CONNECTIONS_64, "rate");
        assert_eq!(look(&report, row.at_most(1.0, 1.0)).met(), Some(false));
        let row = Row::new("x", "server", "nginx").of(CONNECTIONS_64, "rate");
        assert_eq!(look(&report, row.at_least(1.0, 1.0)).met(), None);
    }

    #[test]
    fn bounds_beyond_the_prototype_are_goals() {
        let row = || Row::new("x", "server", "haproxy");
        assert!(row().at_least(1.0, 1.2).is_gate());
        assert!(!row().at_least(1.2, 1.0).is_gate());
        assert!(row().at_most(1.2, 1.0).is_gate());
        assert!(!row().at_most(1.0, 1.2).is_gate());
    }
}
