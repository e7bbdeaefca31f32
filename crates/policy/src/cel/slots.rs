//! What the variables of an expression stand for, in policies and in filters.

use cel::Value as Cel;
use cel::common::ast::operators as op;
use serde_json::Value;

use super::check::Path;
use super::paths::{self, Kind};
use super::values::{from_json, moment, text, texts};
use super::{Reads, Scope};
use crate::suggest;

/// A value that is looked up before the expression is evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Slot {
    /// A variable with a fixed name, or the map of those below it.
    Known(String),
    /// Below `vars`.
    Vars(Vec<String>),
    /// Below `actions.ngrok`.
    Outputs(Vec<String>),
    /// The values of a header.
    Header(String),
    /// `secrets.get`: vault and name.
    Secret(String, String),
    /// A field of a filter's object; none: the object.
    Field(Vec<String>),
    /// A filter's `time.now`.
    Now,
}

impl Slot {
    /// The name of a slot for the interpreter. No text can spell it.
    pub(super) fn name(number: usize) -> String {
        format!("@s{number}")
    }

    /// The number in a slot's name.
    pub(super) fn number(name: &str) -> Option<usize> {
        name.strip_prefix("@s")?.parse().ok()
    }

    /// Whether its value is small whatever the client sends.
    pub(super) fn is_small(&self) -> bool {
        match self {
            Self::Known(path) => match paths::kind(path) {
                // As long as the client likes, up to the head, or the certificate, that is read.
                Some(Kind::Text) => !["req.", "conn.http.", "conn.minecraft.", "conn.tls."]
                    .iter()
                    .any(|long| path.starts_with(long)),
                Some(kind) => !matches!(kind, Kind::Texts | Kind::Maps | Kind::Headers),
                None => false,
            },
            Self::Now => true,
            _ => false,
        }
    }
}

/// A name that means nothing.
pub(super) struct Unknown {
    pub(super) name: String,
    pub(super) nearest: Option<String>,
}

/// Which names there are.
#[derive(Clone, Copy)]
pub(super) enum Names<'a> {
    /// Those of a connection.
    Policy,
    /// The fields of an object.
    Filter(&'a [&'a str]),
}

impl Names<'_> {
    pub(super) fn is_filter(self) -> bool {
        matches!(self, Self::Filter(_))
    }

    /// By which name the interpreter has an operator; `None`: it is not possible here.
    pub(super) fn operator(self, name: &str) -> Option<&str> {
        if !self.is_filter() {
            return Some(name);
        }
        Some(match name {
            op::EQUALS => "@eq",
            op::NOT_EQUALS => "@ne",
            op::LESS => "@lt",
            op::LESS_EQUALS => "@le",
            op::GREATER => "@gt",
            op::GREATER_EQUALS => "@ge",
            op::LOGICAL_AND | op::LOGICAL_OR | op::LOGICAL_NOT | op::IN => name,
            _ => return None,
        })
    }

    /// Whether a function is possible here.
    pub(super) fn has_function(self, name: &str) -> bool {
        const OF_FILTERS: &[&str] = &[
            "add",
            "contains",
            "duration",
            "endsWith",
            "size",
            "startsWith",
            "subtract",
            "timestamp",
        ];
        !self.is_filter() || OF_FILTERS.contains(&name)
    }

    /// The slot of a variable.
    pub(super) fn find(self, path: &Path, reads: &mut Reads) -> Result<Slot, Unknown> {
        match self {
            Self::Policy => of_policy(path, reads),
            Self::Filter(fields) => of_filter(path, fields),
        }
    }
}

fn unknown<'a>(name: String, known: impl Iterator<Item = &'a str>) -> Unknown {
    let known: Vec<&str> = known.collect();
    let nearest = suggest::nearest(&name, &known).map(str::to_owned);
    Unknown { name, nearest }
}

fn of_policy(path: &Path, reads: &mut Reads) -> Result<Slot, Unknown> {
    let name = path.names.join(".");
    match path.names.as_slice() {
        [root, rest @ ..] if root == "vars" => {
            match rest.first() {
                None => reads.all_vars = true,
                Some(var) if reads.vars.contains(var) => {}
                Some(var) => reads.vars.push(var.clone()),
            }
            Ok(Slot::Vars(rest.to_vec()))
        }
        // What `terminate-tls` leaves of certificates is what `conn.tls` has of them.
        [root, space, action, side, rest @ ..]
            if root == "actions"
                && space == "ngrok"
                && action == "terminate_tls"
                && (side == "client" || side == "server") =>
        {
            let below = if rest.is_empty() {
                String::new()
            } else {
                format!(".{}", rest.join("."))
            };
            let known = format!("conn.tls.{side}{below}");
            if paths::kind(&known).is_some() || paths::is_node(&known) {
                reads.tls = true;
                return Ok(Slot::Known(known));
            }
            let mut unknown = unknown(known, paths::all());
            unknown.name = name;
            Err(unknown)
        }
        [root, space, rest @ ..] if root == "actions" && space == "ngrok" => {
            // `limited` beside it tells no more than the decision does.
            reads.limit_key |= match rest {
                [] => true,
                [action, part, ..] => action == "rate_limit" && part == "key",
                [action] => action == "rate_limit",
            };
            Ok(Slot::Outputs(rest.to_vec()))
        }
        [root, headers, header] if root == "req" && headers == "headers" => {
            reads.request = true;
            Ok(Slot::Header(header.to_ascii_lowercase()))
        }
        [root, rest @ ..] if paths::kind(&name).is_some() || paths::is_node(&name) => {
            reads.request |= root == "req";
            reads.first |= root == "conn"
                && rest.first().is_some_and(|part| {
                    ["protocol", "sni", "alpn", "http", "minecraft"].contains(&part.as_str())
                });
            // The server's name is known by the first bytes as well.
            reads.tls |= root == "conn"
                && rest.first().is_some_and(|part| part == "tls")
                && name != "conn.tls.sni";
            Ok(Slot::Known(name))
        }
        _ => Err(unknown(name, paths::all())),
    }
}

fn of_filter(path: &Path, fields: &[&str]) -> Result<Slot, Unknown> {
    let name = path.names.join(".");
    if name == "time.now" {
        return Ok(Slot::Now);
    }
    let below = match path.names.as_slice() {
        [root, rest @ ..] if root == "obj" => rest,
        all => all,
    };
    // A field may be given as `principal.id`, and a field that is an object has parts of its own.
    let is_known = below.is_empty()
        || fields.iter().any(|field| {
            field
                .split('.')
                .zip(below)
                .all(|(known, typed)| known == typed)
        });
    if is_known {
        return Ok(Slot::Field(below.to_vec()));
    }
    let known = fields.iter().copied().chain(["obj", "time.now"]);
    let mut unknown = unknown(below.join("."), known);
    unknown.name = name;
    Err(unknown)
}

/// The part of a JSON value below some names; `None`: there is none.
fn part<'a>(value: Option<&'a Value>, names: &[String]) -> Option<&'a Value> {
    names
        .iter()
        .try_fold(value?, |value, name| value.as_object()?.get(name))
}

/// The value of a slot. The error is for people.
pub(super) fn look_up(slot: &Slot, test: bool, scope: &Scope<'_>) -> Result<Cel, String> {
    if test {
        // Of what may be large nothing is copied to see whether it is there.
        let found = match slot {
            Slot::Vars(names) => match names.split_first() {
                Some((name, rest)) => holds(part(scope.vars.get(name), rest)),
                None => !scope.vars.is_empty(),
            },
            Slot::Outputs(names) => holds(part(Some(scope.outputs), names)),
            slot => is_there(&look_up(slot, false, scope)?),
        };
        return Ok(Cel::Bool(found));
    }
    Ok(match slot {
        Slot::Known(path) => paths::value(path, scope),
        Slot::Vars(names) => match names.split_first() {
            Some((name, rest)) => json(part(scope.vars.get(name), rest)),
            None => super::values::map(
                scope
                    .vars
                    .iter()
                    .map(|(name, value)| (name.clone(), from_json(value))),
            ),
        },
        Slot::Outputs(names) => json(part(Some(scope.outputs), names)),
        Slot::Header(name) => texts(paths::headers(scope, name)),
        Slot::Secret(vault, name) => scope
            .world
            .secret(vault, name)
            .map(|secret| text(&*secret))
            .ok_or_else(|| format!("there is no secret `{name}` in a vault `{vault}`"))?,
        Slot::Field(_) | Slot::Now => Cel::Null,
    })
}

/// The value of a slot of a filter.
pub(super) fn look_up_field(slot: &Slot, test: bool, object: &Value, now_seconds: i64) -> Cel {
    let value = match slot {
        Slot::Field(names) => json(part(Some(object), names)),
        Slot::Now => moment(now_seconds.saturating_mul(1_000_000)),
        _ => Cel::Null,
    };
    if test {
        Cel::Bool(is_there(&value))
    } else {
        value
    }
}

fn json(value: Option<&Value>) -> Cel {
    value.map_or(Cel::Null, from_json)
}

/// What `has()` says of JSON.
fn holds(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(object)) => !object.is_empty(),
        Some(Value::Bool(_) | Value::Number(_)) => true,
    }
}

/// What `has()` says: absent data are empty.
fn is_there(value: &Cel) -> bool {
    match value {
        Cel::Null => false,
        Cel::String(text) => !text.is_empty(),
        Cel::List(list) => !list.is_empty(),
        Cel::Map(map) => !map.map.is_empty(),
        _ => true,
    }
}
