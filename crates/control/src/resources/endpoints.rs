//! `/endpoints`: cloud and agent endpoints in one collection.

use axum::extract::State;
use portcullis_model::{Code, Endpoint, EndpointId};
use portcullis_policy::Policy;

use super::missing;
use crate::app::App;
use crate::views::endpoint::{EndpointList, EndpointView};
use crate::views::endpoint_requests::{EndpointCreate, EndpointPatch};
use crate::web::page::Page;
use crate::web::{Answer, Body, Caller, Changes, Id, Reply};

/// List the endpoints, cloud and agent.
#[utoipa::path(get, path = "/endpoints", tag = "endpoints", operation_id = "endpoints_list",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 100, default 100"),
        ("before_id" = Option<String>, Query, description = "the last id of the page before"),
        ("filter" = Option<String>, Query, description = "a CEL expression over `obj`; only what it is true of"),
        ("id" = Option<Vec<String>>, Query, description = "only these ids; may be repeated"),
        ("url" = Option<Vec<String>>, Query, description = "only these URLs; may be repeated"),
    ),
    responses((status = 200, description = "A page.", body = EndpointList)))]
pub(crate) async fn list(State(app): State<App>, caller: Caller) -> Answer {
    let page = Page::<EndpointId>::of::<EndpointView>(&caller)?;
    let ids: Vec<&str> = caller.parameters("id").collect();
    let urls: Vec<&str> = caller.parameters("url").collect();
    let endpoints = caller
        .snapshot
        .endpoints(&caller.account)
        .rev()
        .filter(|endpoint| {
            (ids.is_empty() || ids.contains(&endpoint.id.as_str()))
                && (urls.is_empty() || urls.contains(&endpoint.url.to_string().as_str()))
        });
    let show = |entry: &std::sync::Arc<portcullis_store::EndpointEntry>| {
        EndpointView::of_entry(
            &caller.links,
            &caller.snapshot,
            entry,
            app.commands.endpoint_status(&entry.id),
        )
    };
    Reply::ok(&EndpointList::from(page.cut(
        &caller,
        endpoints,
        |entry| &entry.id,
        show,
    )))
}

/// Create a cloud endpoint.
#[utoipa::path(post, path = "/endpoints", tag = "endpoints", operation_id = "endpoints_create",
    request_body = EndpointCreate, responses((status = 201, description = "It is online.", body = EndpointView)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<EndpointCreate>,
) -> Answer {
    let written = app
        .registry
        .create_cloud_endpoint(&caller.account, body.into_request()?)
        .await?;
    let view = written_view(&app, &caller, &written.value);
    Reply::created(&view, &written.value.id, written.revision)
}

/// Get an endpoint.
#[utoipa::path(get, path = "/endpoints/{id}", tag = "endpoints", operation_id = "endpoints_get",
    params(("id" = String, Path, description = "ep_…")),
    responses((status = 200, description = "The endpoint.", body = EndpointView)))]
pub(crate) async fn get(State(app): State<App>, caller: Caller, Id(id): Id<EndpointId>) -> Answer {
    let entry = caller.snapshot.endpoint(&caller.account, &id);
    let entry = entry.ok_or_else(|| missing(Code::EndpointNotFound, "endpoint", &id))?;
    Reply::ok(&EndpointView::of_entry(
        &caller.links,
        &caller.snapshot,
        entry,
        app.commands.endpoint_status(&id),
    ))
}

/// Change a cloud endpoint. Connections that are open keep what they have, unless `on_change` says otherwise.
#[utoipa::path(patch, path = "/endpoints/{id}", tag = "endpoints", operation_id = "endpoints_update",
    params(("id" = String, Path, description = "ep_…")), request_body = EndpointPatch,
    responses((status = 200, description = "As changed.", body = EndpointView)))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<EndpointId>,
    Changes(changes): Changes<EndpointPatch>,
) -> Answer {
    let written = app
        .registry
        .update_cloud_endpoint(&caller.account, &id, changes.into_request()?)
        .await?;
    let view = written_view(&app, &caller, &written.value);
    Reply::changed(&view, written.revision)
}

/// An endpoint as it was just written. Its policy stands compiled in the snapshot, unless somebody has changed it
/// again meanwhile.
fn written_view(app: &App, caller: &Caller, endpoint: &Endpoint) -> EndpointView {
    let status = app.commands.endpoint_status(&endpoint.id);
    let snapshot = app.registry.snapshot();
    let entry = snapshot.endpoint(&caller.account, &endpoint.id);
    match entry.filter(|entry| *entry.record() == *endpoint) {
        Some(entry) => EndpointView::of_entry(&caller.links, &snapshot, entry, status),
        None => {
            let policy = Policy::compile(&endpoint.traffic_policy, endpoint.kind).ok();
            let notices = policy.as_ref().map(Policy::notices).unwrap_or_default();
            EndpointView::new(&caller.links, &snapshot, endpoint, status).with_notices(notices)
        }
    }
}

/// Delete a cloud endpoint.
#[utoipa::path(delete, path = "/endpoints/{id}", tag = "endpoints", operation_id = "endpoints_delete",
    params(("id" = String, Path, description = "ep_…")),
    responses((status = 204, description = "It is offline.")))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<EndpointId>,
) -> Answer {
    let written = app.registry.delete_endpoint(&caller.account, &id).await?;
    Reply::deleted(Some(written.revision))
}
