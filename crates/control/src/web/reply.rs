//! Answers that are no refusals.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::errors::Refusal;
use portcullis_model::Error;

/// The header that says from which revision a write is visible, and asks a read to wait for it.
pub(crate) const REVISION: HeaderName = HeaderName::from_static("portcullis-revision");

/// What a handler returns.
pub(crate) type Answer = Result<Reply, Refusal>;

/// An answer of 200, 201 or 204.
#[derive(Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    body: Option<Vec<u8>>,
    revision: Option<u64>,
    made: Option<String>,
}

/// The id of what a write made, for the audit line.
#[derive(Debug, Clone)]
pub(crate) struct Made(pub(crate) String);

impl Reply {
    fn json(status: StatusCode, view: &impl Serialize) -> Answer {
        let body = serde_json::to_vec(view).map_err(Error::internal)?;
        Ok(Self {
            status,
            body: Some(body),
            revision: None,
            made: None,
        })
    }

    /// 200 with a resource or a page.
    pub(crate) fn ok(view: &impl Serialize) -> Answer {
        Self::json(StatusCode::OK, view)
    }

    /// 201 with a resource.
    pub(crate) fn created(
        view: &impl Serialize,
        id: impl std::fmt::Display,
        revision: u64,
    ) -> Answer {
        let reply = Self::json(StatusCode::CREATED, view)?;
        Ok(Self {
            revision: Some(revision),
            made: Some(id.to_string()),
            ..reply
        })
    }

    /// 200 with a resource that changed.
    pub(crate) fn changed(view: &impl Serialize, revision: u64) -> Answer {
        let reply = Self::ok(view)?;
        Ok(Self {
            revision: Some(revision),
            ..reply
        })
    }

    /// 204.
    pub(crate) fn deleted(revision: Option<u64>) -> Answer {
        Ok(Self {
            status: StatusCode::NO_CONTENT,
            body: None,
            revision,
            made: None,
        })
    }

    /// `200 {}`: an action is done. ngrok documents 204, its Python client fails on it (ngrok.md 14).
    pub(crate) fn done() -> Answer {
        Ok(Self {
            status: StatusCode::OK,
            body: Some(b"{}".to_vec()),
            revision: None,
            made: None,
        })
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = match self.body {
            Some(body) => {
                let json = HeaderValue::from_static("application/json");
                (self.status, [(header::CONTENT_TYPE, json)], body).into_response()
            }
            None => self.status.into_response(),
        };
        if let Some(revision) = self.revision {
            response
                .headers_mut()
                .insert(REVISION, HeaderValue::from(revision));
        }
        if let Some(id) = self.made {
            response.extensions_mut().insert(Made(id));
        }
        response
    }
}
