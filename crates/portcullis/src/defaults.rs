//! Defaults of the command line and of the server's configuration. Limits of the data path are in
//! the `defaults.rs` of the crates that keep them.
//!
//! Must never: hold a default that another crate owns.

use std::time::Duration;

/// Where agents connect.
pub(crate) const AGENTS_PORT: u16 = 7443;
/// Where the API and the metrics are.
pub(crate) const API_PORT: u16 = 7480;
/// Ports of random addresses.
pub(crate) const PUBLIC_PORTS: (u16, u16) = (20_000, 29_999);
/// The region of a server that names none.
pub(crate) const REGION: &str = "local";
/// How long a released address rests for its former owner.
pub(crate) const ADDRESS_REST: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a drain waits for connections to end by themselves.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one request to the API may take.
pub(crate) const API_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long connecting to the API may take.
pub(crate) const API_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one step of `diagnose` may take.
pub(crate) const DIAGNOSE_STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Items per page when a list is fetched whole; the API's largest page.
pub(crate) const PAGE_ITEMS: u32 = 100;
/// Pages that a list fetches at most: 100,000 items, then it says that there are more.
pub(crate) const PAGES_MAX: u32 = 1_000;
/// Largest file that is taken as a traffic policy.
pub(crate) const POLICY_FILE_BYTES_MAX: u64 = 1 << 20;
/// Largest file of rules of an IP policy; the API takes no more by one request.
pub(crate) const RULES_FILE_BYTES_MAX: u64 = 8 << 20;
/// Largest file that is taken as a secret's value: what the API takes, and a line end.
pub(crate) const SECRET_FILE_BYTES_MAX: u64 = 16 * 1024 + 2;
/// Largest file that is taken as certificates or a private key: what the API takes, and room.
pub(crate) const PEM_FILE_BYTES_MAX: u64 = 128 * 1024;
/// How often the live status is drawn again.
pub(crate) const LIVE_REFRESH: Duration = Duration::from_millis(500);
/// Bytes of log lines that wait to be written: some 20,000 lines. Further ones are dropped and counted.
pub(crate) const LOG_QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long the log waits for more lines to write with the same call.
pub(crate) const LOG_GATHER: Duration = Duration::from_millis(5);
/// How long the end of the process waits for its last log lines.
pub(crate) const LOG_FLUSH_PATIENCE: Duration = Duration::from_secs(2);
/// Threads of one runtime at most; each has a stack of 2 MiB, of which it touches some 30 KiB.
pub(crate) const THREADS_MAX: u64 = 1_024;
/// One thread for the API, sessions and handshakes for every so many processors.
pub(crate) const PROCESSORS_PER_CONTROL_THREAD: usize = 4;
/// Turns that threads which move bytes ask the kernel for, the shortest there are; its own are 3 ms. Beside a
/// saturating stream the p99 of a small exchange through an agent fell by a sixth (up) and a third (down).
pub(crate) const DATA_TIME_SLICE: Duration = Duration::from_micros(100);
/// How long the runtime of the data path may take to end when everything on it was told to.
pub(crate) const DATA_SHUTDOWN_GRACE: Duration = Duration::from_secs(1);
/// Numbered shared hosts at most; each is a name in the registry's settings.
pub(crate) const BASE_HOSTS_MAX: u64 = 100;
/// Clients of the demo service at once: about 10 KiB each.
pub(crate) const DEMO_CLIENTS_MAX: usize = 256;
/// Longest line of the demo service, in bytes; longer ones are given back in pieces.
pub(crate) const DEMO_LINE_BYTES_MAX: u64 = 4_096;
/// A client of the demo service that says nothing for this long is let go.
pub(crate) const DEMO_IDLE: Duration = Duration::from_secs(600);
/// How long the start of a server waits for its own endpoints' listeners.
pub(crate) const SETTLE_PATIENCE: Duration = Duration::from_secs(3);
/// How long the API's requests under way may take at the end.
pub(crate) const API_SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// Local connections of one `connect` at once; each is a link to the server, about 60 KiB.
pub(crate) const CONNECT_CONNECTIONS_MAX: usize = 1_000;
/// Bytes that are written to standard output at once.
pub(crate) const STDIO_BYTES: usize = 64 * 1024;
/// How long the last words of a connection that was cut may take on standard output.
pub(crate) const STDIO_LAST_WAIT: Duration = Duration::from_secs(1);
/// How long the resets of `connect` may take at its end.
pub(crate) const CONNECT_CUT_WAIT: Duration = Duration::from_secs(2);
