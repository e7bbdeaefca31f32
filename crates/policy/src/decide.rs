//! The compiled policy and its decision for one connection.
//!
//! Must never: allocate, fail, or look anything up while it decides by the addresses.

use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;
use portcullis_model::{Code, EndpointType, EndpointUrl, Error};

use crate::compile::{self, Notice};
use crate::tls::Termination;
use crate::trace::{Log, Ran};
use crate::uses::Uses;

mod actions;
#[cfg(test)]
mod tests;

pub(crate) use actions::{
    Action, Condition, Forward, LaterIps, LaterTls, LimitBandwidth, LimitConnections, RateLimit,
    Reply, RestrictIps, Rule, Target, Terminate, Tree,
};

/// A compiled policy. The default is the empty one, which falls through.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Those of `on_tcp_connect`, then those of `on_http_request`.
    pub(crate) rules: Vec<Rule>,
    pub(crate) notices: Vec<Notice>,
    /// Whether more than the addresses decides.
    needs_run: bool,
}

/// What `forward-internal` does when its target cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// The connection ends.
    #[default]
    Halt,
    /// The policy goes on behind the action: [`Policy::resume_after`].
    Continue,
}

/// What a policy knows of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conn {
    /// The client, as a trusted PROXY header names it, else the socket's peer.
    pub client: SocketAddr,
    /// The address that the client connected to.
    pub server: SocketAddr,
}

impl Conn {
    /// A connection from `client` to `server`.
    pub fn new(client: SocketAddr, server: SocketAddr) -> Self {
        Self { client, server }
    }
}

/// The place of an action in its policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    /// Which rule, from 0.
    pub rule: u16,
    /// Which action of it, from 0.
    pub action: u16,
}

/// What is written to a client. Its `Debug` tells the length alone: it may hold a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer(Arc<[u8]>);

impl<T: Into<Arc<[u8]>>> From<T> for Answer {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

impl Answer {
    /// The bytes.
    pub fn into_bytes(self) -> Arc<[u8]> {
        self.0
    }
}

impl std::ops::Deref for Answer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What is to become of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Hand it to an internal endpoint of the same account, whose policy runs next.
    Forward {
        /// The endpoint's URL.
        url: Arc<EndpointUrl>,
        /// What to do when that fails; for [`OnError::Continue`] ask [`Policy::resume_after`], or tell
        /// [`Run::failed`](crate::Run::failed). It is that also while there are other targets to try.
        on_error: OnError,
        /// Where in the policy this is.
        step: Step,
    },
    /// `deny` ran, or a target with `reject: true` was chosen: close it.
    Deny {
        /// The rule's name or place.
        rule: Arc<str>,
        /// How.
        mode: DenyMode,
    },
    /// `custom-response` ran: write these bytes, then close it.
    Respond {
        /// The rule's name or place.
        rule: Arc<str>,
        /// What to write.
        bytes: Answer,
        /// The HTTP status, if it is a response of HTTP.
        status: Option<u16>,
    },
    /// `rate-limit` or `limit-connections` has no more: close it.
    Limited {
        /// The rule's name or place.
        rule: Arc<str>,
        /// The one of the two.
        by: Limiter,
    },
    /// The policy answers HTTP, and the client speaks something else.
    NotHttp {
        /// The rule's name or place.
        rule: Arc<str>,
    },
    /// The policy failed: close it, and never forward.
    Failed {
        /// Where in the document, such as `on_tcp_connect[1].expressions[0]`.
        path: String,
        /// What failed.
        error: Error,
    },
    /// `close-connection` ran: close it.
    Close {
        /// The rule's name or place.
        rule: Arc<str>,
    },
    /// `restrict-ips` does not let the client in: close it.
    Restricted {
        /// The rule's name or place.
        rule: Arc<str>,
        /// The network in `deny` that holds the client; `None`: no network in `allow` does.
        matched: Option<IpNet>,
    },
    /// No action decided: an agent endpoint goes to its upstream.
    FallThrough,
}

/// How `deny` closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DenyMode {
    /// With FIN.
    #[default]
    Close,
    /// With RST.
    Reset,
    /// Not at once: the client waits so long for nothing, within the server's bound.
    Tarpit(std::time::Duration),
}

/// What limits connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limiter {
    /// `rate-limit`.
    Rate,
    /// `limit-connections`.
    Connections,
}

/// A decision and what ran on the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What is to become of the connection.
    pub decision: Decision,
    /// What ran.
    pub log: Log,
}

impl Policy {
    /// Reads, checks and compiles a document. An empty text is the empty policy.
    ///
    /// # Errors
    /// All problems at once, each with its path in the document, under the code of the problem
    /// (`PTC_POLICY_…`), or `PTC_POLICY_INVALID` when their codes differ.
    pub fn compile(text: &str, kind: EndpointType) -> Result<Self, Error> {
        compile::compile(text, kind)
    }

    /// The policy of `--cidr-allow` and `--cidr-deny`: a client gets in when it is in some `allow`
    /// (all are, where there is none) and in no `deny`. Two empty lists make the empty policy.
    pub fn from_cidrs(allow: &[IpNet], deny: &[IpNet]) -> Self {
        if allow.is_empty() && deny.is_empty() {
            return Self::default();
        }
        let everyone = [
            IpNet::V4(ipnet::Ipv4Net::default()),
            IpNet::V6(ipnet::Ipv6Net::default()),
        ];
        let allow = if allow.is_empty() { &everyone } else { allow };
        let restrict = RestrictIps {
            enforce: true,
            allow: allow.iter().copied().collect(),
            deny: deny.iter().copied().collect(),
            later: None,
        };
        let rule = Rule {
            label: Arc::from(crate::render::FLAGS_RULE_NAME),
            path: Arc::from(format!("{}[0]", compile::PHASE)),
            conditions: Vec::new(),
            actions: vec![Action::RestrictIps(restrict)],
            names_request: false,
        };
        Self::of(vec![rule], Vec::new())
    }

    pub(crate) fn of(rules: Vec<Rule>, notices: Vec<Notice>) -> Self {
        let simple = |rule: &Rule| {
            rule.conditions.is_empty()
                && !rule.names_request
                && rule.actions.iter().all(Action::is_simple)
        };
        Self {
            needs_run: !rules.iter().all(simple),
            rules,
            notices,
        }
    }

    /// Whether it decides at once by the addresses alone: [`Self::on_tcp_connect`] is all of it. Any other
    /// needs a [`Run`](crate::Run).
    pub fn is_simple(&self) -> bool {
        !self.needs_run
    }

    /// What it refers to.
    pub fn uses(&self) -> Uses {
        Uses::of(&self.rules)
    }

    /// Where the first part of it stands that uses what is meant, such as `on_tcp_connect[1].actions[0]`.
    pub fn place_of(&self, is_meant: &dyn Fn(&Uses) -> bool) -> Option<String> {
        Uses::place(&self.rules, is_meant)
    }

    /// What the writer of the document should know, though it works.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// Whether it has no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether every connection is decided, so that none falls through.
    pub fn is_terminating(&self) -> bool {
        self.rules.iter().any(Rule::is_terminating)
    }

    /// The internal endpoints that it names in full to forward to.
    pub fn targets(&self) -> impl Iterator<Item = &EndpointUrl> {
        self.actions().flat_map(Action::targets)
    }

    /// What its `terminate-tls` ask for, as far as that is known before a connection comes, so that whoever
    /// terminates can prepare for it. [`Need::Tls`](crate::Need::Tls) has the same pointers.
    pub fn terminations(&self) -> impl Iterator<Item = &Arc<Termination>> {
        self.actions().filter_map(|action| match action {
            Action::TerminateTls(Terminate::Known(termination)) => Some(termination),
            _ => None,
        })
    }

    /// Whether some connection may have its TLS terminated.
    pub fn may_terminate_tls(&self) -> bool {
        self.actions()
            .any(|action| matches!(action, Action::TerminateTls(_)))
    }

    fn actions(&self) -> impl Iterator<Item = &Action> {
        self.rules.iter().flat_map(|rule| &rule.actions)
    }

    /// Decides what becomes of a connection. A policy that is not simple fails here, so that this is no
    /// way around what it asks.
    pub fn on_tcp_connect(&self, conn: &Conn) -> Verdict {
        self.run(Step { rule: 0, action: 0 }, conn)
    }

    /// Goes on behind a `forward-internal` with `on_error: continue` that failed.
    pub fn resume_after(&self, step: Step, conn: &Conn) -> Verdict {
        self.run(
            Step {
                rule: step.rule,
                action: step.action.saturating_add(1),
            },
            conn,
        )
    }

    fn run(&self, start: Step, conn: &Conn) -> Verdict {
        let mut log = Log::default();
        if self.needs_run {
            let decision = needs_run();
            return Verdict { decision, log };
        }
        for (rule_place, rule) in (0_u16..).zip(&self.rules).skip(usize::from(start.rule)) {
            let first = if rule_place == start.rule {
                usize::from(start.action)
            } else {
                0
            };
            for (action_place, action) in (0_u16..).zip(&rule.actions).skip(first) {
                let step = Step {
                    rule: rule_place,
                    action: action_place,
                };
                let (ran, decision) = action.run(rule, step, conn);
                log.push(step, ran);
                if let Some(decision) = decision {
                    return Verdict { decision, log };
                }
            }
        }
        Verdict {
            decision: Decision::FallThrough,
            log,
        }
    }
}

/// What a policy that needs a [`Run`](crate::Run) decides without one.
fn needs_run() -> Decision {
    Decision::Failed {
        path: String::new(),
        error: Error::new(
            Code::PolicyRuntime,
            "the policy decides by more than addresses, and was asked for no more than that",
        ),
    }
}

impl Action {
    fn run(&self, rule: &Rule, step: Step, conn: &Conn) -> (Ran, Option<Decision>) {
        let label = || Arc::clone(&rule.label);
        match self {
            Self::ForwardInternal { url, on_error } => {
                let decision = Decision::Forward {
                    url: Arc::clone(url),
                    on_error: *on_error,
                    step,
                };
                (Ran::ForwardInternal, Some(decision))
            }
            Self::Deny(mode) => (
                Ran::Deny,
                Some(Decision::Deny {
                    rule: label(),
                    mode: *mode,
                }),
            ),
            Self::CloseConnection => (
                Ran::CloseConnection,
                Some(Decision::Close { rule: label() }),
            ),
            Self::RestrictIps(restrict) if restrict.later.is_none() => match restrict.refuses(conn)
            {
                Ok(matched) => (Ran::Allowed { matched }, None),
                Err(matched) if restrict.enforce => (
                    Ran::Restricted {
                        matched,
                        enforced: true,
                    },
                    Some(Decision::Restricted {
                        rule: label(),
                        matched,
                    }),
                ),
                Err(matched) => (
                    Ran::Restricted {
                        matched,
                        enforced: false,
                    },
                    None,
                ),
            },
            // `Policy::run` begins with nothing but simple actions.
            _ => (Ran::CloseConnection, Some(needs_run())),
        }
    }
}

impl RestrictIps {
    /// The network in `allow` that lets the client in, or the one in `deny`, if any, that keeps it out.
    fn refuses(&self, conn: &Conn) -> Result<IpNet, Option<IpNet>> {
        let client = conn.client.ip();
        match self.deny.find(client) {
            Some(denied) => Err(Some(denied)),
            None => self.allow.find(client).ok_or(None),
        }
    }
}
