//! `/certificate_authorities`: who may have issued the certificates of clients.

use axum::extract::State;
use portcullis_model::Code;
use portcullis_model::id::CertificateAuthorityId;

use super::missing;
use crate::app::App;
use crate::views::certificate::{
    AuthorityCreate, AuthorityView, CertificateAuthorityList, TextsPatch,
};
use crate::web::page::Page;
use crate::web::{Answer, Body, Caller, Changes, Id, Reply};

/// List the certificate authorities.
#[utoipa::path(get, path = "/certificate_authorities", tag = "certificate_authorities", operation_id = "certificate_authorities_list",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 100, default 100"),
        ("before_id" = Option<String>, Query, description = "the last id of the page before"),
        ("filter" = Option<String>, Query, description = "a CEL expression over `obj`; only what it is true of"),
    ),
    responses((status = 200, description = "A page.", body = CertificateAuthorityList)))]
pub(crate) async fn list(caller: Caller) -> Answer {
    let page = Page::<CertificateAuthorityId>::of::<AuthorityView>(&caller)?;
    let all = caller.snapshot.authorities(&caller.account).rev();
    let paged = page.cut(
        &caller,
        all,
        |one| &one.id,
        |one| AuthorityView::new(&caller.links, one),
    );
    Reply::ok(&CertificateAuthorityList::from(paged))
}

/// Create a certificate authority.
#[utoipa::path(post, path = "/certificate_authorities", tag = "certificate_authorities", operation_id = "certificate_authorities_create",
    request_body = AuthorityCreate, responses((status = 201, description = "It is made.", body = AuthorityView)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<AuthorityCreate>,
) -> Answer {
    let request = body.into_request()?;
    let written = app
        .registry
        .create_certificate_authority(&caller.account, request)
        .await?;
    let made = &written.value;
    Reply::created(
        &AuthorityView::new(&caller.links, made),
        &made.id,
        written.revision,
    )
}

/// Get a certificate authority.
#[utoipa::path(get, path = "/certificate_authorities/{id}", tag = "certificate_authorities", operation_id = "certificate_authorities_get",
    params(("id" = String, Path, description = "ca_…")),
    responses((status = 200, description = "It.", body = AuthorityView)))]
pub(crate) async fn get(caller: Caller, Id(id): Id<CertificateAuthorityId>) -> Answer {
    let found = caller.snapshot.authority(&caller.account, &id);
    let found = found.ok_or_else(|| {
        missing(
            Code::CertificateAuthorityNotFound,
            "certificate authority",
            &id,
        )
    })?;
    Reply::ok(&AuthorityView::new(&caller.links, found))
}

/// Change the texts of a certificate authority.
#[utoipa::path(patch, path = "/certificate_authorities/{id}", tag = "certificate_authorities", operation_id = "certificate_authorities_update",
    params(("id" = String, Path, description = "ca_…")), request_body = TextsPatch,
    responses((status = 200, description = "As changed.", body = AuthorityView)))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<CertificateAuthorityId>,
    Changes(changes): Changes<TextsPatch>,
) -> Answer {
    let changes = changes.into();
    let written = app
        .registry
        .update_certificate_authority(&caller.account, &id, changes)
        .await?;
    Reply::changed(
        &AuthorityView::new(&caller.links, &written.value),
        written.revision,
    )
}

/// Delete a certificate authority. One that an endpoint's traffic policy names stays.
#[utoipa::path(delete, path = "/certificate_authorities/{id}", tag = "certificate_authorities", operation_id = "certificate_authorities_delete",
    params(("id" = String, Path, description = "ca_…")),
    responses((status = 204, description = "It is gone.")))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<CertificateAuthorityId>,
) -> Answer {
    let written = app
        .registry
        .delete_certificate_authority(&caller.account, &id)
        .await?;
    Reply::deleted(Some(written.revision))
}
