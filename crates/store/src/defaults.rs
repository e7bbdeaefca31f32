//! Limits and defaults of the store, each with its unit and what it costs.

use std::time::Duration;

/// The server's own endpoints that one write brings online: about 1 MiB of records and guards.
pub const DIRECTS_PER_WRITE_MAX: usize = 500;
/// How long a released address rests before another account may have it.
pub const ADDRESS_REST: Duration = Duration::from_secs(24 * 60 * 60);
/// A node's lease: how long its sessions stay known after it was last heard of.
pub const NODE_LEASE_TTL: Duration = Duration::from_secs(15);
/// Attempts of one write that loses against others. With a jittered back-off of at most 50 ms each
/// the worst write takes a second longer before `PTC_STORE_CONFLICT`.
pub const WRITE_ATTEMPTS: u32 = 20;
/// Longest back-off between two attempts of a write.
pub const WRITE_BACKOFF_MAX: Duration = Duration::from_millis(50);
/// Writes of one account go one after the other; this many queues share all accounts.
pub const WRITE_QUEUES: usize = 64;
/// How often offline random addresses and finished rests are looked for.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(30);
/// Claims that one sweep changes at most, so that it never makes a huge transaction.
pub const SWEEP_CLAIMS_MAX: usize = 256;
/// Commands that wait for the store's thread; a full queue makes callers wait.
pub const COMMANDS_MAX: usize = 1024;
/// Transactions that share one commit, and so one fsync.
pub const BATCH_MAX: usize = 128;
/// Revisions kept for watchers that start late.
pub const HISTORY_REVISIONS_MAX: usize = 16_384;
/// Bytes of changes kept for watchers: the same again in memory.
pub const HISTORY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Changes that one call of a watch returns at most.
pub const WATCH_BATCH_MAX: usize = 1024;
/// Endpoints of one session.
pub const SESSION_ENDPOINTS_MAX: u32 = 1_000;
/// Bytes of a description.
pub const DESCRIPTION_BYTES_MAX: usize = 255;
/// Bytes of a metadata text.
pub const METADATA_BYTES_MAX: usize = 4_096;
/// Bytes of a traffic policy text.
pub const POLICY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a secret's value: room for a private key with its chain of certificates.
pub const SECRET_BYTES_MAX: usize = 16 * 1024;
/// Vaults of one account.
pub const VAULTS_MAX: usize = 100;
/// Secrets of one vault. All of an account's together cost every node at most 800 MiB; a hundred passwords
/// cost it some 50 KiB.
pub const VAULT_SECRETS_MAX: usize = 500;
/// Secrets that one write seals anew: with the largest values 2 MiB of records.
pub const RESEAL_PER_WRITE_MAX: usize = 64;
/// Certificate authorities of one account.
pub const CERTIFICATE_AUTHORITIES_MAX: usize = 100;
/// Bytes of the certificates of one authority: some thirty certificates. All of an account's together are
/// twice in memory, so at most 12.8 MB.
pub const CERTIFICATE_AUTHORITY_BYTES_MAX: usize = 64 * 1024;
/// TLS certificates of one account.
pub const TLS_CERTIFICATES_MAX: usize = 500;
/// Bytes of a chain of certificates: a usual one has 4 to 8 KiB. All of an account's together, with their keys,
/// are twice in memory, so at most 48 MB; five hundred usual ones cost every node 8 MB.
pub const TLS_CERTIFICATE_BYTES_MAX: usize = 32 * 1024;
/// Bytes of a private key in PEM: one of RSA with 8,192 bits has 6,400.
pub const PRIVATE_KEY_BYTES_MAX: usize = 16 * 1024;
/// Host names and addresses of one certificate that are looked at: public authorities put in a hundred.
pub const CERTIFICATE_NAMES_MAX: usize = 500;
/// IP restrictions of one account.
pub const IP_RESTRICTIONS_MAX: usize = 100;
/// IP policies of one restriction.
pub const RESTRICTION_POLICIES_MAX: usize = 50;
/// Characters of an account's name.
pub const NAME_CHARS_MAX: usize = 64;
/// Characters of an endpoint's name: room for `namespace/name` of Kubernetes.
pub const ENDPOINT_NAME_CHARS_MAX: usize = 255;
/// Characters of what an agent says of its version, system and host name; a host name has 253.
pub const AGENT_TEXT_CHARS_MAX: usize = 255;
/// Blind draws of a random port before the free ports are counted instead.
pub const DRAW_ATTEMPTS: u32 = 32;
/// An account for which one in so many ports of the hosts rests already draws from those.
pub const RESTING_SHARE: u32 = 4;
/// As few as this may rest for an account in any case.
pub const RESTING_MIN: u32 = 64;
/// Lowest port of the default public range.
pub const PUBLIC_PORT_FIRST: u16 = 20_000;
/// Highest port of the default public range: ten thousand addresses.
pub const PUBLIC_PORT_LAST: u16 = 29_999;
/// Takeovers of one run of an agent from itself within [`TAKEOVER_WINDOW`] after which the session
/// that is served stays. An agent waits up to half a second before it comes back, so two processes that
/// fight get here in some five seconds.
pub const TAKEOVERS_MAX: u32 = 10;
/// A network that flaps costs a heartbeat's tolerance (15 s) to notice, or is noticed by the server
/// too, which is then no takeover; so it never makes ten of them within this time.
pub const TAKEOVER_WINDOW: Duration = Duration::from_secs(30);
/// Letters of a random TLS name: 60 bits, which nobody guesses.
pub const TLS_RANDOM_CHARS: usize = 12;
/// TLS names of one account, those that rest for it included. A name costs some 300 bytes of memory and disk.
pub const TLS_NAMES_MAX: usize = 10_000;
/// Size of the database's write-ahead log, in pages, at which it is folded back (4 MiB).
pub const WAL_PAGES_MAX: u32 = 1_000;
/// IP policies of one account.
pub const IP_POLICIES_MAX: usize = 1_000;
/// Rules of one IP policy. A rule costs about 350 bytes of memory and as much on disk.
pub const IP_POLICY_RULES_MAX: usize = 100_000;
/// Rules of all IP policies of one account: about 140 MB of memory and disk at most.
pub const ACCOUNT_IP_RULES_MAX: usize = 200_000;
/// Wrong rules of one request that its refusal names.
pub const IP_RULE_PROBLEMS_SHOWN: usize = 20;
/// Endpoints that a refused deletion names.
pub const USERS_SHOWN: usize = 5;
/// Records in one piece of a snapshot's table. A change copies one piece and the list of pieces: of
/// 100,000 records 400 pieces, so that neither outweighs the other.
pub const TABLE_PIECE_MAX: usize = 256;
