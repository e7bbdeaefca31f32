//! Limits and defaults of the API, each with its unit and what it costs.

use std::time::Duration;

/// Requests of one key in a rolling minute. ngrok allows 120; this server is one's own.
pub const RATE_LIMIT_PER_MINUTE: u32 = 600;
/// Failed authentications of one source address in a rolling minute.
pub const AUTH_FAILURES_PER_MINUTE: u32 = 300;
/// Requests of one key at once.
pub const CONCURRENCY_MAX: usize = 64;
/// Bytes of a body: a policy of 64 KiB as a JSON string that escapes every character twice, and room.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a body that brings many items: 100,000 rules of an IP policy with IPv6 networks at their longest,
/// and room. It costs some 25 MB while it is read.
pub const BULK_BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bodies above [`BODY_BYTES_MAX`] that are read at once, so 100 MB; the next is refused.
pub const BULK_BODIES_MAX: usize = 4;
/// When to come back if that many are.
pub const BULK_RETRY: Duration = Duration::from_secs(2);
/// HTTP connections at once. Each costs a task and up to [`HEAD_BYTES_MAX`].
pub const CONNECTIONS_MAX: usize = 1024;
/// They take at most this part of the process's file descriptors: an eighth.
pub const DESCRIPTORS_SHARE: usize = 8;
/// Bytes of a request's line and headers.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Headers of a request.
pub const HEADERS_MAX: usize = 64;
/// How long a connection may take over a request's head; an idle one is closed after it too.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take nothing of its answers.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a TLS handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request may take, its body included.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a read waits for the snapshot that `Portcullis-Revision` asks for.
pub const REVISION_WAIT: Duration = Duration::from_secs(5);
/// How long a shutdown waits for requests under way.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// Items of a page, at most and by default, as ngrok has it.
pub const PAGE_ITEMS_MAX: usize = 100;
/// Items that one request with a filter looks at: showing and judging one takes some microseconds, on the thread
/// that answers all others too. What follows is the next page's.
pub const FILTER_ITEMS_MAX: usize = 500;
/// Keys and addresses with a rate of their own, from which on those that rest are forgotten.
pub const RATED_MAX: usize = 10_000;
/// How long a browser may keep the answer to a preflight, as ngrok has it.
pub const CORS_MAX_AGE: Duration = Duration::from_secs(600);
