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

#[cfg(test)]
mod tests {
    use super::*;

    use crate::id::ksuid;
    use crate::secret::Token;

    #[test]
    fn records_hold_a_hash_and_print_none_of_it() {
        let token = Token::new(&ksuid(1_700_000_000, [3; 16]), [9; 24]);
        let credential = Credential {
            id: CredentialId::new(1_700_000_000, [3; 16]),
            account: AccountId::new(1_700_000_000, [2; 16]),
            token_hash: token.hash(),
            acl: vec!["bind:*".to_owned()],
            description: String::new(),
            metadata: String::new(),
            created_at: Timestamp::from_unix_millis(0),
        };
        let stored = serde_json::to_string(&credential).expect("plain data");
        assert!(!stored.contains(token.secret.expose().as_str()));
        let read: Credential = serde_json::from_str(&stored).expect("own form");
        assert!(read.token_hash.matches(token.secret.expose()));
        let hash = stored
            .split("token_hash\":\"")
            .nth(1)
            .and_then(|rest| rest.get(..64))
            .expect("64 hexadecimal characters");
        assert!(!format!("{credential:?}").contains(hash));
    }
}
