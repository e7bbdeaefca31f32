//! Policies at work, with a world made up for them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use portcullis_model::EndpointType;
use portcullis_model::id::IpPolicyId;

use super::*;
use crate::decide::{DenyMode, Limiter, OnError};
use crate::sniff::Protocol;
use crate::world::{Bucket, Choice, IpSets, Place, Rate, Strategy, TokenBucket};

mod actions;
mod cost;
mod limits;
mod naive;
mod phases;
mod secrets;
mod targets;
mod tls;

/// Answers from maps, and counts as an edge does.
#[derive(Default)]
struct Fake {
    now: Cell<i64>,
    ip_policies: HashMap<IpPolicyId, Arc<IpSets>>,
    secrets: HashMap<(String, String), Arc<str>>,
    buckets: RefCell<HashMap<Bucket, TokenBucket>>,
    held: RefCell<HashMap<Bucket, u32>>,
    rounds: RefCell<HashMap<String, balance::Smooth>>,
    /// Every choice asked for: strategy and what was tried.
    asked: RefCell<Vec<(Strategy, Vec<usize>)>>,
    offline: Cell<bool>,
}

impl World for Fake {
    fn ip_policy(&self, id: &IpPolicyId) -> Option<Arc<IpSets>> {
        self.ip_policies.get(id).cloned()
    }

    fn secret(&self, vault: &str, name: &str) -> Option<Arc<str>> {
        self.secrets
            .get(&(vault.to_owned(), name.to_owned()))
            .cloned()
    }

    fn place(&self, _ip: IpAddr) -> Option<Arc<Place>> {
        None
    }

    fn take_rate(&self, bucket: &Bucket, rate: &Rate) -> bool {
        let now = self.now.get();
        let mut buckets = self.buckets.borrow_mut();
        let held = buckets.entry(bucket.clone());
        held.or_insert_with(|| TokenBucket::full(now, rate))
            .take(now, rate)
    }

    fn hold(&self, bucket: &Bucket, most: u32) -> bool {
        let mut held = self.held.borrow_mut();
        let count = held.entry(bucket.clone()).or_default();
        let free = *count < most;
        *count += u32::from(free);
        free
    }

    fn pick(&self, choice: &Choice<'_>) -> Option<usize> {
        self.asked
            .borrow_mut()
            .push((choice.strategy, choice.tried.to_vec()));
        if self.offline.get() {
            return None;
        }
        let weights = balance::open_weights(choice);
        match choice.strategy {
            Strategy::Weighted => {
                let mut rounds = self.rounds.borrow_mut();
                let name = format!("{}/{}", choice.endpoint, choice.action);
                rounds.entry(name).or_default().next(&weights)
            }
            Strategy::LeastConnections => balance::least(&weights, &[], 0),
            Strategy::RandomTwo => balance::random_two(&weights, &[], 0),
            Strategy::HashClientIp => balance::by_client(&weights, choice.urls, choice.client),
        }
    }
}

fn policy(text: &str) -> Policy {
    match Policy::compile(text, EndpointType::Agent) {
        Ok(policy) => policy,
        Err(error) => panic!("{text}\n{error}"),
    }
}

fn conn(client: &str) -> Conn {
    let client = client.parse().expect("an address");
    let server = "203.0.113.5:20001".parse().expect("an address");
    Conn::new(SocketAddr::new(client, 40_000), server)
}

/// Calls `with` with the facts of a connection from `client`.
fn with_facts<T>(conn: Conn, given: &Given, with: impl FnOnce(&Facts<'_>) -> T) -> T {
    let url = EndpointUrl::new("tcp.example.com", 20_001);
    with(&Facts {
        conn,
        endpoint: EndpointFacts {
            id: "ep_30tNcWkLmgyIO1zPS4aDMAbFzYU",
            url: &url,
        },
        region: "local",
        started_micros: 1_763_740_800_000_000,
        now_micros: 1_763_740_801_000_000,
        random: 42,
        given,
    })
}

fn go(run: &mut Run, policy: &Policy, client: &str, given: &Given, world: &Fake) -> Next {
    with_facts(conn(client), given, |facts| run.go(policy, facts, world))
}

/// What a fresh run decides that needs nothing.
fn decide(text: &str, client: &str) -> Decision {
    decide_in(&policy(text), client, &Fake::default())
}

fn decide_in(policy: &Policy, client: &str, world: &Fake) -> Decision {
    match go(
        &mut Run::default(),
        policy,
        client,
        &Given::default(),
        world,
    ) {
        Next::Done(decision) => decision,
        Next::Need(need) => panic!("it needs {need:?}"),
    }
}

/// The host that a decision forwards to.
fn host(decision: &Decision) -> &str {
    match decision {
        Decision::Forward { url, .. } => url.host(),
        other => panic!("{other:?}"),
    }
}

/// The place and the message of a failure.
fn failure(decision: &Decision) -> (&str, &str) {
    match decision {
        Decision::Failed { path, error } => (path, &error.message),
        other => panic!("{other:?}"),
    }
}

fn request(method: &str, path: &str) -> Given {
    Given {
        tls: None,
        request: Some(Some(Request {
            method: method.to_owned(),
            url: path.to_owned(),
            path: path.to_owned(),
            host: "example.com".to_owned(),
            headers: vec![("host".to_owned(), "example.com".to_owned())],
        })),
        ..Given::default()
    }
}

const NOT_HTTP: Given = Given {
    tls: None,
    first: None,
    request: Some(None),
};
