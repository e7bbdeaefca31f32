//! Errors on their way out: a handler refuses with a code and a message; the frame writes ngrok's body.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use portcullis_model::{Code, Error};
use serde::Serialize;
use utoipa::ToSchema;

/// A refusal. It becomes a response without a body that carries itself along; [`body`] completes it.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) error: Error,
    /// Whole seconds of `Retry-After`.
    pub(crate) retry_after: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Error::new(code, message).into()
    }

    pub(crate) fn of(code: Code) -> Self {
        Error::of(code).into()
    }

    /// With `Retry-After`, in whole seconds, rounded up.
    pub(crate) fn retry_after(mut self, wait: std::time::Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.retry_after = Some(seconds.max(1));
        self
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self {
            error,
            retry_after: None,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = status(self.error.code).into_response();
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// The HTTP status of a code. A few codes are no errors for a command; as a refusal they are.
pub(crate) fn status(code: Code) -> StatusCode {
    let status =
        StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status.is_client_error() || status.is_server_error() {
        status
    } else {
        StatusCode::CONFLICT
    }
}

/// The body of every answer of 400 and above.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Error)]
pub(crate) struct ErrorBody {
    /// `ERR_NGROK_<n>` where ngrok has the cause, else the `PTC_…` code.
    error_code: String,
    /// The HTTP status.
    status_code: u16,
    /// What was wrong with what, for people.
    msg: String,
    details: ErrorDetails,
}

/// What else is known of an error.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorDetails {
    /// The request, as it stands in the server's log.
    operation_id: String,
    /// The `PTC_…` code, always.
    code: &'static str,
    /// What to do about it.
    remedy: &'static str,
}

/// The body of a refusal. `resource` is the path's first segment: ngrok numbers some causes by it.
pub(crate) fn body(error: &Error, resource: &str, operation_id: &str) -> ErrorBody {
    let code = error.code;
    let number = number_of(code, resource).or(code.ngrok());
    ErrorBody {
        error_code: number.map_or_else(
            || code.as_str().to_owned(),
            |number| format!("ERR_NGROK_{number}"),
        ),
        status_code: status(code).as_u16(),
        msg: error.message.clone(),
        details: ErrorDetails {
            operation_id: operation_id.to_owned(),
            code: code.as_str(),
            remedy: code.remedy(),
        },
    }
}

/// Where ngrok has another number for a cause on one resource than the catalogue's (ngrok.md 3.2-3.5).
fn number_of(code: Code, resource: &str) -> Option<u32> {
    match (resource, code) {
        ("reserved_addrs", Code::ApiEmptyUpdate) => Some(506),
        ("credentials", Code::ApiEmptyUpdate) => Some(606),
        ("ip_policies", Code::ApiEmptyUpdate) => Some(1_400),
        ("ip_policy_rules", Code::DescriptionTooLong) => Some(1_421),
        ("endpoints", Code::DescriptionTooLong) => Some(18_012),
        ("endpoints", Code::MetadataTooLong) => Some(18_013),
        ("credentials", Code::DescriptionTooLong) => Some(604),
        ("credentials", Code::MetadataTooLong) => Some(605),
        ("endpoints", Code::EndpointConflict) => Some(18_009),
        ("endpoints", Code::AddressNotReserved) => Some(18_006),
        ("endpoints", Code::UrlScheme) => Some(18_022),
        _ => None,
    }
}
