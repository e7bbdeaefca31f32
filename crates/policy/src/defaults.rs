//! Limits of a policy, with what each costs.

use std::time::Duration;

/// Longest policy document, in bytes. 100,000 CIDRs at up to 40 bytes a line make 4 MB. An agent's
/// policy travels in one control message and is held to that message's 64 KiB as well.
pub const POLICY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most rules of a policy; all of them may run for every connection.
pub const RULES_MAX: usize = 100;
/// Most actions of a rule.
pub const ACTIONS_MAX: usize = 16;
/// Most expressions of a rule.
pub const EXPRESSIONS_MAX: usize = 16;
/// Most CIDRs of a policy, allow and deny together. A compiled entry takes 12 (IPv4) or 32 bytes
/// (IPv6), so a policy keeps at most 3.2 MB.
pub const ENTRIES_MAX: usize = 100_000;
/// Longest rule name, in characters.
pub const RULE_NAME_CHARS_MAX: usize = 128;
/// Most levels of lists and maps in a document; the deepest that means something has seven.
pub const DEPTH_MAX: usize = 16;
/// Most values in a document: every CIDR, and the keys and values around them. A value takes 32
/// bytes and its text, so reading costs at most about 16 MB for a moment.
pub const NODES_MAX: usize = 150_000;
/// Most keys of one map; the widest that means something has thirty-two headers.
pub const KEYS_MAX: usize = 64;
/// Most values that YAML aliases may repeat; a CIDR list used in ten rules stays far below.
pub const ALIAS_NODES_MAX: usize = 20_000;
/// Most problems that one error lists.
pub const PROBLEMS_SHOWN_MAX: usize = 20;
/// Most characters of a user's text that a message repeats.
pub const QUOTE_CHARS_MAX: usize = 80;
/// Steps that a log holds; what runs beyond is counted. 16 entries take 640 bytes on the stack.
pub const LOG_ENTRIES_MAX: usize = 16;
/// Longest line of a run's log, in characters. With the limits on rules and actions a log stays below
/// 500 KiB, and an ordinary one below 1 KiB.
pub const LOG_LINE_CHARS_MAX: usize = 300;
/// Lines that a run's log holds.
pub const LOG_LINES_MAX: usize = 64;
/// Most CIDRs that one text of `restrict-ips` may come to while it runs.
pub const LATER_CIDRS_MAX: usize = 1_000;
/// Most IP policies of one `restrict-ips`; each costs one look-up a connection.
pub const IP_POLICIES_MAX: usize = 50;
/// Most targets of one `forward-internal`.
pub const TARGETS_MAX: usize = 64;
/// Largest weight of a target. The sum of 64 of them stays far inside 64 bits, even times 2^32.
pub const WEIGHT_MAX: u32 = 1_000_000;
/// Most variables that one `set-vars` sets.
pub const VARS_MAX: usize = 64;
/// Longest name of a variable, in characters.
pub const VAR_NAME_CHARS_MAX: usize = 64;
/// Most bytes, as JSON, of all variables of a connection.
pub const VARS_BYTES_MAX: usize = 64 * 1024;
/// Most bytes, as JSON, of what one `log` notes.
pub const LOGGED_BYTES_MAX: usize = 16 * 1024;
/// Notes of `log` that are kept for one connection: 256 KiB at most.
pub const LOGGED_MAX: usize = 16;
/// Most bytes that `custom-response` writes.
pub const REPLY_BYTES_MAX: usize = 64 * 1024;
/// Most headers of a response of HTTP.
pub const REPLY_HEADERS_MAX: usize = 32;
/// Longest key of a limit, in bytes. What comes out longer fails the policy.
pub const LIMIT_KEY_BYTES_MAX: usize = 1_024;
/// Most tokens of a bucket, and most connections that one limit holds.
pub const LIMIT_MAX: u32 = 1_000_000;
/// Longest time in which a bucket fills.
pub const RATE_INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest idle timeout that a policy sets; 0 is for ever.
pub const IDLE_TIMEOUT_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Longest time to establish that a policy sets.
pub const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(60 * 60);
/// Longest life of a connection that a policy sets; 0 is for ever.
pub const LIFETIME_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Slowest bandwidth that a policy sets, in bytes per second: a packet or so.
pub const BANDWIDTH_MIN: u64 = 1_000;
/// Fastest, and largest burst: 1 TiB.
pub const BANDWIDTH_MAX: u64 = 1 << 40;
/// Most limits of bandwidth that hold for one connection: each is asked for every piece that moves.
pub const BANDWIDTHS_MAX: usize = 16;
/// Most certificate authorities of one `terminate-tls`.
pub const AUTHORITIES_MAX: usize = 32;
/// What agents speak to a server, which no endpoint may offer.
pub const AGENT_ALPN: &str = "portcullis/1";
/// Most protocols that one `terminate-tls` offers by ALPN.
pub const ALPN_MAX: usize = 16;
/// Longest name of one, in bytes: RFC 7301 has one byte for its length.
pub const ALPN_NAME_BYTES_MAX: usize = 255;
/// How long `sniff` waits for the client's first bytes, unless it says otherwise.
pub const SNIFF_WAIT: Duration = Duration::from_secs(1);
/// Longest that it may say.
pub const SNIFF_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long `deny` with `mode: tarpit` holds a connection, unless it says otherwise.
pub const TARPIT_HOLD: Duration = Duration::from_secs(30);
/// Longest that it may say; the server has its own bounds on how many are held.
pub const TARPIT_HOLD_MAX: Duration = Duration::from_secs(30);
/// What all expressions, texts and variables of one policy may spend for one connection, in units of about 100 ns and
/// 16 bytes: 25 ms at the very worst, where ten ordinary rules take 30 us.
pub const RUN_UNITS_MAX: u64 = 250_000;
