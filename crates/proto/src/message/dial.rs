//! Bodies of a dial: a user reaches an internal endpoint of the account over a connection of its own. Once
//! accepted it is a data channel of one open: the edge says OPEN, the user OPENED, and bytes follow.

use portcullis_model::{EndpointUrl, Secret};
use serde::{Deserialize, Serialize};

use super::first::reveal;
use crate::handshake::VersionRange;

/// Which internal endpoint is wanted, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dial {
    /// Protocol versions that the user's side speaks.
    pub versions: VersionRange,
    /// The credential's token.
    #[serde(serialize_with = "reveal")]
    pub authtoken: Secret,
    /// As the user wrote it.
    pub url: String,
    /// Whether it is only asked if the endpoint can be dialled: `ready` or `error` is the answer, and the end.
    #[serde(default)]
    pub check: bool,
    /// Version of the user's side.
    #[serde(default)]
    pub agent_version: String,
    /// The user's host name, for people.
    #[serde(default)]
    pub hostname: String,
}

/// The endpoint can be dialled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The version that both sides would speak.
    pub version: u16,
    /// The endpoint's URL, complete.
    pub url: EndpointUrl,
    /// Version of the server.
    #[serde(default)]
    pub server_version: String,
}
