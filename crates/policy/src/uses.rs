//! What a policy refers to by name or id, so that its deletion can be refused and its absence told.

use std::collections::BTreeSet;

use portcullis_model::EndpointUrl;
use portcullis_model::id::IpPolicyId;

/// What a policy uses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Uses {
    /// IP policies of `restrict-ips`.
    pub ip_policies: BTreeSet<IpPolicyId>,
    /// Secrets of `secrets.get`: vault and name.
    pub secrets: BTreeSet<(String, String)>,
    /// Internal endpoints that `forward-internal` names in full.
    pub targets: BTreeSet<EndpointUrl>,
}
