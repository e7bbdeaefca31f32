//! Credentials: what agents connect with.

use portcullis_model::{AccountId, Credential, Secret, Timestamp};
use portcullis_store::{CredentialUpdate, NewCredential};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{check_owner, envelope};
use crate::web::{Links, Refusal};

/// A credential.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Credential)]
pub(crate) struct CredentialView {
    /// `cr_…`
    id: String,
    /// Where it can be read.
    uri: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    description: String,
    metadata: String,
    /// The authtoken, in the answer to its creation only; null ever after.
    #[schema(required)]
    token: Option<String>,
    /// What may be bound; empty: everything.
    acl: Vec<String>,
    /// The account.
    owner_id: String,
}

envelope! {
    /// A page of credentials.
    CredentialList { credentials: CredentialView }
}

/// A credential to make.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CredentialCreate {
    /// At most 255 bytes.
    description: Option<String>,
    /// At most 4,096 bytes.
    metadata: Option<String>,
    /// `bind:` rules; empty: no restriction.
    acl: Option<Vec<String>>,
    /// Only the account itself.
    owner_id: Option<String>,
}

/// Changes to a credential.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CredentialUpdate)]
pub(crate) struct CredentialPatch {
    /// At most 255 bytes.
    description: Option<String>,
    /// At most 4,096 bytes.
    metadata: Option<String>,
    /// Replaces all rules; they bind what is asked for from now on.
    acl: Option<Vec<String>>,
}

impl CredentialView {
    pub(crate) fn new(links: &Links, record: &Credential, token: Option<&Secret>) -> Self {
        Self {
            id: record.id.to_string(),
            uri: links.to("credentials", &record.id),
            created_at: record.created_at,
            description: record.description.clone(),
            metadata: record.metadata.clone(),
            token: token.map(|token| token.expose().clone()),
            acl: record.acl.clone(),
            owner_id: record.account.to_string(),
        }
    }
}

impl CredentialCreate {
    pub(crate) fn into_request(self, account: &AccountId) -> Result<NewCredential, Refusal> {
        check_owner(self.owner_id.as_deref(), account)?;
        Ok(NewCredential {
            acl: self.acl.unwrap_or_default(),
            description: self.description.unwrap_or_default(),
            metadata: self.metadata.unwrap_or_default(),
        })
    }
}

impl From<CredentialPatch> for CredentialUpdate {
    fn from(patch: CredentialPatch) -> Self {
        Self {
            acl: patch.acl,
            description: patch.description,
            metadata: patch.metadata,
        }
    }
}
