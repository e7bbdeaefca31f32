//! Which policies read which secrets: what one reads must be there, and stays as long as it is read.
//!
//! Both directions rest on each other's guards: an endpoint comes only while its secrets are as they were
//! judged, and a secret goes only while no endpoint came since.

use portcullis_model::id::{SecretId, VaultId};
use portcullis_model::{AccountId, Code, Endpoint, Error};
use portcullis_policy::{Policy, Uses};

use super::draft::Draft;
use crate::keys;

/// Endpoints that a refusal names.
const SHOWN_MAX: usize = 5;

/// Every secret that a policy reads is there, and still is when the write happens.
pub(super) fn check(
    draft: &mut Draft<'_>,
    account: &AccountId,
    policy: Option<&Policy>,
) -> Result<(), Error> {
    let Some(policy) = policy else { return Ok(()) };
    let find = |vault: &str, name: &str| {
        let secret = draft.snapshot.vault_secret_by_name(account, vault, name);
        secret.map(|secret| (secret.vault.clone(), secret.id.clone()))
    };
    let place = |meant: &(String, String)| policy.place_of(&|uses| uses.secrets.contains(meant));
    let found = resolve(&policy.uses(), find, place)?;
    for (vault, secret) in found {
        draft.unchanged(keys::vault(account, &vault));
        draft.unchanged(keys::vault_secret(account, &secret));
    }
    Ok(())
}

/// The records behind the names, or a refusal that lists every name that leads nowhere.
fn resolve(
    uses: &Uses,
    find: impl Fn(&str, &str) -> Option<(VaultId, SecretId)>,
    place: impl Fn(&(String, String)) -> Option<String>,
) -> Result<Vec<(VaultId, SecretId)>, Error> {
    let mut found = Vec::with_capacity(uses.secrets.len());
    let mut missing = Vec::new();
    for meant in &uses.secrets {
        let (vault, name) = meant;
        match find(vault, name) {
            Some(ids) => found.push(ids),
            None => {
                let place = place(meant).map(|place| format!("{place}: "));
                let place = place.unwrap_or_default();
                missing.push(format!("{place}`{name}` in a vault `{vault}`"));
            }
        }
    }
    if missing.is_empty() {
        return Ok(found);
    }
    let message = format!(
        "the policy reads a secret that the account does not have: {}",
        missing.join(", ")
    );
    Err(Error::new(Code::PolicyReference, message))
}

/// No policy of the account reads a secret for which `is_meant` says so, and none comes before the write.
pub(super) fn refuse_while_read(
    draft: &mut Draft<'_>,
    account: &AccountId,
    (code, what): (Code, &str),
    is_meant: impl Fn(&str, &str) -> bool,
) -> Result<(), Error> {
    draft.nothing_new(keys::owned("endpoint", account));
    let policies = draft.snapshot.endpoints(account).filter_map(|endpoint| {
        let policy = endpoint.policy().ok().flatten()?;
        Some((endpoint.record(), policy.uses()))
    });
    refusal(readers(policies, is_meant), code, what)
}

/// The endpoints whose policies read what is meant.
fn readers<'a>(
    policies: impl Iterator<Item = (&'a Endpoint, Uses)>,
    is_meant: impl Fn(&str, &str) -> bool,
) -> Vec<&'a Endpoint> {
    policies
        .filter(|(_, uses)| {
            let mut secrets = uses.secrets.iter();
            secrets.any(|(vault, name)| is_meant(vault, name))
        })
        .map(|(endpoint, _)| endpoint)
        .collect()
}

fn refusal(readers: Vec<&Endpoint>, code: Code, what: &str) -> Result<(), Error> {
    if readers.is_empty() {
        return Ok(());
    }
    let mut shown: Vec<String> = readers
        .iter()
        .take(SHOWN_MAX)
        .map(|endpoint| format!("{} ({})", endpoint.id, endpoint.url))
        .collect();
    if readers.len() > SHOWN_MAX {
        shown.push(format!("{} more", readers.len() - SHOWN_MAX));
    }
    let message = format!("{what} is read by the policy of {}", shown.join(", "));
    Err(Error::new(code, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    use portcullis_model::{
        Binding, EndpointId, EndpointLimits, EndpointType, EndpointUrl, Timestamp,
    };

    fn uses(secrets: &[(&str, &str)]) -> Uses {
        let secrets = secrets.iter();
        Uses {
            secrets: secrets
                .map(|(vault, name)| ((*vault).to_owned(), (*name).to_owned()))
                .collect(),
            ..Uses::default()
        }
    }

    fn endpoint(n: u8) -> Endpoint {
        let now = Timestamp::from_unix_millis(0);
        Endpoint {
            id: EndpointId::new(1_700_000_000, [n; 16]),
            account: AccountId::new(1_700_000_000, [1; 16]),
            kind: EndpointType::Cloud,
            url: EndpointUrl::new("db.internal", u16::from(n)),
            binding: Binding::Internal,
            name: String::new(),
            description: String::new(),
            metadata: String::new(),
            pooling_enabled: false,
            on_change: portcullis_model::OnChange::Keep,
            pool: portcullis_model::PoolTerms::default(),
            health: None,
            traffic_policy: String::new(),
            upstream_url: String::new(),
            proxy_protocol: None,
            limits: EndpointLimits::default(),
            addr: None,
            holder: None,
            region: "eu".to_owned(),
            created_at: now,
            updated_at: now,
        }
    }

    #[test]
    fn every_name_that_leads_nowhere_is_told() {
        let ids = (
            VaultId::new(1_700_000_000, [1; 16]),
            SecretId::new(1_700_000_000, [2; 16]),
        );
        let find =
            |vault: &str, name: &str| (vault == "prod" && name == "key").then(|| ids.clone());
        assert_eq!(resolve(&uses(&[]), find, |_| None).unwrap(), vec![]);
        assert_eq!(
            resolve(&uses(&[("prod", "key")]), find, |_| None).unwrap(),
            vec![ids.clone()]
        );
        let wanted = uses(&[("prod", "key"), ("prod", "gone"), ("none", "key")]);
        let error = resolve(&wanted, find, |_| None).unwrap_err();
        assert_eq!(error.code, Code::PolicyReference);
        for name in ["`gone` in a vault `prod`", "`key` in a vault `none`"] {
            assert!(error.message.contains(name), "{}", error.message);
        }
    }

    #[test]
    fn the_endpoints_that_read_a_secret_are_named() {
        let all: Vec<Endpoint> = (1..=8).map(endpoint).collect();
        let reads = |endpoint: &Endpoint| match endpoint.url.port() {
            1 => uses(&[("prod", "other")]),
            2 => uses(&[]),
            _ => uses(&[("test", "key"), ("prod", "key")]),
        };
        let found = |vault: &'static str, name: &'static str| {
            let policies = all.iter().map(|endpoint| (endpoint, reads(endpoint)));
            readers(policies, move |v, n| v == vault && n == name)
        };
        assert!(refusal(found("test", "other"), Code::SecretInUse, "it").is_ok());
        let error = refusal(found("prod", "other"), Code::SecretInUse, "it").unwrap_err();
        assert_eq!(error.code, Code::SecretInUse);
        let named = format!("{} (tcp://db.internal:1)", all[0].id);
        assert!(error.message.contains(&named), "{}", error.message);
        let error = refusal(found("prod", "key"), Code::SecretInUse, "it").unwrap_err();
        assert!(error.message.ends_with("1 more"), "{}", error.message);
        assert_eq!(error.message.matches("ep_").count(), SHOWN_MAX);
    }
}
