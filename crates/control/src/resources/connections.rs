//! `/connections`: the client connections that are open now (ours).

use axum::extract::State;
use portcullis_model::Code;
use portcullis_model::id::ConnectionId;
use portcullis_telemetry::ConnectionView as Live;

use super::missing;
use crate::app::App;
use crate::views::connection::{ConnectionList, ConnectionView};
use crate::web::page::Page;
use crate::web::{Answer, Caller, Id, Reply};

/// List the live client connections of the account's endpoints.
#[utoipa::path(get, path = "/connections", tag = "connections", operation_id = "connections_list",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 100, default 100"),
        ("before_id" = Option<String>, Query, description = "the last id of the page before"),
        ("filter" = Option<String>, Query, description = "a CEL expression over `obj`; only what it is true of"),
    ),
    responses((status = 200, description = "A page.", body = ConnectionList)))]
pub(crate) async fn list(State(app): State<App>, caller: Caller) -> Answer {
    let page = Page::<ConnectionId>::of::<ConnectionView>(&caller)?;
    let mut live = own(&app, &caller);
    live.sort_by(|one, other| other.id.cmp(&one.id));
    let paged = page.cut(
        &caller,
        live.iter(),
        |one| &one.id,
        |one| ConnectionView::new(&caller.links, one),
    );
    Reply::ok(&ConnectionList::from(paged))
}

/// Get a live client connection.
#[utoipa::path(get, path = "/connections/{id}", tag = "connections", operation_id = "connections_get",
    params(("id" = String, Path, description = "cn_…")),
    responses((status = 200, description = "The connection.", body = ConnectionView)))]
pub(crate) async fn get(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ConnectionId>,
) -> Answer {
    let live = own(&app, &caller).into_iter().find(|one| one.id == id);
    let live = live.ok_or_else(|| missing(Code::ApiNotFound, "connection", &id))?;
    Reply::ok(&ConnectionView::new(&caller.links, &live))
}

/// End a live client connection.
#[utoipa::path(delete, path = "/connections/{id}", tag = "connections", operation_id = "connections_delete",
    params(("id" = String, Path, description = "cn_…")),
    responses((status = 204, description = "It is reset.")))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ConnectionId>,
) -> Answer {
    if !own(&app, &caller).iter().any(|one| one.id == id) {
        return Err(missing(Code::ApiNotFound, "connection", &id));
    }
    app.commands.end_connection(&id).await?;
    Reply::deleted(None)
}

/// A connection belongs to an account from the moment it is routed.
fn own(app: &App, caller: &Caller) -> Vec<Live> {
    let mut live = app.commands.connections();
    live.retain(|one| one.account.as_ref() == Some(&caller.account));
    live
}
