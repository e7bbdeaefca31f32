//! `/ip_restrictions`: what the account lets in by address.

use axum::extract::State;
use portcullis_model::Code;
use portcullis_model::id::IpRestrictionId;

use super::missing;
use crate::app::App;
use crate::views::ip_restriction::{
    IpRestrictionCreate, IpRestrictionList, IpRestrictionPatch, IpRestrictionView,
};
use crate::web::page::Page;
use crate::web::{Answer, Body, Caller, Changes, Id, Reply};

/// List the IP restrictions.
#[utoipa::path(get, path = "/ip_restrictions", tag = "ip_restrictions", operation_id = "ip_restrictions_list",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 100, default 100"),
        ("before_id" = Option<String>, Query, description = "the last id of the page before"),
        ("filter" = Option<String>, Query, description = "a CEL expression over `obj`; only what it is true of"),
    ),
    responses((status = 200, description = "A page.", body = IpRestrictionList)))]
pub(crate) async fn list(caller: Caller) -> Answer {
    let page = Page::<IpRestrictionId>::of::<IpRestrictionView>(&caller)?;
    let all = caller.snapshot.ip_restrictions(&caller.account).rev();
    let paged = page.cut(
        &caller,
        all,
        |one| &one.id,
        |one| IpRestrictionView::new(&caller.links, one),
    );
    Reply::ok(&IpRestrictionList::from(paged))
}

/// Create an IP restriction.
#[utoipa::path(post, path = "/ip_restrictions", tag = "ip_restrictions", operation_id = "ip_restrictions_create",
    request_body = IpRestrictionCreate, responses((status = 201, description = "It is made.", body = IpRestrictionView)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<IpRestrictionCreate>,
) -> Answer {
    let request = body.into_request()?;
    let written = app
        .registry
        .create_ip_restriction(&caller.account, request)
        .await?;
    let made = &written.value;
    Reply::created(
        &IpRestrictionView::new(&caller.links, made),
        &made.id,
        written.revision,
    )
}

/// Get an IP restriction.
#[utoipa::path(get, path = "/ip_restrictions/{id}", tag = "ip_restrictions", operation_id = "ip_restrictions_get",
    params(("id" = String, Path, description = "ipx_…")),
    responses((status = 200, description = "It.", body = IpRestrictionView)))]
pub(crate) async fn get(caller: Caller, Id(id): Id<IpRestrictionId>) -> Answer {
    let found = caller.snapshot.ip_restriction(&caller.account, &id);
    let found = found.ok_or_else(|| missing(Code::IpRestrictionNotFound, "IP restriction", &id))?;
    Reply::ok(&IpRestrictionView::new(&caller.links, found))
}

/// Change an IP restriction; what is asked for from then on abides by it.
#[utoipa::path(patch, path = "/ip_restrictions/{id}", tag = "ip_restrictions", operation_id = "ip_restrictions_update",
    params(("id" = String, Path, description = "ipx_…")), request_body = IpRestrictionPatch,
    responses((status = 200, description = "As changed.", body = IpRestrictionView)))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<IpRestrictionId>,
    Changes(changes): Changes<IpRestrictionPatch>,
) -> Answer {
    let changes = changes.into_request()?;
    let written = app
        .registry
        .update_ip_restriction(&caller.account, &id, changes)
        .await?;
    Reply::changed(
        &IpRestrictionView::new(&caller.links, &written.value),
        written.revision,
    )
}

/// Delete an IP restriction.
#[utoipa::path(delete, path = "/ip_restrictions/{id}", tag = "ip_restrictions", operation_id = "ip_restrictions_delete",
    params(("id" = String, Path, description = "ipx_…")),
    responses((status = 204, description = "It is gone.")))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<IpRestrictionId>,
) -> Answer {
    let written = app
        .registry
        .delete_ip_restriction(&caller.account, &id)
        .await?;
    Reply::deleted(Some(written.revision))
}
