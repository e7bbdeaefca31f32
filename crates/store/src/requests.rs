//! What callers ask the registry for: one struct per write.
//!
//! In an update, `None` leaves a field as it is.

use std::net::IpAddr;

use portcullis_model::access::RestrictionKind;
use portcullis_model::endpoint::ProxyVersion;
use portcullis_model::id::{IpPolicyId, VaultId};
use portcullis_model::{
    AddressKind, AgentId, ApiKeyId, Binding, CertificateSummary, CredentialId, EndpointLimits,
    HealthCheck, IpAction, OnChange, PoolStrategy, PoolTerms, Secret,
};

/// An account to make.
#[derive(Debug, Clone, Default)]
pub struct NewAccount {
    /// Unique, 1 to 64 characters.
    pub name: String,
    /// A plan of the settings; `None`: `default`.
    pub plan: Option<String>,
    /// Whether the operator has verified it.
    pub verified: bool,
    /// At most 255 bytes.
    pub description: String,
    /// At most 4,096 bytes.
    pub metadata: String,
}

/// Changes to an account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountUpdate {
    /// Unique, 1 to 64 characters.
    pub name: Option<String>,
    /// A plan of the settings.
    pub plan: Option<String>,
    /// Whether the operator has verified it.
    pub verified: Option<bool>,
    /// At most 255 bytes.
    pub description: Option<String>,
    /// At most 4,096 bytes.
    pub metadata: Option<String>,
}

/// An API key to make.
#[derive(Debug, Clone, Default)]
pub struct NewApiKey {
    /// Opens `/accounts` and other accounts.
    pub admin: bool,
    /// At most 255 bytes.
    pub description: String,
    /// At most 4,096 bytes.
    pub metadata: String,
}

/// Changes to an API key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiKeyUpdate {
    /// At most 255 bytes.
    pub description: Option<String>,
    /// At most 4,096 bytes.
    pub metadata: Option<String>,
}

/// A credential to make.
#[derive(Debug, Clone, Default)]
pub struct NewCredential {
    /// `bind:` rules; empty: no restriction.
    pub acl: Vec<String>,
    /// At most 255 bytes.
    pub description: String,
    /// At most 4,096 bytes.
    pub metadata: String,
}

/// Changes to a credential.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialUpdate {
    /// `bind:` rules; they bind what is asked for from now on.
    pub acl: Option<Vec<String>>,
    /// At most 255 bytes.
    pub description: Option<String>,
    /// At most 4,096 bytes.
    pub metadata: Option<String>,
}

/// An address to reserve.
#[derive(Debug, Clone, Default)]
pub struct NewAddress {
    /// `None`: `port`.
    pub kind: Option<AddressKind>,
    /// Kind `port`: one of the shared hosts. Kind `host`: a name of one's own. `None`: drawn or named
    /// by the pool's pattern.
    pub host: Option<String>,
    /// Kind `port` only. `None`: drawn at random.
    pub port: Option<u16>,
    /// Draw among the hosts or pools of this region.
    pub region: Option<String>,
    /// At most 255 bytes.
    pub description: String,
    /// At most 4,096 bytes.
    pub metadata: String,
}

/// Changes to an address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressUpdate {
    /// At most 255 bytes.
    pub description: Option<String>,
    /// At most 4,096 bytes.
    pub metadata: Option<String>,
}

/// A cloud endpoint to make.
#[derive(Debug, Clone, Default)]
pub struct NewCloudEndpoint {
    /// As the user wrote it, see `portcullis_model::url::parse`.
    pub url: String,
    /// `None`: inferred from the URL.
    pub binding: Option<Binding>,
    /// Must end every connection it sees: a policy that falls through is refused.
    pub traffic_policy: String,
    /// At most 255 bytes.
    pub description: String,
    /// At most 4,096 bytes.
    pub metadata: String,
    /// Whether others may share its URL.
    pub pooling_enabled: bool,
    /// Limits that differ from the server's.
    pub limits: EndpointLimits,
    /// What becomes of open connections when the policy changes.
    pub on_change: OnChange,
    /// How it stands in its pool.
    pub pool: PoolTerms,
}

/// Changes to a cloud endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointUpdate {
    /// A new URL; the rules of creation hold.
    pub url: Option<String>,
    /// A new binding.
    pub binding: Option<Binding>,
    /// Replaces the whole policy.
    pub traffic_policy: Option<String>,
    /// At most 255 bytes.
    pub description: Option<String>,
    /// At most 4,096 bytes.
    pub metadata: Option<String>,
    /// Whether others may share its URL.
    pub pooling_enabled: Option<bool>,
    /// Replaces all limits.
    pub limits: Option<EndpointLimits>,
    /// What becomes of open connections when the policy changes.
    pub on_change: Option<OnChange>,
    /// How members of its pool are chosen.
    pub pool_strategy: Option<PoolStrategy>,
    /// Its share beside the other members.
    pub weight: Option<u32>,
}

/// An agent that authenticated and opens a session.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// What it authenticated with.
    pub credential: CredentialId,
    /// The installation it says it is.
    pub agent: AgentId,
    /// Proves the installation; whoever came first with the id set it. Kept as a hash.
    pub agent_secret: Secret,
    /// Counts up with every start of the agent process.
    pub generation: u64,
    /// Its address as the edge sees it.
    pub ip: IpAddr,
    /// Version of the agent.
    pub agent_version: String,
    /// Operating system.
    pub os: String,
    /// Architecture.
    pub arch: String,
    /// Host name, for people.
    pub hostname: String,
    /// At most 4,096 bytes.
    pub metadata: String,
}

/// An endpoint that an agent asks for.
#[derive(Debug, Clone, Default)]
pub struct BindSpec {
    /// Chosen by the agent; a random address belongs to (account, agent, name).
    pub name: String,
    /// As the user wrote it; empty is `tcp://`, a random address.
    pub url: String,
    /// `None`: inferred from the URL.
    pub binding: Option<Binding>,
    /// Whether others may share its URL.
    pub pooling_enabled: bool,
    /// At most 255 bytes.
    pub description: String,
    /// At most 4,096 bytes.
    pub metadata: String,
    /// May be empty; falls through to the upstream.
    pub traffic_policy: String,
    /// What the agent forwards to, for people. Its port completes `tcp://HOST` on a `host` address.
    pub upstream_url: String,
    /// PROXY protocol towards the upstream.
    pub proxy_protocol: Option<ProxyVersion>,
    /// Limits that differ from the server's.
    pub limits: EndpointLimits,
    /// Do not give a random address again to this agent after it went offline.
    pub ephemeral: bool,
    /// What becomes of open connections when the policy changes.
    pub on_change: OnChange,
    /// How it stands in its pool.
    pub pool: PoolTerms,
}

/// Changes to an agent's endpoint while it is bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BoundUpdate {
    /// At most 255 bytes.
    pub description: Option<String>,
    /// At most 4,096 bytes.
    pub metadata: Option<String>,
    /// Replaces the whole policy.
    pub traffic_policy: Option<String>,
    /// Whether others may share its URL.
    pub pooling_enabled: Option<bool>,
    /// What the agent forwards to.
    pub upstream_url: Option<String>,
    /// What becomes of open connections when the policy changes.
    pub on_change: Option<OnChange>,
    /// How it stands in its pool.
    pub pool: Option<PoolTerms>,
}

/// An endpoint whose upstream the edge dials itself (`--expose`, `endpoints:`).
#[derive(Debug, Clone, Default)]
pub struct DirectSpec {
    /// Name in the configuration; a random address belongs to it.
    pub name: String,
    /// A whole URL, `tcp://` for a random one, or empty when `port` says it.
    pub url: String,
    /// This port on the default shared host.
    pub port: Option<u16>,
    /// `None`: inferred from the URL.
    pub binding: Option<Binding>,
    /// What the edge dials, such as `tcp://127.0.0.1:5432`.
    pub upstream: String,
    /// PROXY protocol towards the upstream.
    pub proxy_protocol: Option<ProxyVersion>,
    /// Whether others may share its URL.
    pub pooling_enabled: bool,
    /// May be empty; falls through to the upstream.
    pub traffic_policy: String,
    /// At most 255 bytes.
    pub description: String,
    /// At most 4,096 bytes.
    pub metadata: String,
    /// Limits that differ from the server's.
    pub limits: EndpointLimits,
    /// What becomes of open connections when the policy changes.
    pub on_change: OnChange,
    /// How it stands in its pool.
    pub pool: PoolTerms,
    /// How this node checks the upstream.
    pub health: Option<HealthCheck>,
}

/// An IP policy to make.
#[derive(Debug, Clone, Default)]
pub struct NewIpPolicy {
    /// At most 255 bytes.
    pub description: String,
    /// At most 4,096 bytes.
    pub metadata: String,
    /// Its first rules, made by the same write.
    pub rules: Vec<IpRuleSpec>,
}

/// Changes to an IP policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpPolicyUpdate {
    /// At most 255 bytes.
    pub description: Option<String>,
    /// At most 4,096 bytes.
    pub metadata: Option<String>,
    /// Replaces all rules by one write; a rule that stays as it was keeps its id and texts.
    pub rules: Option<Vec<IpRuleSpec>>,
}

/// A rule among many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpRuleSpec {
    /// A network's base address and mask, as the user wrote it.
    pub cidr: String,
    /// What it does.
    pub action: IpAction,
}

/// A rule of an IP policy to make.
#[derive(Debug, Clone)]
pub struct NewIpRule {
    /// The policy.
    pub policy: IpPolicyId,
    /// A network's base address and mask, as the user wrote it.
    pub cidr: String,
    /// What it does.
    pub action: IpAction,
    /// At most 255 bytes.
    pub description: String,
    /// At most 4,096 bytes.
    pub metadata: String,
}

/// Changes to a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpRuleUpdate {
    /// Another network.
    pub cidr: Option<String>,
    /// At most 255 bytes.
    pub description: Option<String>,
    /// At most 4,096 bytes.
    pub metadata: Option<String>,
}

// Vaults and secrets

/// A vault to make.
#[derive(Debug, Clone, Default)]
pub struct NewVault {
    /// Unique in the account; letters, digits and `_/.`.
    pub name: String,
    /// At most 255 bytes.
    pub description: String,
    /// At most 4,096 bytes.
    pub metadata: String,
    /// The API key that asks.
    pub by: Option<ApiKeyId>,
}

/// Changes to a vault.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VaultUpdate {
    /// Not while a policy reads secrets by the old one.
    pub name: Option<String>,
    /// At most 255 bytes.
    pub description: Option<String>,
    /// At most 4,096 bytes.
    pub metadata: Option<String>,
}

/// Which vault a new secret goes into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultOf {
    /// By its id.
    Id(VaultId),
    /// By its name.
    Name(String),
}

/// A secret to make.
#[derive(Debug, Clone)]
pub struct NewSecret {
    /// The vault it goes into.
    pub vault: VaultOf,
    /// Unique in the vault; letters, digits and `_/.`.
    pub name: String,
    /// The value: 1 to 16,384 bytes.
    pub value: Secret,
    /// At most 255 bytes.
    pub description: String,
    /// At most 4,096 bytes.
    pub metadata: String,
    /// The API key that asks.
    pub by: Option<ApiKeyId>,
}

/// Changes to a secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretUpdate {
    /// Not while a policy reads it by the old one.
    pub name: Option<String>,
    /// The new value; policies read it from their next connection on.
    pub value: Option<Secret>,
    /// At most 255 bytes.
    pub description: Option<String>,
    /// At most 4,096 bytes.
    pub metadata: Option<String>,
}

// TLS material and restrictions

/// A certificate authority to make, read and checked by the caller.
#[derive(Debug, Clone)]
pub struct NewCertificateAuthority {
    /// One or more certificates, all of authorities.
    pub pem: String,
    /// What the first says.
    pub says: CertificateSummary,
    /// At most 255 bytes.
    pub description: String,
    /// At most 4,096 bytes.
    pub metadata: String,
}

/// A TLS certificate to make, read and checked by the caller.
#[derive(Debug, Clone)]
pub struct NewTlsCertificate {
    /// The chain, leaf first.
    pub pem: String,
    /// The leaf's private key in PEM.
    pub private_key: Secret,
    /// `rsa`, `ecdsa` or `ed25519`.
    pub private_key_type: String,
    /// What the leaf says.
    pub says: CertificateSummary,
    /// At most 255 bytes.
    pub description: String,
    /// At most 4,096 bytes.
    pub metadata: String,
}

/// Changes to the texts of a certificate authority or a TLS certificate; all else is what it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextsUpdate {
    /// At most 255 bytes.
    pub description: Option<String>,
    /// At most 4,096 bytes.
    pub metadata: Option<String>,
}

/// An IP restriction to make.
#[derive(Debug, Clone)]
pub struct NewIpRestriction {
    /// What it is for.
    pub kind: RestrictionKind,
    /// Else what it would refuse is only logged.
    pub enforced: bool,
    /// The policies whose rules count; at least one.
    pub policies: Vec<IpPolicyId>,
    /// At most 255 bytes.
    pub description: String,
    /// At most 4,096 bytes.
    pub metadata: String,
}

/// Changes to an IP restriction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpRestrictionUpdate {
    /// Whether it refuses.
    pub enforced: Option<bool>,
    /// Replaces all its policies; at least one.
    pub policies: Option<Vec<IpPolicyId>>,
    /// At most 255 bytes.
    pub description: Option<String>,
    /// At most 4,096 bytes.
    pub metadata: Option<String>,
}
