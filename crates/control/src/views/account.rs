//! Accounts (ours; admin keys only).

use portcullis_model::{Account, Timestamp};
use portcullis_store::{AccountUpdate, NewAccount};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{envelope, required};
use crate::web::{Links, Refusal};

/// An account.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Account)]
pub(crate) struct AccountView {
    /// `ac_…`
    id: String,
    /// Where it can be read.
    uri: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Unique.
    name: String,
    /// A plan of the server's configuration.
    plan: String,
    /// Whether the operator has verified it; plans may allow TCP only then.
    verified: bool,
    description: String,
    metadata: String,
}

envelope! {
    /// A page of accounts.
    AccountList { accounts: AccountView }
}

/// An account to make.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccountCreate {
    /// Unique, 1 to 64 characters.
    #[schema(required, nullable = false)]
    name: Option<String>,
    /// `default` when absent.
    plan: Option<String>,
    verified: Option<bool>,
    /// At most 255 bytes.
    description: Option<String>,
    /// At most 4,096 bytes.
    metadata: Option<String>,
}

/// Changes to an account.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AccountUpdate)]
pub(crate) struct AccountPatch {
    /// Unique, 1 to 64 characters.
    name: Option<String>,
    plan: Option<String>,
    verified: Option<bool>,
    /// At most 255 bytes.
    description: Option<String>,
    /// At most 4,096 bytes.
    metadata: Option<String>,
}

impl AccountView {
    pub(crate) fn new(links: &Links, record: &Account) -> Self {
        Self {
            id: record.id.to_string(),
            uri: links.to("accounts", &record.id),
            created_at: record.created_at,
            name: record.name.clone(),
            plan: record.plan.clone(),
            verified: record.verified,
            description: record.description.clone(),
            metadata: record.metadata.clone(),
        }
    }
}

impl AccountCreate {
    pub(crate) fn into_request(self) -> Result<NewAccount, Refusal> {
        Ok(NewAccount {
            name: required("name", self.name)?,
            plan: self.plan,
            verified: self.verified.unwrap_or(false),
            description: self.description.unwrap_or_default(),
            metadata: self.metadata.unwrap_or_default(),
        })
    }
}

impl From<AccountPatch> for AccountUpdate {
    fn from(patch: AccountPatch) -> Self {
        Self {
            name: patch.name,
            plan: patch.plan,
            verified: patch.verified,
            description: patch.description,
            metadata: patch.metadata,
        }
    }
}
