//! Documents made from flags: agents send policies as text.

use portcullis_model::{Code, Error};
use serde_json::{Value, json};

use crate::cidr;
use crate::compile::{LEGACY_PHASE, PHASE, unwrapped};
use crate::document::{self, Node};

#[cfg(test)]
mod tests;

/// Name of the rule that `--cidr-allow` and `--cidr-deny` make.
pub(crate) const FLAGS_RULE_NAME: &str = "cidr flags";

/// The document of `--cidr-allow` and `--cidr-deny`, with the user's own policy, if there is one,
/// behind it. A single address stands for the network of just itself. `--cidr-deny` alone lets
/// everyone else in. Without CIDRs it is the user's text as it
/// is, or an empty one.
///
/// # Errors
/// `PTC_POLICY_CIDR` for flags that are no CIDRs, and `PTC_POLICY_UNPARSABLE` or
/// `PTC_POLICY_TOO_LARGE` for a policy that cannot be put behind them.
pub fn with_cidrs(
    allow: &[String],
    deny: &[String],
    policy: Option<&str>,
) -> Result<String, Error> {
    if allow.is_empty() && deny.is_empty() {
        return Ok(policy.unwrap_or_default().to_owned());
    }
    let rule = flags_rule(
        &networks("--cidr-allow", allow)?,
        &networks("--cidr-deny", deny)?,
    );
    let mut document = match document::read(policy.unwrap_or_default())? {
        Node::Null => serde_json::Map::new(),
        Node::Map(entries) => unwrapped(entries)
            .1
            .into_iter()
            .map(|(key, value)| (key, value.into_json()))
            .collect(),
        other => {
            let message = format!(
                "policy: a policy is a map with the key `{PHASE}`, and this is {}",
                other.what()
            );
            return Err(Error::new(Code::PolicyUnparsable, message));
        }
    };
    let phase = if document.contains_key(LEGACY_PHASE) {
        LEGACY_PHASE
    } else {
        PHASE
    };
    match document.entry(phase).or_insert_with(|| json!([])) {
        Value::Array(rules) => rules.insert(0, rule),
        absent @ Value::Null => *absent = json!([rule]),
        _ => {
            return Err(Error::new(
                Code::PolicyUnparsable,
                format!("policy: {phase}: a list of rules is expected"),
            ));
        }
    }
    Ok(Value::Object(document).to_string())
}

/// `--cidr-deny` alone means "everyone but these", where a policy's `deny` alone lets nobody in.
fn flags_rule(allow: &[String], deny: &[String]) -> Value {
    let allow = if allow.is_empty() {
        json!(["0.0.0.0/0", "::/0"])
    } else {
        json!(allow)
    };
    json!({
        "name": FLAGS_RULE_NAME,
        "actions": [{ "type": "restrict-ips", "config": { "allow": allow, "deny": deny } }],
    })
}

/// The flag's networks as a policy has them; a single address becomes the network of just itself.
fn networks(flag: &str, texts: &[String]) -> Result<Vec<String>, Error> {
    let mut networks = Vec::with_capacity(texts.len());
    let mut faults = Vec::new();
    for text in texts {
        match cidr::parse_or_address(text) {
            Ok(network) => networks.push(network.to_string()),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() {
        Ok(networks)
    } else {
        Err(Error::new(
            Code::PolicyCidr,
            format!("{flag}: {}", faults.join("; ")),
        ))
    }
}
