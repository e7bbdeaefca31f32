//! The policy document that goes to the server: the user's, with `--cidr-allow` and `--cidr-deny`
//! as a `restrict-ips` rule in front.
//!
//! Must never: decide anything; the server compiles and runs the policy.

use std::net::IpAddr;

use ipnet::IpNet;
use portcullis_model::{Code, Error};
use portcullis_policy::Policy;
use serde_json::{Value, json};

/// Reads a network, or a single address as the network of just itself.
///
/// # Errors
/// `PTC_POLICY_CIDR`, with the right form where it can be guessed.
pub(crate) fn network(text: &str) -> Result<IpNet, Error> {
    let refuse = |what: String| Error::new(Code::PolicyCidr, what);
    if let Ok(ip) = text.trim().parse::<IpAddr>() {
        return Ok(IpNet::from(ip));
    }
    let shown: String = text.chars().take(60).collect();
    let net: IpNet =
        text.trim().parse().map_err(|_| refuse(format!("`{shown}` is not a network such as 10.0.0.0/8 or 2001:db8::/32")))?;
    if net.trunc() == net {
        Ok(net)
    } else {
        Err(refuse(format!("`{shown}` has bits beyond its mask; write {}", net.trunc())))
    }
}

/// Compiles a document to see whether it can be used; an empty one can.
///
/// # Errors
/// `PTC_POLICY_…` with every problem.
pub(crate) fn check(document: &str) -> Result<(), Error> {
    if document.trim().is_empty() {
        return Ok(());
    }
    Policy::compile(document, portcullis_model::EndpointType::Agent).map(drop)
}

/// The document with a `restrict-ips` rule in front, when there are networks.
///
/// # Errors
/// `PTC_POLICY_…` when the document or a network cannot be read.
pub(crate) fn with_cidrs(document: &str, allow: &[String], deny: &[String]) -> Result<String, Error> {
    check(document)?;
    if allow.is_empty() && deny.is_empty() {
        return Ok(document.to_owned());
    }
    let read = |texts: &[String]| -> Result<Vec<String>, Error> {
        texts.iter().map(|text| network(text).map(|net| net.to_string())).collect()
    };
    let mut config = serde_json::Map::new();
    config.insert("enforce".to_owned(), Value::Bool(true));
    for (key, networks) in [("allow", read(allow)?), ("deny", read(deny)?)] {
        if !networks.is_empty() {
            config.insert(key.to_owned(), json!(networks));
        }
    }
    let rule = json!({"actions": [{"type": "restrict-ips", "config": config}]});
    in_front(document, rule)
}

fn in_front(document: &str, rule: Value) -> Result<String, Error> {
    let unparsable = |cause: &dyn std::fmt::Display| {
        Error::new(Code::PolicyUnparsable, format!("the traffic policy cannot be read: {cause}"))
    };
    let mut value = if document.trim().is_empty() {
        json!({})
    } else {
        serde_saphyr::from_str::<Value>(document).map_err(|error| unparsable(&error))?
    };
    let phases = value.as_object_mut().ok_or_else(|| unparsable(&"it is not a map"))?;
    let rules = phases.entry("on_tcp_connect").or_insert_with(|| json!([]));
    match rules {
        Value::Array(rules) => rules.insert(0, rule),
        Value::Null => *rules = json!([rule]),
        _ => return Err(unparsable(&"on_tcp_connect is not a list")),
    }
    Ok(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_stand_in_front_of_the_users_rules() {
        let document = "on_tcp_connect:\n  - actions:\n      - type: deny\n";
        let text = in_front(document, json!({"actions": []})).expect("a map");
        let value: Value = serde_json::from_str(&text).expect("json");
        assert_eq!(value, json!({"on_tcp_connect": [{"actions": []}, {"actions": [{"type": "deny"}]}]}));
        let alone = with_cidrs("", &["10.0.0.0/8".into()], &["10.1.2.3".into()]).expect("networks");
        let value: Value = serde_json::from_str(&alone).expect("json");
        let config = json!({"enforce": true, "allow": ["10.0.0.0/8"], "deny": ["10.1.2.3/32"]});
        assert_eq!(value, json!({"on_tcp_connect": [{"actions": [{"type": "restrict-ips", "config": config}]}]}));
    }

    #[test]
    fn a_network_with_host_bits_is_answered_with_the_right_form() {
        let error = network("10.1.2.3/8").expect_err("host bits");
        assert_eq!(error.code, Code::PolicyCidr);
        assert!(error.message.contains("10.0.0.0/8"));
        assert!(network("nonsense").is_err());
        assert!(network("2001:db8::/32").is_ok());
    }
}
