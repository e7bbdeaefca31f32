//! Rules: name, expressions, actions.

use std::sync::Arc;

use portcullis_model::Code;

use super::Reading;
use super::actions;
use super::fields::Fields;
use super::values;
use crate::cel::Reads;
use crate::decide::{Action, Condition, Rule};
use crate::defaults::{ACTIONS_MAX, EXPRESSIONS_MAX, RULE_NAME_CHARS_MAX, RULES_MAX};
use crate::document::Node;

/// Reads the rules of a phase; `path` is where it stands. `ended_by` becomes the first rule behind which
/// no other is reached.
pub(super) fn read(
    phase: &str,
    path: &str,
    node: Node,
    ended_by: &mut Option<String>,
    reading: &mut Reading,
) -> Vec<Rule> {
    let items = match node {
        Node::List(items) => items,
        Node::Null => return Vec::new(),
        other => {
            let message = format!(
                "a list of rules is expected, and this is {}; put `- ` in front of each rule",
                other.what()
            );
            reading.problems.add(Code::PolicyUnparsable, path, message);
            return Vec::new();
        }
    };
    let Some(left) = reading.rules_left.checked_sub(items.len()) else {
        let message = format!(
            "there are {} rules; a policy has at most {RULES_MAX}",
            RULES_MAX - reading.rules_left + items.len()
        );
        reading.problems.add(Code::PolicyTooLarge, path, message);
        return Vec::new();
    };
    reading.rules_left = left;
    let mut rules = Vec::with_capacity(items.len());
    for (place, item) in items.into_iter().enumerate() {
        let path = format!("{path}[{place}]");
        let rule = read_rule(&path, format!("{phase}[{place}]"), item, reading);
        if let Some(by) = ended_by {
            let message = format!("the rule is never reached: {by} always ends the policy");
            reading.notice(&path, message);
        } else if rule.as_ref().is_some_and(Rule::is_terminating) {
            *ended_by = Some(path);
        }
        rules.extend(rule);
    }
    rules
}

fn read_rule(path: &str, place: String, node: Node, reading: &mut Reading) -> Option<Rule> {
    let mut fields = Fields::open(
        node,
        path,
        "a rule",
        Code::PolicyUnparsable,
        &mut reading.problems,
    )?;
    let name = fields
        .take("name")
        .and_then(|node| read_name(path, node, reading));
    let conditions = fields
        .take("expressions")
        .map(|node| read_expressions(path, node, reading));
    if let Some(enabled) = fields.take("enabled") {
        check_enabled(&format!("{path}.enabled"), &enabled, reading);
    }
    let actions = fields.take("actions").unwrap_or(Node::Null);
    fields.close(&["name", "expressions", "actions"], &mut reading.problems);
    let label = name.unwrap_or(place);
    let mut rule = Rule {
        actions: read_actions(path, &label, actions, reading),
        label: Arc::from(label),
        path: Arc::from(path),
        conditions: conditions.unwrap_or_default(),
        names_request: false,
    };
    let mut names_request = false;
    rule.each_reads(&mut |reads: &Reads| names_request |= reads.request);
    rule.names_request = names_request;
    Some(rule)
}

fn read_name(path: &str, node: Node, reading: &mut Reading) -> Option<String> {
    let path = format!("{path}.name");
    let (code, message) = match node {
        Node::Null => return None,
        Node::Text(name) if name.is_empty() => return None,
        Node::Text(name) if name.chars().count() > RULE_NAME_CHARS_MAX => (
            Code::PolicyTooLarge,
            format!("the name is longer than {RULE_NAME_CHARS_MAX} characters"),
        ),
        Node::Text(name) if name.chars().any(char::is_control) => (
            Code::PolicyUnparsable,
            "the name has a line break or control character in it".to_owned(),
        ),
        Node::Text(name) => return Some(name),
        other => (
            Code::PolicyUnparsable,
            format!(
                "text is expected, and this is {}; put it in quotes",
                other.what()
            ),
        ),
    };
    reading.problems.add(code, &path, message);
    None
}

/// An empty list is ngrok's way to say "always"; `true` is another, and is left out.
fn read_expressions(path: &str, node: Node, reading: &mut Reading) -> Vec<Condition> {
    let path = format!("{path}.expressions");
    let items = match node {
        Node::Null => return Vec::new(),
        Node::List(items) => items,
        other => {
            let message = format!(
                "a list of expressions is expected, and this is {}; put `- ` in front of each",
                other.what()
            );
            reading.problems.add(Code::PolicyUnparsable, &path, message);
            return Vec::new();
        }
    };
    if items.len() > EXPRESSIONS_MAX {
        let message = format!(
            "there are {} expressions; a rule has at most {EXPRESSIONS_MAX}",
            items.len()
        );
        reading.problems.add(Code::PolicyTooLarge, &path, message);
        return Vec::new();
    }
    let mut conditions = Vec::with_capacity(items.len());
    for (place, item) in items.into_iter().enumerate() {
        let path = format!("{path}[{place}]");
        // YAML reads a bare `true` as the word, not as text.
        let text = match item {
            Node::Bool(value) => Node::Text(value.to_string()),
            other => other,
        };
        let Some(expr) = values::expr(&path, text, Code::PolicyUnparsable, reading) else {
            continue;
        };
        if let Some(why) = expr.never_bool() {
            let why = why.to_owned();
            reading.problems.add(Code::PolicyExpressions, &path, why);
        } else if expr.text().trim() != "true" {
            conditions.push(Condition { place, expr });
        }
    }
    conditions
}

/// Older documents have it on every rule.
pub(super) fn check_enabled(path: &str, node: &Node, reading: &mut Reading) {
    if *node == Node::Bool(true) {
        reading.notice(path, "`enabled` was withdrawn; every rule is enabled");
    } else {
        reading.problems.add(
            Code::PolicyUnparsable,
            path,
            "`enabled` was withdrawn; remove the rule to disable it".to_owned(),
        );
    }
}

fn read_actions(path: &str, label: &str, node: Node, reading: &mut Reading) -> Vec<Action> {
    let path = format!("{path}.actions");
    let items = match node {
        Node::List(items) if !items.is_empty() => items,
        Node::List(_) | Node::Null => {
            let message = "the rule has no actions; give it at least one, such as `- type: deny`";
            reading
                .problems
                .add(Code::PolicyNoActions, &path, message.to_owned());
            return Vec::new();
        }
        other => {
            let message = format!(
                "a list of actions is expected, and this is {}",
                other.what()
            );
            reading.problems.add(Code::PolicyUnparsable, &path, message);
            return Vec::new();
        }
    };
    if items.len() > ACTIONS_MAX {
        let message = format!(
            "there are {} actions; a rule has at most {ACTIONS_MAX}",
            items.len()
        );
        reading.problems.add(Code::PolicyTooLarge, &path, message);
        return Vec::new();
    }
    let mut actions: Vec<Action> = Vec::with_capacity(items.len());
    for (place, item) in items.into_iter().enumerate() {
        let path = format!("{path}[{place}]");
        if actions.last().is_some_and(Action::is_terminating) {
            let message = "the action is never reached: the one before it always ends the policy; remove it, or put it before".to_owned();
            reading
                .problems
                .add(Code::PolicyUnreachable, &path, message);
            break;
        }
        let name = format!("{label}[{place}]");
        actions.extend(actions::read(&path, &name, item, reading));
    }
    actions
}
