//! Limits of a policy, with what each costs.

/// Longest policy document, in bytes. 100,000 CIDRs at up to 40 bytes a line make 4 MB. An agent's
/// policy travels in one control message and is held to that message's 64 KiB as well.
pub const POLICY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most rules of a policy; all of them may run for every connection.
pub const RULES_MAX: usize = 100;
/// Most actions of a rule.
pub const ACTIONS_MAX: usize = 16;
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
/// Most keys of one map; the widest that means something has four.
pub const KEYS_MAX: usize = 64;
/// Most values that YAML aliases may repeat; a CIDR list used in ten rules stays far below.
pub const ALIAS_NODES_MAX: usize = 20_000;
/// Most problems that one error lists.
pub const PROBLEMS_SHOWN_MAX: usize = 20;
/// Most characters of a user's text that a message repeats.
pub const QUOTE_CHARS_MAX: usize = 80;
/// Steps that a log holds; what runs beyond is counted. 16 entries take 640 bytes on the stack.
pub const LOG_ENTRIES_MAX: usize = 16;
