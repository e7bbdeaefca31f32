//! Several files as one document: maps are merged, anything else is replaced by the later one.
//!
//! Must never: know what a key means, except which ones hold paths.

use std::path::Path;

use serde_json::Value;

/// Lays `over` on `base`: later scalars win, maps are merged, lists replaced. A null in `over`
/// (a key without a value) changes nothing.
pub(crate) fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                match base.get_mut(&key) {
                    Some(old) => merge(old, value),
                    None => {
                        base.insert(key, value);
                    }
                }
            }
        }
        (_, Value::Null) => {}
        (base, over) => *base = over,
    }
}

/// Makes the paths of one file's document absolute, before it is merged with those of other files.
pub(crate) fn anchor_paths(document: &mut Value, dir: &Path) {
    let Value::Object(top) = document else { return };
    if let Some(agent) = top.get_mut("agent") {
        anchor(agent, "connect_cas", dir, &["trusted", "host"]);
        anchor(agent, "log", dir, &["stdout", "stderr", "false", "true"]);
    }
    let endpoints = top.get_mut("endpoints").and_then(Value::as_array_mut);
    for entry in endpoints.into_iter().flatten() {
        anchor(entry, "traffic_policy_file", dir, &[]);
        if let Some(tls) = entry.get_mut("agent_tls_termination") {
            anchor_pem(tls, dir);
        }
    }
}

/// Files of certificates and keys, unless the text itself is there.
fn anchor_pem(tls: &mut Value, dir: &Path) {
    for key in ["server_certificate", "server_private_key"] {
        if tls[key]
            .as_str()
            .is_some_and(|text| !text.contains("-----BEGIN"))
        {
            anchor(tls, key, dir, &[]);
        }
    }
    let authorities = tls.get_mut("mutual_tls_certificate_authorities");
    for authority in authorities
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Value::String(text) = authority
            && !text.contains("-----BEGIN")
        {
            *text = dir.join(&*text).display().to_string();
        }
    }
}

fn anchor(map: &mut Value, key: &str, dir: &Path, words: &[&str]) {
    if let Some(Value::String(text)) = map.get_mut(key)
        && !text.is_empty()
        && !words.contains(&text.as_str())
    {
        *text = dir.join(&*text).display().to_string();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_later_win_maps_merge_lists_are_replaced() {
        let mut base = json!({"agent": {"authtoken": "a", "metadata": "m"}, "endpoints": [1, 2], "version": 3});
        merge(
            &mut base,
            json!({"agent": {"authtoken": "b", "log": null}, "endpoints": [3]}),
        );
        let expected = json!({"agent": {"authtoken": "b", "metadata": "m", "log": null}, "endpoints": [3], "version": 3});
        assert_eq!(base, expected);
        merge(&mut base, Value::Null);
        assert_eq!(base, expected);
    }

    #[test]
    fn paths_are_relative_to_their_file() {
        let mut document = json!({
            "agent": {"connect_cas": "ca.pem", "log": "stderr"},
            "endpoints": [{"traffic_policy_file": "policies/a.yml"}, {"traffic_policy_file": "/etc/b.yml"}],
        });
        anchor_paths(&mut document, Path::new("/etc/portcullis"));
        assert_eq!(
            document["agent"],
            json!({"connect_cas": "/etc/portcullis/ca.pem", "log": "stderr"})
        );
        assert_eq!(
            document["endpoints"][0]["traffic_policy_file"],
            "/etc/portcullis/policies/a.yml"
        );
        assert_eq!(
            document["endpoints"][1]["traffic_policy_file"],
            "/etc/b.yml"
        );
    }
}
