//! From a document to a policy: every problem is found, with its path, before any is reported.
//!
//! `problems` collects, `fields` takes maps apart, `actions` knows each action's config; this file
//! walks the document.

use std::sync::Arc;

use portcullis_model::{Code, EndpointType, Error};

use crate::decide::{Action, Policy, Rule};
use crate::defaults::{ACTIONS_MAX, RULE_NAME_CHARS_MAX, RULES_MAX};
use crate::document::{self, Node, quoted};
use crate::suggest::nearest;

mod actions;
mod fields;
mod problems;
#[cfg(test)]
mod tests;

use actions::Budget;
use fields::Fields;
use problems::Problems;

/// The one phase of a TCP endpoint.
pub(crate) const PHASE: &str = "on_tcp_connect";
/// Its name in older documents.
pub(crate) const LEGACY_PHASE: &str = "inbound";
/// Phases that only HTTP endpoints have, or that older documents had for them.
const HTTP_PHASES: [&str; 4] = [
    "on_http_request",
    "on_http_response",
    "on_event_stream_message",
    "outbound",
];

/// What the writer of a document should know, though it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Where in the document, such as `on_tcp_connect[1].actions[0].config`.
    pub path: String,
    /// What to know, as a sentence.
    pub message: String,
}

/// See [`Policy::compile`].
pub(crate) fn compile(text: &str, kind: EndpointType) -> Result<Policy, Error> {
    let node = document::read(text)?;
    let mut problems = Problems::default();
    let mut notices = Vec::new();
    let rules = match node {
        Node::Null => Vec::new(),
        Node::Map(entries) => read_phases(entries, &mut problems, &mut notices),
        other => {
            problems.add(
                Code::PolicyUnparsable,
                "",
                format!(
                    "a policy is a map with the key `{PHASE}`, and this is {}",
                    other.what()
                ),
            );
            Vec::new()
        }
    };
    let policy = Policy { rules, notices };
    if kind == EndpointType::Cloud && problems.is_empty() && !policy.is_terminating() {
        problems.add(Code::PolicyNotTerminating, "", not_terminating(&policy));
    }
    problems.finish()?;
    Ok(policy)
}

fn not_terminating(policy: &Policy) -> String {
    let ends = "a cloud endpoint has no upstream of its own, so its policy must end in forward-internal, deny or close-connection";
    if policy.is_empty() {
        format!("the policy is empty; {ends}")
    } else if policy.targets().next().is_some() {
        format!(
            "{ends}; behind a forward-internal with `on_error: continue` put one that always ends it"
        )
    } else {
        format!("{ends}; add such an action behind the last one")
    }
}

fn read_phases(
    entries: Vec<(String, Node)>,
    problems: &mut Problems,
    notices: &mut Vec<Notice>,
) -> Vec<Rule> {
    let mut rules: Option<Vec<Rule>> = None;
    for (key, value) in entries {
        if key != PHASE && key != LEGACY_PHASE {
            problems.add(Code::PolicyPhase, "", wrong_phase(&key));
            continue;
        }
        if rules.is_some() {
            let message = format!(
                "the phase stands under its old name and its new one; put all rules under one `{PHASE}`"
            );
            problems.add(Code::PolicyUnparsable, &key, message);
            continue;
        }
        if key == LEGACY_PHASE {
            let message =
                format!("`{LEGACY_PHASE}` is the old name of `{PHASE}`; it is read as that");
            notices.push(Notice {
                path: key.clone(),
                message,
            });
        }
        rules = Some(read_rules(&key, value, problems, notices));
    }
    rules.unwrap_or_default()
}

fn wrong_phase(key: &str) -> String {
    if key == "outbound" {
        return format!("`outbound` is HTTP's; a TCP endpoint has the phase `{PHASE}` only");
    }
    if HTTP_PHASES.contains(&key) {
        return format!(
            "the phase `{key}` is HTTP's, and a TCP endpoint never comes to it; use `{PHASE}`"
        );
    }
    match nearest(key, &[PHASE, LEGACY_PHASE]) {
        Some(_) => format!("there is no phase {}; write `{PHASE}`", quoted(key)),
        None => format!(
            "there is no phase {}; a TCP endpoint has `{PHASE}` only",
            quoted(key)
        ),
    }
}

fn read_rules(
    path: &str,
    node: Node,
    problems: &mut Problems,
    notices: &mut Vec<Notice>,
) -> Vec<Rule> {
    let items = match node {
        Node::List(items) => items,
        Node::Null => return Vec::new(),
        other => {
            problems.add(
                Code::PolicyUnparsable,
                path,
                format!(
                    "a list of rules is expected, and this is {}; put `- ` in front of each rule",
                    other.what()
                ),
            );
            return Vec::new();
        }
    };
    if items.len() > RULES_MAX {
        problems.add(
            Code::PolicyTooLarge,
            path,
            format!(
                "there are {} rules; a policy has at most {RULES_MAX}",
                items.len()
            ),
        );
        return Vec::new();
    }
    let mut budget = Budget::default();
    let mut rules = Vec::with_capacity(items.len());
    let mut ended_by: Option<String> = None;
    for (place, item) in items.into_iter().enumerate() {
        let path = format!("{path}[{place}]");
        let rule = read_rule(&path, place, item, &mut budget, problems, notices);
        if let Some(by) = &ended_by {
            let message = format!("the rule is never reached: {by} always ends the policy");
            notices.push(Notice { path, message });
        } else if rule
            .as_ref()
            .is_some_and(|rule| rule.actions.iter().any(Action::is_terminating))
        {
            ended_by = Some(path);
        }
        rules.extend(rule);
    }
    rules
}

fn read_rule(
    path: &str,
    place: usize,
    node: Node,
    budget: &mut Budget,
    problems: &mut Problems,
    notices: &mut Vec<Notice>,
) -> Option<Rule> {
    let mut fields = Fields::open(node, path, "a rule", Code::PolicyUnparsable, problems)?;
    let name = fields
        .take("name")
        .and_then(|node| read_name(path, node, problems));
    if let Some(expressions) = fields.take("expressions") {
        check_expressions(path, &expressions, problems);
    }
    if let Some(enabled) = fields.take("enabled") {
        check_enabled(path, &enabled, problems, notices);
    }
    let actions = fields.take("actions");
    fields.close(&["name", "expressions", "actions"], problems);
    let actions = read_actions(
        path,
        actions.unwrap_or(Node::Null),
        budget,
        problems,
        notices,
    );
    let label = name.unwrap_or_else(|| format!("{PHASE}[{place}]"));
    Some(Rule {
        label: Arc::from(label),
        actions,
    })
}

fn read_name(path: &str, node: Node, problems: &mut Problems) -> Option<String> {
    let path = format!("{path}.name");
    match node {
        Node::Null => None,
        Node::Text(name) if name.is_empty() => None,
        Node::Text(name) if name.chars().count() > RULE_NAME_CHARS_MAX => {
            problems.add(
                Code::PolicyTooLarge,
                &path,
                format!("the name is longer than {RULE_NAME_CHARS_MAX} characters"),
            );
            None
        }
        Node::Text(name) if name.chars().any(char::is_control) => {
            problems.add(
                Code::PolicyUnparsable,
                &path,
                "the name has a line break or control character in it".to_owned(),
            );
            None
        }
        Node::Text(name) => Some(name),
        other => {
            problems.add(
                Code::PolicyUnparsable,
                &path,
                format!(
                    "text is expected, and this is {}; put it in quotes",
                    other.what()
                ),
            );
            None
        }
    }
}

/// An empty list is ngrok's way to say "always".
fn check_expressions(path: &str, node: &Node, problems: &mut Problems) {
    if matches!(node, Node::Null) || matches!(node, Node::List(items) if items.is_empty()) {
        return;
    }
    let message = "expressions are not supported yet, and a rule without its condition would run for everyone; leave `expressions` out if that is meant";
    problems.add(
        Code::PolicyExpressions,
        &format!("{path}.expressions"),
        message.to_owned(),
    );
}

/// Older documents have it on every rule.
fn check_enabled(path: &str, node: &Node, problems: &mut Problems, notices: &mut Vec<Notice>) {
    let path = format!("{path}.enabled");
    if *node == Node::Bool(true) {
        notices.push(Notice {
            path,
            message: "`enabled` was withdrawn; every rule is enabled".to_owned(),
        });
    } else {
        problems.add(
            Code::PolicyUnparsable,
            &path,
            "`enabled` was withdrawn; remove the rule to disable it".to_owned(),
        );
    }
}

fn read_actions(
    path: &str,
    node: Node,
    budget: &mut Budget,
    problems: &mut Problems,
    notices: &mut Vec<Notice>,
) -> Vec<Action> {
    let path = format!("{path}.actions");
    let items = match node {
        Node::List(items) if !items.is_empty() => items,
        Node::List(_) | Node::Null => {
            problems.add(
                Code::PolicyNoActions,
                &path,
                "the rule has no actions; give it at least one, such as `- type: deny`".to_owned(),
            );
            return Vec::new();
        }
        other => {
            problems.add(
                Code::PolicyUnparsable,
                &path,
                format!(
                    "a list of actions is expected, and this is {}",
                    other.what()
                ),
            );
            return Vec::new();
        }
    };
    if items.len() > ACTIONS_MAX {
        problems.add(
            Code::PolicyTooLarge,
            &path,
            format!(
                "there are {} actions; a rule has at most {ACTIONS_MAX}",
                items.len()
            ),
        );
        return Vec::new();
    }
    let mut actions: Vec<Action> = Vec::with_capacity(items.len());
    for (place, item) in items.into_iter().enumerate() {
        let path = format!("{path}[{place}]");
        if actions.last().is_some_and(Action::is_terminating) {
            let message = "the action is never reached: the one before it always ends the policy; remove it, or put it before".to_owned();
            problems.add(Code::PolicyUnreachable, &path, message);
            break;
        }
        actions.extend(actions::read(&path, item, budget, problems, notices));
    }
    actions
}
