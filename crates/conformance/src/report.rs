//! What a run saw: as a table for people, as JSON for programs.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::verdict::Verdict;

/// What one case saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseReport {
    /// Stable name, such as `half-close-client`.
    pub name: String,
    /// What about TCP it is about.
    pub group: String,
    /// Why users rely on it, in one line.
    pub rationale: String,
    /// How it ended.
    pub verdict: Verdict,
    /// A figure, what was seen instead, or why it says nothing.
    pub detail: String,
    /// How long it took.
    pub seconds: f64,
}

/// One line of the table.
impl fmt::Display for CaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            verdict,
            detail,
            seconds,
            ..
        } = self;
        write!(f, "{verdict:<4}  {name:<32} {seconds:>6.2} s")?;
        match detail.is_empty() {
            true => Ok(()),
            false => write!(f, "  {detail}"),
        }
    }
}

/// What a run saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the proxy.
    pub name: String,
    /// Its version, where it was given.
    pub version: String,
    /// Whether sizes and counts were the small ones.
    pub quick: bool,
    /// The proxy's idle limit in seconds, where it was given.
    pub idle_limit: Option<f64>,
    /// Cases in the order in which they ran.
    pub cases: Vec<CaseReport>,
}

impl Report {
    /// Names of the cases that ended so.
    pub fn names(&self, verdict: Verdict) -> Vec<&str> {
        self.cases
            .iter()
            .filter(|case| case.verdict == verdict)
            .map(|case| case.name.as_str())
            .collect()
    }

    /// Whether no case failed.
    pub fn passed(&self) -> bool {
        self.names(Verdict::Fail).is_empty()
    }

    /// The last line of the table: counts of each verdict.
    pub fn summary(&self) -> String {
        let count = |verdict| self.names(verdict).len();
        let time: f64 = self.cases.iter().map(|case| case.seconds).sum();
        format!(
            "{}: {} pass, {} fail, {} n/a in {:.1?}",
            self.name,
            count(Verdict::Pass),
            count(Verdict::Fail),
            count(Verdict::NotApplicable),
            Duration::from_secs_f64(time)
        )
    }

    /// The whole as a table with one line a case.
    pub fn table(&self) -> String {
        let mut table = String::new();
        for case in &self.cases {
            table.push_str(&format!("{case}\n"));
        }
        table.push_str(&self.summary());
        table.push('\n');
        table
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn report(name: &str, verdicts: &[(&str, Verdict, &str)]) -> Report {
        let case = |(name, verdict, detail): &(&str, Verdict, &str)| CaseReport {
            name: (*name).to_owned(),
            group: "group".to_owned(),
            rationale: "why".to_owned(),
            verdict: *verdict,
            detail: (*detail).to_owned(),
            seconds: 0.5,
        };
        Report {
            name: name.to_owned(),
            version: "1.0".to_owned(),
            quick: true,
            idle_limit: None,
            cases: verdicts.iter().map(case).collect(),
        }
    }

    #[test]
    fn the_table_names_each_case_and_counts_them() {
        let report = report(
            "x",
            &[
                ("a", Verdict::Pass, ""),
                ("b", Verdict::Fail, "saw nothing"),
                ("c", Verdict::NotApplicable, "kernel"),
            ],
        );
        assert!(!report.passed());
        let table = report.table();
        assert!(table.contains("saw nothing"), "{table}");
        assert!(
            table.ends_with("x: 1 pass, 1 fail, 1 n/a in 1.5s\n"),
            "{table}"
        );
    }

    #[test]
    fn json_comes_back_the_same() {
        let report = report("x", &[("a", Verdict::NotApplicable, "why")]);
        let json = serde_json::to_string(&report).expect("plain data");
        assert!(json.contains("\"not-applicable\""), "{json}");
        assert_eq!(
            serde_json::from_str::<Report>(&json).expect("the same"),
            report
        );
    }
}
