//! IP policies and their rules: networks under one id, which traffic policies name.

use portcullis_model::access::{IpAction, IpPolicy, IpPolicyRule};
use portcullis_model::{Code, Timestamp};
use portcullis_store::defaults::IP_POLICY_RULES_MAX;
use portcullis_store::{IpPolicyUpdate, IpRuleSpec, IpRuleUpdate, NewIpPolicy, NewIpRule};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Ref, envelope};
use crate::web::bulk::Bulk;
use crate::web::{Links, Refusal, id};

/// An IP policy.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IpPolicy)]
pub(crate) struct IpPolicyView {
    /// `ipp_…`
    id: String,
    /// Where it can be read.
    uri: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    description: String,
    metadata: String,
    /// How many rules it has; they are listed by `/ip_policy_rules`.
    rule_count: usize,
}

envelope! {
    /// A page of IP policies.
    IpPolicyList { ip_policies: IpPolicyView }
}

/// A rule of an IP policy.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IpPolicyRule)]
pub(crate) struct IpRuleView {
    /// `ipr_…`
    id: String,
    /// Where it can be read.
    uri: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    description: String,
    metadata: String,
    /// The network: its base address and mask.
    cidr: String,
    /// The policy it is part of.
    ip_policy: Ref,
    /// `allow` or `deny`.
    action: &'static str,
}

envelope! {
    /// A page of rules of IP policies.
    IpPolicyRuleList { ip_policy_rules: IpRuleView }
}

/// A rule among many.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = IpPolicyRuleItem)]
pub(crate) struct IpRuleItem {
    /// A network's base address and mask.
    #[schema(required)]
    cidr: Option<String>,
    /// `allow` or `deny`.
    #[schema(required)]
    action: Option<String>,
}

/// An IP policy to make.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IpPolicyCreate {
    /// At most 255 bytes.
    description: Option<String>,
    /// At most 4,096 bytes.
    metadata: Option<String>,
    /// Its first rules, at most 100,000, made by the same write. The body may have 8 MiB.
    rules: Option<Vec<IpRuleItem>>,
}

/// Changes to an IP policy.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = IpPolicyUpdate)]
pub(crate) struct IpPolicyPatch {
    /// At most 255 bytes.
    description: Option<String>,
    /// At most 4,096 bytes.
    metadata: Option<String>,
    /// Replaces all rules by one write, at most 100,000; a rule that stays as it was keeps its id and texts.
    rules: Option<Vec<IpRuleItem>>,
}

/// A rule to make.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = IpPolicyRuleCreate)]
pub(crate) struct IpRuleCreate {
    /// At most 255 bytes.
    description: Option<String>,
    /// At most 4,096 bytes.
    metadata: Option<String>,
    /// A network's base address and mask. A policy has a network once.
    #[schema(required)]
    cidr: Option<String>,
    /// The policy, `ipp_…`
    #[schema(required)]
    ip_policy_id: Option<String>,
    /// `allow` or `deny`.
    #[schema(required)]
    action: Option<String>,
}

/// Changes to a rule.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = IpPolicyRuleUpdate)]
pub(crate) struct IpRulePatch {
    /// At most 255 bytes.
    description: Option<String>,
    /// At most 4,096 bytes.
    metadata: Option<String>,
    /// Another network.
    cidr: Option<String>,
}

impl IpPolicyView {
    pub(crate) fn new(links: &Links, record: &IpPolicy, rule_count: usize) -> Self {
        Self {
            id: record.id.to_string(),
            uri: links.to("ip_policies", &record.id),
            created_at: record.created_at,
            description: record.description.clone(),
            metadata: record.metadata.clone(),
            rule_count,
        }
    }
}

impl IpRuleView {
    pub(crate) fn new(links: &Links, record: &IpPolicyRule) -> Self {
        Self {
            id: record.id.to_string(),
            uri: links.to("ip_policy_rules", &record.id),
            created_at: record.created_at,
            description: record.description.clone(),
            metadata: record.metadata.clone(),
            cidr: record.cidr.to_string(),
            ip_policy: Ref::new(links, "ip_policies", &record.policy),
            action: record.action.as_str(),
        }
    }
}

impl Bulk for IpPolicyCreate {
    const FIELD: &'static str = "rules";
    const ITEMS_MAX: usize = IP_POLICY_RULES_MAX;
    type Item = IpRuleItem;

    fn take(&mut self, items: Vec<IpRuleItem>) {
        self.rules = Some(items);
    }
}

impl Bulk for IpPolicyPatch {
    const FIELD: &'static str = "rules";
    const ITEMS_MAX: usize = IP_POLICY_RULES_MAX;
    type Item = IpRuleItem;

    fn take(&mut self, items: Vec<IpRuleItem>) {
        self.rules = Some(items);
    }
}

impl IpPolicyCreate {
    pub(crate) fn into_request(self) -> Result<NewIpPolicy, Refusal> {
        Ok(NewIpPolicy {
            description: self.description.unwrap_or_default(),
            metadata: self.metadata.unwrap_or_default(),
            rules: specs(self.rules.unwrap_or_default())?,
        })
    }
}

impl IpPolicyPatch {
    pub(crate) fn into_request(self) -> Result<IpPolicyUpdate, Refusal> {
        Ok(IpPolicyUpdate {
            description: self.description,
            metadata: self.metadata,
            rules: self.rules.map(specs).transpose()?,
        })
    }
}

impl IpRuleCreate {
    pub(crate) fn into_request(self) -> Result<NewIpRule, Refusal> {
        let policy = self
            .ip_policy_id
            .ok_or_else(|| Refusal::new(Code::IpRulePolicyMissing, "`ip_policy_id` is required"))?;
        Ok(NewIpRule {
            policy: id::parse(&policy)?,
            action: action("action", self.action.as_deref())?,
            cidr: cidr("cidr", self.cidr)?,
            description: self.description.unwrap_or_default(),
            metadata: self.metadata.unwrap_or_default(),
        })
    }
}

impl From<IpRulePatch> for IpRuleUpdate {
    fn from(patch: IpRulePatch) -> Self {
        Self {
            cidr: patch.cidr,
            description: patch.description,
            metadata: patch.metadata,
        }
    }
}

fn specs(items: Vec<IpRuleItem>) -> Result<Vec<IpRuleSpec>, Refusal> {
    let items = items.into_iter().enumerate();
    items
        .map(|(place, item)| {
            Ok(IpRuleSpec {
                action: action(&format!("rules[{place}].action"), item.action.as_deref())?,
                cidr: cidr(&format!("rules[{place}].cidr"), item.cidr)?,
            })
        })
        .collect()
}

fn cidr(field: &str, value: Option<String>) -> Result<String, Refusal> {
    value
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Refusal::new(Code::IpRuleFieldMissing, format!("`{field}` is required")))
}

fn action(field: &str, value: Option<&str>) -> Result<IpAction, Refusal> {
    let Some(text) = value.filter(|text| !text.is_empty()) else {
        let message = format!("`{field}` is required: allow or deny");
        return Err(Refusal::new(Code::IpRuleFieldMissing, message));
    };
    IpAction::read(text).ok_or_else(|| {
        let shown: String = text.chars().take(64).collect();
        Refusal::new(
            Code::IpRuleActionInvalid,
            format!("`{field}` is `{shown}`; use allow or deny"),
        )
    })
}
