//! Reads a raw document key by key, collecting every problem with its path instead of stopping at
//! the first.
//!
//! Must never: quote a value that may be a secret.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use portcullis_model::Secret;
use serde_json::{Map, Value};

/// Problems found so far, each as `path: what is wrong`.
#[derive(Debug, Default)]
pub(crate) struct Problems(RefCell<Vec<String>>);

impl Problems {
    pub(crate) fn add(&self, path: &str, what: impl Display) {
        self.0.borrow_mut().push(format!("{path}: {what}"));
    }

    pub(crate) fn into_list(self) -> Vec<String> {
        self.0.into_inner()
    }
}

/// One map of the document. [`finish`](Self::finish) reports what nobody asked for.
pub(crate) struct Section<'a> {
    path: String,
    map: Option<&'a Map<String, Value>>,
    known: RefCell<BTreeSet<&'static str>>,
    problems: &'a Problems,
}

impl<'a> Section<'a> {
    /// Reads `value` as a map; null is an empty one.
    pub(crate) fn new(value: &'a Value, path: impl Into<String>, problems: &'a Problems) -> Self {
        let path = path.into();
        let map = match value {
            Value::Object(map) => Some(map),
            Value::Null => None,
            other => {
                let shown = if path.is_empty() {
                    "the document"
                } else {
                    &path
                };
                problems.add(
                    shown,
                    format_args!("must be a map of keys and values, is {}", kind(other)),
                );
                None
            }
        };
        Self {
            path,
            map,
            known: RefCell::default(),
            problems,
        }
    }

    /// The path of a key, as problems print it.
    pub(crate) fn at(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// The path of the map itself.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Reports a problem with a key.
    pub(crate) fn problem(&self, key: &str, what: impl Display) {
        self.problems.add(&self.at(key), what);
    }

    /// The raw value; null counts as absent.
    pub(crate) fn value(&self, key: &'static str) -> Option<&'a Value> {
        self.known.borrow_mut().insert(key);
        self.map?.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key is there at all, without marking it as known.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.is_some_and(|map| map.contains_key(key))
    }

    fn wrong<T>(&self, key: &str, wanted: &str, found: &Value) -> Option<T> {
        self.problem(key, format_args!("must be {wanted}, is {}", kind(found)));
        None
    }

    /// A text.
    pub(crate) fn text(&self, key: &'static str) -> Option<String> {
        match self.value(key)? {
            Value::String(text) => Some(text.clone()),
            other => self.wrong(key, "a text (put it in quotes)", other),
        }
    }

    /// A text of at most `max` bytes.
    pub(crate) fn text_within(&self, key: &'static str, max: usize) -> Option<String> {
        let text = self.text(key)?;
        if text.len() > max {
            self.problem(
                key,
                format_args!("has {} bytes; at most {max} are possible", text.len()),
            );
            return None;
        }
        Some(text)
    }

    /// A text or a number, as text: `5432` and `localhost:5432`.
    pub(crate) fn text_or_number(&self, key: &'static str) -> Option<String> {
        match self.value(key)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            other => self.wrong(key, "a text or a number", other),
        }
    }

    /// A text that is never quoted in a problem.
    pub(crate) fn secret(&self, key: &'static str) -> Option<Secret> {
        self.text(key)
            .filter(|text| !text.is_empty())
            .map(Secret::new)
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, key: &'static str) -> Option<bool> {
        match self.value(key)? {
            Value::Bool(flag) => Some(*flag),
            other => self.wrong(key, "true or false", other),
        }
    }

    /// A whole number within a range.
    pub(crate) fn number(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.value(key)?;
        let number = value.as_u64().filter(|number| range.contains(number));
        if number.is_none() {
            let (from, to) = (range.start(), range.end());
            self.problem(
                key,
                format_args!("must be a whole number from {from} to {to}"),
            );
        }
        number
    }

    /// A duration such as `10s` or `1m 30s`, within a range.
    pub(crate) fn duration(
        &self,
        key: &'static str,
        range: &RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let text = match self.value(key)? {
            Value::String(text) => text,
            Value::Number(number) if number.as_u64() == Some(0) => "0s",
            other => return self.wrong(key, "a duration such as 10s", other),
        };
        let Ok(duration) = humantime::parse_duration(text) else {
            self.problem(
                key,
                format_args!(
                    "`{}` is not a duration; write it as 500ms, 10s, 5m or 1h",
                    cut(text)
                ),
            );
            return None;
        };
        if !range.contains(&duration) {
            let (from, to) = (
                humantime::format_duration(*range.start()),
                humantime::format_duration(*range.end()),
            );
            self.problem(
                key,
                format_args!("must be within {from} and {to}, is {text}"),
            );
            return None;
        }
        Some(duration)
    }

    /// One of a few words; `true` and `false` in the document are words too.
    pub(crate) fn word<T: Clone>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let value = self.value(key)?;
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Bool(flag) => flag.to_string(),
            Value::Number(number) => number.to_string(),
            other => return self.wrong(key, "a word", other),
        };
        if let Some((_, found)) = words.iter().find(|(word, _)| *word == text) {
            return Some(found.clone());
        }
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.problem(
            key,
            format_args!("`{}` is not one of {}", cut(&text), all.join(", ")),
        );
        None
    }

    /// A list of texts.
    pub(crate) fn texts(&self, key: &'static str) -> Vec<String> {
        let mut texts = Vec::new();
        for (path, value) in self.items(key) {
            match value {
                Value::String(text) => texts.push(text.clone()),
                other => self
                    .problems
                    .add(&path, format_args!("must be a text, is {}", kind(other))),
            }
        }
        texts
    }

    /// The values of a list, each with its path.
    fn items(&self, key: &'static str) -> Vec<(String, &'a Value)> {
        match self.value(key) {
            None => Vec::new(),
            Some(Value::Array(list)) => list
                .iter()
                .enumerate()
                .map(|(at, value)| (format!("{}[{at}]", self.at(key)), value))
                .collect(),
            Some(other) => {
                self.problem(key, format_args!("must be a list, is {}", kind(other)));
                Vec::new()
            }
        }
    }

    /// The map under a key, if there is one.
    pub(crate) fn child(&self, key: &'static str) -> Option<Self> {
        let value = self.value(key)?;
        Some(Section::new(value, self.at(key), self.problems))
    }

    /// The maps of a list.
    pub(crate) fn children(&self, key: &'static str) -> Vec<Self> {
        let items = self.items(key);
        items
            .into_iter()
            .map(|(path, value)| Section::new(value, path, self.problems))
            .collect()
    }

    /// The maps of a map, with their names.
    pub(crate) fn named_children(&self, key: &'static str) -> Vec<(String, Self)> {
        let Some(child) = self.child(key) else {
            return Vec::new();
        };
        let entries = child.map.into_iter().flatten();
        entries
            .map(|(name, value)| {
                (
                    name.clone(),
                    Section::new(value, child.at(name), self.problems),
                )
            })
            .collect()
    }

    /// Reports every key that was never asked for, with the nearest known one or its new name.
    pub(crate) fn finish(self, renamed: &[(&str, &str)]) {
        let known = self.known.borrow();
        for key in self.map.into_iter().flatten().map(|(key, _)| key) {
            if known.contains(key.as_str()) {
                continue;
            }
            let shown = cut(key);
            if let Some((_, new)) = renamed.iter().find(|(old, _)| old == key) {
                self.problem(&shown, format_args!("is called `{new}` here"));
            } else if let Some(near) = nearest(key, &known) {
                self.problem(
                    &shown,
                    format_args!("unknown field; did you mean `{near}`?"),
                );
            } else {
                let all: Vec<&str> = known.iter().copied().collect();
                self.problem(
                    &shown,
                    format_args!("unknown field; known are {}", all.join(", ")),
                );
            }
        }
    }
}

/// At most forty characters of a text, for messages.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// The known key that differs least, if it differs by at most two letters.
fn nearest<'k>(key: &str, known: &BTreeSet<&'k str>) -> Option<&'k str> {
    let scored = known
        .iter()
        .map(|candidate| (distance(key, candidate), *candidate));
    scored
        .filter(|(score, _)| *score <= 2)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance; long keys are far from everything.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 64 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_problem_is_reported_with_its_path() {
        let document =
            json!({"name": 1, "flag": "maybe", "wait": "soon", "colour": "red", "lst": []});
        let problems = Problems::default();
        let section = Section::new(&document, "top", &problems);
        assert_eq!(section.text("name"), None);
        assert_eq!(section.flag("flag"), None);
        assert_eq!(
            section.duration("wait", &(Duration::ZERO..=Duration::MAX)),
            None
        );
        assert!(section.texts("list").is_empty());
        section.finish(&[("colour", "color")]);
        let mut found = problems.into_list();
        found.sort();
        assert_eq!(
            found,
            [
                "top.colour: is called `color` here",
                "top.flag: must be true or false, is a text",
                "top.lst: unknown field; did you mean `list`?",
                "top.name: must be a text (put it in quotes), is a number",
                "top.wait: `soon` is not a duration; write it as 500ms, 10s, 5m or 1h",
            ]
        );
    }
}
