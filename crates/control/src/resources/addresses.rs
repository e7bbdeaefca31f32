//! `/reserved_addrs`: TCP addresses.

use axum::extract::State;
use portcullis_model::{AddrId, Code};

use super::missing;
use crate::app::App;
use crate::views::address::{
    AddressView, ReservedAddrCreate, ReservedAddrList, ReservedAddrUpdate,
};
use crate::web::page::Page;
use crate::web::{Answer, Body, Caller, Changes, Id, Reply};

/// List the reserved addresses.
#[utoipa::path(get, path = "/reserved_addrs", tag = "reserved_addrs", operation_id = "reserved_addrs_list",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 100, default 100"),
        ("before_id" = Option<String>, Query, description = "the last id of the page before"),
        ("filter" = Option<String>, Query, description = "a CEL expression over `obj`; only what it is true of"),
    ),
    responses((status = 200, description = "A page.", body = ReservedAddrList)))]
pub(crate) async fn list(caller: Caller) -> Answer {
    let page = Page::<AddrId>::of::<AddressView>(&caller)?;
    let addresses = caller.snapshot.addresses(&caller.account).rev();
    let paged = page.cut(
        &caller,
        addresses,
        |addr| &addr.id,
        |addr| AddressView::new(&caller.links, addr),
    );
    Reply::ok(&ReservedAddrList::from(paged))
}

/// Reserve an address: drawn at random, or with the host and port that are asked for.
#[utoipa::path(post, path = "/reserved_addrs", tag = "reserved_addrs", operation_id = "reserved_addrs_create",
    request_body = ReservedAddrCreate, responses((status = 201, description = "It is reserved.", body = AddressView)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<ReservedAddrCreate>,
) -> Answer {
    let written = app
        .registry
        .reserve_address(&caller.account, body.into())
        .await?;
    Reply::created(
        &AddressView::new(&caller.links, &written.value),
        &written.value.id,
        written.revision,
    )
}

/// Get a reserved address, with the DNS record that gives it a name of one's own.
#[utoipa::path(get, path = "/reserved_addrs/{id}", tag = "reserved_addrs", operation_id = "reserved_addrs_get",
    params(("id" = String, Path, description = "ra_…")),
    responses((status = 200, description = "The address.", body = AddressView)))]
pub(crate) async fn get(caller: Caller, Id(id): Id<AddrId>) -> Answer {
    let addr = caller.snapshot.address(&caller.account, &id);
    let addr = addr.ok_or_else(|| missing(Code::ApiNotFound, "reserved address", &id))?;
    Reply::ok(&AddressView::new(&caller.links, addr))
}

/// Change the texts of a reserved address; host and port stay.
#[utoipa::path(patch, path = "/reserved_addrs/{id}", tag = "reserved_addrs", operation_id = "reserved_addrs_update",
    params(("id" = String, Path, description = "ra_…")), request_body = ReservedAddrUpdate,
    responses((status = 200, description = "As changed.", body = AddressView)))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<AddrId>,
    Changes(changes): Changes<ReservedAddrUpdate>,
) -> Answer {
    let written = app
        .registry
        .update_address(&caller.account, &id, changes.into())
        .await?;
    Reply::changed(
        &AddressView::new(&caller.links, &written.value),
        written.revision,
    )
}

/// Release a reserved address. It rests for a while, during which only this account may have it back.
#[utoipa::path(delete, path = "/reserved_addrs/{id}", tag = "reserved_addrs", operation_id = "reserved_addrs_delete",
    params(("id" = String, Path, description = "ra_…")),
    responses((status = 204, description = "It is released.")))]
pub(crate) async fn delete(State(app): State<App>, caller: Caller, Id(id): Id<AddrId>) -> Answer {
    let written = app.registry.release_address(&caller.account, &id).await?;
    Reply::deleted(Some(written.revision))
}
