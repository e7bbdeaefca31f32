//! API keys: what the API itself takes.

use portcullis_model::{AccountId, ApiKey, Secret, Timestamp};
use portcullis_store::{ApiKeyUpdate, NewApiKey};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{check_owner, envelope};
use crate::web::{Links, Refusal};

/// An API key.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub(crate) struct ApiKeyView {
    /// `ak_…`
    id: String,
    /// Where it can be read.
    uri: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    description: String,
    metadata: String,
    /// The key itself, in the answer to its creation only; null ever after.
    #[schema(required)]
    token: Option<String>,
    /// The account.
    owner_id: String,
    /// Whether it opens `/accounts`, and other accounts by the header `Portcullis-Account`.
    admin: bool,
}

envelope! {
    /// A page of API keys.
    ApiKeyList { keys: ApiKeyView }
}

/// An API key to make.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiKeyCreate {
    /// At most 255 bytes.
    description: Option<String>,
    /// At most 4,096 bytes.
    metadata: Option<String>,
    /// Only the account itself.
    owner_id: Option<String>,
    /// Only an admin key makes admin keys.
    pub(crate) admin: Option<bool>,
}

/// Changes to an API key.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ApiKeyUpdate)]
pub(crate) struct ApiKeyPatch {
    /// At most 255 bytes.
    description: Option<String>,
    /// At most 4,096 bytes.
    metadata: Option<String>,
}

impl ApiKeyView {
    pub(crate) fn new(links: &Links, record: &ApiKey, token: Option<&Secret>) -> Self {
        Self {
            id: record.id.to_string(),
            uri: links.to("api_keys", &record.id),
            created_at: record.created_at,
            description: record.description.clone(),
            metadata: record.metadata.clone(),
            token: token.map(|token| token.expose().clone()),
            owner_id: record.account.to_string(),
            admin: record.admin,
        }
    }
}

impl ApiKeyCreate {
    pub(crate) fn into_request(self, account: &AccountId) -> Result<NewApiKey, Refusal> {
        check_owner(self.owner_id.as_deref(), account)?;
        Ok(NewApiKey {
            admin: self.admin.unwrap_or(false),
            description: self.description.unwrap_or_default(),
            metadata: self.metadata.unwrap_or_default(),
        })
    }
}

impl From<ApiKeyPatch> for ApiKeyUpdate {
    fn from(patch: ApiKeyPatch) -> Self {
        Self {
            description: patch.description,
            metadata: patch.metadata,
        }
    }
}
