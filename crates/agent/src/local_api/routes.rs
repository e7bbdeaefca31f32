//! The routes of the local API.
//!
//! Must never: wait for the server longer than a moment; without a session it says so.

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use portcullis_model::{Code, Error};
use serde_json::{Value, json};

use super::views;
use crate::config::EndpointEntry;
use crate::options::EndpointUpdate;
use crate::status::{EndpointStatus, SessionState};
use crate::{Agent, defaults};

pub(super) fn router(agent: Agent) -> Router {
    Router::new()
        .route("/api/status", get(status))
        .route("/api/endpoints", get(list).post(create))
        .route(
            "/api/endpoints/{name}",
            get(show).put(replace).delete(remove),
        )
        .route("/api/tunnels", get(tunnels))
        .route("/api/tunnels/{name}", get(tunnel).delete(remove))
        .fallback(async || {
            refuse(&Error::new(
                Code::ApiNotFound,
                "no such path; see /api/status and /api/endpoints",
            ))
        })
        .method_not_allowed_fallback(async || refuse(&Error::of(Code::ApiMethod)))
        .layer(DefaultBodyLimit::max(defaults::LOCAL_BODY_BYTES_MAX))
        .with_state(agent)
}

/// The answer to a request that fails.
pub(super) fn refuse(error: &Error) -> Response {
    let status =
        StatusCode::from_u16(error.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(views::error(error))).into_response()
}

fn answer(result: Result<(StatusCode, Value), Error>) -> Response {
    match result {
        Ok((status, body)) => (status, Json(body)).into_response(),
        Err(error) => refuse(&error),
    }
}

async fn status(State(agent): State<Agent>) -> Json<Value> {
    Json(views::status(&agent.status_now()))
}

async fn list(State(agent): State<Agent>) -> Json<Value> {
    let session = agent.status().borrow().state;
    let endpoints = agent.endpoints();
    let all: Vec<Value> = endpoints
        .iter()
        .map(|endpoint| views::endpoint(endpoint, session))
        .collect();
    Json(json!({"endpoints": all, "uri": "/api/endpoints"}))
}

async fn show(State(agent): State<Agent>, Path(name): Path<String>) -> Response {
    answer(found(&agent, &name).map(|endpoint| (StatusCode::OK, view(&agent, &endpoint))))
}

async fn create(State(agent): State<Agent>, body: Bytes) -> Response {
    answer(match entry(&body) {
        Ok(entry) => offer(&agent, entry).await,
        Err(error) => Err(error),
    })
}

async fn replace(State(agent): State<Agent>, Path(name): Path<String>, body: Bytes) -> Response {
    answer(match entry(&body) {
        Ok(entry) => put(&agent, &name, entry).await,
        Err(error) => Err(error),
    })
}

async fn remove(State(agent): State<Agent>, Path(name): Path<String>) -> Response {
    match agent.remove(&name).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => refuse(&error),
    }
}

async fn tunnels(State(agent): State<Agent>) -> Json<Value> {
    let all: Vec<Value> = agent.endpoints().iter().map(views::tunnel).collect();
    Json(json!({"tunnels": all, "uri": "/api/tunnels"}))
}

async fn tunnel(State(agent): State<Agent>, Path(name): Path<String>) -> Response {
    answer(found(&agent, &name).map(|endpoint| (StatusCode::OK, views::tunnel(&endpoint))))
}

fn view(agent: &Agent, endpoint: &EndpointStatus) -> Value {
    views::endpoint(endpoint, agent.status().borrow().state)
}

fn found(agent: &Agent, name: &str) -> Result<EndpointStatus, Error> {
    let missing = || {
        Error::new(
            Code::EndpointNotFound,
            format!("this agent has no endpoint named `{name}`"),
        )
    };
    agent.endpoint(name).ok_or_else(missing)
}

fn entry(body: &[u8]) -> Result<EndpointEntry, Error> {
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        Error::new(
            Code::ApiBodyUnparsable,
            format!("the body is not JSON: {error}"),
        )
    })?;
    EndpointEntry::from_json(&value)
        .map_err(|error| Error::new(Code::ApiInvalidValue, error.message))
}

/// Offers an endpoint and waits for the server's verdict, but not for a session.
async fn offer(agent: &Agent, entry: EndpointEntry) -> Result<(StatusCode, Value), Error> {
    let name = agent.offer(entry.options, &entry.upstream)?;
    if agent.status().borrow().state == SessionState::Online {
        // Without an answer in time it stays offered, and its `status` says `pending`.
        let verdict = tokio::time::timeout(defaults::LOCAL_BIND_WAIT, agent.bound(&name)).await;
        if let Ok(Err(error)) = verdict {
            agent.remove(&name).await?;
            return Err(error);
        }
    }
    Ok((StatusCode::CREATED, view(agent, &found(agent, &name)?)))
}

/// Changes an endpoint in place where that is possible, and replaces it where it is not.
async fn put(
    agent: &Agent,
    name: &str,
    mut entry: EndpointEntry,
) -> Result<(StatusCode, Value), Error> {
    if entry.options.name.is_empty() {
        name.clone_into(&mut entry.options.name);
    }
    if entry.options.name != name {
        return Err(Error::new(
            Code::ApiInvalidValue,
            "name: an endpoint keeps its name; delete it and create another",
        ));
    }
    let Some(old) = agent.endpoint(name) else {
        return offer(agent, entry).await;
    };
    if let Some(update) = agent.change_in_place(name, &entry) {
        let changed =
            tokio::time::timeout(defaults::LOCAL_BIND_WAIT, agent.update(name, update)).await;
        if let Ok(Err(error)) = changed {
            return Err(error);
        }
    } else {
        agent.remove(&old.name).await?;
        offer(agent, entry).await?;
    }
    Ok((StatusCode::OK, view(agent, &found(agent, name)?)))
}

impl Agent {
    /// The update that makes an endpoint what an entry asks for, when an update can.
    fn change_in_place(&self, name: &str, entry: &EndpointEntry) -> Option<EndpointUpdate> {
        let mut same = self.wanted(name)?;
        let wanted = &entry.options;
        let update = EndpointUpdate {
            description: Some(wanted.description.clone()),
            metadata: Some(wanted.metadata.clone()),
            traffic_policy: Some(wanted.traffic_policy.clone()),
            pooling_enabled: Some(wanted.pooling_enabled),
            upstream: Some(entry.upstream.clone()),
            on_change: Some(wanted.on_change),
            pool: Some(wanted.pool),
        };
        same.description.clone_from(&wanted.description);
        same.metadata.clone_from(&wanted.metadata);
        same.traffic_policy.clone_from(&wanted.traffic_policy);
        same.pooling_enabled = wanted.pooling_enabled;
        (same.on_change, same.pool) = (wanted.on_change, wanted.pool);
        (same == *wanted).then_some(update)
    }
}
