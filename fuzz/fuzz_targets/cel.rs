//! Expressions: what compiles as a condition, within a text or as a filter is evaluated on a fixed connection or
//! object and comes to the same again; what does not is refused in words.

#![no_main]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use portcullis_model::id::IpPolicyId;
use portcullis_model::{Code, EndpointType, EndpointUrl};
use portcullis_policy::sniff::{Asked, Head, Looked, http_head, look};
use portcullis_policy::tls::TlsFacts;
use portcullis_policy::world::{Bucket, Choice, IpSets, Place, Rate, World};
use portcullis_policy::{Conn, Decision, EndpointFacts, Facts, Filter, Given, Next, Policy, Run};
use serde_json::{Value, json};

/// What the client said.
const REQUEST: &[u8] =
    b"POST /a/b?c=1 HTTP/1.1\r\nhost: web.example.com\r\ncontent-length: 12\r\nx-tag: one\r\nx-tag: two\r\n\r\n";

/// A world that knows one place and one secret.
struct Small;

impl World for Small {
    fn ip_policy(&self, _id: &IpPolicyId) -> Option<Arc<IpSets>> {
        None
    }

    fn secret(&self, vault: &str, name: &str) -> Option<Arc<str>> {
        (vault == "main" && name == "token").then(|| Arc::from("hunter2"))
    }

    fn place(&self, ip: IpAddr) -> Option<Arc<Place>> {
        ip.is_ipv4().then(|| {
            Arc::new(Place {
                as_number: 64_496,
                ..Place::default()
            })
        })
    }

    fn take_rate(&self, _bucket: &Bucket, _rate: &Rate) -> bool {
        true
    }

    fn hold(&self, _bucket: &Bucket, _most: u32) -> bool {
        true
    }

    fn pick(&self, choice: &Choice<'_>) -> Option<usize> {
        (0..choice.weights.len()).find(|at| !choice.tried.contains(at))
    }
}

/// All that a connection can be known by.
fn given() -> Given {
    let first = match look(REQUEST, true, Asked::Nothing) {
        Looked::Found(first) => first,
        Looked::Answer { .. } | Looked::More => panic!("it is a request"),
    };
    let request = match http_head(REQUEST) {
        Head::Whole(request, _) => request,
        Head::Not | Head::More | Head::Bad => panic!("it is whole"),
    };
    Given {
        first: Some(first),
        request: Some(Some(request)),
        tls: Some(Arc::new(TlsFacts {
            sni: "db.example.com".to_owned(),
            version: "1.3".to_owned(),
            ..TlsFacts::default()
        })),
    }
}

fn decided(policy: &Policy, given: &Given) -> Decision {
    let url = EndpointUrl::new("edge.example.com", 20_001);
    let client = SocketAddr::from(([192, 0, 2, 1], 40_000));
    let server = SocketAddr::from(([198, 51, 100, 1], 20_001));
    let facts = Facts {
        conn: Conn::new(client, server),
        endpoint: EndpointFacts {
            id: "ep_1",
            url: &url,
        },
        region: "eu",
        started_micros: 1_700_000_000_000_000,
        now_micros: 1_700_000_000_000_001,
        random: 7,
        given,
    };
    match Run::default().go(policy, &facts, &Small) {
        Next::Done(decision) => decision,
        Next::Need(_) => panic!("all is given"),
    }
}

/// A rule that denies where the text is true, behind one that sets variables.
fn as_condition(text: &str) -> Value {
    json!({ "on_http_request": [
        { "actions": [{ "type": "set-vars", "config": { "vars": [
            { "n": 3 }, { "name": "alice" }, { "list": ["a", "b", 3] }, { "map": { "a": { "b": true } } },
        ] } }] },
        { "expressions": [text], "actions": [{ "type": "deny" }] },
    ] })
}

/// A rule that notes what the text comes to.
fn within_text(text: &str) -> Value {
    let config = json!({ "metadata": { "alone": format!("${{{text}}}"), "within": format!("a ${{{text}}} b") } });
    json!({ "on_http_request": [{ "actions": [{ "type": "log", "config": config }] }] })
}

fuzz_target!(|text: &str| {
    let given = given();
    for document in [as_condition(text), within_text(text)] {
        match Policy::compile(&document.to_string(), EndpointType::Agent) {
            Ok(policy) => {
                let decision = decided(&policy, &given);
                assert_eq!(decision, decided(&policy, &given));
                assert!(matches!(
                    decision,
                    Decision::Deny { .. } | Decision::FallThrough | Decision::Failed { .. }
                ));
            }
            Err(error) => {
                assert!(!error.message.is_empty());
                assert!(!error.message.contains("IDENTIFIER") || text.contains("IDENTIFIER"));
            }
        }
    }
    let object = json!({
        "id": "ep_1",
        "created_at": "2023-11-14T22:13:20Z",
        "principal": { "id": "usr_1" },
        "ports": [1, 2],
        "live": true,
    });
    let fields = ["id", "created_at", "principal.id", "ports", "live", "gone"];
    match Filter::parse(text, &fields) {
        Ok(filter) => assert_eq!(
            filter.matches(&object, 1_700_000_000),
            filter.matches(&object, 1_700_000_000)
        ),
        Err(error) => {
            assert_eq!(error.code, Code::ApiFilterInvalid);
            assert!(!error.message.is_empty());
        }
    }
});
