//! The body of a write: JSON, bounded, with ngrok's errors for everything else.

use axum::extract::{FromRequest, FromRequestParts as _, RawPathParams, Request};
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use portcullis_model::{Code, Error};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::errors::Refusal;
use super::fields;
use crate::app::App;

/// The body of a creation. ngrok's clients send every field with its default, so an empty text means
/// "not given" (ngrok.md 14).
pub(crate) struct Body<T>(pub(crate) T);

/// The body of an update: what is absent or null stays as it is, an empty text empties.
pub(crate) struct Changes<T>(pub(crate) T);

/// An action's body: none, or an object without fields.
pub(crate) struct NoBody;

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &App) -> Result<Self, Refusal> {
        let mut object = object(request, app).await?;
        object.retain(|_, value| !value.is_null() && value.as_str() != Some(""));
        fields::read(object).map(Self)
    }
}

impl<T: DeserializeOwned> FromRequest<App> for Changes<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &App) -> Result<Self, Refusal> {
        let (request, id) = id_of_path(request, app).await;
        let mut object = object(request, app).await?;
        take_id(&mut object, &id)?;
        object.retain(|_, value| !value.is_null());
        if object.is_empty() {
            return Err(Refusal::of(Code::ApiEmptyUpdate));
        }
        fields::read(object).map(Self)
    }
}

impl FromRequest<App> for NoBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &App) -> Result<Self, Refusal> {
        let (request, id) = id_of_path(request, app).await;
        let (head, body) = request.into_parts();
        let bytes = read(body, app.config.body_bytes_max).await?;
        if bytes.is_empty() || bytes == id.as_bytes() {
            return Ok(Self);
        }
        check_content_type(&head.headers)?;
        let mut object = parse(&bytes)?;
        take_id(&mut object, &id)?;
        let Some(name) = object.keys().next() else {
            return Ok(Self);
        };
        let name: String = name.chars().take(64).collect();
        let message = format!("unknown field `{name}`; an action takes no fields");
        Err(Refusal::new(Code::ApiUnknownField, message))
    }
}

/// The id that the path names. ngrok's JavaScript client says it again in the body of updates, and
/// sends it bare with the actions.
pub(super) async fn id_of_path(request: Request, app: &App) -> (Request, String) {
    let (mut head, body) = request.into_parts();
    let params = RawPathParams::from_request_parts(&mut head, app).await;
    let id = params
        .ok()
        .and_then(|params| Some(params.iter().next()?.1.to_owned()));
    (Request::from_parts(head, body), id.unwrap_or_default())
}

/// Takes the path's own id out of a body; another one is a mistake.
pub(super) fn take_id(object: &mut Map<String, Value>, id: &str) -> Result<(), Refusal> {
    match object.remove("id") {
        Some(Value::String(other)) if other != id => {
            let message = "`id` in the body is another than the path's; leave it out";
            Err(Refusal::new(Code::ApiInvalidValue, message))
        }
        _ => Ok(()),
    }
}

async fn object(request: Request, app: &App) -> Result<Map<String, Value>, Refusal> {
    let (head, body) = request.into_parts();
    check_content_type(&head.headers)?;
    let bytes = read(body, app.config.body_bytes_max).await?;
    parse(&bytes)
}

pub(super) fn check_content_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Err(Refusal::of(Code::ApiContentTypeMissing));
    };
    let text = value.to_str().unwrap_or_default();
    let media = text.split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let media: String = media.chars().take(80).collect();
    Err(Refusal::new(
        Code::ApiContentType,
        format!("`{media}` is not supported; send application/json"),
    ))
}

pub(super) async fn read(body: axum::body::Body, bytes_max: usize) -> Result<Vec<u8>, Refusal> {
    match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes().into()),
        Err(cause) if cause.is::<LengthLimitError>() => Err(Refusal::new(
            Code::ApiBodyTooLarge,
            format!("the body is larger than {bytes_max} bytes"),
        )),
        Err(cause) => {
            let error = Error::new(Code::ApiBodyUnparsable, "the body could not be read whole");
            Err(error.with_internal(cause).into())
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Map<String, Value>, Refusal> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Refusal::new(
            Code::ApiBodyUnparsable,
            "the body is JSON, but no object",
        )),
        Err(cause) => Err(Refusal::new(
            Code::ApiBodyUnparsable,
            format!("the body is not JSON: {cause}"),
        )),
    }
}
