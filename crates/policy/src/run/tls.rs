//! `terminate-tls` at work: what is asked for, and what an earlier termination counts for.
//!
//! Must never: go on where an earlier termination demanded less of the client than this one does.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Asked, Flow, Need, Run, outputs};
use crate::compile::{check_certificate, check_private_key};
use crate::decide::{LaterTls, Rule, Step, Terminate};
use crate::tls::{Authority, Identity, Termination, TlsFacts, TlsVersion, Verification};

/// What `terminate-tls` asked for, and where it stands.
pub(super) type AskedTls = (Step, Arc<Termination>);

/// What is wrong, with where it is below the config.
type Wrong = (String, String);

impl Run {
    pub(super) fn terminate_tls(
        &mut self,
        rule: &Rule,
        terminate: &Terminate,
        asked: Asked<'_>,
    ) -> Flow {
        let step = self.step();
        let own = self.asked_tls.as_ref().filter(|(at, _)| *at == step);
        let own = own.map(|(_, termination)| Arc::clone(termination));
        let is_own = own.is_some();
        let termination = match own.map_or_else(|| self.termination(terminate, asked), Ok) {
            Ok(termination) => termination,
            Err((below, why)) => return self.fails_at(rule, &below, why),
        };
        let Some(facts) = &asked.facts.given.tls else {
            self.asked_tls = Some((step, Arc::clone(&termination)));
            return Flow::Need(Need::Tls(termination));
        };
        let before = facts.termination.as_ref();
        let before = before.or(self.asked_tls.as_ref().map(|(_, before)| before));
        let before = if is_own { Some(&termination) } else { before };
        if let Some((below, why)) = unmet(&termination, before, facts) {
            return self.fails_at(rule, below, why);
        }
        let mut warnings: Vec<&str> = Vec::new();
        if before != Some(&termination) {
            warnings.push("TLS was terminated before, by another `terminate-tls`: its certificate, versions and protocols stand");
        }
        self.outputs.set("terminate_tls", left(facts, &warnings));
        let name = if facts.sni.is_empty() {
            "no name"
        } else {
            facts.sni.as_str()
        };
        let before = if warnings.is_empty() { "" } else { " (before)" };
        let what = format!("terminate-tls {} for {name}{before}", facts.version);
        self.note(rule, &what);
        Flow::On
    }

    fn termination(
        &self,
        terminate: &Terminate,
        asked: Asked<'_>,
    ) -> Result<Arc<Termination>, Wrong> {
        match terminate {
            Terminate::Known(termination) => Ok(Arc::clone(termination)),
            Terminate::Later(later) => self.later(later, asked).map(Arc::new),
        }
    }

    fn later(&self, later: &LaterTls, asked: Asked<'_>) -> Result<Termination, Wrong> {
        let mut termination = later.known.clone();
        let scope = self.scope(asked);
        if let Some((certificate, key)) = &later.pair {
            let at = |key: &str| {
                let key = key.to_owned();
                move |why: String| (key, why)
            };
            let text = certificate.eval_text(&scope);
            let certificate = text
                .and_then(|text| check_certificate(&text).map(|()| text))
                .map_err(at("server_certificate"))?;
            let text = key.eval_text(&scope);
            let private_key = text
                .and_then(|text| check_private_key(&text).map(|()| text))
                .map_err(at("server_private_key"))?;
            termination.identity = Identity::Pem {
                certificate,
                private_key,
            };
        }
        for (place, template) in &later.authorities {
            let text = template.eval_text(&scope);
            let authority = text
                .and_then(|text| check_certificate(&text).map(|()| text))
                .map_err(|why| (format!("mutual_tls_certificate_authorities[{place}]"), why))?;
            termination
                .clients
                .authorities
                .push(Authority::Pem(authority));
        }
        Ok(termination)
    }
}

/// What this termination demands and the one that was did not see to.
fn unmet(
    now: &Termination,
    before: Option<&Arc<Termination>>,
    facts: &TlsFacts,
) -> Option<(&'static str, &'static str)> {
    const AUTHORITIES: &str = "mutual_tls_certificate_authorities";
    let demanded = &now.clients;
    let is_demanded =
        !demanded.authorities.is_empty() && demanded.strategy != Verification::Request;
    if is_demanded && facts.client.is_none() {
        // Whoever terminates sees to it; where it did not, nobody gets in.
        return Some((
            AUTHORITIES,
            "the client has shown no certificate when TLS was terminated",
        ));
    }
    if before.is_some_and(|before| **before == *now) {
        return None;
    }
    if now.min_version == TlsVersion::V13 && facts.version != "1.3" {
        return Some((
            "min_version",
            "TLS was terminated before, with a lower version",
        ));
    }
    let is_verified = |before: &Arc<Termination>| {
        let earlier = &before.clients;
        earlier.strategy == Verification::RequireAndVerify
            && !earlier.authorities.is_empty()
            && earlier
                .authorities
                .iter()
                .all(|one| demanded.authorities.contains(one))
    };
    let is_met = !is_demanded
        || demanded.strategy != Verification::RequireAndVerify
        || before.is_some_and(is_verified);
    (!is_met).then_some((
        AUTHORITIES,
        "TLS was terminated before, without the client's certificate that is demanded here; demand it there",
    ))
}

/// What is left under `actions.ngrok`. The parts of certificates are looked up where they are, as those of
/// `conn.tls` are.
fn left(facts: &TlsFacts, warnings: &[&str]) -> Value {
    json!({
        "cipher_suite": facts.cipher_suite,
        "sni": facts.sni,
        "version": facts.version,
        "error": outputs::error(None),
        "warnings": warnings,
    })
}
