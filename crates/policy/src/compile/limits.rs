//! `rate-limit`, `limit-connections`, `set-limits` and `sniff`.

use std::sync::Arc;
use std::time::Duration;

use portcullis_model::Code;

use super::actions::counted;
use super::fields::Fields;
use super::{Reading, values};
use crate::decide::{Action, LimitConnections, RateLimit};
use crate::defaults::{
    CONNECT_TIMEOUT_MAX, IDLE_TIMEOUT_MAX, LIFETIME_MAX, LIMIT_MAX, RATE_INTERVAL_MAX, SNIFF_WAIT,
    SNIFF_WAIT_MAX,
};
use crate::document::Node;
use crate::world::Rate;

const LEAST: Duration = Duration::from_millis(1);

pub(super) fn rate(
    path: &str,
    name: &str,
    config: Node,
    reading: &mut Reading,
) -> Option<RateLimit> {
    let mut fields = values::config(
        path,
        config,
        ("rate-limit", "the config of rate-limit"),
        "`capacity` and `interval`, such as `{ capacity: 10, interval: 1m }`",
        reading,
    )?;
    let given = fields.take("name").filter(|node| *node != Node::Null);
    let capacity = fields.take("capacity").unwrap_or(Node::Null);
    let interval = fields.take("interval").unwrap_or(Node::Null);
    let (key, enforce) = (fields.take("key"), fields.take("enforce"));
    for (theirs, ours) in [("rate", "interval"), ("bucket_key", "key")] {
        if fields.take(theirs).is_some() {
            let message = format!("limits of connections have `{ours}` in its place");
            let path = format!("{path}.{theirs}");
            reading.problems.add(Code::PolicyConfig, &path, message);
        }
    }
    fields.close(
        &["name", "capacity", "interval", "key", "enforce"],
        &mut reading.problems,
    );
    let bucket = match given {
        Some(node) => values::given_name(&format!("{path}.name"), node, reading).map(Arc::from),
        None => Some(counted(name, path, reading)),
    };
    let capacity = values::whole(
        &format!("{path}.capacity"),
        &capacity,
        (1, LIMIT_MAX),
        reading,
    );
    let bounds = (LEAST, RATE_INTERVAL_MAX);
    let interval = values::duration(&format!("{path}.interval"), &interval, bounds, reading);
    let key = values::key(path, key, reading);
    if let Some(Some(key)) = &key {
        reading.flows.sets_limit_key(key.reads());
    }
    let enforce = values::boolean(&format!("{path}.enforce"), enforce, true, reading);
    Some(RateLimit {
        bucket: bucket?,
        rate: Rate {
            capacity: capacity?,
            per_micros: u64::try_from(interval?.as_micros()).ok()?,
        },
        key: key?,
        enforce: enforce?,
    })
}

pub(super) fn connections(
    path: &str,
    name: &str,
    config: Node,
    reading: &mut Reading,
) -> Option<LimitConnections> {
    let mut fields = values::config(
        path,
        config,
        ("limit-connections", "the config of limit-connections"),
        "`max`, how many may be open at once",
        reading,
    )?;
    let most = fields.take("max").unwrap_or(Node::Null);
    let key = fields.take("key");
    fields.close(&["max", "key"], &mut reading.problems);
    let most = values::whole(&format!("{path}.max"), &most, (1, LIMIT_MAX), reading);
    let key = values::key(path, key, reading);
    Some(LimitConnections {
        bucket: counted(name, path, reading),
        most: most?,
        key: key?,
    })
}

pub(super) fn set_limits(path: &str, config: Node, reading: &mut Reading) -> Option<Action> {
    let needs = "`idle_timeout`, `connect_timeout` or `max_lifetime`";
    let mut fields = values::config(
        path,
        config,
        ("set-limits", "the config of set-limits"),
        needs,
        reading,
    )?;
    let mut take = |key| fields.take(key).filter(|node| *node != Node::Null);
    let (idle, connect) = (take("idle_timeout"), take("connect_timeout"));
    let lifetime = take("max_lifetime");
    let known = ["idle_timeout", "connect_timeout", "max_lifetime"];
    fields.close(&known, &mut reading.problems);
    if idle.is_none() && connect.is_none() && lifetime.is_none() {
        let message = format!("set-limits needs {needs}");
        reading.problems.add(Code::PolicyConfig, path, message);
        return None;
    }
    let mut read = |key: &str, node: Option<Node>, bounds| match node {
        None => Some(None),
        Some(node) => values::duration(&format!("{path}.{key}"), &node, bounds, reading).map(Some),
    };
    let idle = read("idle_timeout", idle, (Duration::ZERO, IDLE_TIMEOUT_MAX));
    let connect = read("connect_timeout", connect, (LEAST, CONNECT_TIMEOUT_MAX));
    let lifetime = read("max_lifetime", lifetime, (Duration::ZERO, LIFETIME_MAX));
    Some(Action::SetLimits {
        idle: idle?,
        connect: connect?,
        lifetime: lifetime?,
    })
}

pub(super) fn sniff(path: &str, config: Node, reading: &mut Reading) -> Option<Action> {
    if matches!(config, Node::Null) {
        return Some(Action::Sniff { wait: SNIFF_WAIT });
    }
    let problems = &mut reading.problems;
    let mut fields = Fields::open(
        config,
        path,
        "the config of sniff",
        Code::PolicyConfig,
        problems,
    )?;
    let timeout = fields.take("timeout").filter(|node| *node != Node::Null);
    fields.close(&["timeout"], problems);
    let Some(timeout) = timeout else {
        return Some(Action::Sniff { wait: SNIFF_WAIT });
    };
    let path = format!("{path}.timeout");
    let wait = values::duration(&path, &timeout, (LEAST, SNIFF_WAIT_MAX), reading)?;
    Some(Action::Sniff { wait })
}
