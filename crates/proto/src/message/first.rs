//! The first message of a connection: hello, channel or carrier.

use portcullis_model::{AgentId, Secret, SessionId};
use serde::{Deserialize, Serialize, Serializer};

use crate::handshake::{Heartbeat, VersionRange};

/// Who the agent is and what it wants of the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Protocol versions the agent speaks.
    pub versions: VersionRange,
    /// The credential's token.
    #[serde(serialize_with = "reveal")]
    pub authtoken: Secret,
    /// The installation.
    pub agent_id: AgentId,
    /// Proves that `agent_id` is the agent's own.
    #[serde(serialize_with = "reveal")]
    pub agent_secret: Secret,
    /// Counts up with every start of the agent process.
    pub generation: u64,
    /// Version of the agent.
    #[serde(default)]
    pub agent_version: String,
    /// Operating system.
    #[serde(default)]
    pub os: String,
    /// Architecture.
    #[serde(default)]
    pub arch: String,
    /// The agent's host name, for people.
    #[serde(default)]
    pub hostname: String,
    /// Free text, at most 4,096 bytes.
    #[serde(default)]
    pub metadata: String,
    /// How often the agent would send heartbeats.
    #[serde(default = "interval")]
    pub heartbeat_interval_ms: u64,
    /// How long the agent would wait for an answer to one.
    #[serde(default = "tolerance")]
    pub heartbeat_tolerance_ms: u64,
    /// Whether the API may stop and restart the agent.
    #[serde(default)]
    pub remote_management: bool,
    /// Whether the agent knows carriers, bytes in front of the verdict, and RESUME and SWITCH.
    #[serde(default)]
    pub carriers: bool,
}

/// Which session a data channel or a carrier belongs to, and the proof of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelHello {
    /// The session.
    pub session_id: SessionId,
    /// Number of the link, unique over channels and carriers of the session, chosen by the agent.
    pub channel: u64,
    /// See [`crate::handshake::channel_mac`].
    pub mac: String,
}

pub(super) fn reveal<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

fn interval() -> u64 {
    Heartbeat::default().interval_ms()
}

fn tolerance() -> u64 {
    Heartbeat::default().tolerance_ms()
}
