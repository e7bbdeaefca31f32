//! Traffic Policy: parse, check, compile, decide.
//!
//! A policy is a document (YAML or JSON) with the phases `on_tcp_connect` and `on_http_request`: rules of
//! expressions and actions, run from top to bottom for every connection until one of them decides.
//! [`Policy::compile`] finds all problems at once. A policy that decides by addresses alone
//! ([`Policy::is_simple`]) does so in [`Policy::on_tcp_connect`], without allocating; any other is a [`Run`],
//! which says what it needs and is called again with it.
//!
//! ```
//! use portcullis_model::EndpointType;
//! use portcullis_policy::{Conn, Decision, Policy};
//!
//! let text = "
//! on_tcp_connect:
//!   - actions:
//!       - type: restrict-ips
//!         config: { allow: [10.0.0.0/8] }
//!       - type: forward-internal
//!         config: { url: tcp://db.internal:5432 }
//! ";
//! let policy = Policy::compile(text, EndpointType::Cloud)?;
//! let server = "203.0.113.5:20001".parse().expect("an address");
//! let client = "10.1.2.3:40000".parse().expect("an address");
//! let verdict = policy.on_tcp_connect(&Conn::new(client, server));
//! assert!(matches!(verdict.decision, Decision::Forward { .. }));
//! # Ok::<(), portcullis_model::Error>(())
//! ```
//!
//! Must never: do I/O, resolve a name, read a clock, or know which endpoints exist.

mod cel;
pub mod cidr;
mod compile;
mod decide;
pub mod defaults;
mod document;
mod render;
mod run;
pub mod sniff;
mod suggest;
pub mod tls;
mod trace;
mod uses;
pub mod world;

pub use cel::Filter;
pub use compile::Notice;
pub use decide::{Answer, Conn, Decision, DenyMode, Limiter, OnError, Policy, Step, Verdict};
pub use render::with_cidrs;
pub use run::balance;
pub use run::{Bandwidth, EndpointFacts, Facts, Given, Need, Next, Run, SetLimits};
pub use trace::{Entry, Log, Ran};
pub use uses::Uses;
