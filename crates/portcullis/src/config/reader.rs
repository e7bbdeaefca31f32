//! Reads a YAML document key by key and collects everything that is wrong with it, each with its
//! path. A key that nobody asked for is unknown; a key that was renamed answers with its new name.
//!
//! Must never: stop at the first error, or print a value that may be a secret.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::PathBuf;
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use portcullis_model::{ByteSize, Code, Error};
use serde_json::{Map, Value};

/// Largest document that is read.
const DOCUMENT_BYTES_MAX: usize = 4 << 20;

/// Everything found wrong so far, and every key that was asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings {
    problems: Rc<RefCell<Vec<String>>>,
    keys: Rc<RefCell<BTreeSet<String>>>,
}

impl Findings {
    /// Notes a problem at a path.
    pub(crate) fn problem(&self, path: &str, cause: impl Display) {
        self.problems.borrow_mut().push(format!("{path}: {cause}"));
    }

    /// Every key that was asked for, indexes as `[]` and free names as `NAME`.
    #[cfg(test)]
    pub(crate) fn keys(&self) -> BTreeSet<String> {
        self.keys.borrow().clone()
    }

    /// Whether nothing was wrong.
    ///
    /// # Errors
    /// `PTC_CONFIG_INVALID` with every problem on a line of its own.
    pub(crate) fn verdict(&self, source: &str) -> Result<(), Error> {
        let problems = self.problems.borrow();
        match problems.len() {
            0 => Ok(()),
            1 => Err(Error::new(
                Code::ConfigInvalid,
                format!("{source}: {}", problems[0]),
            )),
            count => {
                let list = problems.join("\n    ");
                Err(Error::new(
                    Code::ConfigInvalid,
                    format!("{source}: {count} errors\n    {list}"),
                ))
            }
        }
    }
}

/// Parses a YAML document into a section; an empty document is an empty section.
///
/// # Errors
/// `PTC_CONFIG_INVALID` when it is not YAML, or no mapping.
pub(crate) fn document(text: &str, source: &str, findings: &Findings) -> Result<Section, Error> {
    if text.len() > DOCUMENT_BYTES_MAX {
        return Err(Error::new(
            Code::ConfigInvalid,
            format!("{source}: larger than {}", ByteSize(4 << 20)),
        ));
    }
    if text
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
    {
        return Ok(Section::new(
            String::new(),
            String::new(),
            Map::new(),
            findings.clone(),
        ));
    }
    match serde_saphyr::from_str::<Value>(text) {
        Ok(Value::Object(map)) => Ok(Section::new(
            String::new(),
            String::new(),
            map,
            findings.clone(),
        )),
        Ok(Value::Null) => Ok(Section::new(
            String::new(),
            String::new(),
            Map::new(),
            findings.clone(),
        )),
        Ok(other) => Err(Error::new(
            Code::ConfigInvalid,
            format!("{source}: expected keys and values, found {}", kind(&other)),
        )),
        Err(error) => Err(Error::new(
            Code::ConfigInvalid,
            format!(
                "{source}: not valid YAML: {}",
                first_line(&error.to_string())
            ),
        )),
    }
}

/// A mapping of the document; keys are taken out of it as they are asked for.
#[derive(Debug)]
pub(crate) struct Section {
    path: String,
    shape: String,
    map: Map<String, Value>,
    known: Vec<&'static str>,
    findings: Findings,
}

impl Section {
    fn new(path: String, shape: String, map: Map<String, Value>, findings: Findings) -> Self {
        Self {
            path,
            shape,
            map,
            known: Vec::new(),
            findings,
        }
    }

    /// The path of a key in this section.
    pub(crate) fn path(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// The path of the section itself, or `what` at the top.
    pub(crate) fn here(&self, what: &str) -> String {
        if self.path.is_empty() {
            what.to_owned()
        } else {
            self.path.clone()
        }
    }

    /// Notes a problem with a key of this section.
    pub(crate) fn problem(&self, key: &str, cause: impl Display) {
        self.findings.problem(&self.path(key), cause);
    }

    /// Notes a problem with the section as a whole.
    pub(crate) fn problem_here(&self, cause: impl Display) {
        self.findings.problem(&self.here("the document"), cause);
    }

    /// Whether a key is present and not null.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(|value| !value.is_null())
    }

    /// Whether a key holds a text.
    pub(crate) fn is_text(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(Value::is_string)
    }

    /// Takes a value as it is.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.findings
            .keys
            .borrow_mut()
            .insert(join(&self.shape, key));
        self.map.remove(key).filter(|value| !value.is_null())
    }

    /// A scalar as text; numbers and booleans are taken as they were written.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<String> {
        match self.take(key)? {
            Value::String(text) => Some(text),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            other => {
                self.problem(key, format!("expected text, found {}", kind(&other)));
                None
            }
        }
    }

    /// A text in a form of its own.
    pub(crate) fn parsed<T: FromStr>(&mut self, key: &'static str) -> Option<T>
    where
        T::Err: Display,
    {
        let text = self.text(key)?;
        match text.trim().parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(key, quoted(&text, &error));
                None
            }
        }
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, key: &'static str) -> Option<bool> {
        match self.take(key)? {
            Value::Bool(flag) => Some(flag),
            other => {
                self.problem(
                    key,
                    format!("expected true or false, found {}", kind(&other)),
                );
                None
            }
        }
    }

    /// A whole number within a range.
    pub(crate) fn number(&mut self, key: &'static str, min: u64, max: u64) -> Option<u64> {
        let value = self.take(key)?;
        match value.as_u64() {
            Some(number) if (min..=max).contains(&number) => Some(number),
            _ => {
                self.problem(
                    key,
                    format!(
                        "expected a whole number from {min} to {max}, found {}",
                        show(&value)
                    ),
                );
                None
            }
        }
    }

    /// A whole number from 1 to the largest `u32`.
    pub(crate) fn count(&mut self, key: &'static str) -> Option<u32> {
        self.number(key, 1, u64::from(u32::MAX))
            .and_then(|number| u32::try_from(number).ok())
    }

    /// A time span such as `5m`, `300s`, `1h 30m`; `0` is never, where that makes sense.
    pub(crate) fn duration(&mut self, key: &'static str) -> Option<Duration> {
        let text = self.text(key)?;
        match duration(&text) {
            Ok(value) => Some(value),
            Err(cause) => {
                self.problem(key, cause);
                None
            }
        }
    }

    /// A number of bytes such as `1MiB`.
    pub(crate) fn size(&mut self, key: &'static str) -> Option<ByteSize> {
        self.parsed(key)
    }

    /// A path of the file system.
    pub(crate) fn file(&mut self, key: &'static str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    /// A list of values with their paths; a single value counts as a list of one.
    pub(crate) fn list(&mut self, key: &'static str) -> Vec<(String, Value)> {
        let path = self.path(key);
        match self.take(key) {
            None => Vec::new(),
            Some(Value::Array(items)) => items
                .into_iter()
                .enumerate()
                .map(|(index, item)| (format!("{path}[{index}]"), item))
                .collect(),
            Some(Value::Object(_)) => {
                self.problem(
                    key,
                    "expected a list, found keys and values; put `- ` in front of the first key",
                );
                Vec::new()
            }
            Some(single) => vec![(path, single)],
        }
    }

    /// A list of texts in a form of their own.
    pub(crate) fn parsed_list<T: FromStr>(&mut self, key: &'static str) -> Vec<T>
    where
        T::Err: Display,
    {
        let mut values = Vec::new();
        for (path, value) in self.list(key) {
            match scalar(&value).map(|text| (text.trim().parse(), text)) {
                Some((Ok(parsed), _)) => values.push(parsed),
                Some((Err(error), text)) => {
                    self.findings.problem(&path, quoted(&text, &error));
                }
                None => self
                    .findings
                    .problem(&path, format!("expected text, found {}", kind(&value))),
            }
        }
        values
    }

    /// A mapping below this one; an absent one is empty.
    pub(crate) fn section(&mut self, key: &'static str) -> Self {
        let (path, shape) = (self.path(key), join(&self.shape, key));
        let map = match self.take(key) {
            None => Map::new(),
            Some(Value::Object(map)) => map,
            Some(other) => {
                self.problem(
                    key,
                    format!("expected keys and values, found {}", kind(&other)),
                );
                Map::new()
            }
        };
        Self::new(path, shape, map, self.findings.clone())
    }

    /// A list of mappings.
    pub(crate) fn sections(&mut self, key: &'static str) -> Vec<Self> {
        let shape = format!("{}[]", join(&self.shape, key));
        let mut sections = Vec::new();
        for (path, value) in self.list(key) {
            match value {
                Value::Object(map) => {
                    sections.push(Self::new(path, shape.clone(), map, self.findings.clone()))
                }
                other => self.findings.problem(
                    &path,
                    format!("expected keys and values, found {}", kind(&other)),
                ),
            }
        }
        sections
    }

    /// A mapping from free names to mappings.
    pub(crate) fn named(&mut self, key: &'static str) -> Vec<(String, Self)> {
        let below = self.section(key);
        let shape = format!("{}.NAME", below.shape);
        let mut sections = Vec::new();
        for (name, value) in below.map {
            let path = join(&below.path, &name);
            match value {
                Value::Object(map) => sections.push((
                    name,
                    Self::new(path, shape.clone(), map, self.findings.clone()),
                )),
                Value::Null => sections.push((
                    name,
                    Self::new(path, shape.clone(), Map::new(), self.findings.clone()),
                )),
                other => self.findings.problem(
                    &path,
                    format!("expected keys and values, found {}", kind(&other)),
                ),
            }
        }
        sections
    }

    /// Answers a key of an earlier release with its name of today.
    pub(crate) fn renamed(&mut self, old: &str, new: &str) {
        if self.map.remove(old).is_some() {
            self.problem(old, format!("this key is now `{new}`"));
        }
    }

    /// Refuses what nobody asked for.
    pub(crate) fn finish(self) {
        for key in self.map.keys() {
            let hint = match nearest(key, &self.known) {
                Some(near) => format!("unknown key; did you mean `{near}`?"),
                None => format!("unknown key; known here: {}", self.known.join(", ")),
            };
            self.findings.problem(&self.path(key), hint);
        }
    }
}

/// Reads a time span; a bare number other than 0 is refused, because its unit would be a guess.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let trimmed = text.trim();
    if trimmed == "0" || trimmed == "never" {
        return Ok(Duration::ZERO);
    }
    if trimmed.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!(
            "`{}` has no unit; write {}s, {}ms or {}m",
            shorten(trimmed),
            trimmed,
            trimmed,
            trimmed
        ));
    }
    humantime::parse_duration(trimmed).map_err(|_| {
        format!(
            "`{}` is not a time span; write one as 300s, 5m or 1h 30m",
            shorten(trimmed)
        )
    })
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "keys and values",
    }
}

fn show(value: &Value) -> String {
    scalar(value).map_or_else(
        || kind(value).to_owned(),
        |text| format!("`{}`", shorten(&text)),
    )
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Characters of a text that every cause repeats that repeats it.
const QUOTED_CHARS: usize = 40;

/// A text and what is wrong with it; some causes begin with the text themselves.
fn quoted(text: &str, cause: &dyn Display) -> String {
    let cause = cause.to_string();
    let begin: String = text.trim().chars().take(QUOTED_CHARS).collect();
    if cause.starts_with(&format!("`{begin}")) {
        return cause;
    }
    format!("`{}`: {cause}", shorten(text))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or(text)
}

/// The known key that differs least from `key`, if one is close.
fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    known
        .iter()
        .copied()
        .map(|near| (distance(key, near), near))
        .filter(|(far, near)| *far <= near.len().div_ceil(3))
        .min()
        .map(|(_, near)| near)
}

/// Edits that turn one text into the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> (Section, Findings) {
        let findings = Findings::default();
        (document(text, "test.yml", &findings).unwrap(), findings)
    }

    #[test]
    fn every_problem_is_found_at_once_with_its_path() {
        let (mut top, findings) = open("a: x\nb: [1]\nc: {d: 5}\nnmae: q\nother: 1\n");
        top.flag("a");
        top.text("b");
        top.text("name");
        let mut c = top.section("c");
        c.duration("d");
        c.finish();
        top.finish();
        let message = findings.verdict("test.yml").unwrap_err().message;
        for part in [
            "5 errors",
            "a: expected true or false",
            "b: expected text",
            "c.d: `5` has no unit",
            "nmae: unknown key; did you mean `name`?",
            "other: unknown key; known here",
        ] {
            assert!(message.contains(part), "{part} in {message}");
        }
    }

    #[test]
    fn a_cause_that_quotes_the_text_is_not_quoted_again() {
        use portcullis_model::PoolStrategy;
        let (mut top, findings) = open("a: rr\nb: [rr]\nc: rr\n");
        assert_eq!(top.parsed::<PoolStrategy>("a"), None);
        assert_eq!(top.parsed_list::<PoolStrategy>("b"), []);
        assert_eq!(top.parsed::<u16>("c"), None);
        top.finish();
        let message = findings.verdict("test.yml").unwrap_err().message;
        assert!(message.contains("a: `rr` is no pool strategy"), "{message}");
        assert!(
            message.contains("b[0]: `rr` is no pool strategy"),
            "{message}"
        );
        assert!(message.contains("c: `rr`: invalid digit"), "{message}");
    }

    #[test]
    fn durations_need_units_and_zero_is_never() {
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(duration("300").is_err());
        assert!(duration("soon").is_err());
    }

    #[test]
    fn comments_alone_are_an_empty_document() {
        let (top, findings) = open("# nothing\n\n");
        top.finish();
        assert!(findings.verdict("x").is_ok());
    }
}
