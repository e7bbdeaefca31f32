//! `/tunnels`: ngrok's older view of agents' endpoints, read only.

use portcullis_model::{Code, EndpointId, EndpointType};

use super::missing;
use crate::views::tunnel::{TunnelList, TunnelView};
use crate::web::id::TunnelId;
use crate::web::page::Page;
use crate::web::{Answer, Caller, Id, Reply};

/// List the agents' endpoints as tunnels.
#[utoipa::path(get, path = "/tunnels", tag = "tunnels", operation_id = "tunnels_list",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 100, default 100"),
        ("before_id" = Option<String>, Query, description = "the last id of the page before"),
        ("filter" = Option<String>, Query, description = "a CEL expression over `obj`; only what it is true of"),
    ),
    responses((status = 200, description = "A page.", body = TunnelList)))]
pub(crate) async fn list(caller: Caller) -> Answer {
    let page = Page::<TunnelId>::of::<TunnelView>(&caller)?;
    let tunnels = caller
        .snapshot
        .endpoints(&caller.account)
        .rev()
        .filter(|one| one.kind == EndpointType::Agent);
    let tunnels = tunnels.map(|one| (TunnelId(one.id.clone()), one));
    let paged = page.cut(
        &caller,
        tunnels,
        |(id, _)| id,
        |(_, one)| TunnelView::new(&caller.links, one.record()),
    );
    Reply::ok(&TunnelList::from(paged))
}

/// Get an agent's endpoint as a tunnel.
#[utoipa::path(get, path = "/tunnels/{id}", tag = "tunnels", operation_id = "tunnels_get",
    params(("id" = String, Path, description = "tn_…")),
    responses((status = 200, description = "The tunnel.", body = TunnelView)))]
pub(crate) async fn get(caller: Caller, Id(id): Id<TunnelId>) -> Answer {
    let endpoint = endpoint(&caller, &id.0);
    let endpoint = endpoint.ok_or_else(|| missing(Code::ApiNotFound, "tunnel", &id))?;
    Reply::ok(&endpoint)
}

fn endpoint(caller: &Caller, id: &EndpointId) -> Option<TunnelView> {
    let entry = caller.snapshot.endpoint(&caller.account, id)?;
    (entry.kind == EndpointType::Agent).then(|| TunnelView::new(&caller.links, entry.record()))
}
