//! Credentials (what an agent connects with) and API keys (what the REST API takes). Their tokens
//! are shown once; the records hold hashes.

use serde::{Deserialize, Serialize};

use crate::{AccountId, ApiKeyId, CredentialId, Timestamp, TokenHash};

/// An agent's credential. Its authtoken is `<KSUID of the id>_<secret>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// `cr_…`
    pub id: CredentialId,
    /// The owner.
    pub account: AccountId,
    /// SHA-256 of the token's secret part.
    pub token_hash: TokenHash,
    /// `bind:` rules, see [`crate::acl`]. Empty: no restriction.
    #[serde(default)]
    pub acl: Vec<String>,
    /// At most 255 bytes.
    #[serde(default)]
    pub description: String,
    /// At most 4,096 bytes.
    #[serde(default)]
    pub metadata: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A key to the REST API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// `ak_…`
    pub id: ApiKeyId,
    /// The account it acts for.
    pub account: AccountId,
    /// Opens `/accounts`, and other accounts by the header `Portcullis-Account`.
    #[serde(default)]
    pub admin: bool,
    /// SHA-256 of the token's secret part.
    pub token_hash: TokenHash,
    /// At most 255 bytes.
    #[serde(default)]
    pub description: String,
    /// At most 4,096 bytes.
    #[serde(default)]
    pub metadata: String,
    /// When it was made.
    pub created_at: Timestamp,
}
