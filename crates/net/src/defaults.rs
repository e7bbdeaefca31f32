//! Every limit and default of the sockets, with its unit and what it costs.

use std::time::Duration;

/// Bytes that the relay reads at a time, into a buffer per runtime thread. 64 KiB is where copying
/// stops getting cheaper (8 KiB costs twice the CPU per byte). The eight bytes less are a frame's
/// header: header and payload of a full frame are 65,536 bytes, exactly four TLS records of 16 KiB.
pub const RELAY_READ_BYTES: usize = 64 * 1024 - 8;
/// Reads of one direction before the relay lets other connections of its thread run: 1 MiB.
pub const RELAY_READS_PER_TURN: usize = 16;
/// No byte in either direction for this long ends a connection, unless the limits say otherwise.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Length of a listener's queue of completed handshakes; the kernel lowers it to `somaxconn` (4,096).
pub const LISTEN_BACKLOG: i32 = 4096;
/// First pause of an accept loop that found no descriptor or memory left. It doubles up to the next.
pub const ACCEPT_BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause of an accept loop.
pub const ACCEPT_BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Connections that an accept loop without descriptors resets per pause.
pub const ACCEPT_SHED_MAX: usize = 256;

/// Silence on a socket after which the kernel asks whether the peer is there.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Time between such questions.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Questions without an answer after which the peer counts as dead: 60 + 3 × 15 = 105 s.
pub const KEEPALIVE_PROBES: u32 = 3;

/// Accept or connect to the end of a TLS handshake, where the caller has no deadline of its own.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Ciphertext that is read ahead of rustls, which asks for 4 KiB at a time: one system call brings
/// up to this and the 4 KiB. A connection holds it only while a burst is being read; each runtime
/// thread keeps one spare.
pub const TLS_READ_AHEAD_BYTES: usize = 60 * 1024;
/// Validity of a leaf certificate of our own CA, in days. It is renewed in memory well before.
pub const LEAF_VALID_DAYS: i64 = 90;
/// Days before its end when a leaf is issued anew.
pub const LEAF_RENEW_DAYS: i64 = 30;
/// Validity of our own CA, in days: thirty years. Agents pin its key, so it is not meant to change.
pub const CA_VALID_DAYS: i64 = 30 * 365;
/// Bytes of a file with certificates or keys; a system's bundle has about 220 KiB.
pub const PEM_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// TLS sessions that a client remembers for resumption, about 2 KiB each.
pub const TLS_CLIENT_SESSIONS: usize = 64;

/// CA files of `tls://` upstreams that are kept parsed; a machine's bundle takes about 400 KiB.
pub const UPSTREAM_CA_FILES_MAX: usize = 16;

/// Bytes of a PROXY protocol header, v2 with its TLVs. The specification suggests that it fits the
/// first segment; certificates in TLVs make it larger.
pub const PROXY_HEADER_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a v1 header, by its specification.
pub const PROXY_V1_BYTES_MAX: usize = 107;

/// Dial to established, where the caller has no deadline of its own.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The least that each address of an upstream gets before the next is tried, if the deadline allows.
pub const ADDRESS_TIMEOUT_MIN: Duration = Duration::from_millis(250);
/// Addresses of one upstream that are tried; a name with more is cut.
pub const UPSTREAM_ADDRESSES_MAX: usize = 16;
/// SRV targets that are looked up.
pub const SRV_TARGETS_MAX: usize = 8;
/// Bytes of an upstream's text.
pub const UPSTREAM_TEXT_BYTES_MAX: usize = 2048;
/// Names in the resolver's cache, about 500 bytes each.
pub const RESOLVER_CACHE_ENTRIES: u64 = 4096;
/// Longest time that a resolved name is kept, whatever its TTL says.
pub const RESOLVER_TTL_MAX: Duration = Duration::from_secs(3600);
/// Longest time that a name's absence is kept.
pub const RESOLVER_NEGATIVE_TTL_MAX: Duration = Duration::from_secs(10);
/// One question to one name server.
pub const RESOLVER_TIMEOUT: Duration = Duration::from_secs(3);

/// Bytes of an HTTP proxy's answer to CONNECT.
pub const HTTP_CONNECT_ANSWER_BYTES_MAX: usize = 16 * 1024;

/// How long a RESET may wait for a clogged channel before it is told on the control connection.
pub const RESET_FLUSH_TIMEOUT: Duration = portcullis_proto::defaults::RESET_FLUSH_TIMEOUT;
/// How long a channel waits for the peer's RELEASED after a clean end before it is dropped. The peer
/// may still be writing the last bytes (at most some MiB, in the sockets' buffers) to a slow reader.
pub const RELEASE_TIMEOUT: Duration = Duration::from_secs(3600);
/// How long a channel waits for the peer's RELEASED after a refusal: some round trips.
pub const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a data frame that is sent: with its header four full TLS records.
pub const CHANNEL_DATA_BYTES_MAX: usize = RELAY_READ_BYTES;
/// Bytes of one read of a control connection, and so of each idle session's memory.
pub const CONTROL_READ_BYTES: usize = 1024;
/// Bytes of control messages that wait for a slow peer: sixteen of the largest.
pub const CONTROL_QUEUE_BYTES_MAX: usize = 1024 * 1024;
