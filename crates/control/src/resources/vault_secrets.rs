//! `/vault_secrets`: what traffic policies read with `secrets.get`. No answer holds a value.

use axum::extract::State;
use portcullis_model::Code;
use portcullis_model::id::SecretId;

use super::missing;
use crate::app::App;
use crate::views::vault::{SecretCreate, SecretList, SecretPatch, SecretView};
use crate::web::page::Page;
use crate::web::{Answer, Body, Caller, Changes, Id, Reply};

/// List the secrets of every vault.
#[utoipa::path(get, path = "/vault_secrets", tag = "vault_secrets", operation_id = "secrets_list",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 100, default 100"),
        ("before_id" = Option<String>, Query, description = "the last id of the page before"),
        ("filter" = Option<String>, Query, description = "a CEL expression over `obj`; only what it is true of"),
    ),
    responses((status = 200, description = "A page.", body = SecretList)))]
pub(crate) async fn list(caller: Caller) -> Answer {
    let page = Page::<SecretId>::of::<SecretView>(&caller)?;
    let secrets = caller.snapshot.vault_secrets(&caller.account).rev();
    let paged = page.cut(
        &caller,
        secrets,
        |one| &one.id,
        |one| SecretView::new(&caller.links, &caller.snapshot, one),
    );
    Reply::ok(&SecretList::from(paged))
}

/// Create a secret.
#[utoipa::path(post, path = "/vault_secrets", tag = "vault_secrets", operation_id = "secrets_create",
    request_body = SecretCreate, responses((status = 201, description = "Without its value.", body = SecretView)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<SecretCreate>,
) -> Answer {
    let request = body.into_request(&caller.key.id)?;
    let written = app.registry.create_secret(&caller.account, request).await?;
    let (now, secret) = (app.registry.snapshot(), &written.value);
    Reply::created(
        &SecretView::new(&caller.links, &now, secret),
        &secret.id,
        written.revision,
    )
}

/// Get a secret, without its value.
#[utoipa::path(get, path = "/vault_secrets/{id}", tag = "vault_secrets", operation_id = "secrets_get",
    params(("id" = String, Path, description = "secret_…")),
    responses((status = 200, description = "Without its value.", body = SecretView)))]
pub(crate) async fn get(caller: Caller, Id(id): Id<SecretId>) -> Answer {
    let secret = caller.snapshot.vault_secret(&caller.account, &id);
    let secret = secret.ok_or_else(|| missing(Code::ApiNotFound, "secret", &id))?;
    Reply::ok(&SecretView::new(&caller.links, &caller.snapshot, secret))
}

/// Change a secret. Its name stays while a traffic policy reads it.
#[utoipa::path(patch, path = "/vault_secrets/{id}", tag = "vault_secrets", operation_id = "secrets_update",
    params(("id" = String, Path, description = "secret_…")), request_body = SecretPatch,
    responses((status = 200, description = "As changed, without its value.", body = SecretView)))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<SecretId>,
    Changes(changes): Changes<SecretPatch>,
) -> Answer {
    let by = Some(&caller.key.id);
    let written = app
        .registry
        .update_secret(&caller.account, &id, changes.into(), by)
        .await?;
    let now = app.registry.snapshot();
    Reply::changed(
        &SecretView::new(&caller.links, &now, &written.value),
        written.revision,
    )
}

/// Delete a secret. It stays while a traffic policy reads it.
#[utoipa::path(delete, path = "/vault_secrets/{id}", tag = "vault_secrets", operation_id = "secrets_delete",
    params(("id" = String, Path, description = "secret_…")),
    responses((status = 204, description = "It is gone.")))]
pub(crate) async fn delete(State(app): State<App>, caller: Caller, Id(id): Id<SecretId>) -> Answer {
    let written = app.registry.delete_secret(&caller.account, &id).await?;
    Reply::deleted(Some(written.revision))
}
