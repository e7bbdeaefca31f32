//! Deciding: the member's policy, and the policies of the internal endpoints that it forwards to, until
//! one denies or falls through to an upstream.
//!
//! Every `forward-internal` of a connection counts against one hop limit, whatever branch it was on:
//! that bounds the work, and ends loops.

use std::sync::Arc;

use portcullis_model::{EndpointType, EndpointUrl, Error};
use portcullis_policy::{Conn, Decision, OnError, Policy, Verdict};
use portcullis_store::{EndpointEntry, Snapshot};
use portcullis_telemetry::{CloseReason, Ended, Phase, SharedEndpoint};

use crate::connection::Record;
use crate::defaults::FORWARD_HOPS_MAX;
use crate::node::Node;
use crate::route::{self, Routed, Tries};

/// Why a branch of the decision came to nothing.
enum Failed {
    /// The connection ends, whatever `on_error` says.
    Final(Ended),
    /// The endpoint forwarded to cannot be reached; `on_error: continue` goes on.
    Unreachable(Ended),
}

struct Deciding<'a> {
    node: &'a Node,
    snapshot: &'a Snapshot,
    conn: Conn,
    tries: &'a Tries,
    record: &'a Record,
    hops: u32,
    /// Whether another member or branch could be tried if the one decided for fails.
    others: bool,
}

/// Runs the policies from the member that was routed, to the endpoint whose upstream serves it.
///
/// # Errors
/// What a policy or the hop limit ended the connection with.
pub(crate) fn decide(
    node: &Node,
    snapshot: &Snapshot,
    entry: Routed,
    conn: Conn,
    tries: &Tries,
    record: &Record,
) -> Result<Routed, Ended> {
    let others = entry.others;
    let mut deciding = Deciding {
        node,
        snapshot,
        conn,
        tries,
        record,
        hops: 0,
        others,
    };
    let decided = deciding.at(entry.endpoint);
    let (hops, others) = (deciding.hops, deciding.others);
    record.mark(Phase::Policy);
    match decided {
        Ok(endpoint) => {
            record.set_endpoint(Arc::clone(&endpoint) as SharedEndpoint, hops);
            Ok(Routed { endpoint, others })
        }
        Err(Failed::Final(ended) | Failed::Unreachable(ended)) => Err(ended),
    }
}

impl Deciding<'_> {
    fn at(&mut self, endpoint: Arc<EndpointEntry>) -> Result<Arc<EndpointEntry>, Failed> {
        let policy = match endpoint.policy() {
            Ok(Some(policy)) => Arc::clone(policy),
            Ok(None) => return fall_through(endpoint),
            Err(error) => {
                return Err(Failed::Final(Ended::with(
                    CloseReason::PolicyUndecided,
                    error.clone(),
                )));
            }
        };
        let mut verdict = policy.on_tcp_connect(&self.conn);
        loop {
            self.note(&endpoint, &policy, &verdict);
            let (url, on_error, step) = match verdict.decision {
                Decision::Forward {
                    url,
                    on_error,
                    step,
                } => (url, on_error, step),
                Decision::FallThrough => return fall_through(endpoint),
                ended => return Err(Failed::Final(refusal(&ended))),
            };
            match self.forward(&endpoint, &url) {
                Err(Failed::Unreachable(_)) if on_error == OnError::Continue => {
                    verdict = policy.resume_after(step, &self.conn);
                }
                forwarded => {
                    self.others |= on_error == OnError::Continue;
                    return forwarded;
                }
            }
        }
    }

    fn forward(
        &mut self,
        from: &EndpointEntry,
        url: &EndpointUrl,
    ) -> Result<Arc<EndpointEntry>, Failed> {
        if self.hops >= FORWARD_HOPS_MAX {
            return Err(Failed::Final(CloseReason::ForwardHopLimit.into()));
        }
        self.hops += 1;
        let missing = || {
            let reason = CloseReason::ForwardTargetMissing;
            let message = format!("`{url}` is not online in the account");
            Ended::with(
                reason,
                Error::new(portcullis_model::Code::ForwardTargetMissing, message),
            )
        };
        let pool = self
            .snapshot
            .internal(&from.account, url.host(), url.port());
        let pool = pool.ok_or_else(|| Failed::Unreachable(missing()))?;
        let member = route::member(self.node, pool, self.tries);
        let member = member.ok_or_else(|| Failed::Unreachable(self.tries.or_last(missing())))?;
        self.others |= member.others;
        self.at(member.endpoint)
    }

    fn note(&mut self, endpoint: &EndpointEntry, policy: &Policy, verdict: &Verdict) {
        if !verdict.log.is_empty() {
            self.record.add_policy(format!(
                "{}: {}",
                endpoint.url.hostport(),
                verdict.log.render(policy)
            ));
        }
    }
}

/// An agent endpoint goes to its upstream; a cloud endpoint has none.
fn fall_through(endpoint: Arc<EndpointEntry>) -> Result<Arc<EndpointEntry>, Failed> {
    match endpoint.kind {
        EndpointType::Agent => Ok(endpoint),
        EndpointType::Cloud => Err(Failed::Final(CloseReason::PolicyUndecided.into())),
    }
}

/// The end that a decision against the connection stands for.
fn refusal(decision: &Decision) -> Ended {
    let because = |reason: CloseReason, message: String| {
        let code = reason
            .code()
            .unwrap_or(portcullis_model::Code::PolicyDenied);
        Ended::with(reason, Error::new(code, message))
    };
    match decision {
        Decision::Deny { rule, .. } => {
            because(CloseReason::PolicyDenied, format!("`{rule}` denies"))
        }
        Decision::Close { rule } => because(
            CloseReason::PolicyClosed,
            format!("`{rule}` closes the connection"),
        ),
        Decision::Restricted {
            rule,
            matched: Some(network),
        } => because(
            CloseReason::IpRestricted,
            format!("`{rule}` denies {network}"),
        ),
        Decision::Restricted {
            rule,
            matched: None,
        } => because(
            CloseReason::IpRestricted,
            format!("`{rule}` allows no network of the client"),
        ),
        _ => CloseReason::PolicyUndecided.into(),
    }
}
