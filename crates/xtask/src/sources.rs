//! Rules that a scan of the sources can prove: headers, purity, unsafe, sleeps.

use crate::tree::Source;

/// What pure crates must not name, with the reason.
const IMPURE: &[(&str, &str)] = &[
    ("Instant::now", "reads a clock"),
    ("SystemTime::now", "reads a clock"),
    ("Timestamp::now", "reads a clock"),
    ("std::fs", "does I/O"),
    ("std::net::TcpStream", "does I/O"),
    ("std::env::var", "reads the environment"),
    ("tokio::", "needs a runtime"),
    ("getrandom", "draws randomness"),
];

/// Crates that must stay pure.
const PURE: &[&str] = &["model", "policy", "proto"];

/// What breaks the rules.
pub(crate) fn check(files: &[Source]) -> Vec<String> {
    files.iter().flat_map(check_file).collect()
}

fn check_file(file: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    if !file.text.trim_start().starts_with("//!") {
        problems.push(format!(
            "{} opens without `//!`: say what it is, owns and must never do",
            file.path
        ));
    }
    let product = file.product();
    if PURE.contains(&file.krate()) && !file.is_test() {
        for (name, reason) in IMPURE {
            for line in code_lines(product).filter(|line| line.contains(name)) {
                problems.push(format!(
                    "{}: `{}` {reason}; pass it in ({})",
                    file.path,
                    name,
                    line.trim()
                ));
            }
        }
    }
    problems.extend(check_unsafe(file, product));
    if file.krate() == "e2e" && file.path.contains("/tests/") {
        for line in code_lines(&file.text).filter(|line| line.contains("::sleep(")) {
            problems.push(format!(
                "{}: a test waits on a state, not on time: {}",
                file.path,
                line.trim()
            ));
        }
    }
    problems
}

/// `unsafe` stands in `net` and in test harnesses, each block under a `// SAFETY:`.
fn check_unsafe(file: &Source, product: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let lines: Vec<&str> = product.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let opens = ["{", "impl ", "fn "]
            .iter()
            .any(|what| code.contains(&["unsafe", what].join(" ")));
        if !opens {
            continue;
        }
        if file.krate() != "net" && !file.is_test() {
            problems.push(format!(
                "{}:{}: unsafe stands only in net",
                file.path,
                at + 1
            ));
        }
        let near = &lines[at.saturating_sub(6)..=at];
        if !near.iter().any(|line| line.contains("SAFETY:")) {
            problems.push(format!(
                "{}:{}: unsafe without `// SAFETY:` above it",
                file.path,
                at + 1
            ));
        }
    }
    problems
}

fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}
