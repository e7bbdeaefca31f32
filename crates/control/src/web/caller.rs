//! Who asks, for which account, and what stood in the request's query.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use portcullis_model::{AccountId, ApiKey, Code};
use portcullis_store::Snapshot;

use super::errors::Refusal;
use super::links::Links;

/// An authenticated request, made by the gate.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) key: Arc<ApiKey>,
    /// The account that the request is about: the key's, or what an admin key named.
    pub(crate) account: AccountId,
    /// Everything at the revision that the caller may expect.
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) links: Links,
    pub(crate) query: Query,
}

/// A request's path and decoded query.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    pub(crate) path: String,
    pub(crate) raw: String,
    pub(crate) pairs: Vec<(String, String)>,
}

impl Caller {
    /// A query parameter; of several the last.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .pairs
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Every value of a query parameter, without empty ones.
    pub(crate) fn parameters<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query
            .pairs
            .iter()
            .filter(move |(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// The URL of this page.
    pub(crate) fn page_uri(&self) -> String {
        self.links.path(&self.query.path, &self.query.raw)
    }

    /// The URL of the page behind `last`.
    pub(crate) fn next_page_uri(&self, last: &str) -> String {
        let mut query = format!("before_id={last}");
        for (name, value) in self
            .query
            .pairs
            .iter()
            .filter(|(name, value)| name != "before_id" && !value.is_empty())
        {
            query.push('&');
            query.push_str(name);
            query.push('=');
            query.push_str(&encoded(value));
        }
        self.links.path(&self.query.path, &query)
    }

    /// Only admin keys go on.
    pub(crate) fn must_be_admin(&self) -> Result<(), Refusal> {
        if self.key.admin {
            return Ok(());
        }
        Err(Refusal::new(
            Code::ApiForbidden,
            "only an admin key may do this",
        ))
    }
}

/// Percent-encoding of a query value.
fn encoded(value: &str) -> String {
    use std::fmt::Write as _;
    value.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(char::from(byte))
            }
            _ => write!(text, "%{byte:02X}").expect("writing to a String cannot fail"),
        }
        text
    })
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        // The gate stands before every handler that asks for a caller.
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Refusal::of(Code::ApiUnauthenticated))
    }
}
