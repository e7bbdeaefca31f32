//! Limits of the vocabulary: the longest texts that are read, with the arithmetic behind each.

/// Longest endpoint URL that is read, in bytes: `tcp://`, a name of at most 253, `:65535`, and room
/// for what is then refused with a better message than "too long".
pub const URL_BYTES_MAX: usize = 1024;
/// Longest host name, in characters (RFC 1035: 255 bytes on the wire are 253 as text).
pub const HOST_CHARS_MAX: usize = 253;
/// Longest label of a host name, in characters (RFC 1035).
pub const LABEL_CHARS_MAX: usize = 63;
/// Most labels of an internal name, `.internal` included (ngrok's rule).
pub const INTERNAL_LABELS_MAX: usize = 5;
/// Most characters of a user's text that a message repeats.
pub const QUOTE_CHARS_MAX: usize = 120;
/// Most ACL rules of a credential. A rule is at most [`ACL_RULE_BYTES_MAX`], so a credential carries
/// at most 30 KiB of them.
pub const ACL_RULES_MAX: usize = 100;
/// Longest ACL rule, in bytes: `bind:`, a name of 253, `:65535-65535`, rounded up.
pub const ACL_RULE_BYTES_MAX: usize = 300;
