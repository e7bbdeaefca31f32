//! What the API shows and takes: ngrok's objects, every field always present (null where there is
//! nothing), ours beside theirs. Separate from the store's records, so that neither shapes the other.
//!
//! Must never: decide anything; a view shows, a request is turned into what the registry takes.

pub(crate) mod account;
pub(crate) mod address;
pub(crate) mod api_key;
pub(crate) mod certificate;
pub(crate) mod connection;
pub(crate) mod credential;
pub(crate) mod endpoint;
pub(crate) mod endpoint_requests;
pub(crate) mod ip_policy;
pub(crate) mod ip_restriction;
pub(crate) mod limits;
pub(crate) mod problem;
pub(crate) mod session;
pub(crate) mod system;
pub(crate) mod tunnel;
pub(crate) mod vault;

use portcullis_model::{AccountId, Code, Secret};
use serde::{Deserialize as _, Deserializer, Serialize, de};
use utoipa::ToSchema;

use crate::web::{Links, Refusal};

/// A reference to another object.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Ref {
    /// The object's id.
    pub(crate) id: String,
    /// Where it can be read.
    pub(crate) uri: String,
}

impl Ref {
    pub(crate) fn new(links: &Links, collection: &str, id: impl std::fmt::Display) -> Self {
        Self {
            uri: links.to(collection, &id),
            id: id.to_string(),
        }
    }
}

/// Declares the envelope of a list: the items under their own key, `uri` and `next_page_uri`.
macro_rules! envelope {
    ($(#[$doc:meta])* $name:ident { $key:ident : $item:ty }) => {
        $(#[$doc])*
        #[derive(Debug, serde::Serialize, utoipa::ToSchema)]
        pub(crate) struct $name {
            /// The items, newest first.
            $key: Vec<$item>,
            /// This page.
            uri: String,
            /// The next page, absolute; null at the end.
            #[schema(required)]
            next_page_uri: Option<String>,
        }

        impl From<crate::web::page::Paged<$item>> for $name {
            fn from(page: crate::web::page::Paged<$item>) -> Self {
                Self { $key: page.items, uri: page.uri, next_page_uri: page.next_page_uri }
            }
        }
    };
}
pub(crate) use envelope;

/// `owner_id` of a creation: ngrok's users and bots don't exist here, an account owns what is its own.
pub(crate) fn check_owner(owner_id: Option<&str>, account: &AccountId) -> Result<(), Refusal> {
    match owner_id {
        Some(owner) if owner != account.as_str() => {
            let message =
                format!("`owner_id` can only be the account itself, {account}; leave it out");
            Err(Refusal::new(Code::ApiInvalidValue, message))
        }
        _ => Ok(()),
    }
}

/// A required text of a creation.
pub(crate) fn required(name: &str, value: Option<String>) -> Result<String, Refusal> {
    value.ok_or_else(|| Refusal::new(Code::ApiMissingField, format!("`{name}` is required")))
}

/// Reads a text that is secret; the error for anything else does not repeat it, as serde's own would.
pub(crate) fn unshown<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
    match serde_json::Value::deserialize(from)? {
        serde_json::Value::Null => Ok(None),
        serde_json::Value::String(text) => Ok(Some(Secret::new(text))),
        _ => Err(de::Error::custom("expected a string")),
    }
}
