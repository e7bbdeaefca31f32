//! Bodies of what an edge says.

use portcullis_model::{AccountId, Binding, Code, EndpointId, EndpointUrl, Error, SessionId};
use serde::{Deserialize, Serialize};

use crate::handshake::SessionKey;

/// The hello was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version that both sides speak from here on.
    pub version: u16,
    /// The session.
    pub session_id: SessionId,
    /// Key of the channels' MACs.
    pub session_key: SessionKey,
    /// The node that holds the session.
    pub node: String,
    /// The node's region.
    pub region: String,
    /// The credential's account.
    pub account: AccountId,
    /// Version of the server.
    #[serde(default)]
    pub server_version: String,
    /// How often both sides send heartbeats.
    pub heartbeat_interval_ms: u64,
    /// How long both sides wait for an answer to one.
    pub heartbeat_tolerance_ms: u64,
    /// Idle data channels that the agent is to keep ready.
    pub channels_idle_min: u32,
    /// Carriers that the agent is to keep. An edge of a release without carriers asks for none.
    #[serde(default)]
    pub carriers: u32,
    /// Whether the edge takes carriers and channels without TLS.
    #[serde(default)]
    pub plain_links: bool,
    /// Whether the edge takes `health`. An edge of a release without it would end the session over it.
    #[serde(default)]
    pub health: bool,
    /// The node's public host name, for people.
    #[serde(default)]
    pub public_host: String,
}

/// The session or channel is refused or over; the connection is closed behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fatal {
    /// The cause.
    pub code: Code,
    /// The cause in words, for the user.
    #[serde(default)]
    pub message: String,
    /// Whether trying again may help.
    #[serde(default)]
    pub retry: bool,
}

/// The endpoint is online.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The request.
    pub req: u64,
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// Its URL, complete.
    pub url: EndpointUrl,
    /// Its binding.
    pub binding: Binding,
    /// The region of its address.
    #[serde(default)]
    pub region: String,
}

/// The endpoint was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Updated {
    /// The request.
    pub req: u64,
}

/// The endpoint is offline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unbound {
    /// The request.
    pub req: u64,
}

/// A request was refused; the session goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The request.
    pub req: u64,
    /// The cause.
    pub code: Code,
    /// The cause in words, for the user.
    #[serde(default)]
    pub message: String,
}

/// Open so many more data channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeedChannels {
    /// How many.
    pub count: u32,
}

/// End the session, or begin a new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The cause.
    pub code: Code,
    /// The cause in words, for the user.
    #[serde(default)]
    pub message: String,
    /// Whether the agent is to come back with a new session.
    #[serde(default)]
    pub restart: bool,
}

/// An endpoint was taken offline by the edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopEndpoint {
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// The cause.
    pub code: Code,
    /// The cause in words, for the user.
    #[serde(default)]
    pub message: String,
}

/// Open a new session, then let this one finish its connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// The cause.
    pub code: Code,
    /// The cause in words, for the user.
    #[serde(default)]
    pub message: String,
}

impl Fatal {
    /// From an error; a message too long for the wire is cut.
    pub fn new(error: &Error, retry: bool) -> Self {
        Self {
            code: error.code,
            message: crate::frame::clip(&error.message),
            retry,
        }
    }

    /// As the error it tells.
    pub fn error(&self) -> Error {
        Error::new(self.code, self.message.clone())
    }
}

impl Refused {
    /// From an error; a message too long for the wire is cut.
    pub fn new(req: u64, error: &Error) -> Self {
        Self {
            req,
            code: error.code,
            message: clip_refusal(&error.message),
        }
    }

    /// As the error it tells.
    pub fn error(&self) -> Error {
        Error::new(self.code, self.message.clone())
    }
}

/// A refusal may carry many causes at once (a policy's): 8 KiB, which JSON makes 48 KiB at worst.
fn clip_refusal(message: &str) -> String {
    message[..message.floor_char_boundary(8 * 1024)].to_owned()
}
