//! Deciding: the member's policy, and the policies of the internal endpoints that it forwards to, until
//! one refuses or falls through to an upstream.
//!
//! A policy that decides by addresses alone decides at once. Any other is a [`Run`], which may need
//! something of the client first; then the story waits for it and goes on.
//!
//! Every `forward-internal` of a connection counts against one hop limit, whatever branch it was on:
//! that bounds the work, and ends loops.

use std::sync::Arc;

use portcullis_model::{Code, EndpointType, EndpointUrl, Error};
use portcullis_policy::{
    Bandwidth, Conn, Decision, EndpointFacts, Facts, Need, Next, OnError, Policy, Run, SetLimits,
    Step,
};
use portcullis_store::{EndpointEntry, Snapshot};
use portcullis_telemetry::{CloseReason, Ended, Phase, SharedEndpoint};

use crate::connection::Record;
use crate::defaults::{FORWARD_HOPS_MAX, POLICY_UNITS_AT_ONCE};
use crate::early::Early;
use crate::farewell::Refused;
use crate::node::Node;
use crate::reads::Waiting;
use crate::refusal::refusal;
use crate::route::{self, Routed, Tries};
use crate::source::Source;
use crate::terminate;
use crate::world::{EdgeWorld, Known};

/// What the decision is made of.
#[derive(Clone, Copy)]
pub(crate) struct Grounds<'a> {
    pub(crate) node: &'a Node,
    pub(crate) snapshot: &'a Snapshot,
    conn: Conn,
    tries: &'a Tries,
    pub(crate) record: &'a Record,
}

impl<'a> Grounds<'a> {
    /// Those of a connection.
    pub(crate) fn of(
        node: &'a Node,
        snapshot: &'a Snapshot,
        source: Source,
        tries: &'a Tries,
        record: &'a Record,
    ) -> Self {
        Self {
            node,
            snapshot,
            conn: Conn::new(source.client, source.server),
            tries,
            record,
        }
    }

    /// The member that a request to cancel would go to now. One that was not decided on must let the client in by
    /// its own policy, and that by addresses alone: nobody has run it.
    pub(crate) fn cancelled(
        &self,
        entry: &EndpointEntry,
        known: &Known,
        decided: Option<&Arc<EndpointEntry>>,
    ) -> Option<&'a Arc<EndpointEntry>> {
        let key = known.cancel().filter(|_| !known.has_cancelled)?;
        let cancels = &self.node.cancels;
        let id = cancels.find(cancels.pool_of(entry), key)?;
        let member = self.snapshot.endpoint_by_id(&id)?;
        let is_decided = decided.is_some_and(|decided| decided.id == id) || entry.id == id;
        let lets_in = || match member.policy() {
            Ok(None) => true,
            Ok(Some(policy)) if policy.is_simple() => {
                policy.on_tcp_connect(&self.conn).decision == Decision::FallThrough
            }
            Ok(Some(_)) | Err(_) => false,
        };
        (is_decided || lets_in()).then_some(member)
    }

    /// Whether the registry has changed since.
    fn is_outdated(&self) -> bool {
        self.node.registry.snapshot().revision() != self.snapshot.revision()
    }
}

/// The endpoint whose upstream serves the connection.
pub(crate) struct Decided {
    pub(crate) endpoint: Arc<EndpointEntry>,
    /// Whether another member or branch could be tried if this one fails.
    pub(crate) others: bool,
    /// What the policies on the way set.
    pub(crate) limits: SetLimits,
    /// The same of bandwidth.
    pub(crate) bandwidths: Vec<Bandwidth>,
    /// What the client reached: the pool that has this as a member.
    pub(crate) entry: Arc<EndpointEntry>,
}

/// Runs the policies from the member that was routed, to the endpoint whose upstream serves it.
///
/// `None`: the client was waited for, and meanwhile the registry changed. Then it is to be decided afresh: who
/// waits through a change must not get in by what was valid before it. That comes to an end, because nothing
/// is waited for twice.
///
/// # Errors
/// What a policy, the hop limit or a client that was waited for ended the connection with.
pub(crate) async fn decide(
    grounds: Grounds<'_>,
    entry: Routed,
    known: &mut Known,
    mut waiting: Waiting<'_>,
) -> Result<Option<Decided>, Refused> {
    let mut deciding = Deciding::at(grounds, entry);
    let decided = loop {
        match deciding.go(known) {
            Turn::Need(need) => {
                if let Some(connect) = deciding.limits.connect.filter(|it| !it.is_zero()) {
                    waiting.set_connect_timeout(connect);
                }
                let asks_tls = matches!(need, Need::Tls(_));
                // Boxed: a connection whose policies need nothing makes no room for it.
                let got = deciding.get(need, &mut waiting, known);
                if let Err(refused) = Box::pin(got).await {
                    break Err(refused);
                }
                if grounds.is_outdated() {
                    return Ok(None);
                }
                if let Some(endpoint) = deciding.cancels(known, None, waiting.early) {
                    break Ok(endpoint);
                }
                // Only a request to cancel is let by without its handshake, and that was not to be sent on.
                if asks_tls && known.given.tls.is_none() {
                    break Err(CloseReason::Internal.into());
                }
            }
            // Not a wait: nothing is awaited but the others' turn, at most once for each hop.
            Turn::Pause => tokio::task::yield_now().await,
            Turn::Done(Ok(decided)) => {
                let cancels = deciding.cancels(known, Some(&decided), waiting.early);
                break Ok(cancels.unwrap_or(decided));
            }
            Turn::Done(refused) => break refused,
        }
    };
    grounds.record.mark(Phase::Policy);
    let endpoint = decided?;
    let shared = Arc::clone(&endpoint) as SharedEndpoint;
    grounds.record.set_endpoint(shared, deciding.hops);
    Ok(Some(Decided {
        endpoint,
        others: deciding.others || !deciding.behind.is_empty(),
        limits: deciding.limits,
        bandwidths: deciding.bandwidths,
        entry: deciding.entry,
    }))
}

/// What going on came to.
enum Turn {
    /// This has to be read first.
    Need(Need),
    /// Enough was worked at once; go on when others have had their turn.
    Pause,
    /// The endpoint that serves the connection, or the end.
    Done(Result<Arc<EndpointEntry>, Refused>),
}

struct Deciding<'a> {
    grounds: Grounds<'a>,
    entry: Arc<EndpointEntry>,
    /// The endpoint whose policy runs.
    now: Running,
    /// Endpoints that forwarded to it, the first one first, as far as they go on when it fails.
    behind: Vec<Running>,
    hops: u32,
    others: bool,
    limits: SetLimits,
    bandwidths: Vec<Bandwidth>,
    /// Units that the policies before this one have cost.
    spent_before: u64,
    /// How many that were when others last had their turn.
    paused_at: u64,
}

/// An endpoint whose policy runs.
struct Running {
    endpoint: Arc<EndpointEntry>,
    at: Place,
    /// What was set before it began.
    limits: SetLimits,
    /// How many limits of bandwidth there were before it began.
    bandwidths: usize,
}

/// Where in its policy it is.
enum Place {
    Begin,
    /// Behind a `forward-internal` that failed.
    Behind(Step),
    Within(Box<Run>),
}

impl Running {
    fn begin(endpoint: Arc<EndpointEntry>, limits: SetLimits, bandwidths: usize) -> Self {
        Self {
            endpoint,
            at: Place::Begin,
            limits,
            bandwidths,
        }
    }

    fn spent(&self) -> u64 {
        match &self.at {
            Place::Within(run) => run.spent(),
            Place::Begin | Place::Behind(_) => 0,
        }
    }
}

impl<'a> Deciding<'a> {
    fn at(grounds: Grounds<'a>, entry: Routed) -> Self {
        Self {
            grounds,
            entry: Arc::clone(&entry.endpoint),
            now: Running::begin(entry.endpoint, SetLimits::default(), 0),
            behind: Vec::new(),
            hops: 0,
            others: entry.others,
            limits: SetLimits::default(),
            spent_before: 0,
            paused_at: 0,
            bandwidths: Vec::new(),
        }
    }

    /// Gets what the policy that runs needs.
    async fn get(
        &self,
        need: Need,
        waiting: &mut Waiting<'_>,
        known: &mut Known,
    ) -> Result<(), Refused> {
        match need {
            Need::Tls(termination) => {
                let wanted = terminate::Wanted {
                    account: &self.now.endpoint.account,
                    entry: &self.entry,
                    termination: &termination,
                };
                terminate::terminate(self.grounds, wanted, waiting, known).await
            }
            need => Ok(waiting.get(need, &mut known.given).await?),
        }
    }

    /// Goes on until something is needed or all is decided.
    fn go(&mut self, known: &mut Known) -> Turn {
        loop {
            let spent = self.spent();
            if spent > POLICY_UNITS_AT_ONCE.saturating_add(self.paused_at) {
                self.paused_at = spent;
                return Turn::Pause;
            }
            let decision = match self.next(known) {
                Ok(Next::Done(decision)) => decision,
                Ok(Next::Need(need)) => return Turn::Need(need),
                Err(ended) => return Turn::Done(Err(ended.into())),
            };
            match decision {
                Decision::Forward {
                    url,
                    on_error,
                    step,
                } => {
                    if let Err(ended) = self.forward(&url, on_error, step) {
                        return Turn::Done(Err(ended.into()));
                    }
                }
                Decision::FallThrough => return Turn::Done(self.fall_through()),
                against => return Turn::Done(Err(refusal(against))),
            }
        }
    }

    /// Units that its policies have cost so far.
    fn spent(&self) -> u64 {
        self.spent_before.saturating_add(self.now.spent())
    }

    /// What the policy says now.
    fn next(&mut self, known: &mut Known) -> Result<Next, Ended> {
        let endpoint = Arc::clone(&self.now.endpoint);
        let policy = match endpoint.policy() {
            Ok(Some(policy)) => policy,
            Ok(None) => return Ok(Next::Done(Decision::FallThrough)),
            Err(error) => {
                return Err(Ended::with(CloseReason::PolicyUndecided, error.clone()));
            }
        };
        let verdict = match &self.now.at {
            Place::Begin if policy.is_simple() => policy.on_tcp_connect(&self.grounds.conn),
            Place::Behind(step) => policy.resume_after(*step, &self.grounds.conn),
            Place::Begin | Place::Within(_) => return Ok(self.run(&endpoint, policy, known)),
        };
        if !verdict.log.is_empty() {
            self.note(&endpoint, &verdict.log.render(policy));
        }
        Ok(Next::Done(verdict.decision))
    }

    /// The same for a policy that needs more than addresses.
    fn run(&mut self, endpoint: &EndpointEntry, policy: &Policy, known: &mut Known) -> Next {
        let Grounds {
            node,
            snapshot,
            conn,
            record,
            ..
        } = self.grounds;
        let now_micros = jiff::Timestamp::now().as_microsecond();
        let elapsed = i64::try_from(record.elapsed().as_micros()).unwrap_or(i64::MAX);
        let moment = known.moment(now_micros, elapsed);
        let known = &*known;
        let world = EdgeWorld {
            node,
            snapshot,
            account: &endpoint.account,
            known,
        };
        let facts = Facts {
            conn,
            endpoint: EndpointFacts {
                id: endpoint.id.as_str(),
                url: &endpoint.url,
            },
            region: &node.config.region,
            started_micros: moment.started_micros,
            now_micros,
            random: moment.random,
            given: &known.given,
        };
        if matches!(self.now.at, Place::Begin) {
            self.now.at = Place::Within(Box::default());
        }
        let Place::Within(run) = &mut self.now.at else {
            return Next::Done(Decision::FallThrough); // a simple one, which never gets here
        };
        let next = run.go(policy, &facts, &world);
        let (ran, logged, set) = (run.take_log(), run.take_logged(), run.limits());
        self.limits = SetLimits {
            idle: set.idle.or(self.limits.idle),
            connect: set.connect.or(self.limits.connect),
            lifetime: set.lifetime.or(self.limits.lifetime),
        };
        // All that it has set so far, each time.
        self.bandwidths.truncate(self.now.bandwidths);
        self.bandwidths.extend_from_slice(run.bandwidths());
        for line in ran {
            self.note(endpoint, &line);
        }
        for value in logged {
            self.note(endpoint, &value.to_string());
        }
        next
    }

    /// Goes on with a member of the internal endpoint. Where there is none, with the nearest policy that
    /// goes on when its target cannot be reached.
    fn forward(&mut self, url: &EndpointUrl, on_error: OnError, step: Step) -> Result<(), Ended> {
        if self.hops >= FORWARD_HOPS_MAX {
            return Err(CloseReason::ForwardHopLimit.into());
        }
        self.hops += 1;
        let Grounds {
            node,
            snapshot,
            tries,
            ..
        } = self.grounds;
        let account = &self.now.endpoint.account;
        let pool = snapshot.internal_at(account, url);
        let member = pool.and_then(|pool| route::member(node, pool, tries));
        if on_error == OnError::Continue {
            // Where it goes on, should this not be reached.
            if !matches!(self.now.at, Place::Within(_)) {
                self.now.at = Place::Behind(step);
            }
        }
        match member {
            Some(member) => {
                self.others |= member.others;
                self.spent_before = self.spent();
                let next = Running::begin(member.endpoint, self.limits, self.bandwidths.len());
                let from = std::mem::replace(&mut self.now, next);
                if on_error == OnError::Continue {
                    self.behind.push(from);
                }
                Ok(())
            }
            None => {
                let missing = match pool {
                    Some(_) => tries.or_last(missing(url)),
                    None => missing(url),
                };
                self.go_on_behind(on_error, missing)
            }
        }
    }

    /// The endpoint forwarded to cannot be reached.
    fn go_on_behind(&mut self, on_error: OnError, missing: Ended) -> Result<(), Ended> {
        if on_error == OnError::Halt {
            let spent = self.spent();
            self.now = self.behind.pop().ok_or_else(|| missing.clone())?;
            // What that one cost was counted when it forwarded.
            self.spent_before = spent.saturating_sub(self.now.spent());
        }
        self.limits = self.now.limits;
        self.bandwidths.truncate(self.now.bandwidths);
        if let Place::Within(run) = &mut self.now.at {
            self.bandwidths.extend_from_slice(run.bandwidths());
            let code = missing.code().unwrap_or(Code::ForwardTargetMissing);
            let why = missing.error.unwrap_or_else(|| Error::of(code));
            run.failed(&why);
            // What it set itself stands.
            let set = run.limits();
            self.limits = SetLimits {
                idle: set.idle.or(self.limits.idle),
                connect: set.connect.or(self.limits.connect),
                lifetime: set.lifetime.or(self.limits.lifetime),
            };
        }
        Ok(())
    }

    /// An agent endpoint goes to its upstream; a cloud endpoint has none.
    fn fall_through(&self) -> Result<Arc<EndpointEntry>, Refused> {
        match self.now.endpoint.kind {
            EndpointType::Agent => Ok(Arc::clone(&self.now.endpoint)),
            EndpointType::Cloud => Err(CloseReason::PolicyUndecided.into()),
        }
    }

    /// The member that a request to cancel is for: whoever gave out its key, to a connection that came to the same
    /// pool. Told once: if that one cannot be reached, the request goes where the policy says. From here on nothing
    /// but the request itself is kept of what the client said.
    fn cancels(
        &self,
        known: &mut Known,
        decided: Option<&Arc<EndpointEntry>>,
        early: &Early<'_>,
    ) -> Option<Arc<EndpointEntry>> {
        let member = self.grounds.cancelled(&self.entry, known, decided)?;
        known.has_cancelled = true;
        early.keep_message();
        self.note(member, "gave out the key of this request to cancel");
        Some(Arc::clone(member))
    }

    fn note(&self, endpoint: &EndpointEntry, what: &str) {
        let line = format!("{}: {what}", endpoint.url.hostport());
        self.grounds.record.add_policy(line);
    }
}

fn missing(url: &EndpointUrl) -> Ended {
    let message = format!("`{url}` is not online in the account");
    Ended::with(
        CloseReason::ForwardTargetMissing,
        Error::new(Code::ForwardTargetMissing, message),
    )
}
