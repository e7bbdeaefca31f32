//! Accounts and their plans.

use serde::{Deserialize, Serialize};

use crate::{AccountId, Timestamp};

/// The owner of everything else. No resource is visible across accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// `ac_…`
    pub id: AccountId,
    /// Unique among accounts, 1 to 64 characters.
    pub name: String,
    /// Name of the plan, a key of the server's `plans:`; `default` always exists.
    pub plan: String,
    /// Whether the operator has verified the account; plans may allow TCP only then.
    #[serde(default)]
    pub verified: bool,
    /// At most 255 bytes.
    #[serde(default)]
    pub description: String,
    /// At most 4,096 bytes.
    #[serde(default)]
    pub metadata: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Who may use TCP endpoints under a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TcpAccess {
    /// Every account.
    #[default]
    Allowed,
    /// Only accounts that the operator marked as verified.
    Verified,
    /// Nobody.
    Denied,
}

/// Quotas, by name, from the server's configuration. A quota that is absent is without limit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plan {
    /// Endpoints online at once, cloud and agent.
    pub endpoints_max: Option<u32>,
    /// TCP addresses reserved at once.
    pub addresses_max: Option<u32>,
    /// Agent sessions at once.
    pub sessions_max: Option<u32>,
    /// Client connections at once, over all endpoints.
    pub connections_max: Option<u32>,
    /// Who may use TCP endpoints.
    pub tcp: TcpAccess,
    /// What a gated account is told to do, such as an address to write to.
    pub verify_hint: Option<String>,
}
