//! Many reports as one Markdown table: a row a case, a column a program.

use crate::report::Report;
use crate::verdict::Verdict;

/// What stands above the table.
const HEAD: &str = "\
# What TCP proxies keep of TCP

Written by `make conformance` from real runs of `portcullis-conformance`; don't edit. How to run it against any
proxy: [README](README.md). **direct** is the suite without a proxy, the baseline.

";

/// The reports side by side, with notes on all that did not pass. `missing` are the programs that could
/// not be run, each with its reason.
pub fn markdown(reports: &[Report], missing: &[String]) -> String {
    let mut out = HEAD.to_owned();
    out.push_str(&programs(reports));
    if !missing.is_empty() {
        out.push_str(&format!("Not run: {}.\n\n", cell(&missing.join("; "))));
    }
    out.push_str(&table(reports));
    out.push_str(&what_fails(reports));
    out.push_str(&not_applicable(reports));
    out.push_str(&cases(reports));
    out
}

fn programs(reports: &[Report]) -> String {
    let mut out =
        "## Programs\n\n| column | version | pass | fail | n/a | idle limit |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for report in reports {
        let count = |verdict| report.names(verdict).len();
        let idle = report
            .idle_limit
            .map_or_else(|| "–".to_owned(), |seconds| format!("{seconds} s"));
        out.push_str(&format!(
            "| {} | {} | {} | {} | {} | {idle} |\n",
            cell(&report.name),
            cell(&report.version),
            count(Verdict::Pass),
            count(Verdict::Fail),
            count(Verdict::NotApplicable),
        ));
    }
    out.push('\n');
    out
}

fn table(reports: &[Report]) -> String {
    let mut out = "## Results\n\n| case |".to_owned();
    for report in reports {
        out.push_str(&format!(" {} |", cell(&report.name)));
    }
    out.push_str("\n|---|");
    out.push_str(&"---|".repeat(reports.len()));
    out.push('\n');
    for (_, name, _) in rows(reports) {
        out.push_str(&format!("| {name} |"));
        for report in reports {
            let verdict = report.cases.iter().find(|case| case.name == name);
            out.push_str(match verdict.map(|case| case.verdict) {
                Some(Verdict::Pass) => " pass |",
                Some(Verdict::Fail) => " **fail** |",
                Some(Verdict::NotApplicable) => " n/a |",
                None => " – |",
            });
        }
        out.push('\n');
    }
    out.push('\n');
    out
}

fn what_fails(reports: &[Report]) -> String {
    let mut out = "## What was seen where a case failed\n\n".to_owned();
    let before = out.len();
    for report in reports {
        let failed = report
            .cases
            .iter()
            .filter(|case| case.verdict == Verdict::Fail);
        let lines: Vec<_> = failed
            .map(|case| format!("- {}: {}\n", case.name, cell(&case.detail)))
            .collect();
        if !lines.is_empty() {
            out.push_str(&format!("**{}**\n{}\n", cell(&report.name), lines.concat()));
        }
    }
    if out.len() == before {
        out.push_str("Nothing failed.\n\n");
    }
    out
}

/// Reasons, each once, with the cases and programs that share it.
fn not_applicable(reports: &[Report]) -> String {
    let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
    for report in reports {
        for case in &report.cases {
            if case.verdict != Verdict::NotApplicable {
                continue;
            }
            // What the control saw differs by a few bytes from run to run.
            let reason = case.detail.split(" (without a proxy").next();
            let reason = format!("{}: {}", case.name, cell(reason.unwrap_or_default()));
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, names)) => names.push(report.name.clone()),
                None => reasons.push((reason, vec![report.name.clone()])),
            }
        }
    }
    let mut out = "## Where a case says nothing\n\n".to_owned();
    for (reason, names) in reasons {
        let who = match names.len() == reports.len() {
            true => "all".to_owned(),
            false => names.join(", "),
        };
        out.push_str(&format!("- {reason} ({})\n", cell(&who)));
    }
    out.push('\n');
    out
}

fn cases(reports: &[Report]) -> String {
    let mut out = "## The cases\n\n| about | case | why |\n|---|---|---|\n".to_owned();
    for (group, name, rationale) in rows(reports) {
        out.push_str(&format!("| {group} | {name} | {} |\n", cell(&rationale)));
    }
    out
}

/// Group, name and rationale of all cases, in the order of the first report that has each.
fn rows(reports: &[Report]) -> Vec<(String, String, String)> {
    let mut rows: Vec<(String, String, String)> = Vec::new();
    for case in reports.iter().flat_map(|report| &report.cases) {
        if !rows.iter().any(|(_, name, _)| *name == case.name) {
            rows.push((
                case.group.clone(),
                case.name.clone(),
                case.rationale.clone(),
            ));
        }
    }
    rows
}

/// Text that is safe inside a cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn a_row_a_case_and_a_column_a_program() {
        let one = report(
            "direct",
            &[
                ("a", Verdict::Pass, ""),
                (
                    "b",
                    Verdict::NotApplicable,
                    "kernel: x (without a proxy: y)",
                ),
            ],
        );
        let two = report(
            "other",
            &[
                ("a", Verdict::Fail, "saw | nothing"),
                (
                    "b",
                    Verdict::NotApplicable,
                    "kernel: x (without a proxy: z)",
                ),
            ],
        );
        let text = markdown(&[one, two], &["third: not there".to_owned()]);
        assert!(text.contains("| a | pass | **fail** |"), "{text}");
        assert!(text.contains("Not run: third: not there."), "{text}");
        assert!(text.contains("- a: saw \\| nothing"), "{text}");
        assert!(text.contains("- b: kernel: x (all)"), "{text}");
        assert!(text.contains("| other | 1.0 | 0 | 1 | 1 | – |"), "{text}");
    }
}
