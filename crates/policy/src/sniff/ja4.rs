//! JA4: a fingerprint of what a TLS client offers (the FoxIO specification of JA4, for TLS over TCP).
//!
//! Values that clients offer as noise (GREASE, RFC 8701) are left out everywhere.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::bytes::Reader;
use super::tls::{ALPN, SERVER_NAME};

/// Types of extensions, RFC 8446.
const SIGNATURE_ALGORITHMS: usize = 13;
const SUPPORTED_VERSIONS: usize = 43;
/// What stands for the hash of nothing.
const NOTHING: &str = "000000000000";
/// Bytes of a hash that are kept.
const HASH_BYTES: usize = 6;

/// What of a ClientHello counts.
#[derive(Default)]
struct Offer {
    version: usize,
    has_name: bool,
    suites: Vec<usize>,
    /// How many there are, with the two that are left out of `extensions`.
    extension_count: usize,
    /// Without the server's name and ALPN, which depend on where the client goes.
    extensions: Vec<usize>,
    alpn: Vec<u8>,
    algorithms: Vec<usize>,
}

/// The fingerprint of a ClientHello without its header.
pub(super) fn fingerprint(hello: &[u8]) -> Option<String> {
    let mut offer = Offer::read(hello)?;
    offer.suites.sort_unstable();
    offer.extensions.sort_unstable();
    let suites = if offer.suites.is_empty() {
        NOTHING.to_owned()
    } else {
        hash(&listed(&offer.suites))
    };
    let extensions = if offer.extensions.is_empty() {
        NOTHING.to_owned()
    } else if offer.algorithms.is_empty() {
        hash(&listed(&offer.extensions))
    } else {
        let (extensions, algorithms) = (listed(&offer.extensions), listed(&offer.algorithms));
        hash(&format!("{extensions}_{algorithms}"))
    };
    let version = match offer.version {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 => "s2",
        _ => "00",
    };
    Some(format!(
        "t{version}{}{:02}{:02}{}_{suites}_{extensions}",
        if offer.has_name { 'd' } else { 'i' },
        offer.suites.len().min(99),
        offer.extension_count.min(99),
        ends(&offer.alpn),
    ))
}

impl Offer {
    fn read(hello: &[u8]) -> Option<Self> {
        let mut reader = Reader(hello);
        let mut offer = Self {
            version: reader.two()?,
            ..Self::default()
        };
        reader.take(32)?;
        reader.short()?;
        offer.suites = numbers(reader.long()?)?;
        reader.short()?;
        if reader.is_empty() {
            return Some(offer);
        }
        let mut extensions = Reader(reader.long()?);
        while !extensions.is_empty() {
            let kind = extensions.two()?;
            let content = extensions.long()?;
            if is_noise(kind) {
                continue;
            }
            offer.extension_count += 1;
            match kind {
                SERVER_NAME => offer.has_name = true,
                ALPN => offer.alpn = first_protocol(content)?.to_vec(),
                _ => offer.extensions.push(kind),
            }
            match kind {
                SIGNATURE_ALGORITHMS => offer.algorithms = numbers(Reader(content).long()?)?,
                SUPPORTED_VERSIONS => {
                    let versions = numbers(Reader(content).short()?)?;
                    offer.version = versions.into_iter().max().unwrap_or(offer.version);
                }
                _ => {}
            }
        }
        Some(offer)
    }
}

/// Whether it is noise: `0a0a`, `1a1a` to `fafa`.
fn is_noise(number: usize) -> bool {
    number & 0x0f0f == 0x0a0a && number >> 8 == number & 0xff
}

/// Numbers of two bytes, without noise.
fn numbers(bytes: &[u8]) -> Option<Vec<usize>> {
    let mut reader = Reader(bytes);
    let mut numbers = Vec::with_capacity(bytes.len() / 2);
    while !reader.is_empty() {
        numbers.push(reader.two()?);
    }
    numbers.retain(|number| !is_noise(*number));
    Some(numbers)
}

/// The first protocol of ALPN; empty: there is none.
fn first_protocol(content: &[u8]) -> Option<&[u8]> {
    let mut list = Reader(Reader(content).long()?);
    if list.is_empty() {
        return Some(&[]);
    }
    list.short()
}

/// The first and the last character, of its hexadecimal digits where they are not alphanumeric.
fn ends(alpn: &[u8]) -> String {
    let (Some(first), Some(last)) = (alpn.first(), alpn.last()) else {
        return "00".to_owned();
    };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return format!("{}{}", char::from(*first), char::from(*last));
    }
    format!("{:x}{:x}", first >> 4, last & 0x0f)
}

/// In hexadecimal digits, with commas.
fn listed(numbers: &[usize]) -> String {
    let texts: Vec<String> = numbers
        .iter()
        .map(|number| format!("{number:04x}"))
        .collect();
    texts.join(",")
}

fn hash(text: &str) -> String {
    let mut digits = String::with_capacity(2 * HASH_BYTES);
    for byte in Sha256::digest(text.as_bytes()).iter().take(HASH_BYTES) {
        write!(digits, "{byte:02x}").expect("writing to a String cannot fail");
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's own example.
    #[test]
    fn the_hashes_are_those_of_the_specification() {
        let suites = "002f,0035,009c,009d,1301,1302,1303,c013,c014,c02b,c02c,c02f,c030,cca8,cca9";
        assert_eq!(hash(suites), "8daaf6152771");
        let extensions = "0005,000a,000b,000d,0012,0015,0017,001b,0023,002b,002d,0033,4469,ff01";
        let algorithms = "0403,0804,0401,0503,0805,0501,0806,0601";
        assert_eq!(hash(&format!("{extensions}_{algorithms}")), "e5627efa2ab1");
    }

    #[test]
    fn protocols_are_told_by_their_ends() {
        for (alpn, told) in [
            (&b""[..], "00"),
            (b"h2", "h2"),
            (b"http/1.1", "h1"),
            (b"x", "xx"),
            (b"\xab", "ab"),
            (b"\xab\xcd", "ad"),
            (b"\x30\xab", "3b"),
            (b"\x30\x31\xab\xcd", "3d"),
            (b"\x30\xab\xcd\x31", "01"),
        ] {
            assert_eq!(ends(alpn), told);
        }
    }
}
