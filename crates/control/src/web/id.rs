//! The id in a path, checked for its form before anything is looked up.

use std::fmt;
use std::str::FromStr;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use portcullis_model::{Code, EndpointId};

use super::errors::Refusal;

/// The first parameter of the path as an id.
pub(crate) struct Id<T>(pub(crate) T);

impl<T, S> FromRequestParts<S> for Id<T>
where
    T: FromStr,
    T::Err: fmt::Display,
    S: Send + Sync,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|cause| Refusal::new(Code::ApiIdInvalid, cause.body_text()))?;
        let text = params.iter().next().map_or("", |(_, value)| value);
        parse(text).map(Self)
    }
}

/// Reads an id.
pub(crate) fn parse<T: FromStr>(text: &str) -> Result<T, Refusal>
where
    T::Err: fmt::Display,
{
    text.parse()
        .map_err(|cause: T::Err| Refusal::new(Code::ApiIdInvalid, cause.to_string()))
}

/// `tn_…`, ngrok's older name of an agent's endpoint: it shares its 27 characters with the `ep_…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TunnelId(pub(crate) EndpointId);

impl FromStr for TunnelId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let ksuid = text.strip_prefix("tn_").unwrap_or_default();
        let shown = || text.chars().take(80).collect::<String>();
        EndpointId::from_ksuid(ksuid).map(Self).map_err(|_| {
            format!(
                "`{}` is not an id of the form tn_ followed by 27 letters and digits",
                shown()
            )
        })
    }
}

impl fmt::Display for TunnelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tn_{}", self.0.ksuid())
    }
}
