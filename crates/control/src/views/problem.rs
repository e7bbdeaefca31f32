//! An error as part of an object: why an endpoint isn't served, what its upstream last failed with.

use portcullis_model::{Error, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// The `PTC_…` code.
    code: &'static str,
    /// `ERR_NGROK_<n>` where ngrok has the cause, else the `PTC_…` code.
    error_code: String,
    /// What was wrong with what.
    msg: String,
    /// When; null for what lasts.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    at: Option<Timestamp>,
}

impl Problem {
    pub(crate) fn new(error: &Error, at: Option<Timestamp>) -> Self {
        Self {
            code: error.code.as_str(),
            error_code: error.code.api_code(),
            msg: error.message.clone(),
            at,
        }
    }
}
