//! What a policy refers to by name or id, so that its deletion can be refused and its absence told.

use std::collections::BTreeSet;

use portcullis_model::EndpointUrl;
use portcullis_model::id::{CertificateAuthorityId, IpPolicyId, TlsCertificateId};

use crate::decide::{Action, Rule, Terminate};
use crate::tls::{Authority, Identity, Termination};

/// What a policy uses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Uses {
    /// IP policies of `restrict-ips`.
    pub ip_policies: BTreeSet<IpPolicyId>,
    /// Secrets of `secrets.get`: vault and name.
    pub secrets: BTreeSet<(String, String)>,
    /// Internal endpoints that `forward-internal` names in full.
    pub targets: BTreeSet<EndpointUrl>,
    /// Certificates of `terminate-tls`.
    pub certificates: BTreeSet<TlsCertificateId>,
    /// Certificate authorities of `terminate-tls`.
    pub authorities: BTreeSet<CertificateAuthorityId>,
}

impl Uses {
    pub(crate) fn of(rules: &[Rule]) -> Self {
        let mut uses = Self::default();
        for rule in rules {
            rule.each_reads(&mut |reads| uses.secrets.extend(reads.secrets.iter().cloned()));
            for action in &rule.actions {
                uses.targets.extend(action.targets().cloned());
                if let Action::RestrictIps(restrict) = action {
                    let later = restrict.later.iter();
                    uses.ip_policies
                        .extend(later.flat_map(|later| later.policies.iter().cloned()));
                }
                match action {
                    Action::TerminateTls(Terminate::Known(known)) => uses.add(known),
                    Action::TerminateTls(Terminate::Later(later)) => uses.add(&later.known),
                    _ => {}
                }
            }
        }
        uses
    }

    fn add(&mut self, termination: &Termination) {
        if let Identity::Stored(id) = &termination.identity {
            self.certificates.insert(id.clone());
        }
        for authority in &termination.clients.authorities {
            if let Authority::Stored(id) = authority {
                self.authorities.insert(id.clone());
            }
        }
    }
}
