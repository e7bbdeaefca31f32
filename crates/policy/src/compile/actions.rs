//! The actions by their names.

use std::sync::Arc;

use portcullis_model::Code;

use super::fields::Fields;
use super::{Reading, answers, bandwidth, forward, ips, limits, tls, vars};
use crate::decide::Action;
use crate::document::{Node, quoted};
use crate::suggest::nearest;

/// The actions that exist.
const ACTIONS: [&str; 13] = [
    "restrict-ips",
    "forward-internal",
    "deny",
    "close-connection",
    "custom-response",
    "log",
    "set-vars",
    "rate-limit",
    "limit-connections",
    "set-limits",
    "sniff",
    "terminate-tls",
    "limit-bandwidth",
];
/// ngrok's actions that need HTTP.
const HTTP: [&str; 20] = [
    "add-headers",
    "ai-gateway",
    "basic-auth",
    "circuit-breaker",
    "compress-response",
    "http-request",
    "jwt-validation",
    "oauth",
    "oidc",
    "openid-connect",
    "openid-connect-auth",
    "owasp-crs-request",
    "owasp-crs-response",
    "redirect",
    "remove-headers",
    "request-body-find-replace",
    "response-body-find-replace",
    "saml",
    "url-rewrite",
    "verify-webhook",
];

/// Reads one action; `None` when it has problems. `name` is what it is counted under.
pub(super) fn read(path: &str, name: &str, node: Node, reading: &mut Reading) -> Option<Action> {
    let problems = &mut reading.problems;
    let mut fields = Fields::open(node, path, "an action", Code::PolicyUnparsable, problems)?;
    let kind = fields.take("type");
    let config = fields.take("config").unwrap_or(Node::Null);
    fields.close(&["type", "config"], problems);
    let type_path = format!("{path}.type");
    let kind = match kind {
        Some(Node::Text(kind)) => kind,
        Some(other) => {
            let message = format!(
                "the name of an action is expected, and this is {}",
                other.what()
            );
            problems.add(Code::PolicyAction, &type_path, message);
            return None;
        }
        None => {
            let message = format!(
                "the action has no `type`; the actions are {}",
                ACTIONS.join(", ")
            );
            problems.add(Code::PolicyAction, path, message);
            return None;
        }
    };
    let path = format!("{path}.config");
    reading.flows.passes();
    let action = match kind.as_str() {
        "restrict-ips" => ips::read(&path, config, reading).map(Action::RestrictIps),
        "forward-internal" => forward::read(&path, name, config, reading),
        "deny" => answers::deny(&path, config, reading).map(Action::Deny),
        "close-connection" => {
            no_config(&path, config, "close-connection", reading).then_some(Action::CloseConnection)
        }
        "custom-response" => answers::custom_response(&path, config, reading).map(Action::Respond),
        "log" => vars::log(&path, config, reading).map(Action::Log),
        "set-vars" => vars::set_vars(&path, config, reading).map(Action::SetVars),
        "rate-limit" => limits::rate(&path, name, config, reading).map(Action::RateLimit),
        "limit-connections" => {
            limits::connections(&path, name, config, reading).map(Action::LimitConnections)
        }
        "set-limits" => limits::set_limits(&path, config, reading),
        "sniff" => limits::sniff(&path, config, reading),
        "terminate-tls" => tls::read(&path, config, reading).map(Action::TerminateTls),
        "limit-bandwidth" => {
            bandwidth::read(&path, name, config, reading).map(Action::LimitBandwidth)
        }
        _ => {
            reading
                .problems
                .add(Code::PolicyAction, &type_path, unknown_action(&kind));
            None
        }
    };
    if ["log", "restrict-ips", "forward-internal"].contains(&kind.as_str()) {
        reading.flows.writes();
    }
    action
}

/// The name as what is counted together has it.
pub(super) fn counted(name: &str, path: &str, reading: &mut Reading) -> Arc<str> {
    Arc::from(super::values::distinct(name, path, reading))
}

fn unknown_action(kind: &str) -> String {
    let list = ACTIONS.join(", ");
    if HTTP.contains(&kind) {
        return format!(
            "the action `{kind}` needs an HTTP endpoint, and this is a TCP endpoint; the actions are {list}"
        );
    }
    let known: Vec<&str> = ACTIONS.iter().chain(&HTTP).copied().collect();
    match nearest(kind, &ACTIONS).or_else(|| nearest(kind, &known)) {
        Some(meant) => format!(
            "there is no action {}; did you mean `{meant}`?",
            quoted(kind)
        ),
        None => format!(
            "there is no action {}; the actions are {list}",
            quoted(kind)
        ),
    }
}

/// Whether all actions of a rule, such as they stand in the document, are for HTTP only.
pub(super) fn are_for_http_only(rule: &Node) -> bool {
    let find = |node: &Node, key: &str| match node {
        Node::Map(entries) => entries
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.clone()),
        _ => None,
    };
    let is_http = |action: &Node| matches!(find(action, "type"), Some(Node::Text(kind)) if HTTP.contains(&kind.as_str()));
    matches!(find(rule, "actions"), Some(Node::List(actions)) if actions.iter().all(is_http))
}

fn no_config(path: &str, config: Node, what: &'static str, reading: &mut Reading) -> bool {
    match config {
        Node::Null => true,
        Node::Map(entries) if entries.is_empty() => true,
        other => {
            let problems = &mut reading.problems;
            let before = problems.len();
            if let Some(fields) = Fields::open(other, path, what, Code::PolicyConfig, problems) {
                fields.close(&[], problems);
            }
            before == problems.len()
        }
    }
}
