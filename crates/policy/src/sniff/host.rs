//! Names of hosts as strangers write them: checked, and in one form, so that a policy can compare them.

use std::net::{IpAddr, Ipv6Addr};

/// Longest host name, RFC 1035.
const HOST_BYTES_MAX: usize = 253;
/// Longest label of one.
const LABEL_BYTES_MAX: usize = 63;

/// A host name or an IPv4 address, in lower case and without a trailing dot. Underscores are allowed: names with
/// them are in use.
pub(super) fn name(bytes: &[u8]) -> Option<String> {
    let bytes = bytes.strip_suffix(b".").unwrap_or(bytes);
    if bytes.len() > HOST_BYTES_MAX || !bytes.split(|byte| *byte == b'.').all(is_label) {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    Some(text.to_ascii_lowercase())
}

/// A host name that is no address: its last label is not a number.
pub(super) fn name_only(bytes: &[u8]) -> Option<String> {
    let name = name(bytes)?;
    let last = name.rsplit('.').next()?;
    (!last.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

/// A host name or an address; an IPv6 address without brackets, in its shortest form.
pub(super) fn name_or_address(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    match text.parse::<IpAddr>() {
        Ok(address) => Some(address.to_string()),
        Err(_) => name(bytes),
    }
}

/// What stands before the port, if any, of `name`, `name:port`, `[v6]` or `[v6]:port`.
pub(super) fn before_port(bytes: &[u8]) -> Option<String> {
    if let Some(rest) = bytes.strip_prefix(b"[") {
        let end = rest.iter().position(|byte| *byte == b']')?;
        is_port(&rest[end + 1..]).then_some(())?;
        let address: Ipv6Addr = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
        return Some(address.to_string());
    }
    let end = bytes
        .iter()
        .position(|byte| *byte == b':')
        .unwrap_or(bytes.len());
    is_port(&bytes[end..]).then_some(())?;
    name(&bytes[..end])
}

/// Nothing, or a colon and at most five digits.
fn is_port(bytes: &[u8]) -> bool {
    match bytes.strip_prefix(b":") {
        Some(digits) => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        None => bytes.is_empty(),
    }
}

fn is_label(label: &[u8]) -> bool {
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !label.is_empty()
        && label.len() <= LABEL_BYTES_MAX
        && label.iter().all(is_inner)
        && label[0] != b'-'
        && label[label.len() - 1] != b'-'
}
