//! What stands around every request: an operation id, a deadline, a net under panics; then the error
//! body, the audit line of a write, and the headers of the answer.
//!
//! Must never: let a request go without an answer, or tell a caller what only the log may say.

use std::panic::AssertUnwindSafe;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use portcullis_model::{Code, Error, OperationId};

use super::errors::{self, Refusal};
use super::gate::Sender;
use super::peer::Peer;
use super::reply::Made;
use crate::app::App;

/// Names the request in the server's log.
pub(crate) const OPERATION: HeaderName = HeaderName::from_static("portcullis-operation-id");

/// What the lines of the log say of a request.
struct Heading {
    operation: String,
    method: Method,
    path: String,
    peer: String,
}

/// The middleware.
pub(crate) async fn frame(State(app): State<App>, request: Request, next: Next) -> Response {
    let heading = Heading {
        operation: operation_id(),
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        peer: request
            .extensions()
            .get::<Peer>()
            .map_or_else(String::new, |peer| peer.addr.to_string()),
    };
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
    let response = match tokio::time::timeout(app.config.request_timeout, answer).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => {
            Refusal::from(Error::internal(panic_text(panic.as_ref()))).into_response()
        }
        Err(_) => {
            let message = format!(
                "the request took longer than {:?}; a write may have been done",
                app.config.request_timeout
            );
            Refusal::new(Code::ApiTimeout, message).into_response()
        }
    };
    finish(&heading, response)
}

fn finish(heading: &Heading, mut response: Response) -> Response {
    audit(heading, &response);
    if let Some(refusal) = response.extensions_mut().remove::<Refusal>() {
        log_refusal(heading, &refusal.error);
        let resource = heading.path.split('/').nth(1).unwrap_or_default();
        let body = errors::body(&refusal.error, resource, &heading.operation);
        let headers = std::mem::take(response.headers_mut());
        let status = response.status();
        response = (status, axum::Json(body)).into_response();
        for (name, value) in headers
            .iter()
            .filter(|(name, _)| *name != header::CONTENT_LENGTH)
        {
            response.headers_mut().insert(name.clone(), value.clone());
        }
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&heading.operation) {
        headers.insert(OPERATION, value);
    }
    // Answers hold an account's data, and tokens once.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// One line for every write, refused ones too: who did what to what, and how it came out.
fn audit(heading: &Heading, response: &Response) {
    if matches!(heading.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return;
    }
    let extensions = response.extensions();
    let sender = extensions.get::<Sender>();
    let refusal = extensions.get::<Refusal>();
    let made = extensions.get::<Made>().map_or("", |made| made.0.as_str());
    tracing::info!(
        target: "audit",
        operation = %heading.operation,
        key = sender.map_or("", |sender| sender.key.id.as_str()),
        account = sender.map_or("", |sender| sender.account.as_str()),
        peer = %heading.peer,
        method = %heading.method,
        path = %heading.path,
        made,
        status = response.status().as_u16(),
        code = refusal.map_or("", |refusal| refusal.error.code.as_str()),
        "api write"
    );
}

fn log_refusal(heading: &Heading, error: &Error) {
    let internal = error.internal.as_deref().unwrap_or_default();
    let (operation, method, path) = (&heading.operation, &heading.method, &heading.path);
    if errors::status(error.code).is_server_error() {
        tracing::error!(%operation, %method, %path, code = %error.code, internal, "request failed: {}", error.message);
    } else {
        tracing::debug!(%operation, %method, %path, code = %error.code, internal, "request refused: {}", error.message);
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("a handler panicked: {}", text.unwrap_or_default())
}

/// A fresh `op_…`. Without randomness the request still gets one, which then repeats.
fn operation_id() -> String {
    let mut entropy = [0_u8; portcullis_model::id::ENTROPY_BYTES];
    if let Err(cause) = getrandom::fill(&mut entropy) {
        tracing::warn!(%cause, "no randomness for an operation id");
    }
    OperationId::new(jiff::Timestamp::now().as_second(), entropy).to_string()
}
