//! From a document to a policy: every problem is found, with its path, before any is reported.
//!
//! `problems` collects, `fields` takes maps apart, `rules` reads rules, `actions` knows each action's
//! config, `hints` looks at the whole; this file reads the phases.

use std::collections::BTreeSet;

use portcullis_model::{Code, EndpointType, Error};

use crate::decide::Policy;
use crate::defaults::{ENTRIES_MAX, RULES_MAX};
use crate::document::{self, Node, quoted};
use crate::suggest::nearest;

mod actions;
mod answers;
mod bandwidth;
mod fields;
mod forward;
mod hints;
mod ips;
mod limits;
mod problems;
mod rules;
mod secrets;
#[cfg(test)]
mod tests;
mod tls;
mod values;
mod vars;

pub(crate) use answers::is_header_value;
pub(crate) use forward::internal_url;
use problems::Problems;
pub(crate) use tls::{check_certificate, check_private_key};

/// The phase that begins when a client connects.
pub(crate) const PHASE: &str = "on_tcp_connect";
/// Its name in older documents.
pub(crate) const LEGACY_PHASE: &str = "inbound";
/// The phase behind it, whose rules may wait for the head of an HTTP request.
pub(crate) const HTTP_PHASE: &str = "on_http_request";
/// Keys under which other configurations keep a policy.
pub(crate) const WRAPPERS: [&str; 2] = ["policy", "traffic_policy"];
/// Of older documents, for the answers of HTTP services.
const OUTBOUND: &str = "outbound";
/// Phases that only HTTP endpoints come to.
const HTTP_PHASES: [&str; 2] = ["on_http_response", "on_event_stream_message"];

/// What the writer of a document should know, though it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Where in the document, such as `on_tcp_connect[1].actions[0].config`.
    pub path: String,
    /// What to know, as a sentence.
    pub message: String,
}

/// A document being read.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) problems: Problems,
    pub(crate) notices: Vec<Notice>,
    /// How many rules there may still be.
    rules_left: usize,
    /// How many CIDRs there may still be.
    entries_left: usize,
    /// Whether it was told that there are too many.
    entries_told: bool,
    /// Names of buckets and rounds that are taken.
    names: BTreeSet<String>,
    /// Whether `req` is known where the reading is.
    http: bool,
    /// Where secrets may come to.
    flows: secrets::Flows,
}

impl Reading {
    fn new() -> Self {
        Self {
            problems: Problems::default(),
            notices: Vec::new(),
            rules_left: RULES_MAX,
            entries_left: ENTRIES_MAX,
            entries_told: false,
            names: BTreeSet::new(),
            http: false,
            flows: secrets::Flows::default(),
        }
    }

    pub(crate) fn notice(&mut self, path: &str, message: impl Into<String>) {
        self.notices.push(Notice {
            path: path.to_owned(),
            message: message.into(),
        });
    }
}

/// See [`Policy::compile`].
pub(crate) fn compile(text: &str, kind: EndpointType) -> Result<Policy, Error> {
    let node = document::read(text)?;
    let mut reading = Reading::new();
    let rules = match node {
        Node::Null => Vec::new(),
        Node::Map(entries) => read_phases(entries, &mut reading),
        other => {
            let message = format!(
                "a policy is a map with the key `{PHASE}`, and this is {}",
                other.what()
            );
            reading.problems.add(Code::PolicyUnparsable, "", message);
            Vec::new()
        }
    };
    secrets::refuse(&mut reading);
    hints::look(&rules, &mut reading.notices);
    let Reading {
        mut problems,
        notices,
        ..
    } = reading;
    let policy = Policy::of(rules, notices);
    if kind == EndpointType::Cloud && problems.is_empty() && !policy.is_terminating() {
        problems.add(Code::PolicyNotTerminating, "", not_terminating(&policy));
    }
    problems.finish()?;
    Ok(policy)
}

fn not_terminating(policy: &Policy) -> String {
    let ends = "a cloud endpoint has no upstream of its own, so its policy must end in forward-internal, deny, close-connection or custom-response";
    let conditional = |rule: &crate::decide::Rule| {
        (!rule.conditions.is_empty() || rule.names_request)
            && rule.actions.iter().any(|action| action.is_terminating())
    };
    if policy.is_empty() {
        format!("the policy is empty; {ends}")
    } else if policy.rules.iter().any(conditional) {
        format!(
            "{ends}, for every connection; behind the rules with expressions (and those that name `req`) put one without"
        )
    } else if policy.targets().next().is_some() {
        format!(
            "{ends}; behind a forward-internal with `on_error: continue` put one that always ends it"
        )
    } else {
        format!("{ends}; add such an action behind the last one")
    }
}

/// Takes a policy out of the key under which other configurations keep it.
pub(crate) fn unwrapped(entries: Vec<(String, Node)>) -> (Option<String>, Vec<(String, Node)>) {
    let is_wrapped =
        matches!(entries.as_slice(), [(key, Node::Map(_))] if WRAPPERS.contains(&key.as_str()));
    if !is_wrapped {
        return (None, entries);
    }
    match entries.into_iter().next() {
        Some((key, Node::Map(inner))) => (Some(key), inner),
        _ => (None, Vec::new()),
    }
}

fn read_phases(entries: Vec<(String, Node)>, reading: &mut Reading) -> Vec<crate::decide::Rule> {
    let (wrapper, entries) = unwrapped(entries);
    let prefix = wrapper.map_or_else(String::new, |key| {
        let message = format!("the phases may stand at the top, without `{key}` around them");
        reading.notice(&key, message);
        format!("{key}.")
    });
    let (mut connect, mut http) = (None, None);
    for (key, value) in entries {
        let path = format!("{prefix}{key}");
        match key.as_str() {
            PHASE | LEGACY_PHASE if connect.is_some() => {
                let message = format!(
                    "the phase stands under its old name and its new one; put all rules under one `{PHASE}`"
                );
                reading.problems.add(Code::PolicyUnparsable, &path, message);
            }
            PHASE | LEGACY_PHASE => {
                if key == LEGACY_PHASE {
                    let message = format!(
                        "`{LEGACY_PHASE}` is the old name of `{PHASE}`; it is read as that"
                    );
                    reading.notice(&path, message);
                }
                connect = Some((path, value));
            }
            HTTP_PHASE => http = Some((path, value)),
            OUTBOUND => read_outbound(&path, value, reading),
            "enabled" => rules::check_enabled(&path, &value, reading),
            _ => {
                let shown = if values::is_name(&key, 64) {
                    path
                } else {
                    format!("{prefix}{}", quoted(&key))
                };
                let message = wrong_phase(&key);
                reading.problems.add(Code::PolicyPhase, &shown, message);
            }
        }
    }
    let mut all = Vec::new();
    let mut ended_by = None;
    for (phase, found) in [(PHASE, connect), (HTTP_PHASE, http)] {
        reading.http = phase == HTTP_PHASE;
        if let Some((path, value)) = found {
            all.extend(rules::read(phase, &path, value, &mut ended_by, reading));
        }
    }
    all
}

/// Older documents have it even where nothing is in it. A TCP endpoint never came to it.
fn read_outbound(path: &str, node: Node, reading: &mut Reading) {
    let rules = match node {
        Node::Null => Vec::new(),
        Node::List(rules) => rules,
        other => {
            let message = format!("a list of rules is expected, and this is {}", other.what());
            reading.problems.add(Code::PolicyUnparsable, path, message);
            return;
        }
    };
    for (place, rule) in rules.iter().enumerate() {
        if !actions::are_for_http_only(rule) {
            let message = format!(
                "`{OUTBOUND}` is for the answers of HTTP services, and a TCP endpoint never comes to it; put the rule under `{PHASE}`"
            );
            reading
                .problems
                .add(Code::PolicyPhase, &format!("{path}[{place}]"), message);
        }
    }
    let message = if rules.is_empty() {
        format!("`{OUTBOUND}` is an old name for a phase of HTTP; it is empty, and can go")
    } else {
        format!(
            "`{OUTBOUND}` is for the answers of HTTP services; a TCP endpoint never comes to it, and its rules do nothing"
        )
    };
    reading.notice(path, message);
}

fn wrong_phase(key: &str) -> String {
    if HTTP_PHASES.contains(&key) {
        return format!(
            "the phase `{key}` is HTTP's, and a TCP endpoint never comes to it; use `{PHASE}`"
        );
    }
    let all = [
        PHASE,
        LEGACY_PHASE,
        HTTP_PHASE,
        HTTP_PHASES[0],
        HTTP_PHASES[1],
    ];
    let http = nearest(key, &all).filter(|name| HTTP_PHASES.contains(name));
    if let Some(name) = http {
        let here = nearest(key, &[PHASE, HTTP_PHASE]).unwrap_or(HTTP_PHASE);
        return format!(
            "there is no phase {}, and a TCP endpoint never comes to `{name}`; write `{here}`",
            quoted(key)
        );
    }
    match nearest(key, &[PHASE, LEGACY_PHASE, HTTP_PHASE]) {
        Some(HTTP_PHASE) => format!("there is no phase {}; write `{HTTP_PHASE}`", quoted(key)),
        Some(_) => format!("there is no phase {}; write `{PHASE}`", quoted(key)),
        None => format!(
            "there is no phase {}; a TCP endpoint has `{PHASE}` and `{HTTP_PHASE}`",
            quoted(key)
        ),
    }
}
