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
                uses.add_action(action);
            }
        }
        uses
    }

    /// Whether an IP policy, a certificate or an authority of this id is among them.
    pub fn has_id(&self, id: &str) -> bool {
        self.ip_policies.iter().any(|it| it.as_str() == id)
            || self.certificates.iter().any(|it| it.as_str() == id)
            || self.authorities.iter().any(|it| it.as_str() == id)
    }

    /// Where the first part of a policy stands that uses what is meant, such as `on_tcp_connect[1].actions[0]`.
    pub(crate) fn place(rules: &[Rule], is_meant: &dyn Fn(&Self) -> bool) -> Option<String> {
        rules.iter().find_map(|rule| {
            let condition = rule.conditions.iter().find(|condition| {
                let secrets = condition.expr.reads().secrets.iter().cloned().collect();
                is_meant(&Self {
                    secrets,
                    ..Self::default()
                })
            });
            if let Some(condition) = condition {
                return Some(format!("{}.expressions[{}]", rule.path, condition.place));
            }
            let action = rule.actions.iter().position(|action| {
                let mut uses = Self::default();
                action.each_reads(&mut |reads| uses.secrets.extend(reads.secrets.iter().cloned()));
                uses.add_action(action);
                is_meant(&uses)
            });
            action.map(|action| format!("{}.actions[{action}]", rule.path))
        })
    }

    fn add_action(&mut self, action: &Action) {
        self.targets.extend(action.targets().cloned());
        match action {
            Action::RestrictIps(restrict) => {
                let later = restrict.later.iter();
                self.ip_policies
                    .extend(later.flat_map(|later| later.policies.iter().cloned()));
            }
            Action::TerminateTls(Terminate::Known(known)) => self.add(known),
            Action::TerminateTls(Terminate::Later(later)) => self.add(&later.known),
            _ => {}
        }
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
