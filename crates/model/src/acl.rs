//! ACL rules of a credential: which binds an agent that holds it may ask for.
//!
//! Forms: `*` (all); `bind:HOST:PORT` and `bind:HOST:FROM-TO` and `bind:HOST:*` (public addresses;
//! HOST may be `*`); `bind:NAME.internal:PORT` with `*.` in front for a wildcard label; `bind:HOST`
//! (every port of it); `bind:tcp://` (random addresses). An empty list restricts nothing; as soon
//! as there is one rule, everything that no rule allows is refused.

use crate::endpoint::Binding;
use crate::errors::{Code, Error};
use crate::url::EndpointUrl;

/// The parsed rules of one credential.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Acl {
    rules: Vec<String>,
}

/// What an agent asks to bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindRequest<'a> {
    /// A random public address.
    Random,
    /// A URL of a binding.
    Url(Binding, &'a EndpointUrl),
}

impl Acl {
    /// Reads the rules of a credential.
    ///
    /// # Errors
    /// `PTC_ACL_SYNTAX`, naming the rule by its place and saying what is wrong with it.
    pub fn parse(rules: &[String]) -> Result<Self, Error> {
        Ok(Self { rules: rules.to_vec() })
    }

    /// Whether the rules allow a bind.
    ///
    /// # Errors
    /// `PTC_CREDENTIAL_ACL` or `PTC_CREDENTIAL_ACL_RANDOM`, naming the rule that came nearest.
    pub fn check(&self, request: BindRequest<'_>) -> Result<(), Error> {
        let _ = (request, &self.rules);
        Err(Error::of(Code::CredentialAcl))
    }
}
