//! `/ip_policy_rules`: the networks of IP policies, one by one.

use axum::extract::State;
use portcullis_model::Code;
use portcullis_model::id::IpPolicyRuleId;

use super::missing;
use crate::app::App;
use crate::views::ip_policy::{IpPolicyRuleList, IpRuleCreate, IpRulePatch, IpRuleView};
use crate::web::page::Page;
use crate::web::{Answer, Body, Caller, Changes, Id, Reply};

/// List the rules of all IP policies.
#[utoipa::path(get, path = "/ip_policy_rules", tag = "ip_policy_rules", operation_id = "ip_policy_rules_list",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 100, default 100"),
        ("before_id" = Option<String>, Query, description = "the last id of the page before"),
        ("filter" = Option<String>, Query, description = "a CEL expression over `obj`; only what it is true of"),
    ),
    responses((status = 200, description = "A page.", body = IpPolicyRuleList)))]
pub(crate) async fn list(caller: Caller) -> Answer {
    let page = Page::<IpPolicyRuleId>::of::<IpRuleView>(&caller)?;
    let before = page.before().cloned();
    let rules = caller.snapshot.ip_rules(&caller.account, before.as_ref());
    let paged = page.cut(
        &caller,
        rules.rev(),
        |one| &one.id,
        |one| IpRuleView::new(&caller.links, one),
    );
    Reply::ok(&IpPolicyRuleList::from(paged))
}

/// Create a rule of an IP policy.
#[utoipa::path(post, path = "/ip_policy_rules", tag = "ip_policy_rules", operation_id = "ip_policy_rules_create",
    request_body = IpRuleCreate, responses((status = 201, description = "The rule.", body = IpRuleView)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<IpRuleCreate>,
) -> Answer {
    let request = body.into_request()?;
    let written = app
        .registry
        .create_ip_rule(&caller.account, request)
        .await?;
    let rule = &written.value;
    Reply::created(
        &IpRuleView::new(&caller.links, rule),
        &rule.id,
        written.revision,
    )
}

/// Get a rule of an IP policy.
#[utoipa::path(get, path = "/ip_policy_rules/{id}", tag = "ip_policy_rules", operation_id = "ip_policy_rules_get",
    params(("id" = String, Path, description = "ipr_…")),
    responses((status = 200, description = "The rule.", body = IpRuleView)))]
pub(crate) async fn get(caller: Caller, Id(id): Id<IpPolicyRuleId>) -> Answer {
    let rule = caller.snapshot.ip_rule(&caller.account, &id);
    let rule = rule.ok_or_else(|| missing(Code::ApiNotFound, "IP policy rule", &id))?;
    Reply::ok(&IpRuleView::new(&caller.links, rule))
}

/// Change the network or the texts of a rule.
#[utoipa::path(patch, path = "/ip_policy_rules/{id}", tag = "ip_policy_rules", operation_id = "ip_policy_rules_update",
    params(("id" = String, Path, description = "ipr_…")), request_body = IpRulePatch,
    responses((status = 200, description = "As changed.", body = IpRuleView)))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<IpPolicyRuleId>,
    Changes(changes): Changes<IpRulePatch>,
) -> Answer {
    let written = app
        .registry
        .update_ip_rule(&caller.account, &id, changes.into())
        .await?;
    Reply::changed(
        &IpRuleView::new(&caller.links, &written.value),
        written.revision,
    )
}

/// Delete a rule of an IP policy.
#[utoipa::path(delete, path = "/ip_policy_rules/{id}", tag = "ip_policy_rules", operation_id = "ip_policy_rules_delete",
    params(("id" = String, Path, description = "ipr_…")),
    responses((status = 204, description = "It is gone.")))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<IpPolicyRuleId>,
) -> Answer {
    let written = app.registry.delete_ip_rule(&caller.account, &id).await?;
    Reply::deleted(Some(written.revision))
}
