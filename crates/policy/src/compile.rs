//! From a document to a policy: every problem is found, with its path, before any is reported.

use portcullis_model::{EndpointType, Error};

use crate::decide::Policy;

/// What the writer of a document should know, though it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Where in the document, such as `on_tcp_connect[1].actions[0].config`.
    pub path: String,
    /// What to know, as a sentence.
    pub message: String,
}

pub(crate) fn compile(text: &str, kind: EndpointType) -> Result<Policy, Error> {
    let _ = (text, kind);
    Ok(Policy::default())
}

pub(crate) fn quoted(text: &str) -> String {
    format!("`{text}`")
}
