//! The snapshot's IP restrictions: what an account lets in by address, asked with every request, session and
//! connection.

use std::net::IpAddr;
use std::sync::Arc;

use portcullis_model::AccountId;
use portcullis_model::access::{IpRestriction, RestrictionKind};
use portcullis_model::id::{IpPolicyId, IpRestrictionId};

use super::Snapshot;

impl Snapshot {
    /// An IP restriction of the account.
    pub fn ip_restriction(
        &self,
        account: &AccountId,
        id: &IpRestrictionId,
    ) -> Option<&Arc<IpRestriction>> {
        self.ip_restrictions.get(account, id)
    }

    /// The account's IP restrictions, oldest first.
    pub fn ip_restrictions(
        &self,
        account: &AccountId,
    ) -> impl DoubleEndedIterator<Item = &Arc<IpRestriction>> {
        self.ip_restrictions.of(account)
    }

    /// Whether the account's IP restrictions of a type let an address in; with the restriction that does not.
    /// One that is not enforced lets everybody in, and logs whom it would not. IPv4-mapped addresses are
    /// understood.
    pub fn restriction_against(
        &self,
        account: &AccountId,
        kind: RestrictionKind,
        ip: IpAddr,
    ) -> Option<IpRestrictionId> {
        let ip = ip.to_canonical();
        let mut against = None;
        let own = self.ip_restrictions.of(account);
        for restriction in own.filter(|restriction| restriction.kind == kind) {
            if self.lets_in(restriction, ip) {
                continue;
            }
            if restriction.enforced {
                against = against.or_else(|| Some(restriction.id.clone()));
            } else {
                tracing::info!(restriction = %restriction.id, %account, kind = kind.as_str(), %ip, "an IP restriction that is not enforced would refuse this address");
            }
        }
        against
    }

    /// In some network that is allowed, and in none that is denied. A policy that is gone allows nothing.
    fn lets_in(&self, restriction: &IpRestriction, ip: IpAddr) -> bool {
        let mut allowed = false;
        for policy in &restriction.policies {
            let Some(sets) = self.ip_sets(&restriction.account, policy) else {
                continue;
            };
            if sets.deny.contains(ip) {
                return false;
            }
            allowed = allowed || sets.allow.contains(ip);
        }
        allowed
    }

    /// The account's IP restrictions that use an IP policy.
    pub(crate) fn restrictions_that_use<'a>(
        &'a self,
        account: &'a AccountId,
        policy: &'a IpPolicyId,
    ) -> impl Iterator<Item = &'a Arc<IpRestriction>> {
        self.ip_restrictions(account)
            .filter(move |restriction| restriction.policies.contains(policy))
    }
}
