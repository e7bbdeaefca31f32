//! Sizes: files of at most 800 lines without tests, functions of at most 70. Those that are over
//! stand in `crates/xtask/ratchet.txt`; the list only shrinks.

use std::collections::BTreeMap;
use std::path::Path;

use crate::tree::Source;

/// Lines of a file without its tests.
const FILE_LINES_MAX: usize = 800;
/// Lines of a function.
const FUNCTION_LINES_MAX: usize = 70;
/// Tables that may be long, by name.
const TABLES: &[&str] = &["crates/model/src/errors.rs"];

/// What is over the limits and not in the list, or in the list with less.
pub(crate) fn check(root: &Path, files: &[Source], shrink: bool) -> anyhow::Result<Vec<String>> {
    let found = measure(files);
    let path = root.join("crates/xtask/ratchet.txt");
    let listed = read(&std::fs::read_to_string(&path).unwrap_or_default());
    if shrink {
        let kept: String = found
            .iter()
            .filter_map(|(name, lines)| Some(format!("{name} {}\n", lines.min(listed.get(name)?))))
            .collect();
        std::fs::write(&path, kept)?;
    }
    let mut problems: Vec<String> = found
        .iter()
        .filter(|(name, lines)| listed.get(*name).is_none_or(|most| *lines > most))
        .map(|(name, lines)| {
            format!("{name} has {lines} lines; find its second subject and split it")
        })
        .collect();
    problems.extend(listed.keys().filter(|name| !found.contains_key(*name)).map(|name| {
        format!("{name} is within the limits now; take it off crates/xtask/ratchet.txt (tidy --shrink)")
    }));
    Ok(problems)
}

fn read(list: &str) -> BTreeMap<String, usize> {
    list.lines()
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, lines)| Some((name.to_owned(), lines.parse().ok()?)))
        .collect()
}

fn measure(files: &[Source]) -> BTreeMap<String, usize> {
    let mut over = BTreeMap::new();
    for file in files
        .iter()
        .filter(|file| !TABLES.contains(&file.path.as_str()))
    {
        let lines = if file.is_test() {
            file.text.lines().count()
        } else {
            file.product().lines().count()
        };
        if lines > FILE_LINES_MAX {
            over.insert(file.path.clone(), lines);
        }
        if !file.is_test() {
            for (name, length) in functions(file.product()) {
                if length > FUNCTION_LINES_MAX {
                    over.insert(format!("{}::{name}", file.path), length);
                }
            }
        }
    }
    over
}

/// Functions and their lengths, by the indentation that rustfmt gives: a function ends at the first
/// closing brace that stands as deep as its `fn`.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let closing = format!("{}}}", " ".repeat(indent));
        let end = lines[at..].iter().position(|line| {
            *line == closing
                || line.ends_with(';') && line.len() - line.trim_start().len() == indent
        });
        if let Some(length) = end {
            found.push((name, length + 1));
        }
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let code = line.trim_start();
    let head = code.find("fn ")?;
    let before = &code[..head];
    let words = [
        "",
        "pub ",
        "async ",
        "const ",
        "pub async ",
        "pub const ",
        "unsafe ",
        "pub unsafe ",
    ];
    let scoped = before
        .strip_prefix("pub(crate) ")
        .or_else(|| before.strip_prefix("pub(super) "))
        .unwrap_or(before);
    if !words.contains(&scoped) {
        return None;
    }
    let name: String = code[head + 3..]
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured() {
        let text =
            "fn a() {\n    1\n}\n\nimpl X {\n    pub(crate) async fn b() {\n        2\n    }\n}\n";
        assert_eq!(functions(text), [("a".to_owned(), 3), ("b".to_owned(), 3)]);
    }
}
