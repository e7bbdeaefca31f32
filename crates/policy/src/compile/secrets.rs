//! Where secrets must not be: in what is written to the record of a connection.

use std::collections::BTreeSet;

use portcullis_model::Code;

use super::Reading;
use crate::cel::Reads;

/// What stands for the key that `rate-limit` leaves under `actions.ngrok`. No variable has this name.
const LIMIT_KEY: &str = "@key";

/// What the texts of a document name, as far as secrets may come along.
#[derive(Debug, Default)]
pub(super) struct Flows {
    /// Texts of the action that is read: path, and what they name.
    texts: Vec<(String, Reads)>,
    /// What is set, and what it is made of.
    set: Vec<(String, Reads)>,
    /// Texts whose values are written to the record.
    written: Vec<(String, Reads)>,
}

impl Flows {
    /// Notes a text of the action that is read.
    pub(super) fn text(&mut self, path: &str, reads: Reads) {
        self.texts.push((path.to_owned(), reads));
    }

    /// The texts since the last action, or variable, are those of a variable.
    pub(super) fn sets(&mut self, name: &str) {
        let texts = self.texts.drain(..);
        self.set
            .extend(texts.map(|(_, reads)| (name.to_owned(), reads)));
    }

    /// The key of a `rate-limit`: later expressions find it under `actions.ngrok`.
    pub(super) fn sets_limit_key(&mut self, reads: &Reads) {
        self.set.push((LIMIT_KEY.to_owned(), reads.clone()));
    }

    /// The texts since the last action are written to the record.
    pub(super) fn writes(&mut self) {
        self.written.append(&mut self.texts);
    }

    /// The texts since the last action go elsewhere.
    pub(super) fn passes(&mut self) {
        self.texts.clear();
    }
}

/// Refuses secrets in what is written to the record. Where a variable is set does not matter, nor when: one
/// that a secret may have come into may never be written.
pub(super) fn refuse(reading: &mut Reading) {
    let Flows { set, written, .. } = std::mem::take(&mut reading.flows);
    let mut secret: BTreeSet<String> = BTreeSet::new();
    loop {
        let before = secret.len();
        for (name, reads) in &set {
            if source(reads, &secret).is_some() {
                secret.insert(name.clone());
            }
        }
        if secret.len() == before {
            break;
        }
    }
    for (path, reads) in &written {
        if let Some(source) = source(reads, &secret) {
            let message = format!(
                "{source}, and what stands here is written to the record; secrets may be used in expressions, set-vars, custom-response, terminate-tls and the keys of limits"
            );
            reading.problems.add(Code::PolicyExpressions, path, message);
        }
    }
}

/// How a secret comes into a text, if one does.
fn source(reads: &Reads, secret: &BTreeSet<String>) -> Option<String> {
    if !reads.secrets.is_empty() {
        return Some("`secrets.get` reads a secret".to_owned());
    }
    if let Some(name) = reads.vars.iter().find(|name| secret.contains(*name)) {
        return Some(format!("`vars.{name}` comes from a secret"));
    }
    if reads.all_vars
        && let Some(name) = secret.iter().find(|name| *name != LIMIT_KEY)
    {
        return Some(format!("`vars` holds `{name}`, which comes from a secret"));
    }
    (reads.limit_key && secret.contains(LIMIT_KEY)).then(|| {
        "`actions.ngrok.rate_limit` holds the key of a limit, which comes from a secret".to_owned()
    })
}
