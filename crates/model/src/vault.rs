//! Vaults and their secrets: what policies read with `secrets.get`. A record holds a value sealed only.
//!
//! Must never: hold a value in the clear, or print one, sealed or not.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::id::{SecretId, VaultId};
use crate::{AccountId, ApiKeyId, Timestamp};

/// A vault: secrets under one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vault {
    /// `vault_…`
    pub id: VaultId,
    /// The owner.
    pub account: AccountId,
    /// Unique in the account; see [`name_problem`].
    pub name: String,
    /// At most 255 bytes.
    #[serde(default)]
    pub description: String,
    /// At most 4,096 bytes.
    #[serde(default)]
    pub metadata: String,
    /// The API key that made it.
    #[serde(default)]
    pub created_by: Option<ApiKeyId>,
    /// The API key that changed it last.
    #[serde(default)]
    pub last_updated_by: Option<ApiKeyId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

/// A secret of a vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultSecret {
    /// `secret_…`
    pub id: SecretId,
    /// The owner.
    pub account: AccountId,
    /// The vault it is in, for good.
    pub vault: VaultId,
    /// Unique in the vault; see [`name_problem`].
    pub name: String,
    /// The value, sealed for this record alone.
    pub value: Sealed,
    /// At most 255 bytes.
    #[serde(default)]
    pub description: String,
    /// At most 4,096 bytes.
    #[serde(default)]
    pub metadata: String,
    /// The API key that made it.
    #[serde(default)]
    pub created_by: Option<ApiKeyId>,
    /// The API key that changed it last.
    #[serde(default)]
    pub last_updated_by: Option<ApiKeyId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

impl VaultSecret {
    /// What the value is sealed for: the record's place. Sealed under one it does not open under another,
    /// so that whoever can write the store cannot put one secret in another's place.
    pub fn place(&self) -> String {
        format!("secret/{}/{}/{}", self.account, self.vault, self.id)
    }
}

/// A sealed value, base64 in the store. What the bytes mean, only who sealed them knows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(String);

impl Sealed {
    /// Wraps sealed bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self(STANDARD_NO_PAD.encode(bytes))
    }

    /// The sealed bytes; `None` when the stored text is not base64.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        STANDARD_NO_PAD.decode(&self.0).ok()
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[sealed]")
    }
}

/// Characters of a name of a vault or a secret.
pub const NAME_CHARS_MAX: usize = 128;

/// What is wrong with a name of a vault or a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameProblem {
    /// It is empty.
    Empty,
    /// It has more than [`NAME_CHARS_MAX`] characters.
    TooLong,
    /// A character is none of `a-zA-Z0-9_/.`.
    Character(char),
}

/// What is wrong with a name, if anything is.
pub fn name_problem(name: &str) -> Option<NameProblem> {
    if name.is_empty() {
        return Some(NameProblem::Empty);
    }
    if name.chars().count() > NAME_CHARS_MAX {
        return Some(NameProblem::TooLong);
    }
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.');
    name.chars()
        .find(|c| !allowed(c))
        .map(NameProblem::Character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_print_none_of_a_value() {
        let secret = VaultSecret {
            id: SecretId::new(1_700_000_000, [3; 16]),
            account: AccountId::new(1_700_000_000, [2; 16]),
            vault: VaultId::new(1_700_000_000, [1; 16]),
            name: "db/password".to_owned(),
            value: Sealed::new(b"these are sealed bytes"),
            description: String::new(),
            metadata: String::new(),
            created_by: None,
            last_updated_by: None,
            created_at: Timestamp::from_unix_millis(0),
            updated_at: Timestamp::from_unix_millis(0),
        };
        let stored = serde_json::to_string(&secret).expect("plain data");
        let sealed = STANDARD_NO_PAD.encode(b"these are sealed bytes");
        assert!(stored.contains(&sealed));
        let read: VaultSecret = serde_json::from_str(&stored).expect("own form");
        assert_eq!(
            read.value.bytes().as_deref(),
            Some(&b"these are sealed bytes"[..])
        );
        let printed = format!("{secret:?}");
        assert!(!printed.contains(&sealed) && printed.contains("[sealed]"));
        assert_eq!(
            secret.place(),
            format!("secret/{}/{}/{}", secret.account, secret.vault, secret.id)
        );
    }

    #[test]
    fn names_have_their_characters_and_length() {
        for good in ["a", "prod/db.password_2", "A/B", &"x".repeat(128)] {
            assert_eq!(name_problem(good), None, "{good}");
        }
        assert_eq!(name_problem(""), Some(NameProblem::Empty));
        assert_eq!(name_problem(&"x".repeat(129)), Some(NameProblem::TooLong));
        for (bad, which) in [("a b", ' '), ("ä", 'ä'), ("a-b", '-'), ("a\n", '\n')] {
            assert_eq!(name_problem(bad), Some(NameProblem::Character(which)));
        }
    }
}
