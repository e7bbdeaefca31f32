//! HTTP as ngrok's clients expect it: what comes before a handler (authentication, limits, headers,
//! bodies, parameters) and what comes after (error bodies, the audit line, headers).
//!
//! Must never: know a resource.

pub(crate) mod body;
pub(crate) mod bulk;
pub(crate) mod caller;
pub(crate) mod errors;
pub(crate) mod fields;
pub(crate) mod frame;
pub(crate) mod gate;
pub(crate) mod id;
pub(crate) mod limits;
pub(crate) mod links;
pub(crate) mod page;
pub(crate) mod peer;
pub(crate) mod reply;

pub(crate) use body::{Body, Changes};
pub(crate) use caller::Caller;
pub(crate) use errors::Refusal;
pub(crate) use id::Id;
pub(crate) use links::Links;
pub(crate) use peer::Peer;
pub(crate) use reply::{Answer, Reply};
