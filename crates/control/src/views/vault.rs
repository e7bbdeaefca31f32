//! Vaults and secrets. A secret's value comes in and is never shown.

use portcullis_model::id::VaultId;
use portcullis_model::{ApiKeyId, Code, Secret, Timestamp, Vault, VaultSecret};
use portcullis_store::{NewSecret, NewVault, SecretUpdate, Snapshot, VaultOf, VaultUpdate};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Ref, envelope, unshown};
use crate::web::id::parse;
use crate::web::{Links, Refusal};

/// A vault: secrets under one name.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Vault)]
pub(crate) struct VaultView {
    /// `vault_…`
    id: String,
    /// Where it can be read.
    uri: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// Unique in the account.
    name: String,
    description: String,
    metadata: String,
    /// The API key that made it.
    #[schema(required)]
    created_by: Option<String>,
    /// The API key that changed it last.
    #[schema(required)]
    last_updated_by: Option<String>,
}

envelope! {
    /// A page of vaults.
    VaultList { vaults: VaultView }
}

/// A vault to make.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VaultCreate {
    /// Unique in the account: 1 to 128 letters, digits and `_/.`.
    name: Option<String>,
    /// At most 255 bytes.
    description: Option<String>,
    /// At most 4,096 bytes.
    metadata: Option<String>,
}

/// Changes to a vault.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = VaultUpdate)]
pub(crate) struct VaultPatch {
    /// Not while a traffic policy reads its secrets.
    name: Option<String>,
    /// At most 255 bytes.
    description: Option<String>,
    /// At most 4,096 bytes.
    metadata: Option<String>,
}

/// A secret, without its value.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Secret)]
pub(crate) struct SecretView {
    /// `secret_…`
    id: String,
    /// Where it can be read.
    uri: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// Unique in the vault.
    name: String,
    description: String,
    metadata: String,
    /// The API key that made it.
    #[schema(required)]
    created_by: Option<Ref>,
    /// The API key that changed it last.
    #[schema(required)]
    last_updated_by: Option<Ref>,
    vault: Ref,
    /// The name of the vault.
    vault_name: String,
}

envelope! {
    /// A page of secrets.
    SecretList { secrets: SecretView }
}

/// A secret to make.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretCreate {
    /// Unique in the vault: 1 to 128 letters, digits and `_/.`.
    name: Option<String>,
    /// 1 to 16,384 bytes; never shown again.
    #[serde(default, deserialize_with = "unshown")]
    #[schema(value_type = Option<String>)]
    value: Option<Secret>,
    /// At most 255 bytes.
    description: Option<String>,
    /// At most 4,096 bytes.
    metadata: Option<String>,
    /// The vault it goes into.
    vault_id: Option<String>,
    /// The vault it goes into, by its name.
    vault_name: Option<String>,
}

/// Changes to a secret.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SecretUpdate)]
pub(crate) struct SecretPatch {
    /// Not while a traffic policy reads it.
    name: Option<String>,
    /// The new value; policies read it from their next connection on.
    #[serde(default, deserialize_with = "unshown")]
    #[schema(value_type = Option<String>)]
    value: Option<Secret>,
    /// At most 255 bytes.
    description: Option<String>,
    /// At most 4,096 bytes.
    metadata: Option<String>,
}

impl VaultView {
    pub(crate) fn new(links: &Links, record: &Vault) -> Self {
        Self {
            id: record.id.to_string(),
            uri: links.to("vaults", &record.id),
            created_at: record.created_at,
            updated_at: record.updated_at,
            name: record.name.clone(),
            description: record.description.clone(),
            metadata: record.metadata.clone(),
            created_by: record.created_by.as_ref().map(ToString::to_string),
            last_updated_by: record.last_updated_by.as_ref().map(ToString::to_string),
        }
    }
}

impl VaultCreate {
    pub(crate) fn into_request(self, by: &ApiKeyId) -> NewVault {
        NewVault {
            name: self.name.unwrap_or_default(),
            description: self.description.unwrap_or_default(),
            metadata: self.metadata.unwrap_or_default(),
            by: Some(by.clone()),
        }
    }
}

impl From<VaultPatch> for VaultUpdate {
    fn from(patch: VaultPatch) -> Self {
        Self {
            name: patch.name,
            description: patch.description,
            metadata: patch.metadata,
        }
    }
}

impl SecretView {
    pub(crate) fn new(links: &Links, snapshot: &Snapshot, record: &VaultSecret) -> Self {
        let vault = snapshot.vault(&record.account, &record.vault);
        let key = |id: &Option<ApiKeyId>| id.as_ref().map(|id| Ref::new(links, "api_keys", id));
        Self {
            id: record.id.to_string(),
            uri: links.to("vault_secrets", &record.id),
            created_at: record.created_at,
            updated_at: record.updated_at,
            name: record.name.clone(),
            description: record.description.clone(),
            metadata: record.metadata.clone(),
            created_by: key(&record.created_by),
            last_updated_by: key(&record.last_updated_by),
            vault: Ref::new(links, "vaults", &record.vault),
            vault_name: vault.map(|vault| vault.name.clone()).unwrap_or_default(),
        }
    }
}

impl SecretCreate {
    pub(crate) fn into_request(self, by: &ApiKeyId) -> Result<NewSecret, Refusal> {
        let vault = match (self.vault_id, self.vault_name) {
            (Some(id), None) => VaultOf::Id(parse::<VaultId>(&id)?),
            (None, Some(name)) => VaultOf::Name(name),
            (None, None) => return Err(Refusal::of(Code::SecretVaultMissing)),
            (Some(_), Some(_)) => {
                let message = "give `vault_id` or `vault_name`, not both";
                return Err(Refusal::new(Code::ApiInvalidValue, message));
            }
        };
        Ok(NewSecret {
            vault,
            name: self.name.unwrap_or_default(),
            value: self
                .value
                .ok_or_else(|| Refusal::of(Code::SecretValueMissing))?,
            description: self.description.unwrap_or_default(),
            metadata: self.metadata.unwrap_or_default(),
            by: Some(by.clone()),
        })
    }
}

impl From<SecretPatch> for SecretUpdate {
    fn from(patch: SecretPatch) -> Self {
        Self {
            name: patch.name,
            value: patch.value,
            description: patch.description,
            metadata: patch.metadata,
        }
    }
}
