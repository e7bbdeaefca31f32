//! Who may connect, by address: IP policies, their rules, and the restrictions that use them for a whole
//! account. An address is allowed where some rule that allows holds it and none that denies does.

pub use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::id::{AccountId, IpPolicyId, IpPolicyRuleId, IpRestrictionId};

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

impl RestrictionKind {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Dashboard, Self::Api, Self::Agent, Self::Endpoints];

    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dashboard => "dashboard",
            Self::Api => "api",
            Self::Agent => "agent",
            Self::Endpoints => "endpoints",
        }
    }

    /// Reads what [`Self::as_str`] writes.
    pub fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// What an account lets in by address, for one of its ways in. Where it has several of one kind, each has to
/// let an address in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpRestriction {
    /// `ipx_…`
    pub id: IpRestrictionId,
    /// The owner.
    pub account: AccountId,
    /// What it is for, for good.
    pub kind: RestrictionKind,
    /// Else what it would refuse is only logged.
    pub enforced: bool,
    /// The policies whose rules count, together; never none.
    pub policies: Vec<IpPolicyId>,
    /// At most 255 bytes.
    #[serde(default)]
    pub description: String,
    /// At most 4,096 bytes.
    #[serde(default)]
    pub metadata: String,
    /// When it was made.
    pub created_at: Timestamp,
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

    #[test]
    fn the_kinds_of_restrictions_are_stored_as_the_api_writes_them() {
        for kind in RestrictionKind::ALL {
            let stored = serde_json::to_string(&kind).expect("plain data");
            assert_eq!(stored, format!("\"{}\"", kind.as_str()));
            assert_eq!(RestrictionKind::read(kind.as_str()), Some(kind));
        }
        assert_eq!(RestrictionKind::read("API"), None);
    }
}
