//! IP restrictions of the account: refused sessions of agents and connections of clients, from the change on.

use portcullis_model::access::{IpAction, RestrictionKind};
use portcullis_model::id::IpRestrictionId;
use portcullis_model::{Code, Error};
use portcullis_store::{IpRestrictionUpdate, IpRuleSpec, NewIpPolicy, NewIpRestriction};
use portcullis_telemetry::CloseReason;

use crate::agent::{Agent, Identity};
use crate::bed::{Bed, echo, ending, exchange};

/// A restriction to a network in which no test has its addresses.
async fn restrict(bed: &Bed, kind: RestrictionKind, enforced: bool) -> IpRestrictionId {
    let rule = IpRuleSpec {
        cidr: "192.0.2.0/24".to_owned(),
        action: IpAction::Allow,
    };
    let policy = NewIpPolicy {
        rules: vec![rule],
        ..NewIpPolicy::default()
    };
    let (registry, account) = (&bed.registry, &bed.account);
    let policy = registry.create_ip_policy(account, policy).await;
    let new = NewIpRestriction {
        kind,
        enforced,
        policies: vec![policy.expect("a policy").value.id],
        description: String::new(),
        metadata: String::new(),
    };
    let made = registry.create_ip_restriction(account, new).await;
    made.expect("a restriction").value.id
}

async fn enforce(bed: &Bed, id: &IpRestrictionId, enforced: bool) -> Result<(), Error> {
    let update = IpRestrictionUpdate {
        enforced: Some(enforced),
        ..IpRestrictionUpdate::default()
    };
    let (registry, account) = (&bed.registry, &bed.account);
    let written = registry.update_ip_restriction(account, id, update).await;
    written.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_from_elsewhere_are_refused_from_the_change_on() {
    let bed = Bed::start().await;
    let endpoint = bed.direct("tcp://", echo("in").await).await;
    let mut open = bed.connect(&endpoint).await;
    assert_eq!(crate::bed::greeting(&mut open, 2).await, "in");
    let id = restrict(&bed, RestrictionKind::Endpoints, false).await;
    let only_logged = exchange(bed.connect(&endpoint).await, b"").await;
    assert_eq!(only_logged, b"in");
    enforce(&bed, &id, true).await.expect("changed");
    let mut refused = bed.connect(&endpoint).await;
    assert_eq!(ending(&mut refused).await.ok(), Some(0), "FIN, not RST");
    bed.closed(CloseReason::EndpointRestricted).await;
    // What is open stays, and so does everything else of the account.
    assert_eq!(exchange(open, b"still").await, b"still");
    let (_, token) = bed.credential().await;
    Agent::connect(&bed, &Identity::new(1, token)).await;
    enforce(&bed, &id, false).await.expect("changed");
    assert_eq!(exchange(bed.connect(&endpoint).await, b"").await, b"in");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_from_elsewhere_are_refused_for_good() {
    let bed = Bed::start().await;
    let (_, token) = bed.credential().await;
    let id = restrict(&bed, RestrictionKind::Agent, true).await;
    let identity = Identity::new(1, token);
    let refused = Agent::try_connect(&bed, &identity).await.err();
    let refused = refused.expect("refused");
    assert_eq!(refused.code, Code::AgentRestricted);
    let message = &refused.message;
    assert!(
        message.contains(id.as_str()) && message.ends_with(" from 127.0.0.1"),
        "{message}"
    );
    let endpoint = bed.direct("tcp://", echo("in").await).await;
    assert_eq!(exchange(bed.connect(&endpoint).await, b"").await, b"in");
    let (registry, account) = (&bed.registry, &bed.account);
    let deleted = registry.delete_ip_restriction(account, &id).await;
    deleted.expect("deleted");
    Agent::connect(&bed, &identity).await;
    bed.finish().await;
}
