//! Values of configs: texts, expressions, numbers, durations, trees of values.

use std::time::Duration;

use portcullis_model::Code;
use serde_json::Value;

use super::Reading;
use super::fields::Fields;
use crate::cel::{Expr, Fault, Reads, Template};
use crate::decide::Tree;
use crate::document::{Node, quoted};

/// Opens a config that must be there; `example` says what it is like.
pub(super) fn config(
    path: &str,
    node: Node,
    what: (&'static str, &'static str),
    needs: &str,
    reading: &mut Reading,
) -> Option<Fields> {
    let (action, described) = what;
    if matches!(node, Node::Null) {
        let message = format!("{action} needs a config with {needs}");
        reading.problems.add(Code::PolicyConfig, path, message);
        return None;
    }
    Fields::open(
        node,
        path,
        described,
        Code::PolicyConfig,
        &mut reading.problems,
    )
}

/// Text; `expected` says of what kind, as in "the URL of an internal endpoint".
pub(super) fn text(
    path: &str,
    node: Node,
    expected: &str,
    reading: &mut Reading,
) -> Option<String> {
    match node {
        Node::Text(text) => Some(text),
        other => wrong(path, &other, expected, reading),
    }
}

/// `true` or `false`; `absent` where there is nothing.
pub(super) fn boolean(
    path: &str,
    node: Option<Node>,
    absent: bool,
    reading: &mut Reading,
) -> Option<bool> {
    match node {
        None | Some(Node::Null) => Some(absent),
        Some(Node::Bool(value)) => Some(value),
        Some(other) => wrong(path, &other, "`true` or `false`", reading),
    }
}

/// A whole number within bounds.
pub(super) fn whole(
    path: &str,
    node: &Node,
    (least, most): (u32, u32),
    reading: &mut Reading,
) -> Option<u32> {
    let number = match node {
        Node::Number(number) => number.as_u64().and_then(|n| u32::try_from(n).ok()),
        _ => None,
    };
    let number = number.filter(|number| (least..=most).contains(number));
    if number.is_none() {
        let expected = format!("a whole number from {least} to {most}");
        wrong::<u32>(path, node, &expected, reading);
    }
    number
}

/// A duration such as `90s`, within bounds.
pub(super) fn duration(
    path: &str,
    node: &Node,
    (least, most): (Duration, Duration),
    reading: &mut Reading,
) -> Option<Duration> {
    let read = match node {
        Node::Text(text) => parse_duration(text),
        // Without a unit only nothing is clear.
        Node::Number(number) if number.as_u64() == Some(0) => Some(Duration::ZERO),
        _ => None,
    };
    let Some(read) = read else {
        return wrong(
            path,
            node,
            "a duration such as `90s`, `5m` or `1h30m`",
            reading,
        );
    };
    if read < least || read > most {
        let message = format!(
            "{} is out of bounds; from {least:?} to {most:?} is possible",
            node.what()
        );
        reading.problems.add(Code::PolicyConfig, path, message);
        return None;
    }
    Some(read)
}

/// `1h30m`, `90s`, `250ms`, `0`: whole numbers, each unit once, the largest first.
fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 5] = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut millis: u64 = 0;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let letters = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let (_, worth) = units.find(|(name, _)| *name == unit)?;
        let part = number.parse::<u64>().ok()?.checked_mul(*worth)?;
        millis = millis.checked_add(part)?;
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::from_millis(millis))
}

/// An expression. `code` is that of a value that is no text.
pub(super) fn expr(path: &str, node: Node, code: Code, reading: &mut Reading) -> Option<Expr> {
    let text = match node {
        Node::Text(text) => text,
        other => {
            let message = format!(
                "an expression in quotes is expected, and this is {}",
                other.what()
            );
            reading.problems.add(code, path, message);
            return None;
        }
    };
    match Expr::compile(&text) {
        Ok(expr) => is_possible(path, expr.reads(), reading).then_some(expr),
        Err(fault) => refuse(path, fault, reading),
    }
}

/// The key of a limit. The outer `None` is a problem, the inner one that there is none.
pub(super) fn key(path: &str, node: Option<Node>, reading: &mut Reading) -> Option<Option<Expr>> {
    match node {
        None | Some(Node::Null) => Some(None),
        Some(node) => expr(&format!("{path}.key"), node, Code::PolicyConfig, reading).map(Some),
    }
}

/// Text with `${…}`.
pub(super) fn template(path: &str, text: &str, reading: &mut Reading) -> Option<Template> {
    match Template::compile(text) {
        Ok(template) => {
            let reads = template.reads();
            let is_possible = is_possible(path, &reads, reading);
            reading.flows.text(path, reads);
            is_possible.then_some(template)
        }
        Err(fault) => refuse(path, fault, reading),
    }
}

/// Any value, with `${…}` in its texts.
pub(super) fn tree(path: &str, node: Node, reading: &mut Reading) -> Option<Tree> {
    match node {
        Node::Null => Some(Tree::Value(Value::Null)),
        Node::Bool(value) => Some(Tree::Value(value.into())),
        Node::Number(number) => Some(Tree::Value(Value::Number(number))),
        Node::Text(text) => {
            template(path, &text, reading).map(|template| match template.literal() {
                Some(literal) => Tree::Value(literal.into()),
                None => Tree::Text(template),
            })
        }
        Node::List(items) => {
            let items: Vec<Option<Tree>> = items
                .into_iter()
                .enumerate()
                .map(|(place, item)| tree(&format!("{path}[{place}]"), item, reading))
                .collect();
            items.into_iter().collect::<Option<_>>().map(Tree::List)
        }
        Node::Map(entries) => {
            let entries: Vec<Option<(String, Tree)>> = entries
                .into_iter()
                .map(|(key, value)| {
                    let shown = if is_name(&key, 64) {
                        key.clone()
                    } else {
                        quoted(&key)
                    };
                    let value = tree(&format!("{path}.{shown}"), value, reading)?;
                    Some((key, value))
                })
                .collect();
            entries.into_iter().collect::<Option<_>>().map(Tree::Map)
        }
    }
}

/// Whether what is named exists where the reading is, and what is compared is of one type.
fn is_possible(path: &str, reads: &Reads, reading: &mut Reading) -> bool {
    if let Some(why) = &reads.mismatch {
        reading
            .problems
            .add(Code::PolicyExpressions, path, why.clone());
    }
    let known = !reads.request || reading.http;
    if !known {
        let message = "`req` is known only under `on_http_request`; move the rule there".to_owned();
        reading.problems.add(Code::PolicyExpressions, path, message);
    }
    known && reads.mismatch.is_none()
}

fn refuse<T>(path: &str, fault: Fault, reading: &mut Reading) -> Option<T> {
    reading.problems.add(fault.code, path, fault.message);
    None
}

/// A value of another kind than is expected.
pub(super) fn wrong<T>(
    path: &str,
    node: &Node,
    expected: &str,
    reading: &mut Reading,
) -> Option<T> {
    let message = match node {
        Node::Null => format!("{expected} is needed"),
        other => format!("{expected} is expected, and this is {}", other.what()),
    };
    reading.problems.add(Code::PolicyConfig, path, message);
    None
}

/// Refuses keys that ngrok or this server will know, by their names.
pub(super) fn not_yet(path: &str, keys: &[&str], fields: &mut Fields, reading: &mut Reading) {
    for key in keys {
        if fields.take(key).is_some_and(|value| value != Node::Null) {
            let message = "not supported yet; leave it out".to_owned();
            reading
                .problems
                .add(Code::PolicyConfig, &format!("{path}.{key}"), message);
        }
    }
}

/// A name of letters, digits, `_` and `-`.
pub(super) fn is_name(text: &str, chars_max: usize) -> bool {
    !text.is_empty()
        && text.len() <= chars_max
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// Takes a name for what is counted together. A second of the same becomes its place in the document.
pub(super) fn distinct(name: &str, path: &str, reading: &mut Reading) -> String {
    let name = if reading.names.contains(name) {
        path.to_owned()
    } else {
        name.to_owned()
    };
    reading.names.insert(name.clone());
    name
}

/// The name that the user gave to what is counted together; one may be given once.
pub(super) fn given_name(path: &str, node: Node, reading: &mut Reading) -> Option<String> {
    let name = text(path, node, "a name", reading)?;
    let message = if !is_name(&name, 64) {
        format!(
            "{} is no name; use 1 to 64 letters, digits, `-` and `_`",
            quoted(&name)
        )
    } else if reading.names.insert(name.clone()) {
        return Some(name);
    } else {
        format!("the name {} stands twice", quoted(&name))
    };
    reading.problems.add(Code::PolicyConfig, path, message);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_they_are_written() {
        for (text, millis) in [
            ("0", Some(0)),
            ("90s", Some(90_000)),
            ("1h30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("1m500ms", Some(60_500)),
            ("2d", Some(172_800_000)),
            ("", None),
            ("5", None),
            ("s", None),
            ("5x", None),
            ("1m1h", None),
            ("1s1s", None),
            ("-1s", None),
            ("1.5s", None),
            (" 1s", None),
            ("99999999999999999999d", None),
            ("18446744073709551615d", None),
        ] {
            assert_eq!(
                parse_duration(text),
                millis.map(Duration::from_millis),
                "{text}"
            );
        }
    }
}
