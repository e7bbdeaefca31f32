//! Traffic Policy documents at work: what compiles runs to a decision on any first bytes, in a bounded number of
//! turns, asks for nothing twice, and decides the same again. The document ends at the first zero byte; the
//! client's first bytes follow.

#![no_main]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use portcullis_model::id::IpPolicyId;
use portcullis_model::{Code, EndpointType, EndpointUrl, Error};
use portcullis_policy::sniff::{Asked, First, Head, Looked, http_head, look};
use portcullis_policy::tls::TlsFacts;
use portcullis_policy::world::{Bucket, Choice, IpSets, Place, Rate, World};
use portcullis_policy::{
    Conn, Decision, EndpointFacts, Facts, Given, Need, Next, OnError, Policy, Run,
};

/// More than a policy can take: every target of every action, once each, and three needs.
const TURNS_MAX: usize = 100_000;

/// A world that knows a little and lets everyone in.
struct Small;

impl World for Small {
    fn ip_policy(&self, _id: &IpPolicyId) -> Option<Arc<IpSets>> {
        Some(Arc::new(IpSets {
            allow: ["192.0.2.0/24".parse().expect("a network")]
                .into_iter()
                .collect(),
            ..IpSets::default()
        }))
    }

    fn secret(&self, _vault: &str, name: &str) -> Option<Arc<str>> {
        (name.len() % 2 == 0).then(|| Arc::from("secret"))
    }

    fn place(&self, ip: IpAddr) -> Option<Arc<Place>> {
        ip.is_ipv4().then(|| {
            Arc::new(Place {
                as_number: 64_496,
                ..Place::default()
            })
        })
    }

    fn take_rate(&self, bucket: &Bucket, rate: &Rate) -> bool {
        rate.capacity > 0 && bucket.key.len() % 2 == 0
    }

    fn hold(&self, bucket: &Bucket, most: u32) -> bool {
        most > 0 && bucket.key.len() % 2 == 0
    }

    fn pick(&self, choice: &Choice<'_>) -> Option<usize> {
        (0..choice.weights.len()).find(|at| choice.weights[*at] > 0 && !choice.tried.contains(at))
    }
}

/// Gives what is needed from the first bytes, as the edge does when nobody sends more.
fn give(given: &mut Given, need: Need, bytes: &[u8]) {
    match need {
        Need::First { .. } => {
            assert!(given.first.is_none(), "the first bytes are asked for again");
            given.first = Some(match look(bytes, true, Asked::Nothing) {
                Looked::Found(first) => first,
                Looked::Answer { .. } | Looked::More => First::default(),
            });
        }
        Need::Tls(termination) => {
            assert!(given.tls.is_none(), "TLS is asked for again");
            assert!(!format!("{termination:?}").contains("PRIVATE"));
            given.tls = Some(Arc::new(TlsFacts {
                sni: "db.example.com".to_owned(),
                version: "1.3".to_owned(),
                termination: Some(termination),
                ..TlsFacts::default()
            }));
        }
        Need::Request => {
            assert!(given.request.is_none(), "the request is asked for again");
            given.request = Some(match http_head(bytes) {
                Head::Whole(request, _) => Some(request),
                Head::Not | Head::More | Head::Bad => None,
            });
        }
    }
}

/// All decisions on the way to the last, where no target can be reached.
fn decisions(policy: &Policy, conn: Conn, bytes: &[u8]) -> Vec<Decision> {
    let url = EndpointUrl::new("edge.example.com", 20_001);
    let mut given = Given::default();
    let mut run = Run::default();
    let mut decided = Vec::new();
    for _ in 0..TURNS_MAX {
        let facts = Facts {
            conn,
            endpoint: EndpointFacts {
                id: "ep_1",
                url: &url,
            },
            region: "eu",
            started_micros: 1_700_000_000_000_000,
            now_micros: 1_700_000_000_000_001,
            random: 7,
            given: &given,
        };
        match run.go(policy, &facts, &Small) {
            Next::Need(need) => give(&mut given, need, bytes),
            Next::Done(decision) => {
                let goes_on = matches!(
                    &decision,
                    Decision::Forward {
                        on_error: OnError::Continue,
                        ..
                    }
                );
                let is_same = decided.last() == Some(&decision);
                decided.push(decision);
                if !goes_on || is_same {
                    return decided;
                }
                run.failed(&Error::of(Code::UpstreamUnreachable));
            }
        }
    }
    panic!("it does not decide");
}

fuzz_target!(|data: &[u8]| {
    let end = data
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(data.len());
    let Ok(text) = std::str::from_utf8(&data[..end]) else {
        return;
    };
    let bytes = data.get(end + 1..).unwrap_or_default();
    let clients: [SocketAddr; 2] = [
        ([192, 0, 2, 1], 40_000).into(),
        ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 40_000).into(),
    ];
    let server = SocketAddr::from(([198, 51, 100, 1], 20_001));
    for kind in [EndpointType::Agent, EndpointType::Cloud] {
        let Ok(policy) = Policy::compile(text, kind) else {
            continue;
        };
        for client in clients {
            let conn = Conn::new(client, server);
            let decided = decisions(&policy, conn, bytes);
            assert_eq!(decided, decisions(&policy, conn, bytes));
            if policy.is_terminating() {
                let last = decided.last().expect("one at least");
                assert_ne!(*last, Decision::FallThrough);
            }
        }
    }
});
