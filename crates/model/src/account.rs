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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_without_limits_unless_named_and_refuse_unknown_quotas() {
        let plan: Plan =
            serde_json::from_str("{\"endpoints_max\": 3, \"tcp\": \"verified\"}").expect("valid");
        assert_eq!(
            (plan.endpoints_max, plan.sessions_max, plan.tcp),
            (Some(3), None, TcpAccess::Verified)
        );
        assert_eq!(
            serde_json::from_str::<Plan>("{}").expect("valid"),
            Plan::default()
        );
        let error = serde_json::from_str::<Plan>("{\"endpoint_max\": 3}").expect_err("misspelt");
        assert!(error.to_string().contains("endpoint_max"), "{error}");
    }

    #[test]
    fn accounts_of_older_releases_are_read() {
        let text = "{\"id\": \"ac_2NfK3bpsSVTkrd4Rki6m6R2oQCC\", \"name\": \"a\", \"plan\": \"default\", \"created_at\": \"2026-11-20T12:00:00Z\"}";
        let account: Account =
            serde_json::from_str(text).expect("fields with a default may be absent");
        assert!(!account.verified && account.metadata.is_empty());
    }
}
