//! The error catalogue: one table of every `PTC_…` code with ngrok's number where it has the cause,
//! the HTTP status, the exit status of a command, what it means and what to do. The table is generated
//! into `docs/errors.md`.
//!
//! A code, once published, keeps its meaning. Add rows at the end of their group.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Exit status of commands: anything not named below.
pub const EXIT_FAILURE: u8 = 1;
/// Exit status of commands: the command line itself is wrong (clap's own).
pub const EXIT_USAGE: u8 = 2;
/// Exit status of commands: configuration that cannot be used.
pub const EXIT_CONFIG: u8 = 3;
/// Exit status of commands: the other side refused who we are or what we may do.
pub const EXIT_DENIED: u8 = 4;
/// Exit status of commands: an address or resource is taken, or in another's way.
pub const EXIT_CONFLICT: u8 = 5;
/// Exit status of commands: the other side could not be reached.
pub const EXIT_UNREACHABLE: u8 = 6;
/// Exit status of commands: the store or the disk refused.
pub const EXIT_STORE: u8 = 7;

macro_rules! catalogue {
    ($( $variant:ident $code:literal ngrok $ngrok:tt http $http:literal exit $exit:ident : $title:literal => $remedy:literal; )+) => {
        /// One cause of an error, with a stable name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $( #[doc = $title] $variant, )+
        }

        impl Code {
            /// Every code, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable name, such as `PTC_URL_PORT_MISSING`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }

            /// ngrok's number for the same cause, if it has one.
            pub const fn ngrok(self) -> Option<u32> {
                match self { $(Self::$variant => catalogue!(@ngrok $ngrok)),+ }
            }

            /// The status of an API answer.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$variant => $http),+ }
            }

            /// The exit status of a command.
            pub const fn exit_status(self) -> u8 {
                match self { $(Self::$variant => $exit),+ }
            }

            /// What it means, in one sentence without a full stop.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),+ }
            }

            /// What to do about it.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy),+ }
            }
        }
    };
    (@ngrok -) => { None };
    (@ngrok $n:literal) => { Some($n) };
}

catalogue! {
    // Agent authentication and sessions
    AuthtokenMissing "PTC_AUTHTOKEN_MISSING" ngrok 109 http 401 exit EXIT_DENIED: "no authtoken was given" => "Pass --authtoken, set PORTCULLIS_AUTHTOKEN, or run `portcullis config add-authtoken`.";
    AuthtokenMalformed "PTC_AUTHTOKEN_MALFORMED" ngrok 105 http 401 exit EXIT_DENIED: "the authtoken or join string is malformed" => "Copy it again, whole; a join string starts with `pc1.`.";
    AuthtokenUnknown "PTC_AUTHTOKEN_UNKNOWN" ngrok 107 http 401 exit EXIT_DENIED: "the authtoken is well formed but not valid here" => "Create a credential with `portcullis api credentials create`.";
    CredentialRevoked "PTC_CREDENTIAL_REVOKED" ngrok 300 http 401 exit EXIT_DENIED: "the credential was revoked" => "Create a new credential and give it to the agent.";
    SessionMetadataTooLong "PTC_SESSION_METADATA_TOO_LONG" ngrok 100 http 400 exit EXIT_CONFIG: "the session's metadata is longer than 4,096 bytes" => "Shorten `metadata`.";
    SessionLimit "PTC_SESSION_LIMIT" ngrok 108 http 403 exit EXIT_DENIED: "the account has as many agent sessions as its plan allows" => "Stop an agent, or ask the operator for a larger plan.";
    HeartbeatInvalid "PTC_HEARTBEAT_INVALID" ngrok 111 http 400 exit EXIT_CONFIG: "the heartbeat interval or tolerance is out of range" => "Use an interval of 1 s to 5 min and a tolerance of 1 s to 5 min.";
    AgentDuplicate "PTC_AGENT_DUPLICATE" ngrok - http 409 exit EXIT_CONFLICT: "another live agent runs with the same state directory or identity" => "Stop the other process, or give this one a state directory of its own with --state-dir.";
    AgentStopped "PTC_AGENT_STOPPED" ngrok - http 200 exit EXIT_FAILURE: "the session was stopped through the API" => "Start the agent again.";
    AgentFenced "PTC_AGENT_FENCED" ngrok - http 409 exit EXIT_CONFLICT: "a newer session of the same agent took over" => "Nothing: the newer session serves the endpoints.";
    AccountSuspended "PTC_ACCOUNT_SUSPENDED" ngrok 103 http 403 exit EXIT_DENIED: "the account no longer exists or is suspended" => "Ask the operator.";
    VersionUnsupported "PTC_VERSION_UNSUPPORTED" ngrok 811 http 400 exit EXIT_FAILURE: "agent and server share no protocol version" => "Upgrade the older of the two.";
    ProtocolViolation "PTC_PROTOCOL_VIOLATION" ngrok 813 http 400 exit EXIT_FAILURE: "the other side sent what the protocol does not allow" => "Upgrade both sides to the same release; report it if it stays.";
    MessageTooLarge "PTC_MESSAGE_TOO_LARGE" ngrok 812 http 413 exit EXIT_FAILURE: "a message is larger than the protocol allows" => "Shorten metadata or policy; the limit is 64 KiB.";
    ServerDraining "PTC_SERVER_DRAINING" ngrok 803 http 503 exit EXIT_UNREACHABLE: "the server is shutting down" => "Agents reconnect by themselves; try again.";
    SessionNotFound "PTC_SESSION_NOT_FOUND" ngrok - http 404 exit EXIT_FAILURE: "no such tunnel session" => "List the sessions with `portcullis api tunnel-sessions list`.";
    PlainRefused "PTC_PLAIN_REFUSED" ngrok - http 403 exit EXIT_CONFIG: "the server takes no carriers and channels without TLS" => "Set `tunnel.channels: plain` at the server if the network between is to be trusted, or leave `channels: plain` out at the agent.";
    RemoteManagementOff "PTC_REMOTE_MANAGEMENT_OFF" ngrok 804 http 409 exit EXIT_FAILURE: "the agent does not take remote commands" => "Set `remote_management: true` in the agent's configuration.";
    AgentUpdateUnsupported "PTC_AGENT_UPDATE_UNSUPPORTED" ngrok 805 http 409 exit EXIT_FAILURE: "agents do not replace their own program" => "Upgrade the program where the agent runs, and restart the agent.";

    // Reaching the server
    ServerUnreachable "PTC_SERVER_UNREACHABLE" ngrok 8000 http 502 exit EXIT_UNREACHABLE: "the server cannot be reached" => "Run `portcullis diagnose`; check the address, the firewall and that the server runs.";
    ServerUntrusted "PTC_SERVER_UNTRUSTED" ngrok 8003 http 502 exit EXIT_UNREACHABLE: "the server's certificate is not the one that was pinned or trusted" => "Get a fresh join string from the server's operator; do not go on otherwise.";
    ProxyConnectFailed "PTC_PROXY_CONNECT_FAILED" ngrok 8009 http 502 exit EXIT_UNREACHABLE: "the outgoing proxy refused or failed" => "Check `proxy_url` and the proxy's rules.";
    DnsFailed "PTC_DNS_FAILED" ngrok 8001 http 502 exit EXIT_UNREACHABLE: "a name could not be resolved" => "Check the name and the resolver.";

    // Endpoint URLs
    UrlMalformed "PTC_URL_MALFORMED" ngrok 9034 http 400 exit EXIT_FAILURE: "the endpoint URL cannot be read" => "Use `tcp://host:port`, `tcp://`, `tcp://name.internal:port` or `tcp://service.namespace:port`.";
    UrlScheme "PTC_URL_SCHEME" ngrok 9036 http 400 exit EXIT_FAILURE: "the endpoint URL's scheme is not supported" => "Use the scheme tcp or tls.";
    UrlPartNotAllowed "PTC_URL_PART_NOT_ALLOWED" ngrok 9037 http 400 exit EXIT_FAILURE: "the endpoint URL has a user, path, query or fragment" => "Leave it out; an endpoint URL is scheme, host and port.";
    UrlTrailingSlash "PTC_URL_TRAILING_SLASH" ngrok 9038 http 400 exit EXIT_FAILURE: "the endpoint URL ends in a slash" => "Leave the slash out.";
    UrlPortRange "PTC_URL_PORT_RANGE" ngrok 9030 http 400 exit EXIT_FAILURE: "the port is not within 1 to 65535" => "Choose a port from 1 to 65535.";
    UrlPortNotNumeric "PTC_URL_PORT_NOT_NUMERIC" ngrok 9033 http 400 exit EXIT_FAILURE: "the port is not a number" => "Write the port as a number.";
    UrlPortMissing "PTC_URL_PORT_MISSING" ngrok 18003 http 400 exit EXIT_FAILURE: "the endpoint URL has no port and none can be inferred" => "Add the port.";
    UrlHostInvalid "PTC_URL_HOST_INVALID" ngrok 9032 http 400 exit EXIT_FAILURE: "the host is not a valid name" => "Use letters, digits and hyphens in labels of at most 63 characters.";
    UrlHostLabels "PTC_URL_HOST_LABELS" ngrok 9031 http 400 exit EXIT_FAILURE: "an internal name has more than five labels" => "Use at most five labels, `.internal` included.";
    UrlInternalSuffix "PTC_URL_INTERNAL_SUFFIX" ngrok 9029 http 400 exit EXIT_FAILURE: "an internal endpoint's host must end in `.internal`, and only such a host is internal" => "Use `tcp://name.internal:port` with the binding internal.";
    UrlInternalRandom "PTC_URL_INTERNAL_RANDOM" ngrok 9028 http 400 exit EXIT_FAILURE: "an internal endpoint needs a name and a port" => "Use `tcp://name.internal:port`.";
    UrlKubernetesHost "PTC_URL_KUBERNETES_HOST" ngrok 9039 http 400 exit EXIT_FAILURE: "a kubernetes endpoint's host is service and namespace" => "Use `tcp://service.namespace:port`.";
    UrlWildcard "PTC_URL_WILDCARD" ngrok 4503 http 400 exit EXIT_FAILURE: "a wildcard is not possible there" => "Name the host in full; wildcards serve internal names and TLS names.";
    UrlSchemeChange "PTC_URL_SCHEME_CHANGE" ngrok 18005 http 400 exit EXIT_FAILURE: "an endpoint's scheme cannot be changed" => "Create another endpoint.";
    UrlPortScheme "PTC_URL_PORT_SCHEME" ngrok 9035 http 400 exit EXIT_FAILURE: "a public TLS endpoint listens on the server's TLS port only" => "Leave the port out.";
    UrlAmbiguous "PTC_URL_AMBIGUOUS" ngrok 18003 http 400 exit EXIT_FAILURE: "the host carries several addresses of the account" => "Name the port of one of them.";
    BindingInvalid "PTC_BINDING_INVALID" ngrok 15005 http 400 exit EXIT_FAILURE: "the binding is not public, internal or kubernetes" => "Use one of the three.";
    BindingDuplicate "PTC_BINDING_DUPLICATE" ngrok 15006 http 400 exit EXIT_FAILURE: "more than one binding was given" => "Give exactly one.";
    NoOperator "PTC_NO_OPERATOR" ngrok 15010 http 400 exit EXIT_FAILURE: "no Kubernetes operator is registered for the kubernetes binding" => "Install the operator first, or use the binding public or internal.";

    // Addresses
    AddressNotReserved "PTC_ADDRESS_NOT_RESERVED" ngrok 307 http 400 exit EXIT_FAILURE: "the address is not reserved for this account" => "Reserve it with `portcullis api reserved-addrs create --host HOST --port PORT`.";
    AddressForeign "PTC_ADDRESS_FOREIGN" ngrok 309 http 403 exit EXIT_CONFLICT: "the address is not available to this account" => "Choose another port.";
    AddressTaken "PTC_ADDRESS_TAKEN" ngrok - http 409 exit EXIT_CONFLICT: "the host and port are taken" => "Choose another port, or leave it out for a random one.";
    AddressResting "PTC_ADDRESS_RESTING" ngrok - http 409 exit EXIT_CONFLICT: "the address was released recently and rests for its former owner" => "Choose another, or wait until the time in the message.";
    AddressHostUnknown "PTC_ADDRESS_HOST_UNKNOWN" ngrok 4504 http 400 exit EXIT_FAILURE: "the host is not one of this server's" => "Use one of the hosts in the message.";
    AddressPortNotPermitted "PTC_ADDRESS_PORT_NOT_PERMITTED" ngrok 4502 http 400 exit EXIT_FAILURE: "the port may not be chosen on this host" => "Choose a port within the ranges in the message.";
    AddressExhausted "PTC_ADDRESS_EXHAUSTED" ngrok 503 http 503 exit EXIT_CONFLICT: "no free port or IP is left" => "Release addresses, or ask the operator to widen the range or the pool.";
    AddressNoPool "PTC_ADDRESS_NO_POOL" ngrok - http 400 exit EXIT_FAILURE: "no pool of dedicated IPs is configured" => "Add `ip_pools:` to the server's configuration, or use kind port.";
    AddressInUse "PTC_ADDRESS_IN_USE" ngrok - http 409 exit EXIT_CONFLICT: "an endpoint still stands on the address" => "Delete the endpoint or stop its agent first.";
    AddressLimit "PTC_ADDRESS_LIMIT" ngrok 502 http 403 exit EXIT_DENIED: "the account has as many addresses as its plan allows" => "Release one, or ask the operator for a larger plan.";
    AddressRegion "PTC_ADDRESS_REGION" ngrok 500 http 400 exit EXIT_FAILURE: "no host of that region exists here" => "Use one of the regions in the message, or leave it out.";
    AddressKind "PTC_ADDRESS_KIND" ngrok - http 400 exit EXIT_FAILURE: "the address kind and the other fields do not fit" => "Kind port takes host and port; kind host takes a host only.";
    PortTaken "PTC_PORT_TAKEN" ngrok - http 409 exit EXIT_CONFLICT: "another program or endpoint holds the port" => "Stop the holder, choose another port, or add an IP.";
    PortNotPermitted "PTC_PORT_NOT_PERMITTED" ngrok - http 403 exit EXIT_DENIED: "the system does not let this process listen on the port" => "Ports below 1024 need CAP_NET_BIND_SERVICE: `portcullis service install` sets it up, or use setcap.";
    BindFailed "PTC_BIND_FAILED" ngrok - http 500 exit EXIT_CONFLICT: "a listener could not be opened" => "See the cause in the message.";

    // Binds and pools
    CredentialAcl "PTC_CREDENTIAL_ACL" ngrok 308 http 403 exit EXIT_DENIED: "the credential's rules do not allow this bind" => "Add a rule to the credential, or use another credential.";
    CredentialAclRandom "PTC_CREDENTIAL_ACL_RANDOM" ngrok 356 http 403 exit EXIT_DENIED: "the credential's rules do not allow random addresses" => "Name an address that a rule covers.";
    AclSyntax "PTC_ACL_SYNTAX" ngrok 600 http 400 exit EXIT_FAILURE: "an ACL rule cannot be read" => "Use `*`, `bind:host:port`, `bind:host:from-to`, `bind:*.name.internal:port`.";
    EndpointConflict "PTC_ENDPOINT_CONFLICT" ngrok 334 http 409 exit EXIT_CONFLICT: "the URL is already online" => "Stop the other, choose another URL, or enable pooling on both.";
    PoolingThisOn "PTC_POOLING_THIS_ON" ngrok 18016 http 409 exit EXIT_CONFLICT: "this endpoint has pooling enabled, the one online has not" => "Enable pooling on every endpoint of the URL.";
    PoolingThisOff "PTC_POOLING_THIS_OFF" ngrok 18017 http 409 exit EXIT_CONFLICT: "the endpoint online has pooling enabled, this one has not" => "Enable pooling on this one too.";
    EndpointLimit "PTC_ENDPOINT_LIMIT" ngrok 18010 http 403 exit EXIT_DENIED: "the account has as many endpoints as its plan allows" => "Delete one, or ask the operator for a larger plan.";
    SessionEndpointLimit "PTC_SESSION_ENDPOINT_LIMIT" ngrok 324 http 403 exit EXIT_DENIED: "the session has as many endpoints as the server allows" => "Start another agent.";
    TcpNotAllowed "PTC_TCP_NOT_ALLOWED" ngrok 8013 http 403 exit EXIT_DENIED: "the plan allows TCP only for verified accounts" => "Ask the operator to verify the account.";
    EndpointNotFound "PTC_ENDPOINT_NOT_FOUND" ngrok 333 http 404 exit EXIT_FAILURE: "no such endpoint" => "List the endpoints with `portcullis api endpoints list`.";
    EndpointReadOnly "PTC_ENDPOINT_READ_ONLY" ngrok - http 409 exit EXIT_FAILURE: "an agent's endpoint is changed by its agent, not through the API" => "Change the agent's configuration, or stop its session.";
    EndpointTypeInvalid "PTC_ENDPOINT_TYPE_INVALID" ngrok 248 http 400 exit EXIT_FAILURE: "only endpoints of type cloud are created through the API" => "Leave `type` out, or use `cloud`.";
    DescriptionTooLong "PTC_DESCRIPTION_TOO_LONG" ngrok 504 http 400 exit EXIT_FAILURE: "the description is longer than 255 bytes" => "Shorten it.";
    MetadataTooLong "PTC_METADATA_TOO_LONG" ngrok 505 http 400 exit EXIT_FAILURE: "the metadata is longer than 4,096 bytes" => "Shorten it.";
    NameInvalid "PTC_NAME_INVALID" ngrok - http 400 exit EXIT_FAILURE: "the name is empty, too long or has characters that are not allowed" => "Use 1 to 64 letters, digits, spaces and `-_.`.";

    // Policy
    PolicyUnparsable "PTC_POLICY_UNPARSABLE" ngrok 2236 http 400 exit EXIT_FAILURE: "the policy is neither YAML nor JSON of the expected shape" => "See the path and cause in the message.";
    PolicyInvalid "PTC_POLICY_INVALID" ngrok 18002 http 400 exit EXIT_FAILURE: "the policy has errors" => "See each path and cause in the message.";
    PolicyPhase "PTC_POLICY_PHASE" ngrok 2230 http 400 exit EXIT_FAILURE: "the phase is not possible on a TCP endpoint" => "Use on_tcp_connect or on_http_request.";
    PolicyAction "PTC_POLICY_ACTION" ngrok 2201 http 400 exit EXIT_FAILURE: "the action is not known" => "See the list in the message.";
    PolicyConfig "PTC_POLICY_CONFIG" ngrok 2204 http 400 exit EXIT_FAILURE: "an action's config has a wrong value" => "See the path and cause in the message.";
    PolicyCidr "PTC_POLICY_CIDR" ngrok 2217 http 400 exit EXIT_FAILURE: "a CIDR is invalid" => "Write the network's base address and mask, such as 10.0.0.0/8.";
    PolicyNoActions "PTC_POLICY_NO_ACTIONS" ngrok 2206 http 400 exit EXIT_FAILURE: "a rule has no actions" => "Give every rule at least one action.";
    PolicyUnreachable "PTC_POLICY_UNREACHABLE" ngrok 2207 http 400 exit EXIT_FAILURE: "an action stands after one that always ends the policy" => "Remove it, or put it before.";
    PolicyNotTerminating "PTC_POLICY_NOT_TERMINATING" ngrok 2235 http 400 exit EXIT_FAILURE: "a cloud endpoint's policy must end every connection's way" => "Add a rule without expressions that ends in forward-internal, custom-response, deny or close-connection.";
    PolicyExpressions "PTC_POLICY_EXPRESSIONS" ngrok 2200 http 400 exit EXIT_FAILURE: "an expression or `${…}` cannot be used" => "See the path and cause in the message.";
    PolicyCost "PTC_POLICY_COST" ngrok 2249 http 400 exit EXIT_FAILURE: "an expression could cost more than a connection may" => "Make it shorter, or nest fewer macros.";
    PolicyReference "PTC_POLICY_REFERENCE" ngrok 2216 http 400 exit EXIT_FAILURE: "the policy names what does not exist in the account" => "Create it first, or take the name out.";
    PolicyRuntime "PTC_POLICY_RUNTIME" ngrok 2253 http 500 exit EXIT_FAILURE: "the policy failed while it ran" => "See the rule and cause in the message; the connection was closed.";
    PolicyTooLarge "PTC_POLICY_TOO_LARGE" ngrok 2264 http 400 exit EXIT_FAILURE: "the policy has too many rules, entries or bytes" => "Make it smaller; the limits are in the message.";

    // IP policies
    IpPolicyNotFound "PTC_IP_POLICY_NOT_FOUND" ngrok 1402 http 404 exit EXIT_FAILURE: "no such IP policy" => "List them with `portcullis api ip-policies list`.";
    IpPolicyLimit "PTC_IP_POLICY_LIMIT" ngrok 1410 http 403 exit EXIT_DENIED: "the account has as many IP policies as the server allows" => "Delete one that nothing uses.";
    IpPolicyInUse "PTC_IP_POLICY_IN_USE" ngrok 1420 http 409 exit EXIT_CONFLICT: "an endpoint's traffic policy or an IP restriction still uses the IP policy" => "Take it out of what the message names first.";
    IpRuleInvalid "PTC_IP_RULE_INVALID" ngrok 1406 http 400 exit EXIT_FAILURE: "the rule's CIDR cannot be read" => "Write a network's base address and mask, such as 10.0.0.0/8.";
    IpRuleMaskMissing "PTC_IP_RULE_MASK_MISSING" ngrok 1413 http 400 exit EXIT_FAILURE: "the rule's CIDR has no mask" => "Write it as the message proposes.";
    IpRuleNotBase "PTC_IP_RULE_NOT_BASE" ngrok 1409 http 400 exit EXIT_FAILURE: "the rule's CIDR is not the base address of its network" => "Write it as the message proposes.";
    IpRuleDuplicate "PTC_IP_RULE_DUPLICATE" ngrok 1408 http 409 exit EXIT_CONFLICT: "the IP policy has a rule for the same network" => "Change or delete that rule.";
    IpRuleFieldMissing "PTC_IP_RULE_FIELD_MISSING" ngrok 1405 http 400 exit EXIT_FAILURE: "the rule lacks a required field" => "Add it.";
    IpRulePolicyMissing "PTC_IP_RULE_POLICY_MISSING" ngrok 1414 http 400 exit EXIT_FAILURE: "the rule does not say which IP policy it is for" => "Give `ip_policy_id`.";
    IpRuleActionInvalid "PTC_IP_RULE_ACTION_INVALID" ngrok 1422 http 400 exit EXIT_FAILURE: "the rule's action is neither allow nor deny" => "Use `allow` or `deny`.";
    IpRuleLast "PTC_IP_RULE_LAST" ngrok 1419 http 409 exit EXIT_CONFLICT: "the IP policy would lose its last rule while an enforced IP restriction uses it" => "Add another rule first, or no longer enforce the restriction that the message names.";
    IpRuleLimit "PTC_IP_RULE_LIMIT" ngrok 1411 http 403 exit EXIT_DENIED: "the IP policy or the account has as many rules as the server allows" => "Delete some, or join networks into wider ones.";

    // Vaults and secrets
    VaultNameInvalid "PTC_VAULT_NAME_INVALID" ngrok 23000 http 400 exit EXIT_FAILURE: "the vault's name has a character that is not allowed" => "Use letters, digits and `_/.`.";
    VaultNameMissing "PTC_VAULT_NAME_MISSING" ngrok 23001 http 400 exit EXIT_FAILURE: "a vault needs a name" => "Give `name`.";
    VaultNameTooLong "PTC_VAULT_NAME_TOO_LONG" ngrok 23002 http 400 exit EXIT_FAILURE: "the vault's name is longer than 128 characters" => "Shorten it.";
    VaultNotEmpty "PTC_VAULT_NOT_EMPTY" ngrok 23003 http 400 exit EXIT_CONFLICT: "the vault still holds secrets" => "Delete them first; `portcullis api vaults secrets ID` lists them.";
    VaultExists "PTC_VAULT_EXISTS" ngrok 23004 http 400 exit EXIT_CONFLICT: "the account has a vault of that name" => "Choose another name.";
    VaultLimit "PTC_VAULT_LIMIT" ngrok 23005 http 403 exit EXIT_DENIED: "the account has as many vaults as it may" => "Delete one.";
    VaultInUse "PTC_VAULT_IN_USE" ngrok - http 409 exit EXIT_CONFLICT: "the traffic policy of an endpoint reads secrets of the vault by its name" => "Change the policies of the endpoints in the message first.";
    SecretNameInvalid "PTC_SECRET_NAME_INVALID" ngrok 24000 http 400 exit EXIT_FAILURE: "the secret's name has a character that is not allowed" => "Use letters, digits and `_/.`.";
    SecretNameMissing "PTC_SECRET_NAME_MISSING" ngrok 24001 http 400 exit EXIT_FAILURE: "a secret needs a name" => "Give `name`.";
    SecretNameTooLong "PTC_SECRET_NAME_TOO_LONG" ngrok 24002 http 400 exit EXIT_FAILURE: "the secret's name is longer than 128 characters" => "Shorten it.";
    SecretValueMissing "PTC_SECRET_VALUE_MISSING" ngrok 24003 http 400 exit EXIT_FAILURE: "a secret's value cannot be empty" => "Give `value`.";
    SecretValueTooLong "PTC_SECRET_VALUE_TOO_LONG" ngrok 24004 http 400 exit EXIT_FAILURE: "the secret's value is longer than 16,384 bytes" => "Shorten it.";
    SecretExists "PTC_SECRET_EXISTS" ngrok 24005 http 400 exit EXIT_CONFLICT: "the vault has a secret of that name" => "Choose another name, or change the secret that is there.";
    SecretVaultNotFound "PTC_SECRET_VAULT_NOT_FOUND" ngrok 24006 http 404 exit EXIT_FAILURE: "no vault has that id" => "List the vaults with `portcullis api vaults list`.";
    SecretLimit "PTC_SECRET_LIMIT" ngrok 24007 http 403 exit EXIT_DENIED: "the vault has as many secrets as it may" => "Delete one, or use another vault.";
    SecretVaultMissing "PTC_SECRET_VAULT_MISSING" ngrok 24008 http 400 exit EXIT_FAILURE: "a secret needs a vault" => "Give `vault_id` or `vault_name`.";
    SecretVaultName "PTC_SECRET_VAULT_NAME" ngrok 24009 http 404 exit EXIT_FAILURE: "no vault has that name" => "List the vaults with `portcullis api vaults list`.";
    SecretInUse "PTC_SECRET_IN_USE" ngrok - http 409 exit EXIT_CONFLICT: "the traffic policy of an endpoint reads the secret" => "Change the policies of the endpoints in the message first.";
    SecretSealed "PTC_SECRET_SEALED" ngrok - http 500 exit EXIT_STORE: "a secret's value cannot be sealed or opened with the server's master keys" => "Restore `master.key` with every key it held, or set the secret's value anew.";

    // TLS material and restrictions
    CertificateAuthorityNotFound "PTC_CERTIFICATE_AUTHORITY_NOT_FOUND" ngrok - http 404 exit EXIT_FAILURE: "no such certificate authority" => "List them with `portcullis api certificate-authorities list`.";
    CertificateAuthorityInUse "PTC_CERTIFICATE_AUTHORITY_IN_USE" ngrok - http 409 exit EXIT_CONFLICT: "the traffic policy of an endpoint names the certificate authority" => "Change the policies of the endpoints in the message first.";
    CertificateAuthorityLimit "PTC_CERTIFICATE_AUTHORITY_LIMIT" ngrok - http 403 exit EXIT_DENIED: "the account has as many certificate authorities as it may" => "Delete one that nothing uses.";
    CertificateNotFound "PTC_CERTIFICATE_NOT_FOUND" ngrok - http 404 exit EXIT_FAILURE: "no such TLS certificate" => "List them with `portcullis api tls-certificates list`.";
    CertificateInUse "PTC_CERTIFICATE_IN_USE" ngrok - http 409 exit EXIT_CONFLICT: "the traffic policy of an endpoint names the TLS certificate" => "Change the policies of the endpoints in the message first.";
    CertificateLimit "PTC_CERTIFICATE_LIMIT" ngrok - http 403 exit EXIT_DENIED: "the account has as many TLS certificates as it may" => "Delete one that nothing uses.";
    AcmeFailed "PTC_ACME_FAILED" ngrok - http 502 exit EXIT_UNREACHABLE: "the certificate authority issued no certificate" => "See the cause in the message; the name must lead to this server, and the challenge's port must be reachable.";
    IpRestrictionNotFound "PTC_IP_RESTRICTION_NOT_FOUND" ngrok - http 404 exit EXIT_FAILURE: "no such IP restriction" => "List them with `portcullis api ip-restrictions list`.";
    IpRestrictionLimit "PTC_IP_RESTRICTION_LIMIT" ngrok - http 403 exit EXIT_DENIED: "the account has as many IP restrictions as it may" => "Delete one.";
    ApiRestricted "PTC_API_RESTRICTED" ngrok 220 http 403 exit EXIT_DENIED: "an IP restriction of the account does not let this address use the API" => "Call from an allowed address, or change the restriction of type `api`.";
    AgentRestricted "PTC_AGENT_RESTRICTED" ngrok 115 http 403 exit EXIT_DENIED: "an IP restriction of the account does not let agents connect from this address" => "Run the agent elsewhere, or change the restriction of type `agent`.";

    // What ends connections
    ListenerNoEndpoint "PTC_NO_ENDPOINT" ngrok 3200 http 404 exit EXIT_FAILURE: "no endpoint is online at the address" => "Start the agent, or create the endpoint.";
    PolicyDenied "PTC_POLICY_DENIED" ngrok - http 403 exit EXIT_DENIED: "the policy refused the connection" => "Change the endpoint's policy if it should get in.";
    IpRestricted "PTC_IP_RESTRICTED" ngrok 3203 http 403 exit EXIT_DENIED: "the client's address is not allowed" => "Add it to restrict-ips, or use --cidr-allow.";
    EndpointRestricted "PTC_ENDPOINT_RESTRICTED" ngrok 3205 http 403 exit EXIT_DENIED: "an IP restriction of the account does not let the client's address reach its endpoints" => "Change the account's restriction of type `endpoints`.";
    TlsHandshake "PTC_TLS_HANDSHAKE" ngrok 3002 http 400 exit EXIT_FAILURE: "the TLS handshake with the client failed" => "See the cause in the message: the protocol version, the client's certificate, or a client that does not speak TLS.";
    TlsNoName "PTC_TLS_NO_NAME" ngrok 3003 http 400 exit EXIT_FAILURE: "the client's TLS names no server (SNI)" => "Use a client that sends the server's name.";
    TlsNoEndpoint "PTC_TLS_NO_ENDPOINT" ngrok 3200 http 404 exit EXIT_FAILURE: "no TLS endpoint is online at the name that the client asks for" => "Start the agent, or create the endpoint.";
    TlsNoCertificate "PTC_TLS_NO_CERTIFICATE" ngrok - http 500 exit EXIT_FAILURE: "there is no certificate to terminate TLS with" => "Upload one that names the host, name one in `terminate-tls`, or configure ACME.";
    LifetimeOver "PTC_LIFETIME_OVER" ngrok - http 408 exit EXIT_FAILURE: "the connection has lasted as long as it may" => "Raise `max_lifetime`.";
    PolicyDrained "PTC_POLICY_DRAINED" ngrok - http 503 exit EXIT_FAILURE: "the endpoint's policy changed and its open connections were drained" => "Connect again.";
    ForwardTargetMissing "PTC_FORWARD_TARGET_MISSING" ngrok 3209 http 502 exit EXIT_FAILURE: "forward-internal names an endpoint that is not online" => "Start the internal endpoint.";
    ForwardHopLimit "PTC_FORWARD_HOP_LIMIT" ngrok 3501 http 508 exit EXIT_FAILURE: "forward-internal went through too many endpoints" => "Look for a loop among the policies.";
    LimitGlobal "PTC_LIMIT_GLOBAL" ngrok 714 http 503 exit EXIT_FAILURE: "the server has as many connections as it may" => "Raise `limits.connections_max`.";
    LimitEndpoint "PTC_LIMIT_ENDPOINT" ngrok 714 http 503 exit EXIT_FAILURE: "the endpoint has as many connections as it may" => "Raise the endpoint's `connections_max`.";
    LimitSource "PTC_LIMIT_SOURCE" ngrok 714 http 429 exit EXIT_FAILURE: "one source address has as many connections as it may" => "Raise `connections_per_source_max`.";
    LimitAccount "PTC_LIMIT_ACCOUNT" ngrok 714 http 503 exit EXIT_FAILURE: "the account has as many connections as its plan allows" => "Ask the operator for a larger plan.";
    UpstreamRefused "PTC_UPSTREAM_REFUSED" ngrok 8012 http 502 exit EXIT_UNREACHABLE: "the upstream refused the connection" => "Check that the service runs where the agent forwards to.";
    UpstreamTimeout "PTC_UPSTREAM_TIMEOUT" ngrok 8012 http 504 exit EXIT_UNREACHABLE: "the upstream did not answer in time" => "Check the service and the network to it.";
    UpstreamUnresolved "PTC_UPSTREAM_UNRESOLVED" ngrok 8012 http 502 exit EXIT_UNREACHABLE: "the upstream's name could not be resolved" => "Check the name where the agent runs.";
    UpstreamTls "PTC_UPSTREAM_TLS" ngrok 8012 http 502 exit EXIT_UNREACHABLE: "the TLS handshake with the upstream failed" => "Check its certificate, or use tcp://.";
    UpstreamNoTls "PTC_UPSTREAM_NO_TLS" ngrok 8012 http 502 exit EXIT_UNREACHABLE: "the upstream does not take TLS, which the client asked for" => "Switch TLS on at the upstream, or terminate it with `terminate-tls`.";
    UpstreamUnhealthy "PTC_UPSTREAM_UNHEALTHY" ngrok - http 503 exit EXIT_UNREACHABLE: "the upstream's health check fails" => "See the reason in the message.";
    HealthInvalid "PTC_HEALTH_INVALID" ngrok - http 400 exit EXIT_CONFIG: "the health check cannot be used" => "See the field and cause in the message.";
    DialNotInternal "PTC_DIAL_NOT_INTERNAL" ngrok - http 400 exit EXIT_FAILURE: "only an internal endpoint can be connected to" => "Use the URL of an internal endpoint, such as tcp://db.internal:5432.";
    UpstreamUnreachable "PTC_UPSTREAM_UNREACHABLE" ngrok 8012 http 502 exit EXIT_UNREACHABLE: "the upstream cannot be reached" => "Check the service and the network to it.";
    UpstreamInvalid "PTC_UPSTREAM_INVALID" ngrok - http 400 exit EXIT_FAILURE: "the upstream cannot be read" => "Use a port, host:port, tcp://host:port, tls://host:port or unix:/path.";
    AgentLost "PTC_AGENT_LOST" ngrok 6528 http 502 exit EXIT_UNREACHABLE: "the agent's session was lost while it served the connection" => "Check the agent and its network.";
    AgentLostUnknown "PTC_AGENT_LOST_UNKNOWN" ngrok - http 502 exit EXIT_UNREACHABLE: "the agent was lost before it said whether the first bytes reached the upstream" => "The client may try again if its protocol allows it.";
    NoChannel "PTC_NO_CHANNEL" ngrok - http 503 exit EXIT_UNREACHABLE: "the agent gave no data channel in time" => "Check the agent's load and network.";
    EstablishTimeout "PTC_ESTABLISH_TIMEOUT" ngrok - http 504 exit EXIT_UNREACHABLE: "the connection was not established in time" => "Raise `connect_timeout_ms`, or look for what is slow.";
    ProxyHeaderInvalid "PTC_PROXY_HEADER_INVALID" ngrok - http 400 exit EXIT_FAILURE: "a trusted peer sent no valid PROXY protocol header" => "Make the balancer send PROXY v1 or v2, or take it off the trusted list.";
    IdleTimeout "PTC_IDLE_TIMEOUT" ngrok - http 408 exit EXIT_FAILURE: "no byte moved for the idle timeout" => "Raise `idle_timeout_ms`; 0 is never.";
    RateLimited "PTC_RATE_LIMITED" ngrok - http 429 exit EXIT_FAILURE: "more connections came than the policy's `rate-limit` allows" => "Wait, or raise the limit.";
    LimitPolicy "PTC_LIMIT_POLICY" ngrok - http 429 exit EXIT_FAILURE: "as many connections are open as the policy's `limit-connections` allows" => "End some, or raise the limit.";
    NotHttp "PTC_NOT_HTTP" ngrok - http 400 exit EXIT_FAILURE: "the policy answers HTTP, and the client speaks something else" => "Use an HTTP client, or change the policy.";
    RequestTimeout "PTC_REQUEST_TIMEOUT" ngrok - http 408 exit EXIT_FAILURE: "the policy waits for an HTTP request, and none came in time" => "Send the request sooner, or change the policy if the client waits for the server to speak.";
    RequestInvalid "PTC_REQUEST_INVALID" ngrok - http 400 exit EXIT_FAILURE: "the policy waits for an HTTP request, and what came begins as one but cannot be read" => "Send HTTP/1.1 with a well-formed head of at most 16 KiB and 100 headers.";
    Drained "PTC_DRAINED" ngrok 803 http 503 exit EXIT_FAILURE: "the server shut down before the connection ended" => "Raise `drain_timeout`.";
    EndedByOperator "PTC_ENDED_BY_OPERATOR" ngrok - http 200 exit EXIT_FAILURE: "someone ended the connection through the API" => "Nothing.";

    // API
    ApiUnauthenticated "PTC_API_UNAUTHENTICATED" ngrok 200 http 401 exit EXIT_DENIED: "no Authorization header was sent" => "Send `Authorization: Bearer KEY`.";
    ApiKeyMalformed "PTC_API_KEY_MALFORMED" ngrok 202 http 401 exit EXIT_DENIED: "the Authorization header is malformed" => "Send `Authorization: Bearer KEY` with a whole API key.";
    ApiKeyUnknown "PTC_API_KEY_UNKNOWN" ngrok 203 http 401 exit EXIT_DENIED: "the API key is not valid here" => "Create one with `portcullis api api-keys create`.";
    ApiKeyIsAuthtoken "PTC_API_KEY_IS_AUTHTOKEN" ngrok 206 http 401 exit EXIT_DENIED: "an authtoken was sent in place of an API key" => "Authtokens are for agents; use an API key.";
    ApiForbidden "PTC_API_FORBIDDEN" ngrok 635 http 403 exit EXIT_DENIED: "the API key does not allow this" => "Use an admin key.";
    ApiContentType "PTC_API_CONTENT_TYPE" ngrok 210 http 415 exit EXIT_FAILURE: "the content type is not supported" => "Send `Content-Type: application/json`.";
    ApiContentTypeMissing "PTC_API_CONTENT_TYPE_MISSING" ngrok 216 http 415 exit EXIT_FAILURE: "the content type is missing" => "Send `Content-Type: application/json`.";
    ApiBodyOnGet "PTC_API_BODY_ON_GET" ngrok 211 http 400 exit EXIT_FAILURE: "a GET carries a body" => "Send no body with GET.";
    ApiBodyUnparsable "PTC_API_BODY_UNPARSABLE" ngrok 213 http 400 exit EXIT_FAILURE: "the body is not JSON of the expected shape" => "See the cause in the message.";
    ApiBodyTooLarge "PTC_API_BODY_TOO_LARGE" ngrok 812 http 413 exit EXIT_FAILURE: "the body is too large" => "Send at most the size in the message.";
    ApiUnknownField "PTC_API_UNKNOWN_FIELD" ngrok 214 http 400 exit EXIT_FAILURE: "the body has a field that is not known" => "Use the fields in the message.";
    ApiInvalidValue "PTC_API_INVALID_VALUE" ngrok 215 http 400 exit EXIT_FAILURE: "a field has a wrong value or type" => "See the field and cause in the message.";
    ApiMissingField "PTC_API_MISSING_FIELD" ngrok 18015 http 400 exit EXIT_FAILURE: "a required field is missing" => "Add it.";
    ApiVersionMissing "PTC_API_VERSION_MISSING" ngrok 218 http 400 exit EXIT_FAILURE: "the Ngrok-Version header is missing" => "Send `Ngrok-Version: 2`.";
    ApiVersionInvalid "PTC_API_VERSION_INVALID" ngrok 217 http 400 exit EXIT_FAILURE: "the API version is not supported" => "Send `Ngrok-Version: 2`.";
    ApiUnknownParameter "PTC_API_UNKNOWN_PARAMETER" ngrok 231 http 400 exit EXIT_FAILURE: "a query parameter is not known" => "Use the parameters in the message.";
    ApiPageSize "PTC_API_PAGE_SIZE" ngrok 233 http 400 exit EXIT_FAILURE: "limit is not within 1 to 100" => "Use a limit from 1 to 100.";
    ApiIdInvalid "PTC_API_ID_INVALID" ngrok 227 http 400 exit EXIT_FAILURE: "the id has the wrong form" => "See the expected form in the message.";
    ApiFilterInvalid "PTC_API_FILTER_INVALID" ngrok 250 http 400 exit EXIT_FAILURE: "the filter cannot be used" => "Leave `filter` out.";
    ApiEmptyUpdate "PTC_API_EMPTY_UPDATE" ngrok 18004 http 400 exit EXIT_FAILURE: "the update changes nothing" => "Give at least one field.";
    ApiRateLimited "PTC_API_RATE_LIMITED" ngrok 226 http 429 exit EXIT_FAILURE: "too many requests" => "Wait as long as Retry-After says.";
    ApiConcurrency "PTC_API_CONCURRENCY" ngrok 225 http 429 exit EXIT_FAILURE: "too many requests at once" => "Send fewer at a time.";
    ApiNotFound "PTC_API_NOT_FOUND" ngrok - http 404 exit EXIT_FAILURE: "no such resource" => "Check the id and the account.";
    ApiMethod "PTC_API_METHOD" ngrok - http 405 exit EXIT_FAILURE: "the path does not take this method" => "See the Allow header.";
    ApiTimeout "PTC_API_TIMEOUT" ngrok - http 504 exit EXIT_UNREACHABLE: "the request took too long" => "Try again.";
    AccountNotFound "PTC_ACCOUNT_NOT_FOUND" ngrok - http 404 exit EXIT_FAILURE: "no such account" => "List them with `portcullis accounts list`.";
    AccountNotEmpty "PTC_ACCOUNT_NOT_EMPTY" ngrok - http 409 exit EXIT_CONFLICT: "the account still has resources" => "Delete them first, or pass --force.";
    AccountExists "PTC_ACCOUNT_EXISTS" ngrok - http 409 exit EXIT_CONFLICT: "an account of that name exists" => "Choose another name.";
    PlanUnknown "PTC_PLAN_UNKNOWN" ngrok - http 400 exit EXIT_FAILURE: "no such plan" => "Use one of the plans in the message.";
    LastAdminKey "PTC_LAST_ADMIN_KEY" ngrok 601 http 409 exit EXIT_CONFLICT: "the last admin key cannot be deleted" => "Create another admin key first.";
    ApiUnreachable "PTC_API_UNREACHABLE" ngrok - http 502 exit EXIT_UNREACHABLE: "the API cannot be reached" => "Check --api-url (or PORTCULLIS_API_URL) and that the server runs.";

    // Configuration, files, the store and the process
    ConfigInvalid "PTC_CONFIG_INVALID" ngrok - http 400 exit EXIT_CONFIG: "the configuration has errors" => "See each path and cause in the message.";
    ConfigUnreadable "PTC_CONFIG_UNREADABLE" ngrok - http 400 exit EXIT_CONFIG: "the configuration file cannot be read" => "Check the path and its permissions.";
    CertificateInvalid "PTC_CERTIFICATE_INVALID" ngrok - http 400 exit EXIT_CONFIG: "a certificate or private key cannot be used" => "Give PEM files that belong together.";
    ApiNeedsTls "PTC_API_NEEDS_TLS" ngrok - http 400 exit EXIT_CONFIG: "the API would listen beyond loopback without TLS" => "Set `api.tls`, or listen on 127.0.0.1.";
    StateDirLocked "PTC_STATE_DIR_LOCKED" ngrok - http 409 exit EXIT_CONFLICT: "another process uses the same data directory" => "Stop it, or use another directory.";
    StoreUnavailable "PTC_STORE_UNAVAILABLE" ngrok - http 503 exit EXIT_STORE: "the store cannot be reached" => "Try again; check the store.";
    StoreReadOnly "PTC_STORE_READ_ONLY" ngrok - http 503 exit EXIT_STORE: "the store cannot be written" => "Check permissions and mount options of the data directory.";
    StoreFull "PTC_STORE_FULL" ngrok - http 507 exit EXIT_STORE: "the disk is full" => "Free space; nothing that was acknowledged is lost.";
    StoreCorrupt "PTC_STORE_CORRUPT" ngrok - http 500 exit EXIT_STORE: "the store holds what cannot be read" => "Restore a backup; do not delete the file.";
    StoreConflict "PTC_STORE_CONFLICT" ngrok - http 409 exit EXIT_STORE: "the write lost against others several times" => "Try again.";
    StoreVersion "PTC_STORE_VERSION" ngrok - http 500 exit EXIT_STORE: "the store was written by a newer release" => "Run that release or a newer one.";
    FileLimit "PTC_FILE_LIMIT" ngrok - http 503 exit EXIT_FAILURE: "the process has no file descriptors left" => "Raise the limit (ulimit -n, LimitNOFILE).";
    ServiceManager "PTC_SERVICE_MANAGER" ngrok - http 500 exit EXIT_FAILURE: "the system's service manager cannot do it" => "Run as root where systemd is, or use `portcullis service install --print` and your own supervisor.";
    Internal "PTC_INTERNAL" ngrok - http 500 exit EXIT_FAILURE: "something went wrong inside Portcullis" => "Try again; report it with the operation id if it stays.";
}

impl Code {
    /// What the API puts into `error_code`: `ERR_NGROK_<n>` where ngrok has the cause, else the own name.
    pub fn api_code(self) -> String {
        match self.ngrok() {
            Some(number) => format!("ERR_NGROK_{number}"),
            None => self.as_str().to_owned(),
        }
    }
}

/// The catalogue as the body of `docs/errors.md`: one Markdown table, in the table's order.
pub fn markdown() -> String {
    let mut text = String::from(MARKDOWN_HEAD);
    for code in Code::ALL {
        let ngrok = code
            .ngrok()
            .map_or_else(|| "–".to_owned(), |number| format!("ERR_NGROK_{number}"));
        let cells = [code.title(), code.remedy()].map(|cell| cell.replace('|', "\\|"));
        let [title, remedy] = cells;
        text.push_str(&format!(
            "| `{code}` | {ngrok} | {} | {} | {title} | {remedy} |\n",
            code.http_status(),
            code.exit_status()
        ));
    }
    text
}

/// What stands above the generated table.
const MARKDOWN_HEAD: &str = "\
# Errors

Every error carries one of these codes. A code keeps its meaning across releases. In the API's error
body, `details.code` is the code below and `error_code` is ngrok's name for the same cause where ngrok
has one, else the code again. On the command line the code stands behind the message, and the process
exits with the status below. A code that ends a connection is in the connection's record.

Exit statuses: 1 failure, 2 wrong command line, 3 configuration, 4 refused (identity or permission),
5 conflict (something is taken), 6 unreachable, 7 store or disk.

This file is generated from `crates/model/src/errors.rs` by `cargo xtask docs`.

| code | ngrok | HTTP | exit | meaning | what to do |
|---|---|---|---|---|---|
";

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Code {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == text)
            .ok_or_else(|| text.to_owned())
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A code that this release does not know becomes [`Code::Internal`]: a newer peer may send more.
impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(String::deserialize(deserializer)?
            .parse()
            .unwrap_or(Self::Internal))
    }
}

/// An error that reaches a user: the cause's code and a message that says what was wrong with what.
/// The chain of causes, where there is one, is for the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// The cause.
    pub code: Code,
    /// What was wrong with what, and what would be right, as a sentence for the user.
    pub message: String,
    /// What only the log may say.
    #[serde(skip)]
    pub internal: Option<String>,
}

impl Error {
    /// An error with its message for the user.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            internal: None,
        }
    }

    /// An error whose message is the catalogue's title.
    pub fn of(code: Code) -> Self {
        Self::new(code, code.title())
    }

    /// The same error with something that only the log may say.
    #[must_use]
    pub fn with_internal(mut self, internal: impl fmt::Display) -> Self {
        self.internal = Some(internal.to_string());
        self
    }

    /// `PTC_INTERNAL` with the cause kept for the log.
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self::of(Code::Internal).with_internal(cause)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_well_formed() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            let name = code.as_str();
            assert!(seen.insert(name), "{name} stands twice");
            assert!(
                name.starts_with("PTC_")
                    && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
            );
            assert!((200..600).contains(&code.http_status()), "{name}");
            assert!(
                code.remedy().ends_with('.') && !code.title().ends_with('.'),
                "{name}"
            );
            assert_eq!(name.parse(), Ok(*code));
        }
    }

    #[test]
    fn the_api_code_is_ngroks_where_it_has_one() {
        assert_eq!(Code::UrlTrailingSlash.api_code(), "ERR_NGROK_9038");
        assert_eq!(Code::PortTaken.api_code(), "PTC_PORT_TAKEN");
    }

    #[test]
    fn codes_of_newer_peers_become_internal() {
        assert_eq!(
            serde_json::from_str::<Code>("\"PTC_OF_TOMORROW\"").expect("text"),
            Code::Internal
        );
        assert_eq!(
            serde_json::from_str::<Code>("\"PTC_DRAINED\"").expect("text"),
            Code::Drained
        );
    }

    #[test]
    fn what_only_the_log_may_say_never_travels() {
        let error = Error::internal("secret detail");
        assert!(
            !serde_json::to_string(&error)
                .expect("plain data")
                .contains("secret detail")
        );
        assert_eq!(
            error.to_string(),
            "something went wrong inside Portcullis (PTC_INTERNAL)"
        );
    }

    #[test]
    fn the_table_has_a_row_of_six_cells_for_every_code() {
        let table = markdown();
        let rows: Vec<&str> = table
            .lines()
            .filter(|line| line.starts_with("| `PTC_"))
            .collect();
        assert_eq!(rows.len(), Code::ALL.len());
        for row in rows {
            assert_eq!(row.replace("\\|", "").matches('|').count(), 7, "{row}");
        }
        assert!(table.contains("| `PTC_URL_TRAILING_SLASH` | ERR_NGROK_9038 | 400 | 1 |"));
    }
}
