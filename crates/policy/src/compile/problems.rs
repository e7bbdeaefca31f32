//! Problems of a document, collected until all are found.

use std::fmt::Write as _;

use portcullis_model::{Code, Error};

use crate::defaults::PROBLEMS_SHOWN_MAX;

/// All that is wrong with a document. The first [`PROBLEMS_SHOWN_MAX`] keep their text.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    shown: Vec<(Code, String)>,
    count: usize,
    mixed: bool,
}

impl Problems {
    /// Notes a problem; an empty path is the document as a whole.
    pub(crate) fn add(&mut self, code: Code, path: &str, message: String) {
        self.count += 1;
        self.mixed |= self.shown.first().is_some_and(|(first, _)| *first != code);
        if self.shown.len() < PROBLEMS_SHOWN_MAX {
            let text = if path.is_empty() {
                message
            } else {
                format!("{path}: {message}")
            };
            self.shown.push((code, text));
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// One error of all problems: under their code, or `PTC_POLICY_INVALID` when they differ.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let [first, rest @ ..] = self.shown.as_slice() else {
            return Ok(());
        };
        let (code, text) = first;
        if rest.is_empty() {
            return Err(Error::new(*code, format!("policy: {text}")));
        }
        let mut message = format!("the policy has {} problems:", self.count);
        for (code, text) in &self.shown {
            let written = if self.mixed {
                write!(message, "\n  {text} ({code})")
            } else {
                write!(message, "\n  {text}")
            };
            written.expect("writing to a String cannot fail");
        }
        if self.count > self.shown.len() {
            write!(message, "\n  and {} more", self.count - self.shown.len())
                .expect("writing to a String cannot fail");
        }
        Err(Error::new(
            if self.mixed {
                Code::PolicyInvalid
            } else {
                *code
            },
            message,
        ))
    }
}
