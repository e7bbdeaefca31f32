//! What ran for one connection: a fixed-size log without allocation, for the connection's record.

use std::fmt;

use ipnet::IpNet;

use crate::decide::{Policy, Step};
use crate::defaults::LOG_ENTRIES_MAX;

/// What an action did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ran {
    /// `restrict-ips` let the client in.
    Allowed {
        /// The longest network in `allow` that holds the client.
        matched: IpNet,
    },
    /// `restrict-ips` found that the client may not get in.
    Restricted {
        /// The network in `deny` that holds the client; `None`: no network in `allow` does.
        matched: Option<IpNet>,
        /// Whether it kept the client out (`enforce`), or only noted it.
        enforced: bool,
    },
    /// `forward-internal` chose its target.
    ForwardInternal,
    /// `deny` ended the policy.
    Deny,
    /// `close-connection` ended the policy.
    CloseConnection,
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed { matched } => write!(f, "restrict-ips allow {matched}"),
            Self::Restricted { matched, enforced } => {
                f.write_str("restrict-ips deny ")?;
                match matched {
                    Some(network) => write!(f, "{network}")?,
                    None => f.write_str("(in no allow)")?,
                }
                f.write_str(if *enforced { "" } else { " (not enforced)" })
            }
            Self::ForwardInternal => f.write_str("forward-internal"),
            Self::Deny => f.write_str("deny"),
            Self::CloseConnection => f.write_str("close-connection"),
        }
    }
}

/// One action that ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Where in the policy.
    pub step: Step,
    /// What it did.
    pub ran: Ran,
}

/// What ran, in order.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Log {
    entries: [Option<Entry>; LOG_ENTRIES_MAX],
    len: usize,
}

impl Log {
    pub(crate) fn push(&mut self, step: Step, ran: Ran) {
        if let Some(slot) = self.entries.get_mut(self.len) {
            *slot = Some(Entry { step, ran });
        }
        self.len += 1;
    }

    /// The entries; the first [`LOG_ENTRIES_MAX`] of them.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().flatten()
    }

    /// How many actions ran beyond those that the log holds.
    pub fn omitted(&self) -> usize {
        self.len.saturating_sub(LOG_ENTRIES_MAX)
    }

    /// Whether nothing ran.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One line for the connection's record, with the rules' names from the policy that ran, such as
    /// `office only: restrict-ips allow 10.0.0.0/8; on_tcp_connect[1]: deny`.
    pub fn render(&self, policy: &Policy) -> String {
        let mut parts: Vec<String> = self
            .entries()
            .map(|entry| describe(entry, policy))
            .collect();
        if self.omitted() > 0 {
            parts.push(format!("and {} more", self.omitted()));
        }
        parts.join("; ")
    }
}

fn describe(entry: &Entry, policy: &Policy) -> String {
    match policy.rules.get(usize::from(entry.step.rule)) {
        Some(rule) => format!("{}: {}", rule.label, entry.ran),
        None => entry.ran.to_string(),
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries()).finish()
    }
}
