//! `/credentials`: what agents connect with.

use axum::extract::State;
use portcullis_model::{Code, CredentialId};

use super::missing;
use crate::app::App;
use crate::views::credential::{CredentialCreate, CredentialList, CredentialPatch, CredentialView};
use crate::web::page::Page;
use crate::web::{Answer, Body, Caller, Changes, Id, Reply};

/// List the credentials.
#[utoipa::path(get, path = "/credentials", tag = "credentials", operation_id = "credentials_list",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 100, default 100"),
        ("before_id" = Option<String>, Query, description = "the last id of the page before"),
        ("filter" = Option<String>, Query, description = "a CEL expression over `obj`; only what it is true of"),
    ),
    responses((status = 200, description = "A page.", body = CredentialList)))]
pub(crate) async fn list(caller: Caller) -> Answer {
    let page = Page::<CredentialId>::of::<CredentialView>(&caller)?;
    let credentials = caller.snapshot.credentials(&caller.account).rev();
    let paged = page.cut(
        &caller,
        credentials,
        |one| &one.id,
        |one| CredentialView::new(&caller.links, one, None),
    );
    Reply::ok(&CredentialList::from(paged))
}

/// Create a credential. The answer alone has its token.
#[utoipa::path(post, path = "/credentials", tag = "credentials", operation_id = "credentials_create",
    request_body = CredentialCreate, responses((status = 201, description = "With its token.", body = CredentialView)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<CredentialCreate>,
) -> Answer {
    let request = body.into_request(&caller.account)?;
    let written = app
        .registry
        .create_credential(&caller.account, request)
        .await?;
    let (credential, token) = &written.value;
    Reply::created(
        &CredentialView::new(&caller.links, credential, Some(token)),
        &credential.id,
        written.revision,
    )
}

/// Get a credential.
#[utoipa::path(get, path = "/credentials/{id}", tag = "credentials", operation_id = "credentials_get",
    params(("id" = String, Path, description = "cr_…")),
    responses((status = 200, description = "The credential.", body = CredentialView)))]
pub(crate) async fn get(caller: Caller, Id(id): Id<CredentialId>) -> Answer {
    let credential = caller.snapshot.credential(&caller.account, &id);
    let credential = credential.ok_or_else(|| missing(Code::ApiNotFound, "credential", &id))?;
    Reply::ok(&CredentialView::new(&caller.links, credential, None))
}

/// Change a credential.
#[utoipa::path(patch, path = "/credentials/{id}", tag = "credentials", operation_id = "credentials_update",
    params(("id" = String, Path, description = "cr_…")), request_body = CredentialPatch,
    responses((status = 200, description = "As changed.", body = CredentialView)))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<CredentialId>,
    Changes(changes): Changes<CredentialPatch>,
) -> Answer {
    let written = app
        .registry
        .update_credential(&caller.account, &id, changes.into())
        .await?;
    Reply::changed(
        &CredentialView::new(&caller.links, &written.value, None),
        written.revision,
    )
}

/// Revoke a credential. Its sessions end within a second.
#[utoipa::path(delete, path = "/credentials/{id}", tag = "credentials", operation_id = "credentials_delete",
    params(("id" = String, Path, description = "cr_…")),
    responses((status = 204, description = "It is revoked.")))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<CredentialId>,
) -> Answer {
    let written = app.registry.delete_credential(&caller.account, &id).await?;
    Reply::deleted(Some(written.revision))
}
