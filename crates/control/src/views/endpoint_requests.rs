//! What creates and changes a cloud endpoint.

use std::str::FromStr;

use portcullis_model::{Binding, Code, Error, PoolTerms};
use portcullis_store::{EndpointUpdate, NewCloudEndpoint};
use serde::Deserialize;
use utoipa::ToSchema;

use super::limits::Limits;
use super::required;
use crate::web::Refusal;

/// A cloud endpoint to make.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointCreate {
    /// `tcp://host:port` on an address of the account, `tcp://` for a random one, `tls://name` or `tls://` for
    /// clients that ask for a name in their TLS, or `tcp://name.internal:port` and `tls://name.internal:port`.
    #[schema(required, nullable = false)]
    url: Option<String>,
    /// Only `cloud`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    kind: Option<String>,
    /// YAML or JSON; must end in `forward-internal`, `custom-response`, `deny` or `close-connection`.
    #[schema(required, nullable = false)]
    traffic_policy: Option<String>,
    /// At most one of `public`, `internal`, `kubernetes`; inferred from the URL when absent.
    bindings: Option<Vec<String>>,
    /// At most 255 bytes.
    description: Option<String>,
    /// At most 4,096 bytes.
    metadata: Option<String>,
    /// Whether others may share the URL.
    pooling_enabled: Option<bool>,
    limits: Option<Limits>,
    /// What becomes of open connections when the policy changes: `keep` (default), `reevaluate` or `drain`.
    on_change: Option<String>,
    /// How members of its pool are chosen: `random` (default), `weighted`, `least-connections`, `random-two` or
    /// `hash-client-ip`. The oldest member's counts.
    pool_strategy: Option<String>,
    /// Its share beside the other members of its pool: 0 to 1,000,000, default 1.
    weight: Option<u32>,
}

/// Changes to a cloud endpoint.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointPatch {
    /// A new URL of the same scheme.
    url: Option<String>,
    /// Replaces the whole policy.
    traffic_policy: Option<String>,
    /// At most one of `public`, `internal`, `kubernetes`.
    bindings: Option<Vec<String>>,
    /// At most 255 bytes.
    description: Option<String>,
    /// At most 4,096 bytes.
    metadata: Option<String>,
    /// Whether others may share the URL.
    pooling_enabled: Option<bool>,
    /// Replaces all limits.
    limits: Option<Limits>,
    /// What becomes of open connections when the policy changes: `keep`, `reevaluate` or `drain`.
    on_change: Option<String>,
    /// How members of its pool are chosen: `random`, `weighted`, `least-connections`, `random-two` or
    /// `hash-client-ip`. The oldest member's counts.
    pool_strategy: Option<String>,
    /// Its share beside the other members of its pool: 0 to 1,000,000.
    weight: Option<u32>,
}

impl EndpointCreate {
    pub(crate) fn into_request(self) -> Result<NewCloudEndpoint, Refusal> {
        if let Some(kind) = self.kind.filter(|kind| kind != "cloud") {
            let shown: String = kind.chars().take(40).collect();
            let message =
                format!("endpoints of type `{shown}` are not made through the API; use `cloud`");
            return Err(Refusal::new(Code::EndpointTypeInvalid, message));
        }
        Ok(NewCloudEndpoint {
            url: required("url", self.url)?,
            binding: binding(self.bindings)?,
            traffic_policy: required("traffic_policy", self.traffic_policy)?,
            description: self.description.unwrap_or_default(),
            metadata: self.metadata.unwrap_or_default(),
            pooling_enabled: self.pooling_enabled.unwrap_or(false),
            limits: self.limits.unwrap_or_default().into(),
            on_change: word("on_change", self.on_change)?.unwrap_or_default(),
            pool: PoolTerms {
                strategy: word("pool_strategy", self.pool_strategy)?.unwrap_or_default(),
                weight: self.weight.unwrap_or(PoolTerms::default().weight),
            },
        })
    }
}

impl EndpointPatch {
    pub(crate) fn into_request(self) -> Result<EndpointUpdate, Refusal> {
        Ok(EndpointUpdate {
            // An empty URL would mean a random one; nobody asks for that in an update.
            url: self.url.filter(|url| !url.is_empty()),
            binding: binding(self.bindings)?,
            traffic_policy: self.traffic_policy,
            description: self.description,
            metadata: self.metadata,
            pooling_enabled: self.pooling_enabled,
            limits: self.limits.map(Into::into),
            on_change: word("on_change", self.on_change)?,
            pool_strategy: word("pool_strategy", self.pool_strategy)?,
            weight: self.weight,
        })
    }
}

/// A word of a few, with its field where it is none of them.
fn word<T: FromStr<Err = Error>>(field: &str, word: Option<String>) -> Result<Option<T>, Refusal> {
    let read = word.map(|word| word.parse::<T>()).transpose();
    read.map_err(|error| Refusal::new(error.code, format!("{field}: {}", error.message)))
}

/// `bindings` is a list that holds at most one.
fn binding(bindings: Option<Vec<String>>) -> Result<Option<Binding>, Refusal> {
    match bindings.unwrap_or_default().as_slice() {
        [] => Ok(None),
        [one] => {
            one.parse()
                .map(Some)
                .map_err(|cause: portcullis_model::endpoint::BindingError| {
                    Refusal::new(Code::BindingInvalid, cause.to_string())
                })
        }
        several => {
            let message = format!("`bindings` has {} entries; give exactly one", several.len());
            Err(Refusal::new(Code::BindingDuplicate, message))
        }
    }
}
