//! `portcullis api`: one module per resource, with ngrok's flag names.
//!
//! Must never: know a rule of the API; what is wrong is for the API to say.

pub(crate) mod api_keys;
pub(crate) mod certificate_authorities;
pub(crate) mod common;
pub(crate) mod connections;
pub(crate) mod credentials;
pub(crate) mod endpoints;
pub(crate) mod ip_policies;
pub(crate) mod ip_policy_rules;
pub(crate) mod ip_restrictions;
pub(crate) mod pem;
pub(crate) mod reserved_addrs;
pub(crate) mod tls_certificates;
pub(crate) mod tunnel_sessions;
pub(crate) mod vault_secrets;
pub(crate) mod vaults;

use clap::Subcommand;

use crate::cmd::block_on;
use crate::failure::Failure;

/// The resources.
#[derive(Debug, Subcommand)]
pub(crate) enum Resource {
    /// What is online: URLs, bindings, policies.
    #[command(subcommand)]
    Endpoints(Box<endpoints::Verb>),
    /// TCP addresses of one's own.
    #[command(subcommand)]
    ReservedAddrs(reserved_addrs::Verb),
    /// What agents connect with.
    #[command(subcommand)]
    Credentials(credentials::Verb),
    /// Keys to this API.
    #[command(subcommand)]
    ApiKeys(api_keys::Verb),
    /// Networks under one id, which traffic policies name.
    #[command(subcommand)]
    IpPolicies(ip_policies::Verb),
    /// The networks of IP policies, one by one.
    #[command(subcommand)]
    IpPolicyRules(ip_policy_rules::Verb),
    /// Connected agents.
    #[command(subcommand)]
    TunnelSessions(tunnel_sessions::Verb),
    /// Client connections that are open now.
    #[command(subcommand)]
    Connections(connections::Verb),
    /// Secrets under one name.
    #[command(subcommand)]
    Vaults(vaults::Verb),
    /// What traffic policies read with secrets.get.
    #[command(subcommand)]
    VaultSecrets(vault_secrets::Verb),
    /// Who may have issued the certificates of clients.
    #[command(subcommand)]
    CertificateAuthorities(certificate_authorities::Verb),
    /// What TLS is terminated with.
    #[command(subcommand)]
    TlsCertificates(tls_certificates::Verb),
    /// What the account lets in by address.
    #[command(subcommand)]
    IpRestrictions(ip_restrictions::Verb),
}

/// Asks the API.
///
/// # Errors
/// What the API said, or that it cannot be reached.
pub(crate) fn run(resource: Resource) -> Result<(), Failure> {
    block_on(async move {
        match resource {
            Resource::Endpoints(verb) => endpoints::run(*verb).await,
            Resource::ReservedAddrs(verb) => reserved_addrs::run(verb).await,
            Resource::Credentials(verb) => credentials::run(verb).await,
            Resource::ApiKeys(verb) => api_keys::run(verb).await,
            Resource::IpPolicies(verb) => ip_policies::run(verb).await,
            Resource::IpPolicyRules(verb) => ip_policy_rules::run(verb).await,
            Resource::TunnelSessions(verb) => tunnel_sessions::run(verb).await,
            Resource::Connections(verb) => connections::run(verb).await,
            Resource::Vaults(verb) => vaults::run(verb).await,
            Resource::VaultSecrets(verb) => vault_secrets::run(verb).await,
            Resource::CertificateAuthorities(verb) => certificate_authorities::run(verb).await,
            Resource::TlsCertificates(verb) => tls_certificates::run(verb).await,
            Resource::IpRestrictions(verb) => ip_restrictions::run(verb).await,
        }
    })
}
