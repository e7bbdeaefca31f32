//! `/vaults`: secrets under one name.

use axum::extract::State;
use portcullis_model::Code;
use portcullis_model::id::{SecretId, VaultId};

use super::missing;
use crate::app::App;
use crate::views::vault::{SecretList, SecretView, VaultCreate, VaultList, VaultPatch, VaultView};
use crate::web::page::Page;
use crate::web::{Answer, Body, Caller, Changes, Id, Reply};

/// List the vaults.
#[utoipa::path(get, path = "/vaults", tag = "vaults", operation_id = "vaults_list",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 100, default 100"),
        ("before_id" = Option<String>, Query, description = "the last id of the page before"),
        ("filter" = Option<String>, Query, description = "a CEL expression over `obj`; only what it is true of"),
    ),
    responses((status = 200, description = "A page.", body = VaultList)))]
pub(crate) async fn list(caller: Caller) -> Answer {
    let page = Page::<VaultId>::of::<VaultView>(&caller)?;
    let vaults = caller.snapshot.vaults(&caller.account).rev();
    let paged = page.cut(
        &caller,
        vaults,
        |one| &one.id,
        |one| VaultView::new(&caller.links, one),
    );
    Reply::ok(&VaultList::from(paged))
}

/// Create a vault.
#[utoipa::path(post, path = "/vaults", tag = "vaults", operation_id = "vaults_create",
    request_body = VaultCreate, responses((status = 201, description = "It is made.", body = VaultView)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<VaultCreate>,
) -> Answer {
    let request = body.into_request(&caller.key.id);
    let written = app.registry.create_vault(&caller.account, request).await?;
    let vault = &written.value;
    Reply::created(
        &VaultView::new(&caller.links, vault),
        &vault.id,
        written.revision,
    )
}

/// Get a vault.
#[utoipa::path(get, path = "/vaults/{id}", tag = "vaults", operation_id = "vaults_get",
    params(("id" = String, Path, description = "vault_…")),
    responses((status = 200, description = "The vault.", body = VaultView)))]
pub(crate) async fn get(caller: Caller, Id(id): Id<VaultId>) -> Answer {
    let vault = caller.snapshot.vault(&caller.account, &id);
    let vault = vault.ok_or_else(|| missing(Code::ApiNotFound, "vault", &id))?;
    Reply::ok(&VaultView::new(&caller.links, vault))
}

/// Change a vault. Its name stays while a traffic policy reads its secrets.
#[utoipa::path(patch, path = "/vaults/{id}", tag = "vaults", operation_id = "vaults_update",
    params(("id" = String, Path, description = "vault_…")), request_body = VaultPatch,
    responses((status = 200, description = "As changed.", body = VaultView)))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<VaultId>,
    Changes(changes): Changes<VaultPatch>,
) -> Answer {
    let by = Some(&caller.key.id);
    let written = app
        .registry
        .update_vault(&caller.account, &id, changes.into(), by)
        .await?;
    Reply::changed(
        &VaultView::new(&caller.links, &written.value),
        written.revision,
    )
}

/// Delete a vault. It must be empty.
#[utoipa::path(delete, path = "/vaults/{id}", tag = "vaults", operation_id = "vaults_delete",
    params(("id" = String, Path, description = "vault_…")),
    responses((status = 204, description = "It is gone.")))]
pub(crate) async fn delete(State(app): State<App>, caller: Caller, Id(id): Id<VaultId>) -> Answer {
    let written = app.registry.delete_vault(&caller.account, &id).await?;
    Reply::deleted(Some(written.revision))
}

/// List the secrets of a vault.
#[utoipa::path(get, path = "/vaults/{id}/secrets", tag = "vaults", operation_id = "vaults_get_secrets_by_vault",
    params(
        ("id" = String, Path, description = "vault_…"),
        ("limit" = Option<u32>, Query, description = "1 to 100, default 100"),
        ("before_id" = Option<String>, Query, description = "the last id of the page before"),
        ("filter" = Option<String>, Query, description = "a CEL expression over `obj`; only what it is true of"),
    ),
    responses((status = 200, description = "A page.", body = SecretList)))]
pub(crate) async fn secrets(caller: Caller, Id(id): Id<VaultId>) -> Answer {
    if caller.snapshot.vault(&caller.account, &id).is_none() {
        return Err(missing(Code::ApiNotFound, "vault", &id));
    }
    let page = Page::<SecretId>::of::<SecretView>(&caller)?;
    let secrets = caller.snapshot.vault_secrets(&caller.account).rev();
    let paged = page.cut(
        &caller,
        secrets.filter(|one| one.vault == id),
        |one| &one.id,
        |one| SecretView::new(&caller.links, &caller.snapshot, one),
    );
    Reply::ok(&SecretList::from(paged))
}
