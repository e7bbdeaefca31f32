//! What creates and changes a cloud endpoint.

use portcullis_model::{Binding, Code};
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
    /// `tcp://host:port` on an address of the account, `tcp://` for a random one, or
    /// `tcp://name.internal:port`.
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
        })
    }
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
