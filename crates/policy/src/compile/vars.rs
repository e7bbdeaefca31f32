//! `log` and `set-vars`.

use std::collections::BTreeMap;

use portcullis_model::Code;

use super::{Reading, values};
use crate::decide::Tree;
use crate::defaults::{VAR_NAME_CHARS_MAX, VARS_MAX};
use crate::document::{Node, quoted};

pub(super) fn log(
    path: &str,
    config: Node,
    reading: &mut Reading,
) -> Option<BTreeMap<String, Tree>> {
    let needs = "`metadata`, a map of what to note";
    let mut fields = values::config(path, config, ("log", "the config of log"), needs, reading)?;
    let metadata = fields.take("metadata").unwrap_or(Node::Null);
    fields.close(&["metadata"], &mut reading.problems);
    let path = format!("{path}.metadata");
    if !matches!(metadata, Node::Map(_)) {
        return values::wrong(&path, &metadata, "a map of what to note", reading);
    }
    match values::tree(&path, metadata, reading)? {
        Tree::Map(metadata) => Some(metadata),
        _ => None,
    }
}

pub(super) fn set_vars(
    path: &str,
    config: Node,
    reading: &mut Reading,
) -> Option<Vec<(String, Tree)>> {
    let mut fields = values::config(
        path,
        config,
        ("set-vars", "the config of set-vars"),
        "`vars`, a list such as `- name: value`",
        reading,
    )?;
    let vars = fields.take("vars").unwrap_or(Node::Null);
    fields.close(&["vars"], &mut reading.problems);
    let path = format!("{path}.vars");
    let items = match vars {
        Node::List(items) if !items.is_empty() => items,
        Node::List(_) => {
            let message = "there are no variables; list at least one `- name: value`".to_owned();
            reading.problems.add(Code::PolicyConfig, &path, message);
            return None;
        }
        Node::Map(_) => {
            let message = "a list of variables is expected, and this is a map; put `- ` in front of each, for a later one may use an earlier one".to_owned();
            reading.problems.add(Code::PolicyConfig, &path, message);
            return None;
        }
        other => return values::wrong(&path, &other, "a list of variables", reading),
    };
    if items.len() > VARS_MAX {
        let message = format!(
            "there are {} variables; at most {VARS_MAX} are possible",
            items.len()
        );
        reading.problems.add(Code::PolicyTooLarge, &path, message);
        return None;
    }
    let vars: Vec<Option<(String, Tree)>> = items
        .into_iter()
        .enumerate()
        .map(|(place, item)| variable(&format!("{path}[{place}]"), item, reading))
        .collect();
    vars.into_iter().collect()
}

fn variable(path: &str, node: Node, reading: &mut Reading) -> Option<(String, Tree)> {
    let fault = match node {
        Node::Map(mut entries) => match (entries.pop(), entries.is_empty()) {
            (Some((name, value)), true) if values::is_name(&name, VAR_NAME_CHARS_MAX) => {
                let value = values::tree(&format!("{path}.{name}"), value, reading);
                reading.flows.sets(&name);
                return Some((name, value?));
            }
            (Some((name, _)), true) => format!(
                "{} is no name; use 1 to {VAR_NAME_CHARS_MAX} letters, digits, `-` and `_`",
                quoted(&name)
            ),
            _ => "a map of exactly one name and its value is expected".to_owned(),
        },
        other => format!(
            "a map of one name and its value is expected, and this is {}",
            other.what()
        ),
    };
    reading.problems.add(Code::PolicyConfig, path, fault);
    None
}
