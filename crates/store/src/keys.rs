//! Where each record lives: `kind/account/id`, so that a prefix is all of an account's of a kind.
//!
//! Owns: the layout of the store's keys, a stored format. Must never: be spelled out elsewhere.

use std::fmt::Display;
use std::net::IpAddr;

use portcullis_model::id::{
    CertificateAuthorityId, IpPolicyId, IpPolicyRuleId, IpRestrictionId, SecretId,
    TlsCertificateId, VaultId,
};
use portcullis_model::url::Scheme;
use portcullis_model::{
    AccountId, AddrId, AgentId, ApiKeyId, Binding, CredentialId, Endpoint, EndpointId, EndpointUrl,
    SessionId,
};

/// The account made at first start.
pub(crate) const FIRST_ACCOUNT: &str = "meta/first_account";
/// Markers of API keys with `admin: true`.
pub(crate) const ADMIN_KEYS: &str = "admin/";

/// The kinds of records that accounts own, for "all of an account's".
pub(crate) const OWNED: [&str; 13] = [
    "key", "cred", "addr", "endpoint", "session", "agent", // what connects, and where
    "ipp", "ipr", "ipx", // who may, by address
    "vault", "secret", "ca", "cert",
];

/// Keys of one kind of one account.
pub(crate) fn owned(kind: &str, account: &AccountId) -> String {
    format!("{kind}/{account}/")
}

pub(crate) fn account(id: &AccountId) -> String {
    format!("account/{id}")
}

/// Makes account names unique.
pub(crate) fn account_name(name: &str) -> String {
    format!("name/{name}")
}

pub(crate) fn api_key(account: &AccountId, id: &ApiKeyId) -> String {
    record("key", account, id)
}

pub(crate) fn admin_key(id: &ApiKeyId) -> String {
    format!("{ADMIN_KEYS}{id}")
}

pub(crate) fn credential(account: &AccountId, id: &CredentialId) -> String {
    record("cred", account, id)
}

pub(crate) fn address(account: &AccountId, id: &AddrId) -> String {
    record("addr", account, id)
}

pub(crate) fn endpoint(account: &AccountId, id: &EndpointId) -> String {
    record("endpoint", account, id)
}

pub(crate) fn session(account: &AccountId, id: &SessionId) -> String {
    record("session", account, id)
}

pub(crate) fn agent(account: &AccountId, id: &AgentId) -> String {
    record("agent", account, id)
}

pub(crate) fn ip_policy(account: &AccountId, id: &IpPolicyId) -> String {
    record("ipp", account, id)
}

/// Rules stand under their policy.
pub(crate) fn ip_rule(account: &AccountId, policy: &IpPolicyId, id: &IpPolicyRuleId) -> String {
    format!("ipr/{account}/{policy}/{id}")
}

pub(crate) fn ip_restriction(account: &AccountId, id: &IpRestrictionId) -> String {
    record("ipx", account, id)
}

pub(crate) fn certificate_authority(account: &AccountId, id: &CertificateAuthorityId) -> String {
    record("ca", account, id)
}

pub(crate) fn tls_certificate(account: &AccountId, id: &TlsCertificateId) -> String {
    record("cert", account, id)
}

pub(crate) fn vault(account: &AccountId, id: &VaultId) -> String {
    record("vault", account, id)
}

pub(crate) fn vault_secret(account: &AccountId, id: &SecretId) -> String {
    record("secret", account, id)
}

/// Makes names of vaults unique in an account. Names may hold slashes: nothing comes behind one.
pub(crate) fn vault_name(account: &AccountId, name: &str) -> String {
    format!("uniq/vault/{account}/{name}")
}

/// Makes names of secrets unique in a vault.
pub(crate) fn secret_name(account: &AccountId, vault: &VaultId, name: &str) -> String {
    format!("uniq/secret/{account}/{vault}/{name}")
}

fn record(kind: &str, account: &AccountId, id: &dyn Display) -> String {
    format!("{kind}/{account}/{id}")
}

/// The claims of one port on every host: the port comes first because hosts may share their IPs.
pub(crate) fn port_claims(port: u16) -> String {
    format!("claim/port/{port:05}/")
}

pub(crate) fn port_claim(host: &str, port: u16) -> String {
    format!("{}{host}", port_claims(port))
}

pub(crate) fn host_claim(host: &str) -> String {
    format!("claim/host/{host}")
}

/// The claim of a TLS name. The labels stand in reverse, so that what is below a name has its key as a prefix.
pub(crate) fn tls_claim(name: &str) -> String {
    format!("claim/tls/{}", reversed(name))
}

/// The claims of TLS names below a name, its wildcard included; of all for an empty one.
pub(crate) fn tls_claims(below: &str) -> String {
    match below {
        "" => "claim/tls/".to_owned(),
        _ => format!("claim/tls/{}.", reversed(below)),
    }
}

/// Labels from the last to the first; twice is the name again.
pub(crate) fn reversed(name: &str) -> String {
    let labels: Vec<&str> = name.rsplit('.').collect();
    labels.join(".")
}

pub(crate) fn ip_claim(ip: IpAddr) -> String {
    format!("claim/ip/{ip}")
}

/// The markers of endpoints at one URL: who makes one guards that no other came meanwhile.
pub(crate) fn at_url(binding: Binding, account: &AccountId, url: &EndpointUrl) -> String {
    match (binding, url.scheme()) {
        (Binding::Public, Scheme::Tcp) => {
            format!("{}{}/", at_public_host(url.host()), url.port())
        }
        (Binding::Public, Scheme::Tls) => format!("{}{}/", at_tls_name(url.host()), url.port()),
        (Binding::Internal | Binding::Kubernetes, scheme) => {
            // Those of `tcp://` came first, and have no word for it.
            let scheme = match scheme {
                Scheme::Tcp => "",
                Scheme::Tls => "tls-",
            };
            let (host, port) = (url.host(), url.port());
            format!("url/{scheme}{binding}/{account}/{host}/{port}/")
        }
    }
}

/// The markers of public TLS endpoints at a name, whatever the port.
pub(crate) fn at_tls_name(name: &str) -> String {
    format!("url/tls/{name}/")
}

/// The markers of endpoints at a public host, whatever the port.
pub(crate) fn at_public_host(host: &str) -> String {
    format!("url/public/{host}/")
}

/// The marker of one endpoint.
pub(crate) fn url_marker(endpoint: &Endpoint) -> String {
    format!(
        "{}{}",
        at_url(endpoint.binding, &endpoint.account, &endpoint.url),
        endpoint.id
    )
}

/// A node's presence: holds the id of its lease.
pub(crate) fn node(node: &str) -> String {
    format!("node/{node}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_tcp_urls_stay_as_they_are_and_those_of_tls_are_apart() {
        let account = AccountId::new(1_700_000_000, [1; 16]);
        let at = |binding, url: &str| at_url(binding, &account, &url.parse().expect("a URL"));
        assert_eq!(
            at(Binding::Public, "tcp://a.com:443"),
            "url/public/a.com/443/"
        );
        assert_eq!(at(Binding::Public, "tls://a.com"), "url/tls/a.com/443/");
        assert_eq!(
            at(Binding::Internal, "tcp://a.internal:443"),
            format!("url/internal/{account}/a.internal/443/")
        );
        assert_eq!(
            at(Binding::Internal, "tls://a.internal:443"),
            format!("url/tls-internal/{account}/a.internal/443/")
        );
    }

    #[test]
    fn claims_of_names_below_a_name_share_its_prefix() {
        assert_eq!(tls_claim("a.b.com"), "claim/tls/com.b.a");
        assert_eq!(tls_claim("*.b.com"), "claim/tls/com.b.*");
        assert!(tls_claim("x.a.b.com").starts_with(&tls_claims("b.com")));
        assert!(!tls_claim("x.ab.com").starts_with(&tls_claims("b.com")));
        assert_eq!(reversed(&reversed("*.a.b.com")), "*.a.b.com");
    }
}
