//! `/tls_certificates`: what TLS is terminated with. No answer holds a private key.

use axum::extract::State;
use portcullis_model::Code;
use portcullis_model::id::TlsCertificateId;

use super::missing;
use crate::app::App;
use crate::views::certificate::{
    CertificateCreate, CertificateView, TextsPatch, TlsCertificateList,
};
use crate::web::page::Page;
use crate::web::{Answer, Body, Caller, Changes, Id, Reply};

/// List the TLS certificates, without their keys.
#[utoipa::path(get, path = "/tls_certificates", tag = "tls_certificates", operation_id = "tls_certificates_list",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 100, default 100"),
        ("before_id" = Option<String>, Query, description = "the last id of the page before"),
        ("filter" = Option<String>, Query, description = "a CEL expression over `obj`; only what it is true of"),
    ),
    responses((status = 200, description = "A page.", body = TlsCertificateList)))]
pub(crate) async fn list(caller: Caller) -> Answer {
    let page = Page::<TlsCertificateId>::of::<CertificateView>(&caller)?;
    let all = caller.snapshot.tls_certificates(&caller.account).rev();
    let paged = page.cut(
        &caller,
        all,
        |one| &one.id,
        |one| CertificateView::new(&caller.links, one),
    );
    Reply::ok(&TlsCertificateList::from(paged))
}

/// Create a TLS certificate. The private key must be the leaf's.
#[utoipa::path(post, path = "/tls_certificates", tag = "tls_certificates", operation_id = "tls_certificates_create",
    request_body = CertificateCreate, responses((status = 201, description = "It is made.", body = CertificateView)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<CertificateCreate>,
) -> Answer {
    let request = body.into_request()?;
    let written = app
        .registry
        .create_tls_certificate(&caller.account, request)
        .await?;
    let made = &written.value;
    Reply::created(
        &CertificateView::new(&caller.links, made),
        &made.id,
        written.revision,
    )
}

/// Get a TLS certificate.
#[utoipa::path(get, path = "/tls_certificates/{id}", tag = "tls_certificates", operation_id = "tls_certificates_get",
    params(("id" = String, Path, description = "cert_…")),
    responses((status = 200, description = "It.", body = CertificateView)))]
pub(crate) async fn get(caller: Caller, Id(id): Id<TlsCertificateId>) -> Answer {
    let found = caller.snapshot.tls_certificate(&caller.account, &id);
    let found = found.ok_or_else(|| missing(Code::CertificateNotFound, "TLS certificate", &id))?;
    Reply::ok(&CertificateView::new(&caller.links, found))
}

/// Change the texts of a TLS certificate.
#[utoipa::path(patch, path = "/tls_certificates/{id}", tag = "tls_certificates", operation_id = "tls_certificates_update",
    params(("id" = String, Path, description = "cert_…")), request_body = TextsPatch,
    responses((status = 200, description = "As changed.", body = CertificateView)))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<TlsCertificateId>,
    Changes(changes): Changes<TextsPatch>,
) -> Answer {
    let changes = changes.into();
    let written = app
        .registry
        .update_tls_certificate(&caller.account, &id, changes)
        .await?;
    Reply::changed(
        &CertificateView::new(&caller.links, &written.value),
        written.revision,
    )
}

/// Delete a TLS certificate. One that an endpoint's traffic policy names stays.
#[utoipa::path(delete, path = "/tls_certificates/{id}", tag = "tls_certificates", operation_id = "tls_certificates_delete",
    params(("id" = String, Path, description = "cert_…")),
    responses((status = 204, description = "It is gone.")))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<TlsCertificateId>,
) -> Answer {
    let written = app
        .registry
        .delete_tls_certificate(&caller.account, &id)
        .await?;
    Reply::deleted(Some(written.revision))
}
