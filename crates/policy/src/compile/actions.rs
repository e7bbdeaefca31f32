//! The actions of `on_tcp_connect` and their configs.

use std::sync::Arc;

use ipnet::IpNet;
use portcullis_model::url::{self, UrlRequest};
use portcullis_model::{Binding, Code, EndpointUrl};

use super::Notice;
use super::fields::Fields;
use super::problems::Problems;
use crate::cidr::{self, CidrSet};
use crate::decide::{Action, OnError, RestrictIps};
use crate::defaults::ENTRIES_MAX;
use crate::document::{Node, quoted};
use crate::suggest::nearest;

/// The actions that exist.
const ACTIONS: [&str; 4] = [
    "restrict-ips",
    "forward-internal",
    "deny",
    "close-connection",
];
/// ngrok's actions on TCP that do not exist here yet.
const LATER: [&str; 3] = ["log", "set-vars", "terminate-tls"];
/// ngrok's actions that need HTTP.
const HTTP: [&str; 22] = [
    "add-headers",
    "ai-gateway",
    "basic-auth",
    "circuit-breaker",
    "compress-response",
    "custom-response",
    "http-request",
    "jwt-validation",
    "oauth",
    "oidc",
    "openid-connect",
    "openid-connect-auth",
    "owasp-crs-request",
    "owasp-crs-response",
    "rate-limit",
    "redirect",
    "remove-headers",
    "request-body-find-replace",
    "response-body-find-replace",
    "saml",
    "url-rewrite",
    "verify-webhook",
];

/// What a policy may still use up.
#[derive(Debug)]
pub(crate) struct Budget {
    entries_left: usize,
    told: bool,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            entries_left: ENTRIES_MAX,
            told: false,
        }
    }
}

/// Reads one action; `None` when it has problems.
pub(crate) fn read(
    path: &str,
    node: Node,
    budget: &mut Budget,
    problems: &mut Problems,
    notices: &mut Vec<Notice>,
) -> Option<Action> {
    let mut fields = Fields::open(node, path, "an action", Code::PolicyUnparsable, problems)?;
    let kind = fields.take("type");
    let config = fields.take("config").unwrap_or(Node::Null);
    fields.close(&["type", "config"], problems);
    let kind = match kind {
        Some(Node::Text(kind)) => kind,
        Some(other) => {
            problems.add(
                Code::PolicyAction,
                &format!("{path}.type"),
                format!(
                    "the name of an action is expected, and this is {}",
                    other.what()
                ),
            );
            return None;
        }
        None => {
            problems.add(
                Code::PolicyAction,
                path,
                format!(
                    "the action has no `type`; the actions are {}",
                    ACTIONS.join(", ")
                ),
            );
            return None;
        }
    };
    let config_path = format!("{path}.config");
    match kind.as_str() {
        "restrict-ips" => restrict_ips(&config_path, config, budget, problems, notices),
        "forward-internal" => forward_internal(&config_path, config, problems),
        "deny" => no_config(&config_path, config, "deny on TCP", problems).then_some(Action::Deny),
        "close-connection" => no_config(&config_path, config, "close-connection", problems)
            .then_some(Action::CloseConnection),
        _ => {
            problems.add(
                Code::PolicyAction,
                &format!("{path}.type"),
                unknown_action(&kind),
            );
            None
        }
    }
}

fn unknown_action(kind: &str) -> String {
    let list = ACTIONS.join(", ");
    if LATER.contains(&kind) {
        return format!("the action `{kind}` is not supported yet; the actions are {list}");
    }
    if HTTP.contains(&kind) {
        return format!(
            "the action `{kind}` needs HTTP, and a TCP endpoint does not look into the bytes; the actions are {list}"
        );
    }
    match nearest(kind, &ACTIONS) {
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

fn no_config(path: &str, config: Node, what: &'static str, problems: &mut Problems) -> bool {
    match config {
        Node::Null => true,
        Node::Map(entries) if entries.is_empty() => true,
        other => {
            let before = problems.len();
            if let Some(fields) = Fields::open(other, path, what, Code::PolicyConfig, problems) {
                fields.close(&[], problems);
            }
            before == problems.len()
        }
    }
}

fn forward_internal(path: &str, config: Node, problems: &mut Problems) -> Option<Action> {
    if matches!(config, Node::Null) {
        problems.add(Code::PolicyConfig, path, "forward-internal needs a config with the `url` of an internal endpoint, such as `tcp://name.internal:5432`".to_owned());
        return None;
    }
    let mut fields = Fields::open(
        config,
        path,
        "the config of forward-internal",
        Code::PolicyConfig,
        problems,
    )?;
    let url = fields.take("url");
    let on_error = fields.take("on_error").unwrap_or(Node::Null);
    for (key, value) in
        ["endpoint_selectors", "endpoint_weights"].map(|key| (key, fields.take(key)))
    {
        if value.is_some_and(|value| value != Node::Null) {
            problems.add(
                Code::PolicyConfig,
                &format!("{path}.{key}"),
                "not supported yet; leave it out".to_owned(),
            );
        }
    }
    fields.close(&["url", "on_error"], problems);
    let on_error = read_on_error(&format!("{path}.on_error"), &on_error, problems);
    let url = read_target(path, url, problems);
    Some(Action::ForwardInternal {
        url: Arc::new(url?),
        on_error: on_error?,
    })
}

fn read_on_error(path: &str, node: &Node, problems: &mut Problems) -> Option<OnError> {
    match node {
        Node::Null => Some(OnError::Halt),
        Node::Text(word) if word == "halt" => Some(OnError::Halt),
        Node::Text(word) if word == "continue" => Some(OnError::Continue),
        other => {
            problems.add(
                Code::PolicyConfig,
                path,
                format!(
                    "`halt` or `continue` is expected, and this is {}",
                    other.what()
                ),
            );
            None
        }
    }
}

fn read_target(path: &str, node: Option<Node>, problems: &mut Problems) -> Option<EndpointUrl> {
    let path = format!("{path}.url");
    let text = match node {
        Some(Node::Text(text)) => text,
        Some(Node::Null) | None => {
            problems.add(
                Code::PolicyConfig,
                &path,
                "the URL of an internal endpoint is needed, such as `tcp://name.internal:5432`"
                    .to_owned(),
            );
            return None;
        }
        Some(other) => {
            problems.add(
                Code::PolicyConfig,
                &path,
                format!(
                    "the URL of an internal endpoint is expected, and this is {}",
                    other.what()
                ),
            );
            return None;
        }
    };
    if text.contains("${") {
        problems.add(
            Code::PolicyExpressions,
            &path,
            "expressions in text (`${…}`) are not supported yet; write the URL itself".to_owned(),
        );
        return None;
    }
    match url::parse(
        if text.is_empty() { "tcp://" } else { &text },
        Some(Binding::Internal),
    ) {
        Ok((_, UrlRequest::Exact(url))) if url.is_wildcard() => {
            problems.add(
                Code::PolicyConfig,
                &path,
                format!("`{url}` has a wildcard; name the endpoint to forward to in full"),
            );
            None
        }
        Ok((_, UrlRequest::Exact(url))) => Some(url),
        Ok((_, UrlRequest::Random | UrlRequest::Host(_))) => {
            problems.add(
                Code::PolicyConfig,
                &path,
                format!(
                    "{} has no port; write `tcp://name.internal:5432`",
                    quoted(&text)
                ),
            );
            None
        }
        Err(error) => {
            problems.add(Code::PolicyConfig, &path, error.message);
            None
        }
    }
}

fn restrict_ips(
    path: &str,
    config: Node,
    budget: &mut Budget,
    problems: &mut Problems,
    notices: &mut Vec<Notice>,
) -> Option<Action> {
    if matches!(config, Node::Null) {
        problems.add(
            Code::PolicyConfig,
            path,
            "restrict-ips needs a config with `allow`, a list of CIDRs".to_owned(),
        );
        return None;
    }
    let mut fields = Fields::open(
        config,
        path,
        "the config of restrict-ips",
        Code::PolicyConfig,
        problems,
    )?;
    let enforce = read_enforce(&format!("{path}.enforce"), fields.take("enforce"), problems);
    if fields
        .take("ip_policies")
        .is_some_and(|node| node != Node::Null && node != Node::List(Vec::new()))
    {
        problems.add(
            Code::PolicyConfig,
            &format!("{path}.ip_policies"),
            "IP policies are not supported yet; list the CIDRs in `allow` and `deny`".to_owned(),
        );
    }
    let allow = read_cidrs(
        &format!("{path}.allow"),
        fields.take("allow"),
        budget,
        problems,
    );
    let deny = read_cidrs(
        &format!("{path}.deny"),
        fields.take("deny"),
        budget,
        problems,
    );
    fields.close(&["enforce", "allow", "deny"], problems);
    let restrict = RestrictIps {
        enforce: enforce?,
        allow: allow?,
        deny: deny?,
    };
    if restrict.allow.is_empty() {
        let message = if restrict.deny.is_empty() {
            "`allow` and `deny` are empty, so no client gets in; list in `allow` who may"
        } else {
            "`deny` without `allow` lets no client in, as with ngrok (ERR_NGROK_393); add `allow: [0.0.0.0/0, \"::/0\"]` to let in all others"
        };
        notices.push(Notice {
            path: path.to_owned(),
            message: message.to_owned(),
        });
    }
    Some(Action::RestrictIps(restrict))
}

fn read_enforce(path: &str, node: Option<Node>, problems: &mut Problems) -> Option<bool> {
    match node {
        None | Some(Node::Null) => Some(true),
        Some(Node::Bool(value)) => Some(value),
        Some(other) => {
            problems.add(
                Code::PolicyConfig,
                path,
                format!(
                    "`true` or `false` is expected, and this is {}",
                    other.what()
                ),
            );
            None
        }
    }
}

/// Every entry is looked at, so that all faults are told at once.
fn read_cidrs(
    path: &str,
    node: Option<Node>,
    budget: &mut Budget,
    problems: &mut Problems,
) -> Option<CidrSet> {
    let items = match node {
        None | Some(Node::Null) => return Some(CidrSet::default()),
        Some(Node::List(items)) => items,
        Some(Node::Text(text)) => {
            problems.add(
                Code::PolicyConfig,
                path,
                format!(
                    "a list of CIDRs is expected, and this is the text {}; put it in brackets",
                    quoted(&text)
                ),
            );
            return None;
        }
        Some(other) => {
            problems.add(
                Code::PolicyConfig,
                path,
                format!("a list of CIDRs is expected, and this is {}", other.what()),
            );
            return None;
        }
    };
    match budget.entries_left.checked_sub(items.len()) {
        Some(left) => budget.entries_left = left,
        None if budget.told => return None,
        None => {
            budget.told = true;
            problems.add(
                Code::PolicyTooLarge,
                path,
                format!(
                    "with this list the policy has more than {ENTRIES_MAX} CIDRs; use wider ones"
                ),
            );
            return None;
        }
    }
    let networks: Vec<Option<IpNet>> = items
        .iter()
        .enumerate()
        .map(|(place, item)| read_cidr(path, place, item, problems))
        .collect();
    networks.into_iter().collect()
}

fn read_cidr(path: &str, place: usize, item: &Node, problems: &mut Problems) -> Option<IpNet> {
    let fault = match item {
        Node::Text(text) if text.contains("${") => {
            let message =
                "expressions in text (`${…}`) are not supported yet; write the CIDR itself"
                    .to_owned();
            problems.add(
                Code::PolicyExpressions,
                &format!("{path}[{place}]"),
                message,
            );
            return None;
        }
        Node::Text(text) => match cidr::parse(text) {
            Ok(network) => return Some(network),
            Err(fault) => fault,
        },
        other => format!(
            "a CIDR such as `10.0.0.0/8` is expected, and this is {}",
            other.what()
        ),
    };
    problems.add(Code::PolicyCidr, &format!("{path}[{place}]"), fault);
    None
}
