//! `restrict-ips` at work: the networks of the document, of its texts and of IP policies together.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use portcullis_model::{Code, Error};
use serde_json::Value;

use super::runtime;
use crate::cel::{Scope, Template};
use crate::cidr::{self, CidrSet};
use crate::decide::RestrictIps;
use crate::defaults::LATER_CIDRS_MAX;
use crate::world::IpSets;

/// The network that lets the client in, or the one, if any, that keeps it out.
type Found = Result<IpNet, Option<IpNet>>;

/// Decides. The error comes with where it is below the action's config.
pub(super) fn decide(restrict: &RestrictIps, scope: &Scope<'_>) -> Result<Found, (String, Error)> {
    let client = cidr::unmap(scope.facts.conn.client.ip());
    let (mut allow, mut deny) = (restrict.allow.find(client), restrict.deny.find(client));
    if let Some(later) = &restrict.later {
        let mut policies: Vec<Arc<IpSets>> = Vec::with_capacity(later.policies.len());
        for (place, id) in later.policies.iter().enumerate() {
            let sets = scope.world.ip_policy(id).ok_or_else(|| {
                let message = format!("there is no IP policy `{id}`");
                let error = Error::new(Code::PolicyReference, message);
                (format!("ip_policies[{place}]"), error)
            })?;
            policies.push(sets);
        }
        deny = wider(deny, policies.iter().map(|sets| sets.deny.find(client)));
        allow = wider(allow, policies.iter().map(|sets| sets.allow.find(client)));
        deny = wider(deny, [texts("deny", &later.deny, client, scope)?]);
        allow = wider(allow, [texts("allow", &later.allow, client, scope)?]);
    }
    Ok(match deny {
        Some(denied) => Err(Some(denied)),
        None => allow.ok_or(None),
    })
}

/// The longest of what was found.
fn wider(found: Option<IpNet>, more: impl IntoIterator<Item = Option<IpNet>>) -> Option<IpNet> {
    more.into_iter()
        .chain([found])
        .flatten()
        .max_by_key(IpNet::prefix_len)
}

fn texts(
    list: &str,
    templates: &[(usize, Template)],
    client: IpAddr,
    scope: &Scope<'_>,
) -> Result<Option<IpNet>, (String, Error)> {
    let mut networks: Vec<IpNet> = Vec::new();
    for (place, template) in templates {
        // The text that it came to is not told: what is wrong with it is written to the record.
        let value = template.eval(scope).and_then(|value| read(&value));
        let read = value.map_err(|why| (format!("{list}[{place}]"), runtime(why)))?;
        networks.extend(read);
    }
    Ok(networks.into_iter().collect::<CidrSet>().find(client))
}

/// A CIDR or an address, or a list of them.
fn read(value: &Value) -> Result<Vec<IpNet>, String> {
    let one = |value: &Value| match value {
        Value::String(text) => cidr::parse_or_address(text)
            .map_err(|_| "it comes to a text that is no CIDR and no address".to_owned()),
        _ => Err("it comes to something else than a CIDR, an address or a list of them".to_owned()),
    };
    match value {
        Value::Array(items) if items.len() > LATER_CIDRS_MAX => Err(format!(
            "the list has {} CIDRs; at most {LATER_CIDRS_MAX} are possible here",
            items.len()
        )),
        Value::Array(items) => items.iter().map(one).collect(),
        other => one(other).map(|network| vec![network]),
    }
}
