//! IP restrictions: what an account lets in by address.

use portcullis_model::access::{IpRestriction, RestrictionKind};
use portcullis_model::id::IpPolicyId;
use portcullis_model::{Code, Timestamp};
use portcullis_store::{IpRestrictionUpdate, NewIpRestriction};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Ref, envelope, required};
use crate::web::{Links, Refusal, id};

/// An IP restriction.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IpRestriction)]
pub(crate) struct IpRestrictionView {
    /// `ipx_…`
    id: String,
    /// Where it can be read.
    uri: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    description: String,
    metadata: String,
    /// Else what it would refuse is only logged.
    enforced: bool,
    /// `dashboard`, `api`, `agent` or `endpoints`.
    r#type: &'static str,
    /// The policies whose rules count, together.
    ip_policies: Vec<Ref>,
}

envelope! {
    /// A page of IP restrictions.
    IpRestrictionList { ip_restrictions: IpRestrictionView }
}

/// An IP restriction to make.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IpRestrictionCreate {
    /// At most 255 bytes.
    description: Option<String>,
    /// At most 4,096 bytes.
    metadata: Option<String>,
    /// Else what it would refuse is only logged, which is the default.
    enforced: Option<bool>,
    /// `dashboard`, `api`, `agent` or `endpoints`, for good.
    #[schema(required)]
    r#type: Option<String>,
    /// The policies whose rules count, 1 to 50.
    #[schema(required)]
    ip_policy_ids: Option<Vec<String>>,
}

/// Changes to an IP restriction.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = IpRestrictionUpdate)]
pub(crate) struct IpRestrictionPatch {
    /// At most 255 bytes.
    description: Option<String>,
    /// At most 4,096 bytes.
    metadata: Option<String>,
    /// Whether it refuses.
    enforced: Option<bool>,
    /// Replaces all its policies, 1 to 50; none leaves them as they are, for ngrok's Python client always sends the list.
    ip_policy_ids: Option<Vec<String>>,
}

impl IpRestrictionView {
    pub(crate) fn new(links: &Links, record: &IpRestriction) -> Self {
        let policies = record.policies.iter();
        Self {
            id: record.id.to_string(),
            uri: links.to("ip_restrictions", &record.id),
            created_at: record.created_at,
            description: record.description.clone(),
            metadata: record.metadata.clone(),
            enforced: record.enforced,
            r#type: record.kind.as_str(),
            ip_policies: policies
                .map(|id| Ref::new(links, "ip_policies", id))
                .collect(),
        }
    }
}

impl IpRestrictionCreate {
    pub(crate) fn into_request(self) -> Result<NewIpRestriction, Refusal> {
        let kind = required("type", self.r#type)?;
        let kind = RestrictionKind::read(&kind).ok_or_else(|| {
            let shown: String = kind.chars().take(64).collect();
            let message = format!("`type` is dashboard, api, agent or endpoints, not `{shown}`");
            Refusal::new(Code::ApiInvalidValue, message)
        })?;
        Ok(NewIpRestriction {
            kind,
            enforced: self.enforced.unwrap_or(false),
            policies: ids(&self.ip_policy_ids.unwrap_or_default())?,
            description: self.description.unwrap_or_default(),
            metadata: self.metadata.unwrap_or_default(),
        })
    }
}

impl IpRestrictionPatch {
    pub(crate) fn into_request(self) -> Result<IpRestrictionUpdate, Refusal> {
        let policies = self.ip_policy_ids.filter(|ids| !ids.is_empty());
        Ok(IpRestrictionUpdate {
            enforced: self.enforced,
            policies: policies.as_deref().map(ids).transpose()?,
            description: self.description,
            metadata: self.metadata,
        })
    }
}

fn ids(texts: &[String]) -> Result<Vec<IpPolicyId>, Refusal> {
    texts.iter().map(|text| id::parse(text)).collect()
}
