//! The snapshot: everything the registry knows at one revision, immutable, with the indexes that
//! the data path and the API read. Cloning one is a handful of reference counts.
//!
//! Owns: who sees what (every getter takes the account) and which endpoint a listener leads to.
//! Must never: change after it was published, or block.

mod apply;
mod certificates;
mod index;
mod ip;
mod owned;
mod restrictions;
mod table;
mod tls;
mod vaults;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use portcullis_model::access::{IpPolicy, IpPolicyRule, IpRestriction};
use portcullis_model::id::{IpPolicyId, IpPolicyRuleId, IpRestrictionId};
use portcullis_model::url::Scheme;
use portcullis_model::{
    Account, AccountId, AddrId, AddressKind, AgentId, ApiKey, ApiKeyId, Binding, Credential,
    CredentialId, Endpoint, EndpointId, EndpointUrl, Error, Plan, ReservedAddr, SessionId,
    TunnelSession,
};
use portcullis_policy::Policy;

use crate::records::{AgentRecord, Claim};
use crate::settings::Settings;
pub use certificates::{AuthorityEntry, CertificateEntry, CertificatePem};
use owned::Owned;
pub(crate) use table::Table;
pub(crate) use tls::TLS_PLACES;
pub use vaults::SecretEntry;

/// An endpoint with what the data path needs ready-made. It dereferences to the record.
#[derive(Debug)]
pub struct EndpointEntry {
    record: Endpoint,
    policy: Result<Option<Arc<Policy>>, Error>,
}

impl EndpointEntry {
    /// The record as stored.
    pub fn record(&self) -> &Endpoint {
        &self.record
    }

    /// The compiled policy; `None` where the endpoint has none.
    ///
    /// # Errors
    /// The stored text does not compile in this release: refuse the connection with this error.
    pub fn policy(&self) -> Result<Option<&Arc<Policy>>, &Error> {
        self.policy.as_ref().map(Option::as_ref)
    }
}

impl Deref for EndpointEntry {
    type Target = Endpoint;
    fn deref(&self) -> &Endpoint {
        &self.record
    }
}

/// Endpoints that share one URL and binding, oldest first; never empty.
#[derive(Debug, Clone)]
pub struct Pool {
    /// The URL they share.
    pub url: EndpointUrl,
    /// The endpoints, by id.
    pub members: Vec<Arc<EndpointEntry>>,
}

/// A socket that a node must listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Listen {
    /// The IP; `None`: all addresses.
    pub ip: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

type Ports = HashMap<u16, Arc<Pool>>;
type Hosts = HashMap<Arc<str>, Arc<Ports>>;

/// Everything at one revision.
#[derive(Debug, Clone)]
pub struct Snapshot {
    revision: u64,
    settings: Arc<Settings>,
    accounts: Table<AccountId, Account>,
    api_keys: Table<ApiKeyId, ApiKey>,
    credentials: Table<CredentialId, Credential>,
    addrs: Table<AddrId, ReservedAddr>,
    endpoints: Table<EndpointId, EndpointEntry>,
    sessions: Table<SessionId, TunnelSession>,
    agents: Table<(AccountId, AgentId), AgentRecord>,
    ip_policies: Owned<IpPolicyId, IpPolicy>,
    ip_rules: Owned<IpPolicyRuleId, IpPolicyRule>,
    /// The same rules by policy, for duplicates, counts and sets of networks.
    ip_rules_of: Table<IpPolicyId, ip::RulesOf>,
    /// IP policies whose sets are to be made before this is published; empty then.
    touched: Vec<ip::Touched>,
    claims: Table<(u16, Arc<str>), Claim>,
    /// Claims of whole hosts and IPs, as `host/NAME` and `ip/IP`.
    place_claims: Table<Arc<str>, Claim>,
    first_account: Option<AccountId>,
    public: Arc<Hosts>,
    internal: Arc<HashMap<AccountId, Arc<Hosts>>>,
    /// The same of `tls://` endpoints, public ones by their names.
    names: tls::Names,
    /// IP that this node listens on for a `host` address → that address's host.
    dedicated: Arc<HashMap<IpAddr, Arc<str>>>,
    vaults: vaults::Vaults,
    material: certificates::Material,
    ip_restrictions: Owned<IpRestrictionId, IpRestriction>,
}

impl Snapshot {
    /// The revision of the store that this is.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The settings of this node.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// An account.
    pub fn account(&self, id: &AccountId) -> Option<&Arc<Account>> {
        self.accounts.get(id)
    }

    /// An account by its unique name.
    pub fn account_by_name(&self, name: &str) -> Option<&Arc<Account>> {
        self.accounts.values().find(|account| account.name == name)
    }

    /// Every account, oldest first.
    pub fn accounts(&self) -> impl DoubleEndedIterator<Item = &Arc<Account>> {
        self.accounts.values()
    }

    /// The account made at first start, for what the operator configures without naming one.
    pub fn first_account(&self) -> Option<&Arc<Account>> {
        self.first_account
            .as_ref()
            .and_then(|id| self.accounts.get(id))
            .or_else(|| self.accounts.values().next())
    }

    /// The plan of an account.
    pub fn plan(&self, account: &AccountId) -> Option<&Plan> {
        self.accounts
            .get(account)
            .map(|account| self.settings.plan(account))
    }

    /// An API key of the account.
    pub fn api_key(&self, account: &AccountId, id: &ApiKeyId) -> Option<&Arc<ApiKey>> {
        self.api_keys.get(id).filter(|key| key.account == *account)
    }

    /// The account's API keys, oldest first.
    pub fn api_keys<'a>(
        &'a self,
        account: &'a AccountId,
    ) -> impl DoubleEndedIterator<Item = &'a Arc<ApiKey>> {
        self.api_keys
            .values()
            .filter(move |key| key.account == *account)
    }

    /// A credential of the account.
    pub fn credential(&self, account: &AccountId, id: &CredentialId) -> Option<&Arc<Credential>> {
        self.credentials
            .get(id)
            .filter(|credential| credential.account == *account)
    }

    /// The account's credentials, oldest first.
    pub fn credentials<'a>(
        &'a self,
        account: &'a AccountId,
    ) -> impl DoubleEndedIterator<Item = &'a Arc<Credential>> {
        self.credentials
            .values()
            .filter(move |credential| credential.account == *account)
    }

    /// Whether a credential still stands, whosever it is: the edge ends sessions whose has gone.
    pub fn has_credential(&self, id: &CredentialId) -> bool {
        self.credentials.get(id).is_some()
    }

    /// A reserved address of the account.
    pub fn address(&self, account: &AccountId, id: &AddrId) -> Option<&Arc<ReservedAddr>> {
        self.addrs.get(id).filter(|addr| addr.account == *account)
    }

    /// The account's reserved addresses, oldest first.
    pub fn addresses<'a>(
        &'a self,
        account: &'a AccountId,
    ) -> impl DoubleEndedIterator<Item = &'a Arc<ReservedAddr>> {
        self.addrs
            .values()
            .filter(move |addr| addr.account == *account)
    }

    /// An endpoint of the account.
    pub fn endpoint(&self, account: &AccountId, id: &EndpointId) -> Option<&Arc<EndpointEntry>> {
        self.endpoints
            .get(id)
            .filter(|endpoint| endpoint.account == *account)
    }

    /// The account's endpoints of both types, oldest first.
    pub fn endpoints<'a>(
        &'a self,
        account: &'a AccountId,
    ) -> impl DoubleEndedIterator<Item = &'a Arc<EndpointEntry>> {
        self.endpoints
            .values()
            .filter(move |endpoint| endpoint.account == *account)
    }

    /// Every endpoint of every account: for listeners and metrics, never for an answer to a user.
    pub fn all_endpoints(&self) -> impl Iterator<Item = &Arc<EndpointEntry>> {
        self.endpoints.values()
    }

    /// An endpoint whosever it is: for the data path, never for an answer to a user.
    pub fn endpoint_by_id(&self, id: &EndpointId) -> Option<&Arc<EndpointEntry>> {
        self.endpoints.get(id)
    }

    /// A session of the account.
    pub fn session(&self, account: &AccountId, id: &SessionId) -> Option<&Arc<TunnelSession>> {
        self.sessions
            .get(id)
            .filter(|session| session.account == *account)
    }

    /// The account's sessions, oldest first.
    pub fn sessions<'a>(
        &'a self,
        account: &'a AccountId,
    ) -> impl DoubleEndedIterator<Item = &'a Arc<TunnelSession>> {
        self.sessions
            .values()
            .filter(move |session| session.account == *account)
    }

    /// A session whosever it is: for the edge, never for an answer to a user.
    pub fn session_by_id(&self, id: &SessionId) -> Option<&Arc<TunnelSession>> {
        self.sessions.get(id)
    }

    /// The pool at a public host and port.
    pub fn public(&self, host: &str, port: u16) -> Option<&Arc<Pool>> {
        self.public.get(host)?.get(&port)
    }

    /// Every public pool of `tcp://` endpoints.
    pub fn public_pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.public.values().flat_map(|ports| ports.values())
    }

    /// The pool that a connection accepted at this local IP and port is for. A `host` address answers
    /// on its own IPs alone; shared hosts answer on all the others. IPv4-mapped addresses are understood.
    pub fn listener(&self, local: IpAddr, port: u16) -> Option<&Arc<Pool>> {
        let local = local.to_canonical();
        if let Some(host) = self.dedicated.get(&local) {
            return self.public(host, port);
        }
        self.settings
            .hosts
            .iter()
            .filter(|shared| shared.bind.is_empty() || shared.bind.contains(&local))
            .find_map(|shared| self.public(&shared.host, port))
    }

    /// The pool of an internal `tcp://` name of the account: the exact name, else the nearest wildcard.
    pub fn internal(&self, account: &AccountId, host: &str, port: u16) -> Option<&Arc<Pool>> {
        index::internal(self.internal.get(account)?, host, port)
    }

    /// The sockets that an endpoint needs on this node; empty when it isn't public, or when its host
    /// is none of this node's.
    pub fn listens_of(&self, endpoint: &Endpoint) -> Vec<Listen> {
        if endpoint.binding != Binding::Public {
            return Vec::new();
        }
        match endpoint.url.scheme() {
            Scheme::Tcp => self.listens_at(endpoint.url.host(), endpoint.url.port()),
            Scheme::Tls => self.listens_for_tls(endpoint.url.port()),
        }
    }

    /// Every socket that this node must listen on.
    pub fn listens(&self) -> BTreeSet<Listen> {
        let tcp = self
            .public_pools()
            .flat_map(|pool| self.listens_at(pool.url.host(), pool.url.port()));
        tcp.chain(self.listens_of_names()).collect()
    }

    fn listens_at(&self, host: &str, port: u16) -> Vec<Listen> {
        if let Some(shared) = self.settings.shared_host(host) {
            if shared.bind.is_empty() {
                return vec![Listen { ip: None, port }];
            }
            return shared
                .bind
                .iter()
                .map(|ip| Listen {
                    ip: Some(*ip),
                    port,
                })
                .collect();
        }
        let own = self.dedicated.iter().filter(|(_, owner)| ***owner == *host);
        own.map(|(ip, _)| Listen {
            ip: Some(*ip),
            port,
        })
        .collect()
    }

    /// The account's address that an endpoint at `host:port` would stand on.
    pub fn address_at(
        &self,
        account: &AccountId,
        host: &str,
        port: u16,
    ) -> Option<&Arc<ReservedAddr>> {
        self.addrs
            .values()
            .find(|addr| addr.account == *account && addr.covers(host, port))
    }

    /// The claims of one port, on whatever host.
    pub(crate) fn port_claims(&self, port: u16) -> impl Iterator<Item = (&str, &Claim)> {
        self.claims
            .range((port, Arc::from(""))..)
            .take_while(move |((claimed, _), _)| *claimed == port)
            .map(|((_, host), claim)| (&**host, &**claim))
    }

    /// The claim of a host and port.
    pub(crate) fn port_claim(&self, host: &str, port: u16) -> Option<&Claim> {
        self.port_claims(port)
            .find(|(claimed, _)| *claimed == host)
            .map(|(_, claim)| claim)
    }

    /// Every claim of a host and port.
    pub(crate) fn all_port_claims(&self) -> impl Iterator<Item = (&str, u16, &Claim)> {
        self.claims
            .iter()
            .map(|((port, host), claim)| (&**host, *port, &**claim))
    }

    /// The claim of a whole host or an IP, as `host/NAME` or `ip/IP`.
    pub(crate) fn place_claim(&self, place: &str) -> Option<&Claim> {
        self.place_claims.get(place).map(|claim| &**claim)
    }

    /// Every claim of a host or IP.
    pub(crate) fn all_place_claims(&self) -> impl Iterator<Item = (&str, &Claim)> {
        self.place_claims
            .iter()
            .map(|(place, claim)| (&**place, &**claim))
    }

    /// What is known of an agent installation.
    pub(crate) fn agent(&self, account: &AccountId, agent: &AgentId) -> Option<&AgentRecord> {
        self.agents
            .get(&(account.clone(), agent.clone()))
            .map(|record| &**record)
    }

    /// Every installation of an account.
    pub(crate) fn agents<'a>(
        &'a self,
        account: &'a AccountId,
    ) -> impl Iterator<Item = &'a AgentId> {
        self.agents
            .iter()
            .filter(move |((owner, _), _)| owner == account)
            .map(|((_, agent), _)| agent)
    }

    /// API keys with `admin: true`, of every account.
    pub(crate) fn admin_keys(&self) -> impl Iterator<Item = &Arc<ApiKey>> {
        self.api_keys.values().filter(|key| key.admin)
    }

    /// An API key whosever it is, for authentication.
    pub(crate) fn api_key_by_id(&self, id: &ApiKeyId) -> Option<&Arc<ApiKey>> {
        self.api_keys.get(id)
    }

    /// A credential whosever it is, for authentication.
    pub(crate) fn credential_by_id(&self, id: &CredentialId) -> Option<&Arc<Credential>> {
        self.credentials.get(id)
    }

    /// Every address at a host, whosever it is, for the rules of uniqueness.
    pub(crate) fn addresses_at_host<'a>(
        &'a self,
        host: &'a str,
    ) -> impl Iterator<Item = &'a Arc<ReservedAddr>> {
        self.addrs.values().filter(move |addr| addr.host == host)
    }

    /// Whether an address is of kind `host` and this node has its IP.
    pub fn is_dedicated(&self, addr: &ReservedAddr) -> bool {
        addr.kind == AddressKind::Host && self.dedicated.values().any(|host| **host == *addr.host)
    }
}
