//! The vocabulary of Portcullis: ids, resources, endpoint URLs and bindings, secrets and the error
//! catalogue. Every other crate speaks in these types.
//!
//! Must never: do I/O, know tokio, or read a clock. Whoever needs the time or randomness passes it in.

pub mod access;
pub mod account;
pub mod acl;
pub mod address;
pub mod bytes;
pub mod certificate;
pub mod clock;
pub mod credential;
pub mod defaults;
pub mod endpoint;
pub mod errors;
pub mod health;
pub mod id;
pub mod join;
pub mod limits;
pub mod pool;
pub mod secret;
pub mod session;
pub mod url;
pub mod vault;

pub use access::{IpAction, IpPolicy, IpPolicyRule, IpRestriction, RestrictionKind};
pub use account::{Account, Plan};
pub use address::{AddressKind, ReservedAddr};
pub use bytes::ByteSize;
pub use certificate::{CertificateAuthority, CertificateSummary, TlsCertificate};
pub use clock::Timestamp;
pub use credential::{ApiKey, Credential};
pub use endpoint::{Binding, Endpoint, EndpointType, OnChange};
pub use errors::{Code, Error};
pub use health::HealthCheck;
pub use id::{
    AccountId, AddrId, AgentId, ApiKeyId, CredentialId, EndpointId, OperationId, SessionId,
};
pub use limits::EndpointLimits;
pub use pool::{PoolStrategy, PoolTerms};
pub use secret::{Secret, TokenHash};
pub use session::TunnelSession;
pub use url::EndpointUrl;
pub use vault::{Sealed, Vault, VaultSecret};
