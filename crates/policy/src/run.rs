//! A policy at work on one connection: a machine that runs until it has decided or needs something.

//!
//! Rules run one behind the other. A rule's expressions are evaluated in their order until one does not
//! hold, and its actions in theirs until one decides. Where something must be read first the machine
//! stops, and goes on from there: nothing is evaluated or taken twice.
//!
//! Must never: wait, do I/O, or forward when something failed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use portcullis_model::{Code, EndpointUrl, Error};
use serde_json::Value;

use crate::cel::{self, Scope};
use crate::decide::{Condition, Conn, Decision, Policy, Rule, Step};
use crate::defaults::{LOG_LINE_CHARS_MAX, LOG_LINES_MAX, RUN_UNITS_MAX};
use crate::document::quoted;
use crate::sniff::{First, Request};
use crate::tls::{Termination, TlsFacts};
use crate::world::{Bucket, World};

mod actions;
pub mod balance;
mod bandwidth;
mod forward;
mod ips;
mod limit;
mod outputs;
#[cfg(test)]
mod tests;
mod tls;

use outputs::Outputs;

/// What is known of the connection.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Its addresses.
    pub conn: Conn,
    /// The endpoint whose policy runs.
    pub endpoint: EndpointFacts<'a>,
    /// `conn.server_region`.
    pub region: &'a str,
    /// When it was accepted, in microseconds since 1970.
    pub started_micros: i64,
    /// `time.now`, the same.
    pub now_micros: i64,
    /// A random number of this connection, for `rand.*`.
    pub random: u64,
    /// What was needed and given.
    pub given: &'a Given,
}

/// The endpoint whose policy runs.
#[derive(Debug, Clone, Copy)]
pub struct EndpointFacts<'a> {
    /// `ep_…`
    pub id: &'a str,
    /// Its URL.
    pub url: &'a EndpointUrl,
}

/// What was needed and given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Given {
    /// For [`Need::First`]. Also set when the wait was over without bytes: then it is unknown.
    pub first: Option<First>,
    /// For [`Need::Request`]. `Some(None)`: what came is no HTTP.
    pub request: Option<Option<Request>>,
    /// For [`Need::Tls`], once TLS is terminated: from there on bytes are plaintext.
    pub tls: Option<Arc<TlsFacts>>,
}

/// What a run comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Give it and call again.
    Need(Need),
    /// Decided.
    Done(Decision),
}

/// What has to be read before the policy can go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// The client's first bytes, for at most so long; silence is an answer.
    First {
        /// How long to wait.
        wait: Duration,
    },
    /// A request's head of at most 16 KiB; silence beyond 10 s ends the connection.
    Request,
    /// TLS terminated as this says. A client that asks for it PostgreSQL's way is answered first. Where the
    /// handshake fails the connection ends.
    Tls(Arc<Termination>),
}

/// What `set-limits` set for the connection; the last one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetLimits {
    /// No byte in either direction for so long. Zero: for ever.
    pub idle: Option<Duration>,
    /// Accept to established.
    pub connect: Option<Duration>,
    /// Accept to the end. Zero: for ever.
    pub lifetime: Option<Duration>,
}

/// How fast `limit-bandwidth` lets bytes through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bandwidth {
    /// Shared by all connections with the same bucket; `None`: the connection's own.
    pub bucket: Option<Bucket>,
    /// Bytes in a second from the client; 0: any.
    pub upload: u64,
    /// Bytes in a second to the client; 0: any.
    pub download: u64,
    /// Bytes that may go at once after silence.
    pub burst: u64,
}

/// A policy at work.
#[derive(Default)]
pub struct Run {
    /// The rule, and how many of its conditions and actions are done with.
    rule: usize,
    conditions: usize,
    actions: usize,
    vars: BTreeMap<String, Value>,
    /// The bytes of each, and of all together.
    vars_bytes: BTreeMap<String, usize>,
    vars_bytes_sum: usize,
    outputs: Outputs,
    log: Vec<String>,
    /// Lines that the log does not hold.
    omitted: usize,
    explains: bool,
    logged: Vec<Value>,
    logged_count: usize,
    limits: SetLimits,
    bandwidths: Vec<Bandwidth>,
    /// The last that was asked for.
    asked_tls: Option<tls::AskedTls>,
    /// Units that its expressions and variables have cost.
    spent: u64,
    decided: Option<Decision>,
    target: forward::Progress,
}

/// Without its variables, and what actions left behind: they may come from secrets.
impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run")
            .field("rule", &self.rule)
            .field("conditions", &self.conditions)
            .field("actions", &self.actions)
            .field("limits", &self.limits)
            .field("spent", &self.spent)
            .finish_non_exhaustive()
    }
}

/// What a part of the policy came to.
enum Flow {
    /// It is done with.
    On,
    Need(Need),
    Done(Decision),
}

/// What a run is asked with.
#[derive(Clone, Copy)]
struct Asked<'a> {
    facts: &'a Facts<'a>,
    world: &'a dyn World,
}

impl Run {
    /// One whose log tells of every expression too, for `policy test`.
    pub fn explaining() -> Self {
        Self {
            explains: true,
            ..Self::default()
        }
    }

    /// Runs until something is needed or decided. Call again with what was needed in `facts.given`, and
    /// behind [`Self::failed`]. The policy must be the same each time.
    pub fn go(&mut self, policy: &Policy, facts: &Facts<'_>, world: &dyn World) -> Next {
        if let Some(decision) = &self.decided {
            return Next::Done(decision.clone());
        }
        let mut left = RUN_UNITS_MAX.saturating_sub(self.spent);
        let next = cel::within(&mut left, || self.advance(policy, Asked { facts, world }));
        self.spent = RUN_UNITS_MAX.saturating_sub(left);
        next
    }

    /// The endpoint of the last [`Decision::Forward`] cannot be reached, and its `on_error` is `continue` or
    /// there are further targets: the next [`Self::go`] chooses another or goes on behind the action.
    pub fn failed(&mut self, why: &Error) {
        if matches!(self.decided, Some(Decision::Forward { .. })) {
            self.decided = None;
            self.target.fail(why);
        }
    }

    /// What ran since the last call, one entry each such as `office only: restrict-ips allow 10.0.0.0/8`.
    pub fn take_log(&mut self) -> Vec<String> {
        let mut log = std::mem::take(&mut self.log);
        let omitted = std::mem::take(&mut self.omitted);
        if omitted > 0 {
            log.push(format!("and {omitted} more"));
        }
        log
    }

    /// What the action `log` noted since the last call.
    pub fn take_logged(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.logged)
    }

    /// What `limit-bandwidth` set so far.
    pub fn bandwidths(&self) -> &[Bandwidth] {
        &self.bandwidths
    }

    /// Units of work so far, of about 100 ns each: whether it is time to let others have the thread.
    pub fn spent(&self) -> u64 {
        self.spent
    }

    /// What `set-limits` set so far.
    pub fn limits(&self) -> SetLimits {
        self.limits
    }

    fn advance(&mut self, policy: &Policy, asked: Asked<'_>) -> Next {
        while let Some(rule) = policy.rules.get(self.rule) {
            match self.go_rule(rule, asked) {
                Flow::On => {
                    self.rule += 1;
                    self.conditions = 0;
                    self.actions = 0;
                }
                Flow::Need(need) => return Next::Need(need),
                Flow::Done(decision) => return self.decide(decision),
            }
        }
        self.decide(Decision::FallThrough)
    }

    fn decide(&mut self, decision: Decision) -> Next {
        self.decided = Some(decision.clone());
        Next::Done(decision)
    }

    fn go_rule(&mut self, rule: &Rule, asked: Asked<'_>) -> Flow {
        while let Some(condition) = rule.conditions.get(self.conditions) {
            match self.check(rule, condition, asked) {
                Ok(true) => self.conditions += 1,
                Ok(false) => return Flow::On,
                Err(flow) => return flow,
            }
        }
        if rule.names_request && self.actions == 0 {
            match asked.facts.given.request {
                None => return Flow::Need(Need::Request),
                Some(None) => {
                    self.explain(rule, || "does not match: what came is no HTTP".to_owned());
                    return Flow::On;
                }
                Some(Some(_)) => {}
            }
        }
        while let Some(action) = rule.actions.get(self.actions) {
            match self.act(rule, action, asked) {
                Flow::On => self.actions += 1,
                flow => return flow,
            }
        }
        Flow::On
    }

    /// Whether a condition holds.
    fn check(
        &mut self,
        rule: &Rule,
        condition: &Condition,
        asked: Asked<'_>,
    ) -> Result<bool, Flow> {
        if condition.expr.reads().request {
            match asked.facts.given.request {
                None => return Err(Flow::Need(Need::Request)),
                Some(None) => {
                    self.explain(rule, || "does not match: what came is no HTTP".to_owned());
                    return Ok(false);
                }
                Some(Some(_)) => {}
            }
        }
        let text = || quoted(condition.expr.text());
        match condition.expr.eval_bool(&self.scope(asked)) {
            Ok(holds) => {
                self.explain(rule, || format!("{} is {holds}", text()));
                Ok(holds)
            }
            Err(why) => {
                let path = format!("{}.expressions[{}]", rule.path, condition.place);
                Err(self.fails(rule, path, runtime(format!("{}: {why}", text()))))
            }
        }
    }

    fn scope<'a>(&'a self, asked: Asked<'a>) -> Scope<'a> {
        Scope {
            facts: asked.facts,
            world: asked.world,
            vars: &self.vars,
            outputs: self.outputs.tree(),
        }
    }

    /// Where the action that runs stands.
    fn step(&self) -> Step {
        // Rules and actions are far fewer than 65,536: `defaults.rs`.
        Step {
            rule: u16::try_from(self.rule).unwrap_or(u16::MAX),
            action: u16::try_from(self.actions).unwrap_or(u16::MAX),
        }
    }

    /// A place in the config of the action that runs.
    fn config_path(&self, rule: &Rule, below: &str) -> String {
        format!("{}.actions[{}].config.{below}", rule.path, self.actions)
    }

    fn fails(&mut self, rule: &Rule, path: String, error: Error) -> Flow {
        self.note(rule, &format!("failed: {}", error.message));
        Flow::Done(Decision::Failed { path, error })
    }

    /// Fails at a place in the config of the action that runs.
    fn fails_at(&mut self, rule: &Rule, below: &str, why: impl Into<String>) -> Flow {
        let path = self.config_path(rule, below);
        self.fails(rule, path, runtime(why.into()))
    }

    /// A line of the log. Texts of clients may be in it, so nothing in it moves a cursor.
    fn note(&mut self, rule: &Rule, what: &str) {
        if self.log.len() >= LOG_LINES_MAX && !self.explains {
            self.omitted += 1;
            return;
        }
        let line = format!("{}: {what}", rule.label);
        if line.len() <= LOG_LINE_CHARS_MAX && line.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            self.log.push(line);
            return;
        }
        let mut clean: String = line
            .chars()
            .take(LOG_LINE_CHARS_MAX)
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect();
        if line.chars().nth(LOG_LINE_CHARS_MAX).is_some() {
            clean.push('…');
        }
        self.log.push(clean);
    }

    fn explain(&mut self, rule: &Rule, what: impl FnOnce() -> String) {
        if self.explains {
            self.note(rule, &what());
        }
    }
}

fn runtime(why: String) -> Error {
    Error::new(Code::PolicyRuntime, why)
}
