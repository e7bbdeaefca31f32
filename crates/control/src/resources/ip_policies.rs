//! `/ip_policies`: networks under one id, which traffic policies name.

use axum::extract::State;
use portcullis_model::Code;
use portcullis_model::id::IpPolicyId;

use super::missing;
use crate::app::App;
use crate::views::ip_policy::{IpPolicyCreate, IpPolicyList, IpPolicyPatch, IpPolicyView};
use crate::web::bulk::{BulkBody, BulkChanges};
use crate::web::page::Page;
use crate::web::{Answer, Caller, Id, Reply};

/// List the IP policies.
#[utoipa::path(get, path = "/ip_policies", tag = "ip_policies", operation_id = "ip_policies_list",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 100, default 100"),
        ("before_id" = Option<String>, Query, description = "the last id of the page before"),
        ("filter" = Option<String>, Query, description = "a CEL expression over `obj`; only what it is true of"),
    ),
    responses((status = 200, description = "A page.", body = IpPolicyList)))]
pub(crate) async fn list(caller: Caller) -> Answer {
    let page = Page::<IpPolicyId>::of::<IpPolicyView>(&caller)?;
    let policies = caller.snapshot.ip_policies(&caller.account).rev();
    let paged = page.cut(
        &caller,
        policies,
        |one| &one.id,
        |one| IpPolicyView::new(&caller.links, one, caller.snapshot.ip_rule_count(&one.id)),
    );
    Reply::ok(&IpPolicyList::from(paged))
}

/// Create an IP policy, with its rules where some are given.
#[utoipa::path(post, path = "/ip_policies", tag = "ip_policies", operation_id = "ip_policies_create",
    request_body = IpPolicyCreate, responses((status = 201, description = "The policy.", body = IpPolicyView)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    BulkBody(body): BulkBody<IpPolicyCreate>,
) -> Answer {
    let request = body.into_request()?;
    let written = app
        .registry
        .create_ip_policy(&caller.account, request)
        .await?;
    let policy = &written.value;
    let rules = app.registry.snapshot().ip_rule_count(&policy.id);
    Reply::created(
        &IpPolicyView::new(&caller.links, policy, rules),
        &policy.id,
        written.revision,
    )
}

/// Get an IP policy.
#[utoipa::path(get, path = "/ip_policies/{id}", tag = "ip_policies", operation_id = "ip_policies_get",
    params(("id" = String, Path, description = "ipp_…")),
    responses((status = 200, description = "The policy.", body = IpPolicyView)))]
pub(crate) async fn get(caller: Caller, Id(id): Id<IpPolicyId>) -> Answer {
    let policy = caller.snapshot.ip_policy(&caller.account, &id);
    let policy = policy.ok_or_else(|| missing(Code::IpPolicyNotFound, "IP policy", &id))?;
    let rules = caller.snapshot.ip_rule_count(&id);
    Reply::ok(&IpPolicyView::new(&caller.links, policy, rules))
}

/// Change the texts of an IP policy, or all of its rules at once.
#[utoipa::path(patch, path = "/ip_policies/{id}", tag = "ip_policies", operation_id = "ip_policies_update",
    params(("id" = String, Path, description = "ipp_…")), request_body = IpPolicyPatch,
    responses((status = 200, description = "As changed.", body = IpPolicyView)))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<IpPolicyId>,
    BulkChanges(changes): BulkChanges<IpPolicyPatch>,
) -> Answer {
    let written = app
        .registry
        .update_ip_policy(&caller.account, &id, changes.into_request()?)
        .await?;
    let rules = app.registry.snapshot().ip_rule_count(&id);
    Reply::changed(
        &IpPolicyView::new(&caller.links, &written.value, rules),
        written.revision,
    )
}

/// Delete an IP policy and its rules. One that an endpoint's traffic policy uses stays.
#[utoipa::path(delete, path = "/ip_policies/{id}", tag = "ip_policies", operation_id = "ip_policies_delete",
    params(("id" = String, Path, description = "ipp_…")),
    responses((status = 204, description = "It is gone.")))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<IpPolicyId>,
) -> Answer {
    let written = app.registry.delete_ip_policy(&caller.account, &id).await?;
    Reply::deleted(Some(written.revision))
}
