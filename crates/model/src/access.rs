//! Who may connect, by address: IP policies and their rules. An address is allowed where some rule that
//! allows holds it and none that denies does.

pub use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::id::{AccountId, IpPolicyId, IpPolicyRuleId};

/// Networks under one id, which policies of endpoints name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpPolicy {
    /// `ipp_…`
    pub id: IpPolicyId,
    /// The owner.
    pub account: AccountId,
    /// At most 255 bytes.
    #[serde(default)]
    pub description: String,
    /// At most 4,096 bytes.
    #[serde(default)]
    pub metadata: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What an IP restriction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RestrictionKind {
    /// The dashboard.
    Dashboard,
    /// The API.
    Api,
    /// Agents that connect.
    Agent,
    /// Clients of all endpoints.
    Endpoints,
}

/// One network of an IP policy. A policy has a network at most once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpPolicyRule {
    /// `ipr_…`
    pub id: IpPolicyRuleId,
    /// The owner.
    pub account: AccountId,
    /// The policy it is part of.
    pub policy: IpPolicyId,
    /// The network, by its base address.
    pub cidr: IpNet,
    /// What it does with the addresses of the network.
    pub action: IpAction,
    /// At most 255 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// At most 4,096 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metadata: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a rule does with the addresses it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpAction {
    /// They may connect, unless another rule denies.
    Allow,
    /// They may not, whatever other rules say.
    Deny,
}

impl IpAction {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }

    /// Reads what [`Self::as_str`] writes.
    pub fn read(text: &str) -> Option<Self> {
        [Self::Allow, Self::Deny]
            .into_iter()
            .find(|action| action.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_round_trips_and_leaves_out_what_is_empty() {
        let rule = IpPolicyRule {
            id: IpPolicyRuleId::new(1_700_000_000, [1; 16]),
            account: AccountId::new(1_700_000_000, [2; 16]),
            policy: IpPolicyId::new(1_700_000_000, [3; 16]),
            cidr: "2001:db8::/32".parse().expect("a network"),
            action: IpAction::Deny,
            description: String::new(),
            metadata: String::new(),
            created_at: Timestamp::from_unix_millis(1_700_000_000_000),
        };
        let text = serde_json::to_string(&rule).expect("plain data");
        assert!(
            text.contains(r#""cidr":"2001:db8::/32","action":"deny""#)
                && !text.contains("metadata"),
            "{text}"
        );
        assert_eq!(
            serde_json::from_str::<IpPolicyRule>(&text).expect("JSON"),
            rule
        );
        assert_eq!(IpAction::read("allow"), Some(IpAction::Allow));
        assert_eq!(IpAction::read("Allow"), None);
    }
}
