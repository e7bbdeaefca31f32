//! `restrict-ips`: its networks, those that texts come to, and IP policies.

use ipnet::IpNet;
use portcullis_model::Code;
use portcullis_model::id::IpPolicyId;

use super::{Reading, values};
use crate::cel::Template;
use crate::cidr::{self, CidrSet};
use crate::decide::{LaterIps, RestrictIps};
use crate::defaults::{ENTRIES_MAX, IP_POLICIES_MAX};
use crate::document::{Node, quoted};

/// Networks of a list: those known now, and the texts that are evaluated later.
type Networks = (CidrSet, Vec<(usize, Template)>);

pub(super) fn read(path: &str, config: Node, reading: &mut Reading) -> Option<RestrictIps> {
    let mut fields = values::config(
        path,
        config,
        ("restrict-ips", "the config of restrict-ips"),
        "`allow`, a list of CIDRs",
        reading,
    )?;
    let enforce = fields.take("enforce");
    let enforce = values::boolean(&format!("{path}.enforce"), enforce, true, reading);
    let policies = fields.take("ip_policies").unwrap_or(Node::Null);
    let policies = read_policies(&format!("{path}.ip_policies"), policies, reading);
    let allow = fields.take("allow");
    let allow = read_cidrs(&format!("{path}.allow"), allow, reading);
    let deny = fields.take("deny");
    let deny = read_cidrs(&format!("{path}.deny"), deny, reading);
    fields.close(
        &["enforce", "allow", "deny", "ip_policies"],
        &mut reading.problems,
    );
    let (policies, (allow, allow_later), (deny, deny_later)) = (policies?, allow?, deny?);
    if allow.is_empty() && allow_later.is_empty() && policies.is_empty() {
        let message = if deny.is_empty() && deny_later.is_empty() {
            "`allow` and `deny` are empty, so no client gets in; list in `allow` who may"
        } else {
            "`deny` without `allow` lets no client in, as with ngrok (ERR_NGROK_393); add `allow: [0.0.0.0/0, \"::/0\"]` to let in all others"
        };
        reading.notice(path, message);
    }
    let later = LaterIps {
        allow: allow_later,
        deny: deny_later,
        policies,
    };
    Some(RestrictIps {
        enforce: enforce?,
        allow,
        deny,
        later: (later != LaterIps::default()).then(|| Box::new(later)),
    })
}

fn read_policies(path: &str, node: Node, reading: &mut Reading) -> Option<Vec<IpPolicyId>> {
    let items = match node {
        Node::Null => return Some(Vec::new()),
        Node::List(items) => items,
        other => {
            return values::wrong(path, &other, "a list of ids of IP policies", reading);
        }
    };
    if items.len() > IP_POLICIES_MAX {
        let message = format!(
            "there are {} IP policies; at most {IP_POLICIES_MAX} are possible",
            items.len()
        );
        reading.problems.add(Code::PolicyTooLarge, path, message);
        return None;
    }
    let ids: Vec<Option<IpPolicyId>> = items
        .into_iter()
        .enumerate()
        .map(|(place, item)| {
            let path = format!("{path}[{place}]");
            let text = values::text(&path, item, "the id of an IP policy (`ipp_…`)", reading)?;
            let id = text.parse().ok();
            if id.is_none() {
                let message = format!("{} is no id of an IP policy (`ipp_…`)", quoted(&text));
                reading.problems.add(Code::PolicyConfig, &path, message);
            }
            id
        })
        .collect();
    ids.into_iter().collect()
}

/// Every entry is looked at, so that all faults are told at once.
fn read_cidrs(path: &str, node: Option<Node>, reading: &mut Reading) -> Option<Networks> {
    let items = match node {
        None | Some(Node::Null) => return Some((CidrSet::default(), Vec::new())),
        Some(Node::List(items)) => items,
        Some(Node::Text(text)) => {
            let message = format!(
                "a list of CIDRs is expected, and this is the text {}; put it in brackets",
                quoted(&text)
            );
            reading.problems.add(Code::PolicyConfig, path, message);
            return None;
        }
        Some(other) => return values::wrong(path, &other, "a list of CIDRs", reading),
    };
    match reading.entries_left.checked_sub(items.len()) {
        Some(left) => reading.entries_left = left,
        None if reading.entries_told => return None,
        None => {
            reading.entries_told = true;
            let message = format!(
                "with this list the policy has more than {ENTRIES_MAX} CIDRs; use wider ones"
            );
            reading.problems.add(Code::PolicyTooLarge, path, message);
            return None;
        }
    }
    let mut known: Vec<IpNet> = Vec::with_capacity(items.len());
    let mut later = Vec::new();
    let mut faulty = false;
    for (place, item) in items.iter().enumerate() {
        match read_cidr(path, place, item, reading) {
            Some(Entry::Known(network)) => known.push(network),
            Some(Entry::Later(template)) => later.push((place, template)),
            None => faulty = true,
        }
    }
    (!faulty).then(|| (known.into_iter().collect(), later))
}

enum Entry {
    Known(IpNet),
    Later(Template),
}

fn read_cidr(path: &str, place: usize, item: &Node, reading: &mut Reading) -> Option<Entry> {
    let fault = match item {
        Node::Text(text) if text.contains("${") => {
            let path = format!("{path}[{place}]");
            return values::template(&path, text, reading).map(Entry::Later);
        }
        Node::Text(text) => match cidr::parse(text) {
            Ok(network) => return Some(Entry::Known(network)),
            Err(fault) => fault,
        },
        other => format!(
            "a CIDR such as `10.0.0.0/8` is expected, and this is {}",
            other.what()
        ),
    };
    reading
        .problems
        .add(Code::PolicyCidr, &format!("{path}[{place}]"), fault);
    None
}
