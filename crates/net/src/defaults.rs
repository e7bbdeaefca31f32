//! Every limit and default of the sockets, with its unit and what it costs.

use std::time::Duration;

/// Bytes that the relay reads at a time, into a buffer per runtime thread. 64 KiB is where copying
/// stops getting cheaper (8 KiB costs twice the CPU per byte). The eight bytes less are a frame's
/// header: header and payload of a full frame are 65,536 bytes, exactly four TLS records of 16 KiB.
pub const RELAY_READ_BYTES: usize = 64 * 1024 - 8;
/// Moves of one direction before the relay lets other connections of its thread run: 1 MiB copied.
pub const RELAY_READS_PER_TURN: usize = 16;
/// Bytes of one direction before the relay lets others run. Splicing so many takes about as long as
/// copying the 1 MiB of the moves above, 250 µs.
pub const RELAY_BYTES_PER_TURN: usize = 4 * 1024 * 1024;
/// What counts as a large move: half a buffer. Below it splicing gains nothing over copying.
pub const SPLICE_MOVE_BYTES: usize = 32 * 1024;
/// A splice that brought less has taken all there was, most likely, and the next one asks first. One
/// that brought more may have run out of the pipe's 256 pages, each with as little as one segment.
pub const SPLICE_DRY_BYTES: usize = 256 * 1024;
/// Large reads in a row after which a direction splices.
pub const SPLICE_AFTER_LARGE: u8 = 2;
/// Small moves in a row after which it copies again.
pub const SPLICE_UNTIL_SMALL: u8 = 5;
/// Bytes of a pipe for splicing: the most that `pipe-max-size` allows an ordinary user.
pub const PIPE_BYTES: usize = 1024 * 1024;
/// Bytes that a pipe must have. Through 64 KiB splicing costs more CPU than copying, through 256 KiB
/// a tenth more than through 1 MiB.
pub const PIPE_BYTES_MIN: usize = 256 * 1024;
/// Pipes that are lent at once. Two descriptors each, and up to 1 MiB while one is full; an ordinary
/// user's quota (64 MiB) ends at 64 of them, or at 256 small ones.
pub const PIPES_MAX: usize = 256;
/// Pipes are at most one in so many of the process's descriptors: two descriptors each make an eighth.
pub const PIPES_SHARE_OF_DESCRIPTORS: usize = 16;
/// Empty pipes that are kept open: 10 KiB of kernel memory each.
pub const PIPES_IDLE_MAX: usize = 32;
/// Requests for a pipe that are refused at once after the system refused one.
pub const PIPES_REFUSED_SKIP: u32 = 256;
/// A relay that has lasted so long gets what a short one goes without (keep-alive on the dialled
/// socket, four system calls). Well before [`KEEPALIVE_IDLE`], so that nothing is asked later for it.
pub const RELAY_SETTLED_AFTER: Duration = Duration::from_secs(10);
/// A tick of the timers of connections, and how late one may fire.
pub const WHEEL_TICK: Duration = Duration::from_millis(100);
/// Slots of a runtime thread's timer wheel, 16 KiB: once round in 410 s, so that the usual limits are
/// looked at once.
pub const WHEEL_SLOTS: usize = 4096;
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
/// How long the alert of a client's failed handshake may wait for the connection to take it.
pub const TLS_ALERT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a connection behind both sides' `close_notify` is waited for to end.
pub const TLS_END_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that are read at a time, to be dropped, of what comes behind `close_notify`.
pub const TLS_DISCARD_BYTES: usize = 512;
/// Names that an ACME authority is asked for: one order each, some seconds apart.
pub const ACME_NAMES_MAX: usize = 1000;
/// One order of an ACME certificate, from the account to the chain.
pub const ACME_ORDER_TIMEOUT: Duration = Duration::from_secs(300);
/// How long an ACME authority may take to look at a challenge, or to issue.
pub const ACME_POLL_TIMEOUT: Duration = Duration::from_secs(120);
/// Wait after the first order that failed. It doubles up to the next.
pub const ACME_RETRY_FIRST: Duration = Duration::from_secs(60);
/// Longest wait between orders that fail: public authorities count failures by the hour.
pub const ACME_RETRY_MAX: Duration = Duration::from_secs(6 * 3600);
/// Longest sleep between looks at what is due.
pub const ACME_LOOK: Duration = Duration::from_secs(3600);
/// One answer to a challenge's request.
pub const ACME_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests that are answered at once while a challenge is under way.
pub const ACME_ANSWERS_MAX: usize = 64;
/// Bytes of the head of a challenge's request.
pub const ACME_REQUEST_BYTES_MAX: usize = 8 * 1024;
/// Certificates of one chain or file of authorities.
pub const PEM_CERTIFICATES_MAX: usize = 1024;
/// Bytes that a link without TLS reads ahead of its frames: one system call brings many small frames, or
/// most of a large one and the next header. Held only while some wait; each runtime thread keeps a spare.
pub const PLAIN_READ_AHEAD_BYTES: usize = 64 * 1024;
/// Ciphertext that is read ahead of rustls, which asks for 4 KiB at a time: one system call brings
/// up to this and the 4 KiB. A connection holds it only while a burst is being read; each runtime
/// thread keeps one spare.
pub const TLS_READ_AHEAD_BYTES: usize = 60 * 1024;
/// Validity of a leaf certificate of our own CA, in days. It is renewed in memory well before.
pub const LEAF_VALID_DAYS: i64 = 90;
/// Days before its end when a leaf is issued anew.
pub const LEAF_RENEW_DAYS: i64 = 30;
/// Leaves of our own CA by the name that a client asks for, about 2 KiB each.
pub const OWN_LEAVES_MAX: usize = 1000;
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
/// Bytes that a health check's answer is looked for in.
pub const PROBE_BYTES_MAX: usize = 8 * 1024;
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
/// Bytes that wait for a carrier's task before its opens wait in line: a burst of the relay, four full
/// TLS records. With as much in TLS and [`CARRIER_NOTSENT_BYTES`] in the kernel it is what may stand in
/// front of an open's first byte: 256 KiB, 2 ms on a link of 1 Gbit/s.
pub const CARRIER_OUT_BYTES_MAX: usize = 64 * 1024;
/// Opens that are let in from the line at once, each with one frame of at most 16 KiB.
pub const CARRIER_TURNS: usize = 4;
/// Bytes of a carrier's buffer that it keeps when a burst is over.
pub const CARRIER_SPARE_BYTES: usize = 128 * 1024;
/// Bytes of an open's buffer that it keeps when everything was read: a small message needs no
/// allocation.
pub const CARRIER_INBOX_SPARE_BYTES: usize = 256;
/// Bytes of a carrier that wait unsent in the kernel (`TCP_NOTSENT_LOWAT`); what is in flight is not
/// counted, so a link with long delay is not throttled.
pub const CARRIER_NOTSENT_BYTES: u32 = 128 * 1024;
/// TLS records that a carrier reads before others of its thread run: 1 MiB.
pub const CARRIER_FILLS_PER_TURN: usize = 64;
/// Bytes that are read from an open on a carrier before its window looks at the clock: an eighth of the
/// smallest, so that credit is never late by more than that.
pub const CREDIT_LOOK_BYTES: u32 = portcullis_proto::defaults::WINDOW_INITIAL / 8;
/// A session's round trip until it was measured: windows grow as if the link were long.
pub const ROUND_TRIP_UNKNOWN: Duration = Duration::from_millis(100);
/// Bytes of a bulky connection on a carrier after which it asks for a channel again, when none was idle.
pub const BULK_ASK_BYTES: usize = 64 * 1024;
/// A bulky connection that finds no channel counts as one more that wants one at most this often, however
/// often it asks: at 10 MB/s it asks 150 times a second, and is still one.
pub const BULK_NOTE_AGAIN: Duration = Duration::from_secs(1);
/// Bytes of one read of a control connection, and so of each idle session's memory.
pub const CONTROL_READ_BYTES: usize = 1024;
/// Bytes of control messages that wait for a slow peer: sixteen of the largest.
pub const CONTROL_QUEUE_BYTES_MAX: usize = 1024 * 1024;
