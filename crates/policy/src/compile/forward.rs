//! `forward-internal`: one target, or several to choose from.

use std::sync::Arc;

use portcullis_model::url::{self, UrlRequest};
use portcullis_model::{Binding, Code, EndpointUrl};

use super::actions::counted;
use super::fields::Fields;
use super::{Reading, values};
use crate::decide::{Action, Forward, OnError, Target};
use crate::defaults::{TARGETS_MAX, WEIGHT_MAX};
use crate::document::{Node, quoted};
use crate::suggest::nearest;
use crate::world::Strategy;

const STRATEGIES: [(&str, Strategy); 4] = [
    ("weighted", Strategy::Weighted),
    ("least-connections", Strategy::LeastConnections),
    ("random-two", Strategy::RandomTwo),
    ("hash-client-ip", Strategy::HashClientIp),
];

pub(super) fn read(path: &str, name: &str, config: Node, reading: &mut Reading) -> Option<Action> {
    let mut fields = values::config(
        path,
        config,
        ("forward-internal", "the config of forward-internal"),
        "the `url` of an internal endpoint, such as `tcp://name.internal:5432`",
        reading,
    )?;
    let url = fields.take("url").filter(|node| *node != Node::Null);
    let targets = fields.take("targets").filter(|node| *node != Node::Null);
    let strategy = fields.take("strategy").unwrap_or(Node::Null);
    let on_error = fields.take("on_error").unwrap_or(Node::Null);
    values::not_yet(
        path,
        &["endpoint_selectors", "endpoint_weights"],
        &mut fields,
        reading,
    );
    fields.close(
        &["url", "on_error", "targets", "strategy"],
        &mut reading.problems,
    );
    let on_error = read_on_error(&format!("{path}.on_error"), &on_error, reading);
    let Some(targets) = targets else {
        if strategy != Node::Null {
            let message = "`strategy` chooses among `targets`, and there are none".to_owned();
            let path = format!("{path}.strategy");
            reading.problems.add(Code::PolicyConfig, &path, message);
        }
        let target = read_url(&format!("{path}.url"), "url", url, reading);
        return one(target?, on_error?, path, name, reading);
    };
    if url.is_some() {
        let message = "`url` and `targets` stand together; use one of them".to_owned();
        reading.problems.add(Code::PolicyConfig, path, message);
    }
    let strategy = read_strategy(&format!("{path}.strategy"), &strategy, reading);
    let (targets, weights) = read_targets(&format!("{path}.targets"), targets, reading)?;
    Some(Action::ForwardChosen(Box::new(Forward {
        name: counted(name, path, reading),
        targets,
        weights,
        strategy: strategy?,
        on_error: on_error?,
    })))
}

fn one(
    target: Target,
    on_error: OnError,
    path: &str,
    name: &str,
    reading: &mut Reading,
) -> Option<Action> {
    Some(match target {
        Target::Fixed(url) => Action::ForwardInternal { url, on_error },
        other => Action::ForwardChosen(Box::new(Forward {
            name: counted(name, path, reading),
            targets: vec![other],
            weights: vec![1],
            strategy: Strategy::Weighted,
            on_error,
        })),
    })
}

fn read_on_error(path: &str, node: &Node, reading: &mut Reading) -> Option<OnError> {
    match node {
        Node::Null => Some(OnError::Halt),
        Node::Text(word) if word == "halt" => Some(OnError::Halt),
        Node::Text(word) if word == "continue" => Some(OnError::Continue),
        other => values::wrong(path, other, "`halt` or `continue`", reading),
    }
}

fn read_strategy(path: &str, node: &Node, reading: &mut Reading) -> Option<Strategy> {
    let text = match node {
        Node::Null => return Some(Strategy::default()),
        Node::Text(text) => text,
        other => return values::wrong(path, other, "the name of a strategy", reading),
    };
    let found = STRATEGIES.iter().find(|(name, _)| name == text);
    if found.is_none() {
        let names = STRATEGIES.map(|(name, _)| name);
        let message = match nearest(text, &names) {
            Some(meant) => format!(
                "there is no strategy {}; did you mean `{meant}`?",
                quoted(text)
            ),
            None => format!(
                "there is no strategy {}; the strategies are {}",
                quoted(text),
                names.join(", ")
            ),
        };
        reading.problems.add(Code::PolicyConfig, path, message);
    }
    found.map(|(_, strategy)| *strategy)
}

fn read_targets(path: &str, node: Node, reading: &mut Reading) -> Option<(Vec<Target>, Vec<u32>)> {
    let items = match node {
        Node::List(items) if !items.is_empty() && items.len() <= TARGETS_MAX => items,
        Node::List(items) if items.is_empty() => {
            let message = "there are no targets; list at least one `{ url, weight }`".to_owned();
            reading.problems.add(Code::PolicyConfig, path, message);
            return None;
        }
        Node::List(items) => {
            let message = format!(
                "there are {} targets; at most {TARGETS_MAX} are possible",
                items.len()
            );
            reading.problems.add(Code::PolicyTooLarge, path, message);
            return None;
        }
        other => return values::wrong(path, &other, "a list of targets", reading),
    };
    let read: Vec<Option<(Target, u32)>> = items
        .into_iter()
        .enumerate()
        .map(|(place, item)| read_target(path, place, item, reading))
        .collect();
    let read: Vec<(Target, u32)> = read.into_iter().collect::<Option<_>>()?;
    let (targets, weights): (Vec<Target>, Vec<u32>) = read.into_iter().unzip();
    if weights.iter().all(|weight| *weight == 0) {
        let message = "every weight is 0, so no target would ever be chosen".to_owned();
        reading.problems.add(Code::PolicyConfig, path, message);
        return None;
    }
    Some((targets, weights))
}

fn read_target(
    path: &str,
    place: usize,
    node: Node,
    reading: &mut Reading,
) -> Option<(Target, u32)> {
    let path = format!("{path}[{place}]");
    let problems = &mut reading.problems;
    let mut fields = Fields::open(node, &path, "a target", Code::PolicyConfig, problems)?;
    let url = fields.take("url").filter(|node| *node != Node::Null);
    let reject = fields.take("reject");
    let weight = fields.take("weight").unwrap_or(Node::Number(1.into()));
    fields.close(&["url", "weight", "reject"], problems);
    let weight = values::whole(&format!("{path}.weight"), &weight, (0, WEIGHT_MAX), reading);
    let reject = values::boolean(&format!("{path}.reject"), reject, false, reading)?;
    let target = if !reject {
        let key = format!("targets[{place}].url");
        read_url(&format!("{path}.url"), &key, url, reading)?
    } else if url.is_some() {
        let message = "a target has a `url` or `reject: true`, not both".to_owned();
        reading.problems.add(Code::PolicyConfig, &path, message);
        return None;
    } else {
        Target::Reject
    };
    Some((target, weight?))
}

/// `key` is where it stands below the config.
fn read_url(path: &str, key: &str, node: Option<Node>, reading: &mut Reading) -> Option<Target> {
    let Some(node) = node else {
        let message =
            "the URL of an internal endpoint is needed, such as `tcp://name.internal:5432`";
        reading
            .problems
            .add(Code::PolicyConfig, path, message.to_owned());
        return None;
    };
    let text = values::text(path, node, "the URL of an internal endpoint", reading)?;
    let template = values::template(path, &text, reading)?;
    let Some(literal) = template.literal() else {
        return Some(Target::Text(key.to_owned(), template));
    };
    match internal_url(literal) {
        Ok(url) => Some(Target::Fixed(Arc::new(url))),
        Err(message) => {
            reading.problems.add(Code::PolicyConfig, path, message);
            None
        }
    }
}

/// The URL of one internal endpoint, or what is wrong with it.
pub(crate) fn internal_url(text: &str) -> Result<EndpointUrl, String> {
    let asked = if text.is_empty() { "tcp://" } else { text };
    match url::parse(asked, Some(Binding::Internal)) {
        Ok((_, UrlRequest::Exact(url))) if url.is_wildcard() => Err(format!(
            "`{url}` has a wildcard; name the endpoint to forward to in full"
        )),
        Ok((_, UrlRequest::Exact(url))) => Ok(url),
        Ok(_) => Err(format!(
            "{} has no port; write `tcp://name.internal:5432`",
            quoted(text)
        )),
        Err(error) => Err(error.message),
    }
}
