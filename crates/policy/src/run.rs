//! A policy at work on one connection: a machine that runs until it has decided or needs something.

use std::time::Duration;

use portcullis_model::{EndpointUrl, Error};

use crate::decide::{Conn, Decision, Policy};
use crate::sniff::{First, Request};
use crate::world::World;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The client's first bytes, for at most so long; silence is an answer.
    First {
        /// How long to wait.
        wait: Duration,
    },
    /// A request's head of at most 16 KiB; silence beyond 10 s ends the connection.
    Request,
}

/// What `set-limits` set for the connection; the last one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetLimits {
    /// No byte in either direction for so long. Zero: for ever.
    pub idle: Option<Duration>,
    /// Accept to established.
    pub connect: Option<Duration>,
}

/// A policy at work.
#[derive(Debug, Default)]
pub struct Run {}

impl Run {
    /// Runs until something is needed or decided. Call again with what was needed in `facts.given`, and
    /// behind [`Self::failed`].
    pub fn go(&mut self, policy: &Policy, facts: &Facts<'_>, _world: &dyn World) -> Next {
        Next::Done(policy.on_tcp_connect(&facts.conn).decision)
    }

    /// The endpoint of the last [`Decision::Forward`] cannot be reached, and its `on_error` is `continue` or
    /// there are further targets: the next [`Self::go`] chooses another or goes on behind the action.
    pub fn failed(&mut self, _why: &Error) {}

    /// What ran since the last call, one entry each such as `office only: restrict-ips allow 10.0.0.0/8`.
    pub fn take_log(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// What the action `log` noted since the last call.
    pub fn take_logged(&mut self) -> Vec<serde_json::Value> {
        Vec::new()
    }

    /// What `set-limits` set so far.
    pub fn limits(&self) -> SetLimits {
        SetLimits::default()
    }
}
