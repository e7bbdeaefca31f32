//! Taking a map apart: each known key once, every other key a problem with a suggestion.

use portcullis_model::Code;

use super::problems::Problems;
use crate::document::{Node, quoted};
use crate::suggest::nearest;

/// The keys of one map that nobody has taken yet.
pub(crate) struct Fields {
    path: String,
    what: &'static str,
    code: Code,
    left: Vec<(String, Node)>,
}

impl Fields {
    /// Opens a map; anything else is a problem. `what` names it in messages, `code` is that of its problems.
    pub(crate) fn open(
        node: Node,
        path: &str,
        what: &'static str,
        code: Code,
        problems: &mut Problems,
    ) -> Option<Self> {
        match node {
            Node::Map(left) => Some(Self {
                path: path.to_owned(),
                what,
                code,
                left,
            }),
            other => {
                problems.add(
                    code,
                    path,
                    format!("{what} is a map, and this is {}", other.what()),
                );
                None
            }
        }
    }

    /// The value of a key, if it is there.
    pub(crate) fn take(&mut self, key: &str) -> Option<Node> {
        let place = self.left.iter().position(|(name, _)| name == key)?;
        Some(self.left.remove(place).1)
    }

    /// Refuses what is left. `known` are the keys worth suggesting.
    pub(crate) fn close(self, known: &[&str], problems: &mut Problems) {
        for (key, _) in &self.left {
            let message = if let Some(meant) = nearest(key, known) {
                format!(
                    "{} has no key {}; did you mean `{meant}`?",
                    self.what,
                    quoted(key)
                )
            } else if known.is_empty() {
                format!("{} has no keys; leave {} out", self.what, quoted(key))
            } else {
                let known: Vec<String> = known.iter().map(|key| format!("`{key}`")).collect();
                format!(
                    "{} has no key {}; its keys are {}",
                    self.what,
                    quoted(key),
                    known.join(", ")
                )
            };
            problems.add(self.code, &self.path, message);
        }
    }
}
