//! Reading a document, YAML or JSON, into plain values; bounded in depth, size and repetition.
//!
//! Must never: interpret what it reads, or take more memory than `defaults.rs` says.

use std::cell::Cell;
use std::fmt;

use portcullis_model::{Code, Error};
use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::defaults::{
    ALIAS_NODES_MAX, DEPTH_MAX, KEYS_MAX, NODES_MAX, POLICY_BYTES_MAX, QUOTE_CHARS_MAX,
};

#[cfg(test)]
mod tests;

/// A value of a document. Keys stand in their order, each once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

impl Node {
    /// What it is, for a message: "expected …, found the number 5".
    pub(crate) fn what(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Bool(value) => format!("the word {value}"),
            Self::Number(value) => format!("the number {value}"),
            Self::Text(text) => format!("the text {}", quoted(text)),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a map".to_owned(),
        }
    }

    /// As JSON, for writing a document anew.
    pub(crate) fn into_json(self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => value.into(),
            Self::Number(value) => serde_json::Value::Number(value),
            Self::Text(text) => text.into(),
            Self::List(items) => items.into_iter().map(Self::into_json).collect(),
            Self::Map(entries) => entries
                .into_iter()
                .map(|(key, value)| (key, value.into_json()))
                .collect(),
        }
    }
}

/// The user's text in back-quotes, at most a line of it, without what moves a cursor.
pub(crate) fn quoted(text: &str) -> String {
    if text.contains("PRIVATE KEY") {
        return "`-----BEGIN PRIVATE KEY…` (a private key is not shown)".to_owned();
    }
    let mut shown: String = text
        .chars()
        .take(QUOTE_CHARS_MAX)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(QUOTE_CHARS_MAX).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// Reads a document; an empty one is [`Node::Null`].
///
/// # Errors
/// `PTC_POLICY_UNPARSABLE` with line and column, `PTC_POLICY_TOO_LARGE`.
pub(crate) fn read(text: &str) -> Result<Node, Error> {
    if text.len() > POLICY_BYTES_MAX {
        let message = format!(
            "the policy is {} bytes long; at most {POLICY_BYTES_MAX} are read",
            text.len()
        );
        return Err(Error::new(Code::PolicyTooLarge, message));
    }
    let left = Cell::new(NODES_MAX);
    let read = if text.trim_start().starts_with('{') {
        match read_json(text, &left) {
            Ok(node) => Ok(node),
            // YAML's flow form starts with a brace too: `{on_tcp_connect: […]}`.
            Err(fault) if fault.code == Code::PolicyUnparsable => {
                read_yaml(text, &Cell::new(NODES_MAX)).map_err(|_| fault)
            }
            Err(fault) => Err(fault),
        }
    } else {
        read_yaml(text, &left)
    };
    read.map_err(|fault| {
        Error::new(
            fault.code,
            format!("the policy cannot be read as {}", fault.cause),
        )
    })
}

struct Fault {
    code: Code,
    /// `JSON: …` or `YAML: …`
    cause: String,
}

fn read_json(text: &str, left: &Cell<usize>) -> Result<Node, Fault> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let node = Seed { left, depth: 0 }.deserialize(&mut deserializer);
    let ended = node.and_then(|node| deserializer.end().map(|()| node));
    ended.map_err(|error| {
        let code = if left.get() == 0 {
            Code::PolicyTooLarge
        } else {
            Code::PolicyUnparsable
        };
        Fault {
            code,
            cause: format!("JSON: {error}"),
        }
    })
}

fn read_yaml(text: &str, left: &Cell<usize>) -> Result<Node, Fault> {
    if text.trim().is_empty() {
        return Ok(Node::Null);
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: NODES_MAX * 2,
            max_nodes: NODES_MAX,
            max_depth: DEPTH_MAX,
            // Beyond the depth, so that the depth is what is complained of.
            flow_nesting_limit: DEPTH_MAX * 2,
            max_documents: 1,
            max_anchors: KEYS_MAX,
            max_aliases: ALIAS_NODES_MAX,
            max_merge_keys: 0,
            max_recorded_anchor_events: NODES_MAX,
            max_recorded_anchor_bytes: POLICY_BYTES_MAX,
            max_total_scalar_bytes: POLICY_BYTES_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: ALIAS_NODES_MAX,
            max_replay_stack_depth: DEPTH_MAX,
        },
        emit_comments: false,
        with_snippet: false,
    };
    let seed = Seed { left, depth: 0 };
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
        seed.deserialize(deserializer)
    })
    .map_err(|error| yaml_fault(&error, left.get() == 0))
}

fn yaml_fault(error: &serde_saphyr::Error, exhausted: bool) -> Fault {
    if let Some((code, cause)) = over_limit(error.without_snippet()) {
        let place = error
            .location()
            .map(|place| format!(", line {}, column {}", place.line(), place.column()));
        return Fault {
            code,
            cause: format!("YAML{}: {cause}", place.unwrap_or_default()),
        };
    }
    let code = if exhausted {
        Code::PolicyTooLarge
    } else {
        Code::PolicyUnparsable
    };
    Fault {
        code,
        cause: format!("YAML: {error}"),
    }
}

/// Our limits in our words.
fn over_limit(error: &serde_saphyr::Error) -> Option<(Code, String)> {
    use serde_saphyr::Error as Yaml;
    use serde_saphyr::budget::BudgetBreach as Breach;
    let repeated = || {
        Some((
            Code::PolicyTooLarge,
            format!("aliases repeat more than {ALIAS_NODES_MAX} values"),
        ))
    };
    match error {
        Yaml::AliasError { error, .. } => over_limit(error.without_snippet()),
        Yaml::AliasReplayLimitExceeded { .. }
        | Yaml::AliasExpansionLimitExceeded { .. }
        | Yaml::AliasReplayStackDepthExceeded { .. } => repeated(),
        Yaml::Budget { breach, .. } => match breach {
            Breach::Depth { .. } => Some((
                Code::PolicyTooLarge,
                format!("lists and maps are nested deeper than {DEPTH_MAX} levels"),
            )),
            Breach::Documents { .. } => Some((
                Code::PolicyUnparsable,
                "there is more than one document (`---`)".to_owned(),
            )),
            Breach::MergeKeys { .. } => Some((
                Code::PolicyUnparsable,
                "the merge key `<<` is not supported; write the keys out".to_owned(),
            )),
            Breach::Aliases { .. }
            | Breach::Anchors { .. }
            | Breach::AliasAnchorRatio { .. }
            | Breach::RecordedAnchorEvents { .. } => repeated(),
            _ => Some((
                Code::PolicyTooLarge,
                format!("there are too many values; at most {NODES_MAX} are read"),
            )),
        },
        _ => None,
    }
}

/// Reads one value, counting down what may still be read.
#[derive(Clone, Copy)]
struct Seed<'a> {
    left: &'a Cell<usize>,
    depth: usize,
}

impl Seed<'_> {
    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.depth > DEPTH_MAX {
            return Err(E::custom(format_args!(
                "lists and maps are nested deeper than {DEPTH_MAX} levels"
            )));
        }
        let left = self.left.get().saturating_sub(1);
        self.left.set(left);
        if left == 0 {
            return Err(E::custom(format_args!(
                "there are too many values; at most {NODES_MAX} are read"
            )));
        }
        Ok(())
    }

    fn inner(&self) -> Self {
        Self {
            left: self.left,
            depth: self.depth + 1,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        self.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(serde_json::Number::from_f64(value)
            .map_or_else(|| Node::Text(value.to_string()), Node::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Node, E> {
        Ok(Node::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.inner())? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            if map.len() == KEYS_MAX {
                return Err(serde::de::Error::custom(format_args!(
                    "a map has more than {KEYS_MAX} keys"
                )));
            }
            if map.iter().any(|(known, _)| *known == key) {
                return Err(serde::de::Error::custom(format_args!(
                    "the key {} stands twice",
                    quoted(&key)
                )));
            }
            map.push((key, entries.next_value_seed(self.inner())?));
        }
        Ok(Node::Map(map))
    }
}

/// A key: text only.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        String::deserialize(deserializer)
    }
}
