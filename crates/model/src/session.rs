//! Tunnel sessions: one agent's connection to one edge node, as the API shows it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{AccountId, AgentId, CredentialId, SessionId, Timestamp};

/// A session. It exists while the agent is connected, under the node's lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelSession {
    /// `ts_…`
    pub id: SessionId,
    /// The owner.
    pub account: AccountId,
    /// What it authenticated with.
    pub credential: CredentialId,
    /// The installation.
    pub agent: AgentId,
    /// Counts up with every start of the agent process; the higher takes over from the lower.
    pub generation: u64,
    /// The node that holds it.
    pub node: String,
    /// The agent's address as the edge sees it.
    pub ip: IpAddr,
    /// Version of the agent, such as `0.1.0`.
    pub agent_version: String,
    /// Operating system, such as `linux`.
    pub os: String,
    /// Architecture, such as `x86_64`.
    pub arch: String,
    /// The agent's host name, for people.
    #[serde(default)]
    pub hostname: String,
    /// Region of the node.
    pub region: String,
    /// Free text of the agent, at most 4,096 bytes.
    #[serde(default)]
    pub metadata: String,
    /// When it started.
    pub started_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_of_older_agents_are_read() {
        let text = "{\"id\": \"ts_2NfK3bpsSVTkrd4Rki6m6R2oQCC\", \"account\": \"ac_2NfK3bpsSVTkrd4Rki6m6R2oQCC\", \
            \"credential\": \"cr_2NfK3bpsSVTkrd4Rki6m6R2oQCC\", \"agent\": \"ag_2NfK3bpsSVTkrd4Rki6m6R2oQCC\", \"generation\": 3, \
            \"node\": \"n1\", \"ip\": \"2001:db8::1\", \"agent_version\": \"0.1.0\", \"os\": \"linux\", \"arch\": \"x86_64\", \
            \"region\": \"us\", \"started_at\": \"2026-11-20T12:00:00Z\"}";
        let session: TunnelSession =
            serde_json::from_str(text).expect("hostname and metadata may be absent");
        assert!(session.hostname.is_empty() && session.metadata.is_empty());
    }
}
