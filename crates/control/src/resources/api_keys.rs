//! `/api_keys`: what the API itself takes.

use axum::extract::State;
use portcullis_model::{ApiKeyId, Code};

use super::missing;
use crate::app::App;
use crate::views::api_key::{ApiKeyCreate, ApiKeyList, ApiKeyPatch, ApiKeyView};
use crate::web::page::Page;
use crate::web::{Answer, Body, Caller, Changes, Id, Refusal, Reply};

/// List the API keys.
#[utoipa::path(get, path = "/api_keys", tag = "api_keys", operation_id = "api_keys_list",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 100, default 100"),
        ("before_id" = Option<String>, Query, description = "the last id of the page before"),
        ("filter" = Option<String>, Query, description = "a CEL expression over `obj`; only what it is true of"),
    ),
    responses((status = 200, description = "A page.", body = ApiKeyList)))]
pub(crate) async fn list(caller: Caller) -> Answer {
    let page = Page::<ApiKeyId>::of::<ApiKeyView>(&caller)?;
    let keys = caller.snapshot.api_keys(&caller.account).rev();
    let paged = page.cut(
        &caller,
        keys,
        |key| &key.id,
        |key| ApiKeyView::new(&caller.links, key, None),
    );
    Reply::ok(&ApiKeyList::from(paged))
}

/// Create an API key. The answer alone has its token.
#[utoipa::path(post, path = "/api_keys", tag = "api_keys", operation_id = "api_keys_create",
    request_body = ApiKeyCreate, responses((status = 201, description = "With its token.", body = ApiKeyView)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<ApiKeyCreate>,
) -> Answer {
    if body.admin == Some(true) {
        caller.must_be_admin()?;
    }
    let request = body.into_request(&caller.account)?;
    let written = app
        .registry
        .create_api_key(&caller.account, request)
        .await?;
    let (key, token) = &written.value;
    Reply::created(
        &ApiKeyView::new(&caller.links, key, Some(token)),
        &key.id,
        written.revision,
    )
}

/// Get an API key.
#[utoipa::path(get, path = "/api_keys/{id}", tag = "api_keys", operation_id = "api_keys_get",
    params(("id" = String, Path, description = "ak_…")),
    responses((status = 200, description = "The key, without its token.", body = ApiKeyView)))]
pub(crate) async fn get(caller: Caller, Id(id): Id<ApiKeyId>) -> Answer {
    let key = caller.snapshot.api_key(&caller.account, &id);
    let key = key.ok_or_else(|| missing(Code::ApiNotFound, "API key", &id))?;
    Reply::ok(&ApiKeyView::new(&caller.links, key, None))
}

/// Change the texts of an API key.
#[utoipa::path(patch, path = "/api_keys/{id}", tag = "api_keys", operation_id = "api_keys_update",
    params(("id" = String, Path, description = "ak_…")), request_body = ApiKeyPatch,
    responses((status = 200, description = "As changed.", body = ApiKeyView)))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<ApiKeyId>,
    Changes(changes): Changes<ApiKeyPatch>,
) -> Answer {
    may_touch(&caller, &id)?;
    let written = app
        .registry
        .update_api_key(&caller.account, &id, changes.into())
        .await?;
    Reply::changed(
        &ApiKeyView::new(&caller.links, &written.value, None),
        written.revision,
    )
}

/// Delete an API key. The last admin key stays.
#[utoipa::path(delete, path = "/api_keys/{id}", tag = "api_keys", operation_id = "api_keys_delete",
    params(("id" = String, Path, description = "ak_…")),
    responses((status = 204, description = "It no longer opens anything.")))]
pub(crate) async fn delete(State(app): State<App>, caller: Caller, Id(id): Id<ApiKeyId>) -> Answer {
    may_touch(&caller, &id)?;
    let written = app.registry.delete_api_key(&caller.account, &id).await?;
    Reply::deleted(Some(written.revision))
}

/// An admin key of the account is beyond the reach of its plain keys.
fn may_touch(caller: &Caller, id: &ApiKeyId) -> Result<(), Refusal> {
    match caller.snapshot.api_key(&caller.account, id) {
        Some(key) if key.admin => caller.must_be_admin(),
        _ => Ok(()),
    }
}
