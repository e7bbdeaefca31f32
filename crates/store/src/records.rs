//! Records that only the store knows: who holds a host and port, and what an agent identity is.

use portcullis_model::{AccountId, AddrId, AgentId, EndpointId, Timestamp, TokenHash};
use serde::{Deserialize, Serialize};

/// Who may use a public host and port (or a whole host, or an IP). There is one per place, so that
/// two accounts never get the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    /// The account, also while the place rests for it.
    pub account: AccountId,
    /// What of the account.
    pub holder: ClaimHolder,
    /// Set when nothing of the account is there any more: from then on others may have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resting_until: Option<Timestamp>,
}

/// What of an account holds a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub(crate) enum ClaimHolder {
    /// A reserved address, until it is released.
    Address {
        /// The address.
        addr: AddrId,
    },
    /// A random address of an agent's endpoint; kept for it while it is offline, for a while.
    Agent {
        /// The installation.
        agent: AgentId,
        /// The endpoint's name.
        name: String,
    },
    /// One endpoint, as long as that lives.
    Endpoint {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// A configured endpoint without an agent.
    Direct {
        /// Its name.
        name: String,
    },
    /// Nothing any more: it rests for its account.
    Nobody,
}

/// An agent installation, known from its first session on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AgentRecord {
    /// Proves that a session is of this installation.
    pub secret_hash: TokenHash,
    /// Generation of a process that lost against an older one that lives.
    #[serde(default)]
    pub refused_generation: Option<u64>,
    /// Takeovers since `takeovers_since`.
    #[serde(default)]
    pub takeovers: u32,
    /// Start of the window in which takeovers are counted.
    pub takeovers_since: Timestamp,
    /// Last session opened or closed.
    pub seen_at: Timestamp,
}
