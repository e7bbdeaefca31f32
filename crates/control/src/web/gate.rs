//! What every request of the API passes before its handler, in this order: key, address, rate, places, version,
//! account, query, revision. Nothing is told to who has no key.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use portcullis_model::{AccountId, ApiKey, Code, Error, RestrictionKind};
use portcullis_store::Snapshot;

use super::caller::{Caller, Query};
use super::errors::Refusal;
use super::links::Links;
use super::page::PARAMETERS;
use super::peer::Peer;
use super::reply::REVISION;
use crate::app::{App, Shared};

/// The API version that this server speaks, ngrok's.
const VERSION: &str = "2";
/// Lets an admin key act for another account.
const ACCOUNT: &str = "portcullis-account";

/// Who sent a request, left in the response for the audit line.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) key: Arc<ApiKey>,
    pub(crate) account: AccountId,
}

/// The middleware.
pub(crate) async fn gate(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<Peer>().copied() else {
        return Refusal::from(Error::internal("the server names every request's peer"))
            .into_response();
    };
    let key = match authenticate(&app, request.headers()) {
        Ok(key) => key,
        Err(refusal) => {
            return app
                .limits
                .failure(peer.ip())
                .err()
                .unwrap_or(refusal)
                .into_response();
        }
    };
    let mut sender = Sender {
        account: key.account.clone(),
        key,
    };
    if let Err(refusal) = check_address(&app, &sender.key, peer) {
        // A key that was stolen must not use up its owner's rate from afar: it counts as a wrong one.
        let refusal = app.limits.failure(peer.ip()).err().unwrap_or(refusal);
        let mut response = refusal.into_response();
        response.extensions_mut().insert(sender);
        return response;
    }
    let mut response = match admit(&app, &mut sender, peer, &mut request).await {
        Ok(place) => {
            let response = next.run(request).await;
            drop(place);
            response
        }
        Err(refusal) => refusal.into_response(),
    };
    response.extensions_mut().insert(sender);
    response
}

/// Everything between the key and the handler. The answer is the request's place among the key's.
async fn admit(
    app: &App,
    sender: &mut Sender,
    peer: Peer,
    request: &mut Request,
) -> Result<super::limits::Running, Refusal> {
    app.limits.request(&sender.key.id)?;
    let place = app.limits.start(&sender.key.id)?;
    check_version(request.headers())?;
    check_body_on_get(request)?;
    let asked = request.headers().get(REVISION).cloned();
    let snapshot = revision(app, asked.as_ref()).await?;
    sender.account = account(request.headers(), &sender.key, &snapshot)?;
    let caller = Caller {
        account: sender.account.clone(),
        key: Arc::clone(&sender.key),
        snapshot,
        links: Links::new(app.config.base_url.as_deref(), request.headers(), peer),
        query: query(request)?,
    };
    request.extensions_mut().insert(caller);
    Ok(place)
}

/// Finds the key that a request carries.
pub(crate) fn authenticate(app: &Shared, headers: &HeaderMap) -> Result<Arc<ApiKey>, Refusal> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(Refusal::of(Code::ApiUnauthenticated));
    };
    let malformed = || {
        Refusal::new(
            Code::ApiKeyMalformed,
            "the Authorization header is not of the form `Bearer KEY`",
        )
    };
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|text| text.trim().split_once(' '))
        .ok_or_else(malformed)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(malformed());
    }
    let token = token.trim();
    if token.starts_with("pc1.") {
        return Err(Refusal::new(
            Code::ApiKeyIsAuthtoken,
            "a join string was sent in place of an API key",
        ));
    }
    Ok(app.registry.authenticate_api_key(token)?)
}

/// Whether the restrictions of the key's account let the peer in. The account that an admin key names does
/// not count: its own restrictions are for its own keys.
pub(crate) fn check_address(app: &Shared, key: &ApiKey, peer: Peer) -> Result<(), Refusal> {
    if !app.config.ip_restrictions {
        return Ok(());
    }
    let (snapshot, ip) = (app.registry.snapshot(), peer.ip());
    match snapshot.restriction_against(&key.account, RestrictionKind::Api, ip) {
        None => Ok(()),
        Some(restriction) => {
            let message =
                format!("the account's IP restriction {restriction} does not let {ip} use the API");
            Err(Refusal::new(Code::ApiRestricted, message))
        }
    }
}

fn check_version(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.get("ngrok-version") {
        None => Err(Refusal::new(
            Code::ApiVersionMissing,
            format!("the Ngrok-Version header is missing; send {VERSION}"),
        )),
        Some(version) if version.as_bytes() == VERSION.as_bytes() => Ok(()),
        Some(version) => {
            let shown: String = version
                .to_str()
                .unwrap_or_default()
                .chars()
                .take(20)
                .collect();
            let message = format!(
                "API version `{shown}` is not supported; the supported versions are: {VERSION}"
            );
            Err(Refusal::new(Code::ApiVersionInvalid, message))
        }
    }
}

fn check_body_on_get(request: &Request) -> Result<(), Refusal> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads && !axum::body::HttpBody::is_end_stream(request.body()) {
        return Err(Refusal::of(Code::ApiBodyOnGet));
    }
    Ok(())
}

/// The snapshot that the request asks for by `Portcullis-Revision`, waited for within bounds.
async fn revision(app: &App, asked: Option<&HeaderValue>) -> Result<Arc<Snapshot>, Refusal> {
    let Some(value) = asked else {
        return Ok(app.registry.snapshot());
    };
    let revision = value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    let revision = revision.ok_or_else(|| {
        Refusal::new(Code::ApiInvalidValue, "Portcullis-Revision is not a number")
    })?;
    match tokio::time::timeout(app.config.revision_wait, app.registry.at_revision(revision)).await {
        Ok(snapshot) => Ok(snapshot?),
        Err(_) => Err(Refusal::new(
            Code::ApiTimeout,
            format!("revision {revision} has not arrived at this node yet"),
        )),
    }
}

/// The account that the request is about.
fn account(headers: &HeaderMap, key: &ApiKey, snapshot: &Snapshot) -> Result<AccountId, Refusal> {
    let Some(value) = headers.get(ACCOUNT) else {
        return Ok(key.account.clone());
    };
    let named: AccountId = super::id::parse(value.to_str().unwrap_or_default())?;
    if named == key.account {
        return Ok(named);
    }
    if !key.admin {
        return Err(Refusal::new(
            Code::ApiForbidden,
            "only an admin key acts for another account",
        ));
    }
    if snapshot.account(&named).is_none() {
        return Err(Refusal::new(
            Code::AccountNotFound,
            format!("no account {named}"),
        ));
    }
    Ok(named)
}

/// The decoded query, with no parameter that the path doesn't take.
fn query(request: &Request) -> Result<Query, Refusal> {
    let raw = request.uri().query().unwrap_or_default().to_owned();
    let mut pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(request.uri())
        .map_err(|cause| Refusal::new(Code::ApiUnknownParameter, cause.body_text()))?
        .0;
    // ngrok's JavaScript client writes `before_id` in its own way.
    for (name, _) in pairs.iter_mut().filter(|(name, _)| name == "beforeId") {
        *name = "before_id".to_owned();
    }
    // Without a matched path the fallback answers, whatever the query says.
    if let Some(path) = request.extensions().get::<MatchedPath>() {
        let legal = legal_parameters(request.method(), path.as_str());
        if let Some((name, _)) = pairs
            .iter()
            .find(|(name, _)| !legal.contains(&name.as_str()))
        {
            let name: String = name.chars().take(64).collect();
            let legal = if legal.is_empty() {
                "none".to_owned()
            } else {
                legal.join(", ")
            };
            let message =
                format!("unknown query parameter `{name}`; the parameters here are: {legal}");
            return Err(Refusal::new(Code::ApiUnknownParameter, message));
        }
    }
    Ok(Query {
        path: request.uri().path().to_owned(),
        raw,
        pairs,
    })
}

/// The query parameters of a route: lists take the page's, `/endpoints` two old ones beside, the
/// deletion of an account `force`.
fn legal_parameters(method: &Method, path: &str) -> Vec<&'static str> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match path {
        "/endpoints" if reads => [&PARAMETERS[..], &["id", "url"]].concat(),
        "/vaults/{id}/secrets" if reads => PARAMETERS.to_vec(),
        "/accounts/{id}" if *method == Method::DELETE => vec!["force"],
        _ if reads && !path.contains('{') => PARAMETERS.to_vec(),
        _ => Vec::new(),
    }
}
