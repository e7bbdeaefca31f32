//! Deciding an open connection again, with what is kept of it: its addresses, and which endpoint serves it.
//!
//! What was read of it when it came (first bytes, a request, TLS), its random number and what counters gave
//! it are not kept. A policy is followed to where it asks for what was read, and the connection stays; it keeps
//! what counters gave it.
//!
//! Must never: take anything from a counter, or close because something is not known.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use portcullis_model::access::RestrictionKind;
use portcullis_model::id::IpPolicyId;
use portcullis_model::{AccountId, Code, EndpointId, Error};
use portcullis_policy::world::{Bucket, Choice, IpSets, Place, Rate, World};
use portcullis_policy::{Conn, Decision, EndpointFacts, Facts, Given, Next, Run};
use portcullis_store::{EndpointEntry, Snapshot};
use portcullis_telemetry::{CloseReason, Ended, LiveConnection};
use rand::Rng as _;

use crate::defaults::FORWARD_HOPS_MAX;
use crate::node::Node;
use crate::refusal::refusal;

/// What an open connection would now be refused with; `None`: it stays.
pub(super) fn verdict(
    node: &Node,
    snapshot: &Snapshot,
    connection: &LiveConnection,
    endpoints: &BTreeSet<EndpointId>,
) -> Option<Ended> {
    let (entry, serving) = (connection.entry(), connection.endpoint());
    // From the one that is to be looked at: what stands before it may be one that keeps.
    let begin = [&entry, &serving]
        .into_iter()
        .flatten()
        .find(|endpoint| endpoints.contains(&endpoint.id))?;
    let mut now = Arc::clone(snapshot.endpoint_by_id(&begin.id)?);
    let client = connection.client();
    if let Some(id) =
        snapshot.restriction_against(&now.account, RestrictionKind::Endpoints, client.ip())
    {
        let message = format!("the IP restriction {id} does not let the client's address in");
        return Some(Ended::with(
            CloseReason::EndpointRestricted,
            Error::new(Code::EndpointRestricted, message),
        ));
    }
    let again = Again {
        node,
        snapshot,
        serving: serving.as_ref().map(|endpoint| &endpoint.id),
        account: now.account.clone(),
    };
    for _ in 0..=FORWARD_HOPS_MAX {
        let decision = match decide(node, &now, connection, &again) {
            Ok(decision) => decision?,
            Err(ended) => return Some(ended),
        };
        match decision {
            Decision::FallThrough => return None,
            Decision::Forward { url, .. } => {
                let pool = snapshot.internal_at(&now.account, &url)?;
                now = Arc::clone(again.member(&pool.members)?);
            }
            against => return Some(refusal(against).ended),
        }
    }
    Some(CloseReason::ForwardHopLimit.into())
}

/// What the policy of one endpoint says now; `None`: it asks for what is not kept.
fn decide(
    node: &Node,
    endpoint: &EndpointEntry,
    connection: &LiveConnection,
    again: &Again<'_>,
) -> Result<Option<Decision>, Ended> {
    let policy = match endpoint.policy() {
        Ok(Some(policy)) => policy,
        Ok(None) => return Ok(Some(Decision::FallThrough)),
        Err(error) => {
            return Err(Ended::with(CloseReason::PolicyUndecided, error.clone()));
        }
    };
    let conn = Conn::new(connection.client(), connection.listener());
    if policy.is_simple() {
        return Ok(Some(policy.on_tcp_connect(&conn).decision));
    }
    let given = Given::default();
    let facts = Facts {
        conn,
        endpoint: EndpointFacts {
            id: endpoint.id.as_str(),
            url: &endpoint.url,
        },
        region: &node.config.region,
        started_micros: connection.opened_at().unix_millis().saturating_mul(1000),
        now_micros: jiff::Timestamp::now().as_microsecond(),
        random: rand::rng().next_u64(),
        given: &given,
    };
    Ok(match Run::default().go(policy, &facts, again) {
        Next::Need(_) => None,
        Next::Done(decision) => Some(decision),
    })
}

/// The world of a connection that is open: what it was given stays given, and it stays where it is.
struct Again<'a> {
    node: &'a Node,
    snapshot: &'a Snapshot,
    account: AccountId,
    serving: Option<&'a EndpointId>,
}

impl Again<'_> {
    /// The member that serves the connection, else any.
    fn member<'m>(&self, members: &'m [Arc<EndpointEntry>]) -> Option<&'m Arc<EndpointEntry>> {
        let serving = members
            .iter()
            .find(|member| Some(&member.id) == self.serving);
        serving.or(members.first())
    }
}

impl World for Again<'_> {
    fn ip_policy(&self, id: &IpPolicyId) -> Option<Arc<IpSets>> {
        self.snapshot.ip_sets(&self.account, id)
    }

    fn secret(&self, vault: &str, name: &str) -> Option<Arc<str>> {
        self.snapshot.secret(&self.account, vault, name)
    }

    fn place(&self, ip: IpAddr) -> Option<Arc<Place>> {
        self.node.places.of(ip)
    }

    fn take_rate(&self, _bucket: &Bucket, _rate: &Rate) -> bool {
        true
    }

    fn hold(&self, _bucket: &Bucket, _most: u32) -> bool {
        true
    }

    /// The target that leads to where it is, else the first that serves.
    fn pick(&self, choice: &Choice<'_>) -> Option<usize> {
        let open = |at: &usize| !choice.tried.contains(at);
        let leads = |at: &usize| {
            let url = choice.urls.get(*at).and_then(Option::as_ref);
            let pool = url.and_then(|url| self.snapshot.internal_at(&self.account, url));
            pool.is_some_and(|pool| {
                pool.members
                    .iter()
                    .any(|member| Some(&member.id) == self.serving)
            })
        };
        let serves = |at: &usize| choice.urls.get(*at).is_some_and(Option::is_some);
        let all = || (0..choice.urls.len()).filter(open);
        all()
            .find(leads)
            .or_else(|| all().find(serves))
            .or_else(|| all().next())
    }
}
