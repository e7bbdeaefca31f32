//! Tests of expressions, texts with expressions, and filters.

mod certificates;
mod cost;
mod evaluate;
mod faults;
mod filters;
mod plain;
mod secrets;
mod templates;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use portcullis_model::EndpointUrl;
use portcullis_model::id::IpPolicyId;
use serde_json::{Value, json};

use super::*;
use crate::decide::Conn;
use crate::run::{EndpointFacts, Given};
use crate::sniff::{First, Protocol, Request};
use crate::world::{Bucket, Choice, IpSets, Place, Rate};

/// A world with two addresses that are known, and one secret.
pub(super) struct Known;

impl World for Known {
    fn ip_policy(&self, _id: &IpPolicyId) -> Option<Arc<IpSets>> {
        None
    }

    fn secret(&self, vault: &str, name: &str) -> Option<Arc<str>> {
        (vault == "main" && name == "token").then(|| Arc::from("hunter2"))
    }

    fn place(&self, ip: IpAddr) -> Option<Arc<Place>> {
        (ip.to_string() == "198.51.100.7").then(|| {
            Arc::new(Place {
                geo: [
                    ("city", "Berlin"),
                    ("country", "Germany"),
                    ("country_code", "DE"),
                    ("latitude", "52.52"),
                ]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
                as_number: 3320,
                as_organization: "DTAG".to_owned(),
                categories: ["blocklist", "blocklist.org", "proxy", "proxy.anonymous"]
                    .map(str::to_owned)
                    .into(),
            })
        })
    }

    fn take_rate(&self, _bucket: &Bucket, _rate: &Rate) -> bool {
        true
    }

    fn hold(&self, _bucket: &Bucket, _most: u32) -> bool {
        true
    }

    fn pick(&self, _choice: &Choice<'_>) -> Option<usize> {
        None
    }
}

/// One connection, with what was given.
pub(super) struct Case {
    pub(super) given: Given,
    pub(super) vars: BTreeMap<String, Value>,
    pub(super) outputs: Value,
    pub(super) client: &'static str,
    pub(super) random: u64,
}

impl Case {
    /// Nothing was read from the client, and nothing is known of it.
    pub(super) fn bare() -> Self {
        Self {
            given: Given::default(),
            vars: BTreeMap::new(),
            outputs: json!({}),
            client: "192.0.2.1:40000",
            random: 7,
        }
    }

    /// Everything is known.
    pub(super) fn full() -> Self {
        let vars = json!({
            "name": "Ada", "n": 3, "pi": 3.5, "yes": true, "none": null,
            "list": [1, 2, 2], "map": {"a": {"b": "deep"}, "k-1": 1},
        });
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Self {
            given: Given {
                tls: None,
                first: Some(First {
                    front: crate::sniff::Front::None,
                    cancel: None,
                    protocol: Protocol::Tls,
                    sni: Some("db.example.com".to_owned()),
                    alpn: vec!["h2".to_owned(), "http/1.1".to_owned()],
                    http_host: Some("web.example.com".to_owned()),
                    minecraft_host: Some("mc.example.com".to_owned()),
                }),
                request: Some(Some(Request {
                    method: "POST".to_owned(),
                    url: "/a/b?c=1".to_owned(),
                    path: "/a/b".to_owned(),
                    host: "web.example.com".to_owned(),
                    headers: vec![
                        header("host", "web.example.com"),
                        header("content-length", "12"),
                        header("x-tag", "one"),
                        header("x-tag", "two"),
                    ],
                })),
            },
            vars: serde_json::from_value(vars).expect("a map"),
            outputs: json!({"restrict_ips": {"action": "deny", "error": {"code": "E1"}}}),
            client: "198.51.100.7:40000",
            random: 7,
        }
    }

    /// What the function makes of the connection.
    pub(super) fn with<T>(&self, go: impl FnOnce(&Scope<'_>) -> T) -> T {
        let url: EndpointUrl = EndpointUrl::new("tcp.example.com", 20001);
        let facts = Facts {
            conn: Conn::new(
                self.client.parse().expect("an address"),
                "203.0.113.5:20001".parse().expect("an address"),
            ),
            endpoint: EndpointFacts {
                id: "ep_1",
                url: &url,
            },
            region: "eu",
            started_micros: 1_700_000_000_250_000,
            now_micros: 1_700_000_000_500_000,
            random: self.random,
            given: &self.given,
        };
        go(&Scope {
            facts: &facts,
            world: &Known,
            vars: &self.vars,
            outputs: &self.outputs,
        })
    }

    /// The value of an expression.
    pub(super) fn eval(&self, text: &str) -> Result<Value, String> {
        let expr = Expr::compile(text).map_err(|fault| format!("compile: {}", fault.message))?;
        self.with(|scope| expr.eval(scope))
    }
}
