//! What a document compiles to: rules, their conditions, their actions.
//!
//! Must never: read a document (`compile` does), or run (`run` does).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use portcullis_model::EndpointUrl;
use portcullis_model::id::IpPolicyId;
use serde_json::Value;

use super::{DenyMode, OnError};
use crate::cel::{Expr, Reads, Scope, Template};
use crate::cidr::CidrSet;
use crate::tls::Termination;
use crate::world::{Rate, Strategy};

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The rule's name, or its place such as `on_tcp_connect[1]`.
    pub(crate) label: Arc<str>,
    /// Its place in the document, such as `on_tcp_connect[1]`.
    pub(crate) path: Arc<str>,
    /// All of them must hold. One that is always true is left out.
    pub(crate) conditions: Vec<Condition>,
    pub(crate) actions: Vec<Action>,
    /// Whether a condition or a text of its actions names `req`: then it does not match what is not HTTP.
    pub(crate) names_request: bool,
}

/// One of a rule's `expressions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    /// Which of the rule's expressions, from 0.
    pub(crate) place: usize,
    pub(crate) expr: Expr,
}

/// An action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    ForwardInternal {
        url: Arc<EndpointUrl>,
        on_error: OnError,
    },
    /// A forward whose target is not known before it runs.
    ForwardChosen(Box<Forward>),
    Deny(DenyMode),
    CloseConnection,
    RestrictIps(RestrictIps),
    Log(BTreeMap<String, Tree>),
    SetVars(Vec<(String, Tree)>),
    RateLimit(RateLimit),
    LimitConnections(LimitConnections),
    SetLimits {
        idle: Option<Duration>,
        connect: Option<Duration>,
        lifetime: Option<Duration>,
    },
    Respond(Reply),
    Sniff {
        wait: Duration,
    },
    TerminateTls(Terminate),
    LimitBandwidth(LimitBandwidth),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RestrictIps {
    pub(crate) enforce: bool,
    pub(crate) allow: CidrSet,
    pub(crate) deny: CidrSet,
    /// What is known only when it runs; absent where there is none of it.
    pub(crate) later: Option<Box<LaterIps>>,
}

/// The networks of `restrict-ips` that are known only when it runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LaterIps {
    /// Place in `allow`, and the text.
    pub(crate) allow: Vec<(usize, Template)>,
    /// The same of `deny`.
    pub(crate) deny: Vec<(usize, Template)>,
    pub(crate) policies: Vec<IpPolicyId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forward {
    /// What its round is remembered under.
    pub(crate) name: Arc<str>,
    pub(crate) targets: Vec<Target>,
    /// Of every target.
    pub(crate) weights: Vec<u32>,
    pub(crate) strategy: Strategy,
    pub(crate) on_error: OnError,
}

/// A target of `forward-internal`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Fixed(Arc<EndpointUrl>),
    /// With its place below `config`, such as `url` or `targets[1].url`.
    Text(String, Template),
    /// `reject: true`.
    Reject,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RateLimit {
    /// See [`crate::world::Bucket::action`].
    pub(crate) bucket: Arc<str>,
    pub(crate) rate: Rate,
    /// None: the client's IPv4 address, or the /64 of its IPv6 address.
    pub(crate) key: Option<Expr>,
    pub(crate) enforce: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LimitConnections {
    /// See [`crate::world::Bucket::action`].
    pub(crate) bucket: Arc<str>,
    pub(crate) most: u32,
    /// None: the client's IPv4 address, or the /64 of its IPv6 address.
    pub(crate) key: Option<Expr>,
}

/// What `limit-bandwidth` allows, in bytes per second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LimitBandwidth {
    /// See [`crate::world::Bucket::action`].
    pub(crate) bucket: Arc<str>,
    pub(crate) upload: Option<u64>,
    pub(crate) download: Option<u64>,
    /// None: what goes in a second.
    pub(crate) burst: Option<u64>,
    /// None: every connection has its own.
    pub(crate) key: Option<Expr>,
}

/// How `terminate-tls` terminates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Terminate {
    /// The same for every connection.
    Known(Arc<Termination>),
    /// With texts that are known only when it runs.
    Later(Box<LaterTls>),
}

/// A termination whose texts have `${…}` in them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct LaterTls {
    /// All that is known.
    pub(crate) known: Termination,
    /// Certificate and private key, if one of them is not known.
    pub(crate) pair: Option<(Template, Template)>,
    /// Place in the list, and text, of the authorities that are not known.
    pub(crate) authorities: Vec<(usize, Template)>,
}

/// Without the texts: a key may be in them.
impl std::fmt::Debug for LaterTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaterTls")
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}

/// What `custom-response` writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Bytes as they are.
    Bytes(Arc<[u8]>),
    Text(Template),
    Http {
        status: u16,
        headers: Vec<(String, Template)>,
        body: Template,
    },
}

/// A value with `${…}` in its texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tree {
    Value(Value),
    Text(Template),
    List(Vec<Self>),
    Map(BTreeMap<String, Self>),
}

impl Tree {
    /// Its value; the error is for people.
    pub(crate) fn eval(&self, scope: &Scope<'_>) -> Result<Value, String> {
        match self {
            Self::Value(value) => Ok(value.clone()),
            Self::Text(template) => template.eval(scope),
            Self::List(items) => items.iter().map(|item| item.eval(scope)).collect(),
            Self::Map(entries) => entries
                .iter()
                .map(|(key, value)| Ok((key.clone(), value.eval(scope)?)))
                .collect::<Result<serde_json::Map<_, _>, _>>()
                .map(Value::Object),
        }
    }

    fn each_reads(&self, tell: &mut dyn FnMut(&Reads)) {
        match self {
            Self::Value(_) => {}
            Self::Text(template) => tell(&template.reads()),
            Self::List(items) => items.iter().for_each(|item| item.each_reads(tell)),
            Self::Map(entries) => entries.values().for_each(|value| value.each_reads(tell)),
        }
    }
}

impl Rule {
    /// Whether it ends the policy for every connection that comes to it.
    pub(crate) fn is_terminating(&self) -> bool {
        self.conditions.is_empty()
            && !self.names_request
            && self.actions.iter().any(Action::is_terminating)
    }

    /// Whether a connection may have to wait here for an HTTP request.
    pub(crate) fn waits_for_request(&self) -> bool {
        self.names_request || self.actions.iter().any(Action::answers_http)
    }

    /// Everything that its expressions and texts name.
    pub(crate) fn each_reads(&self, tell: &mut dyn FnMut(&Reads)) {
        for condition in &self.conditions {
            tell(condition.expr.reads());
        }
        for action in &self.actions {
            action.each_reads(tell);
        }
    }
}

impl Action {
    /// Whether it ends the policy whatever happens.
    pub(crate) fn is_terminating(&self) -> bool {
        match self {
            Self::Deny(_) | Self::CloseConnection | Self::Respond(_) => true,
            Self::ForwardInternal { on_error, .. } => *on_error == OnError::Halt,
            Self::ForwardChosen(forward) => forward.on_error == OnError::Halt,
            Self::RestrictIps(_)
            | Self::Log(_)
            | Self::SetVars(_)
            | Self::RateLimit(_)
            | Self::LimitConnections(_)
            | Self::SetLimits { .. }
            | Self::Sniff { .. }
            | Self::TerminateTls(_)
            | Self::LimitBandwidth(_) => false,
        }
    }

    /// Whether it decides by the addresses alone.
    pub(crate) fn is_simple(&self) -> bool {
        match self {
            Self::ForwardInternal { .. } | Self::Deny(_) | Self::CloseConnection => true,
            Self::RestrictIps(restrict) => restrict.later.is_none(),
            Self::ForwardChosen(_)
            | Self::Log(_)
            | Self::SetVars(_)
            | Self::RateLimit(_)
            | Self::LimitConnections(_)
            | Self::SetLimits { .. }
            | Self::Respond(_)
            | Self::Sniff { .. }
            | Self::TerminateTls(_)
            | Self::LimitBandwidth(_) => false,
        }
    }

    /// Whether it answers with a status, and so only to a request.
    pub(crate) fn answers_http(&self) -> bool {
        matches!(self, Self::Respond(Reply::Http { .. }))
    }

    /// The internal endpoints that it names in full.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &EndpointUrl> {
        let (one, more) = match self {
            Self::ForwardInternal { url, .. } => (Some(url.as_ref()), None),
            Self::ForwardChosen(forward) => (None, Some(&forward.targets)),
            _ => (None, None),
        };
        let more = more
            .into_iter()
            .flatten()
            .filter_map(|target| match target {
                Target::Fixed(url) => Some(url.as_ref()),
                Target::Text(..) | Target::Reject => None,
            });
        one.into_iter().chain(more)
    }

    /// Everything that its expressions and texts name.
    pub(crate) fn each_reads(&self, tell: &mut dyn FnMut(&Reads)) {
        match self {
            Self::ForwardInternal { .. }
            | Self::Deny(_)
            | Self::CloseConnection
            | Self::SetLimits { .. }
            | Self::Sniff { .. }
            | Self::TerminateTls(Terminate::Known(_))
            | Self::Respond(Reply::Bytes(_)) => {}
            Self::ForwardChosen(forward) => {
                for target in &forward.targets {
                    if let Target::Text(_, template) = target {
                        tell(&template.reads());
                    }
                }
            }
            Self::RestrictIps(restrict) => {
                if let Some(later) = &restrict.later {
                    for (_, template) in later.allow.iter().chain(&later.deny) {
                        tell(&template.reads());
                    }
                }
            }
            Self::Log(metadata) => metadata.values().for_each(|tree| tree.each_reads(tell)),
            Self::SetVars(vars) => vars.iter().for_each(|(_, tree)| tree.each_reads(tell)),
            Self::RateLimit(RateLimit { key, .. })
            | Self::LimitConnections(LimitConnections { key, .. })
            | Self::LimitBandwidth(LimitBandwidth { key, .. }) => {
                key.iter().for_each(|key| tell(key.reads()));
            }
            Self::TerminateTls(Terminate::Later(later)) => {
                if let Some((certificate, key)) = &later.pair {
                    tell(&certificate.reads());
                    tell(&key.reads());
                }
                for (_, template) in &later.authorities {
                    tell(&template.reads());
                }
            }
            Self::Respond(Reply::Text(template)) => tell(&template.reads()),
            Self::Respond(Reply::Http { headers, body, .. }) => {
                headers
                    .iter()
                    .for_each(|(_, template)| tell(&template.reads()));
                tell(&body.reads());
            }
        }
    }
}
