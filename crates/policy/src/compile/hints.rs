//! What is worth knowing of a policy as a whole: who waits for a request, what is read before it is known.

use std::collections::BTreeSet;

use super::Notice;
use crate::cel::Reads;
use crate::decide::{Action, Rule, Terminate};
use crate::document::quoted;
use crate::suggest::nearest;
use crate::tls::Identity;

/// Looks at all rules in the order in which they run.
pub(super) fn look(rules: &[Rule], notices: &mut Vec<Notice>) {
    // Behind a rule that always ends the policy none runs, and that is told already.
    let reached = rules
        .iter()
        .position(Rule::is_terminating)
        .map_or(rules.len(), |last| last + 1);
    let rules = rules.get(..reached).unwrap_or_default();
    waits(rules, notices);
    reads(rules, notices);
}

fn waits(rules: &[Rule], notices: &mut Vec<Notice>) {
    if let Some(rule) = rules.iter().find(|rule| rule.waits_for_request()) {
        let why = if rule.names_request {
            "names `req`"
        } else {
            "answers with a status"
        };
        let message = format!(
            "the rule {why}, so it waits for the head of the client's HTTP request (up to 16 KiB, for up to 10 s); a client that waits for the server to speak first is closed then"
        );
        notices.push(Notice {
            path: rule.path.to_string(),
            message,
        });
    }
}

/// Variables that nothing sets before they are read, and first bytes that nobody waits for.
fn reads(rules: &[Rule], notices: &mut Vec<Notice>) {
    let mut known = Known::default();
    for rule in rules {
        let mut messages = Vec::new();
        let is_behind = known.waited;
        known.waited |= rule.waits_for_request();
        for condition in &rule.conditions {
            known.check(condition.expr.reads(), &mut messages);
        }
        for action in &rule.actions {
            if let Action::SetVars(vars) = action {
                // One of them may read those before it, which `check` cannot tell apart.
                known.set.extend(vars.iter().map(|(name, _)| name.clone()));
            }
            action.each_reads(&mut |reads| known.check(reads, &mut messages));
            known.sniffed |= matches!(action, Action::Sniff { .. });
            if let Action::TerminateTls(terminate) = action {
                known.terminated = true;
                if holds_key(terminate) {
                    messages.push("the private key stands in the document, which is stored and shown as it is; upload the certificate and name it (`server_certificate: cert_…`), or read the key with `secrets.get`".to_owned());
                }
                if is_behind || rule.names_request {
                    messages.push("the rule terminates TLS behind one that waits for an HTTP request; a request inside of TLS is not seen before it is terminated, so terminate it first".to_owned());
                }
            }
        }
        notices.extend(messages.into_iter().map(|message| Notice {
            path: rule.path.to_string(),
            message,
        }));
    }
}

/// Whether a private key can be read in the document.
fn holds_key(terminate: &Terminate) -> bool {
    matches!(terminate, Terminate::Known(known) if matches!(known.identity, Identity::Pem { .. }))
}

/// What the rules so far have made known, and what was told of.
#[derive(Default)]
struct Known {
    sniffed: bool,
    sniff_told: bool,
    terminated: bool,
    tls_told: bool,
    /// A rule waits for a request.
    waited: bool,
    set: BTreeSet<String>,
    told: BTreeSet<String>,
}

impl Known {
    fn check(&mut self, reads: &Reads, messages: &mut Vec<String>) {
        if reads.first && !self.sniffed && !self.sniff_told {
            self.sniff_told = true;
            messages.push("the rule names what the client's first bytes say, and no `sniff` before it waits for them; it finds them unknown".to_owned());
        }
        if reads.tls && !self.terminated && !self.tls_told {
            self.tls_told = true;
            messages.push("the rule names what is known of terminated TLS, and no `terminate-tls` before it; it finds nothing, unless an endpoint that forwards here has terminated it".to_owned());
        }
        for text in &reads.no_networks {
            messages.push(format!(
                "{} is no network, so no address is in it; write such as `10.0.0.0/8`",
                quoted(text)
            ));
        }
        for name in &reads.vars {
            if self.set.contains(name) || !self.told.insert(name.clone()) {
                continue;
            }
            let names: Vec<&str> = self.set.iter().map(String::as_str).collect();
            messages.push(match nearest(name, &names) {
                Some(meant) => {
                    format!("nothing before this sets `vars.{name}`; did you mean `vars.{meant}`?")
                }
                None => format!("nothing before this sets `vars.{name}`"),
            });
        }
    }
}
