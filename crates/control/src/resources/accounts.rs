//! `/accounts` (ours): admin keys only.

use axum::extract::State;
use portcullis_model::{AccountId, Code};

use crate::app::App;
use crate::views::account::{AccountCreate, AccountList, AccountPatch, AccountView};
use crate::web::page::Page;
use crate::web::{Answer, Body, Caller, Changes, Id, Refusal, Reply};

/// List the accounts.
#[utoipa::path(get, path = "/accounts", tag = "accounts", operation_id = "accounts_list",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 100, default 100"),
        ("before_id" = Option<String>, Query, description = "the last id of the page before"),
        ("filter" = Option<String>, Query, description = "a CEL expression over `obj`; only what it is true of"),
    ),
    responses((status = 200, description = "A page.", body = AccountList)))]
pub(crate) async fn list(caller: Caller) -> Answer {
    caller.must_be_admin()?;
    let page = Page::<AccountId>::of::<AccountView>(&caller)?;
    let accounts = caller.snapshot.accounts().rev();
    let paged = page.cut(
        &caller,
        accounts,
        |one| &one.id,
        |one| AccountView::new(&caller.links, one),
    );
    Reply::ok(&AccountList::from(paged))
}

/// Create an account. It has no key yet: make one with `POST /api_keys` and `Portcullis-Account`.
#[utoipa::path(post, path = "/accounts", tag = "accounts", operation_id = "accounts_create",
    request_body = AccountCreate, responses((status = 201, description = "It is made.", body = AccountView)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<AccountCreate>,
) -> Answer {
    caller.must_be_admin()?;
    let written = app.registry.create_account(body.into_request()?).await?;
    Reply::created(
        &AccountView::new(&caller.links, &written.value),
        &written.value.id,
        written.revision,
    )
}

/// Get an account.
#[utoipa::path(get, path = "/accounts/{id}", tag = "accounts", operation_id = "accounts_get",
    params(("id" = String, Path, description = "ac_…")),
    responses((status = 200, description = "The account.", body = AccountView)))]
pub(crate) async fn get(caller: Caller, Id(id): Id<AccountId>) -> Answer {
    caller.must_be_admin()?;
    let account = caller.snapshot.account(&id);
    let account =
        account.ok_or_else(|| Refusal::new(Code::AccountNotFound, format!("no account {id}")))?;
    Reply::ok(&AccountView::new(&caller.links, account))
}

/// Change an account.
#[utoipa::path(patch, path = "/accounts/{id}", tag = "accounts", operation_id = "accounts_update",
    params(("id" = String, Path, description = "ac_…")), request_body = AccountPatch,
    responses((status = 200, description = "As changed.", body = AccountView)))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<AccountId>,
    Changes(changes): Changes<AccountPatch>,
) -> Answer {
    caller.must_be_admin()?;
    let written = app.registry.update_account(&id, changes.into()).await?;
    Reply::changed(
        &AccountView::new(&caller.links, &written.value),
        written.revision,
    )
}

/// Delete an account; with `force` everything that it owns as well.
#[utoipa::path(delete, path = "/accounts/{id}", tag = "accounts", operation_id = "accounts_delete",
    params(
        ("id" = String, Path, description = "ac_…"),
        ("force" = Option<bool>, Query, description = "delete what it owns as well"),
    ),
    responses((status = 204, description = "It is gone.")))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<AccountId>,
) -> Answer {
    caller.must_be_admin()?;
    let written = app.registry.delete_account(&id, force(&caller)?).await?;
    Reply::deleted(Some(written.revision))
}

/// `?force`, `?force=true` or `?force=false`.
fn force(caller: &Caller) -> Result<bool, Refusal> {
    match caller.parameter("force") {
        None | Some("false") => Ok(false),
        Some("" | "true") => Ok(true),
        Some(_) => Err(Refusal::new(
            Code::ApiInvalidValue,
            "`force` is true or false",
        )),
    }
}
