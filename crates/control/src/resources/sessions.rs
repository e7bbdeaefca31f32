//! `/tunnel_sessions`: agents that are connected, and what can be done to them.

use axum::extract::State;
use portcullis_model::{Code, SessionId};

use super::missing;
use crate::app::App;
use crate::views::session::{SessionView, TunnelSessionList};
use crate::web::body::NoBody;
use crate::web::page::Page;
use crate::web::{Answer, Caller, Id, Refusal, Reply};

/// List the sessions.
#[utoipa::path(get, path = "/tunnel_sessions", tag = "tunnel_sessions", operation_id = "tunnel_sessions_list",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 100, default 100"),
        ("before_id" = Option<String>, Query, description = "the last id of the page before"),
        ("filter" = Option<String>, Query, description = "a CEL expression over `obj`; only what it is true of"),
    ),
    responses((status = 200, description = "A page.", body = TunnelSessionList)))]
pub(crate) async fn list(caller: Caller) -> Answer {
    let page = Page::<SessionId>::of::<SessionView>(&caller)?;
    let sessions = caller.snapshot.sessions(&caller.account).rev();
    let paged = page.cut(
        &caller,
        sessions,
        |one| &one.id,
        |one| SessionView::new(&caller.links, one),
    );
    Reply::ok(&TunnelSessionList::from(paged))
}

/// Get a session.
#[utoipa::path(get, path = "/tunnel_sessions/{id}", tag = "tunnel_sessions", operation_id = "tunnel_sessions_get",
    params(("id" = String, Path, description = "ts_…")),
    responses((status = 200, description = "The session.", body = SessionView)))]
pub(crate) async fn get(caller: Caller, Id(id): Id<SessionId>) -> Answer {
    let session = caller.snapshot.session(&caller.account, &id);
    let session = session.ok_or_else(|| missing(Code::SessionNotFound, "tunnel session", &id))?;
    Reply::ok(&SessionView::new(&caller.links, session))
}

/// Stop a session: its endpoints go offline and its agent stays away until it is started again.
#[utoipa::path(post, path = "/tunnel_sessions/{id}/stop", tag = "tunnel_sessions", operation_id = "tunnel_sessions_stop",
    params(("id" = String, Path, description = "ts_…")),
    responses((status = 200, description = "It is stopped; the body is {}.")))]
pub(crate) async fn stop(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<SessionId>,
    _: NoBody,
) -> Answer {
    end(&app, &caller, &id, false).await
}

/// Restart a session: its agent is told to come back at once with a new one.
#[utoipa::path(post, path = "/tunnel_sessions/{id}/restart", tag = "tunnel_sessions",
    operation_id = "tunnel_sessions_restart", params(("id" = String, Path, description = "ts_…")),
    responses((status = 200, description = "Its agent was told; the body is {}.")))]
pub(crate) async fn restart(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<SessionId>,
    _: NoBody,
) -> Answer {
    end(&app, &caller, &id, true).await
}

/// Update an agent's program: always refused, agents here don't replace themselves.
#[utoipa::path(post, path = "/tunnel_sessions/{id}/update", tag = "tunnel_sessions",
    operation_id = "tunnel_sessions_update", params(("id" = String, Path, description = "ts_…")),
    responses((status = 409, description = "Agents here don't replace themselves.")))]
pub(crate) async fn update(caller: Caller, Id(id): Id<SessionId>, _: NoBody) -> Answer {
    if caller.snapshot.session(&caller.account, &id).is_none() {
        return Err(missing(Code::SessionNotFound, "tunnel session", &id));
    }
    let message =
        "agents don't replace their own program; upgrade it where the agent runs and restart it";
    Err(Refusal::new(Code::AgentUpdateUnsupported, message))
}

async fn end(app: &App, caller: &Caller, id: &SessionId, restart: bool) -> Answer {
    if caller.snapshot.session(&caller.account, id).is_none() {
        return Err(missing(Code::SessionNotFound, "tunnel session", id));
    }
    app.commands.stop_session(id, restart).await?;
    Reply::done()
}
