//! The store: an etcd-shaped trait, SQLite behind it, the typed registry and its snapshots.
//!
//! Owns: every rule about resources (who owns an address, who may share a URL, what forbids a
//! deletion), kept as guards of one transaction. Must never: open a network socket, or let a reader
//! wait for a writer.

pub mod clock;
mod compile;
pub mod conformance;
pub mod defaults;
mod engine;
pub mod error;
mod ids;
mod keys;
pub mod kv;
mod memory;
mod records;
pub mod registry;
pub mod requests;
mod sealer;
pub mod settings;
pub mod snapshot;
mod sqlite;
mod validate;

pub use clock::{Clock, ManualClock};
pub use engine::EmbeddedStore;
pub use error::StoreError;
pub use kv::Store;
pub use memory::MemoryStore;
pub use registry::{Bootstrap, OpenedSession, Registry, Superseded, Written};
pub use requests::{
    AccountUpdate, AddressUpdate, ApiKeyUpdate, BindSpec, BoundUpdate, CredentialUpdate,
    DirectSpec, EndpointUpdate, NewAccount, NewAddress, NewApiKey, NewCloudEndpoint, NewCredential,
    NewSession,
};
pub use requests::{IpPolicyUpdate, IpRuleSpec, IpRuleUpdate, NewIpPolicy, NewIpRule};
pub use sealer::Sealer;
pub use settings::{IpPool, PoolIp, PortRange, PortRanges, Settings, SharedHost};
pub use settings::{TlsHost, TlsSettings};

pub use snapshot::{CertificatePem, EndpointEntry, Listen, Pool, Snapshot};
pub use sqlite::SqliteStore;

// Vaults and secrets
pub use requests::{NewSecret, NewVault, SecretUpdate, VaultOf, VaultUpdate};
pub use snapshot::SecretEntry;

// TLS material and restrictions
pub use requests::{
    IpRestrictionUpdate, NewCertificateAuthority, NewIpRestriction, NewTlsCertificate, TextsUpdate,
};
pub use snapshot::{AuthorityEntry, CertificateEntry};
