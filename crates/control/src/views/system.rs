//! The node itself.

use portcullis_model::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// What a node says of itself to anyone who can reach it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Status)]
pub(crate) struct StatusView {
    /// The server's version.
    pub(crate) version: String,
    /// The node's name.
    pub(crate) node: String,
    pub(crate) region: String,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) started_at: Timestamp,
    /// Whether it takes new work: false while it drains.
    pub(crate) ready: bool,
}
