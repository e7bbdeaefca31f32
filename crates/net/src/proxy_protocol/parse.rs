//! Reading headers from bytes: pure, and what the fuzzer runs.

use std::net::SocketAddr;

use portcullis_model::Error;
use ppp::{PartialResult as _, v1, v2};

use super::encode::V2_SIGNATURE;
use super::{Header, Tlv, Version, invalid};
use crate::defaults::{PROXY_HEADER_BYTES_MAX, PROXY_V1_BYTES_MAX};

/// `PP2_TYPE_CRC32C`: a checksum of the whole header.
const TYPE_CRC32C: u8 = 0x03;

/// Takes the header from the front of `bytes`: it and its length, or `None` while it is incomplete.
///
/// # Errors
/// `PTC_PROXY_HEADER_INVALID`, as soon as no further byte could make it valid.
pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let binary = V2_SIGNATURE.starts_with(&bytes[..bytes.len().min(V2_SIGNATURE.len())]);
    let text = b"PROXY ".starts_with(&bytes[..bytes.len().min(6)]);
    if !binary && !text {
        return Err(invalid("it starts with neither form's signature"));
    }
    if binary {
        parse_v2(bytes)
    } else {
        parse_v1(bytes)
    }
}

/// The end is looked for here: `ppp` takes a header that is cut within its numbers for a wrong one.
fn parse_v1(bytes: &[u8]) -> Result<Option<(Header, usize)>, Error> {
    let within = &bytes[..bytes.len().min(PROXY_V1_BYTES_MAX)];
    let Some(end) = within.windows(2).position(|two| two == b"\r\n") else {
        return too_long_or_cut(bytes, PROXY_V1_BYTES_MAX);
    };
    let header = v1::Header::try_from(&within[..end + 2]).map_err(invalid)?;
    Ok(Some((from_v1(&header), end + 2)))
}

fn parse_v2(bytes: &[u8]) -> Result<Option<(Header, usize)>, Error> {
    let within = &bytes[..bytes.len().min(PROXY_HEADER_BYTES_MAX)];
    match v2::Header::try_from(within) {
        Ok(header) => Ok(Some((from_v2(&header)?, header.len()))),
        Err(error) if error.is_incomplete() => too_long_or_cut(bytes, PROXY_HEADER_BYTES_MAX),
        Err(error) => Err(invalid(error)),
    }
}

fn too_long_or_cut(bytes: &[u8], most: usize) -> Result<Option<(Header, usize)>, Error> {
    if bytes.len() < most {
        Ok(None)
    } else {
        Err(invalid(format_args!("it is longer than {most} bytes")))
    }
}

fn from_v1(header: &v1::Header<'_>) -> Header {
    let addresses = match header.addresses {
        v1::Addresses::Tcp4(ip) => Some((
            SocketAddr::from((ip.source_address, ip.source_port)),
            SocketAddr::from((ip.destination_address, ip.destination_port)),
        )),
        v1::Addresses::Tcp6(ip) => Some((
            SocketAddr::from((ip.source_address, ip.source_port)),
            SocketAddr::from((ip.destination_address, ip.destination_port)),
        )),
        v1::Addresses::Unknown => None,
    };
    Header {
        version: Version::V1,
        addresses,
        tlvs: Vec::new(),
    }
}

fn from_v2(header: &v2::Header<'_>) -> Result<Header, Error> {
    let mut tlvs = Vec::new();
    for tlv in header.tlvs() {
        let tlv = tlv.map_err(invalid)?;
        tlvs.push(Tlv {
            kind: tlv.kind,
            value: tlv.value.to_vec(),
        });
    }
    if let Some(sum) = tlvs.iter().find(|tlv| tlv.kind == TYPE_CRC32C) {
        check_sum(header.as_bytes(), &sum.value)?;
    }
    let ours = header.command == v2::Command::Proxy && header.protocol == v2::Protocol::Stream;
    let addresses = match header.addresses {
        v2::Addresses::IPv4(ip) if ours => Some((
            SocketAddr::from((ip.source_address, ip.source_port)),
            SocketAddr::from((ip.destination_address, ip.destination_port)),
        )),
        v2::Addresses::IPv6(ip) if ours => Some((
            SocketAddr::from((ip.source_address, ip.source_port)),
            SocketAddr::from((ip.destination_address, ip.destination_port)),
        )),
        _ => None,
    };
    Ok(Header {
        version: Version::V2,
        addresses,
        tlvs,
    })
}

/// The sum is made over the header with zeros in its own place.
fn check_sum(header: &[u8], sum: &[u8]) -> Result<(), Error> {
    let given: [u8; 4] = sum
        .try_into()
        .map_err(|_| invalid("its checksum is not four bytes"))?;
    let at = tlv_value_at(header, TYPE_CRC32C)
        .ok_or_else(|| invalid("its checksum is not where it should be"))?;
    let mut zeroed = header.to_vec();
    zeroed[at..at + 4].fill(0);
    if crc32c(&zeroed) == u32::from_be_bytes(given) {
        Ok(())
    } else {
        Err(invalid("its checksum is wrong"))
    }
}

/// Where the value of the first TLV of a kind begins.
fn tlv_value_at(header: &[u8], kind: u8) -> Option<usize> {
    let addresses = match header.get(13)? >> 4 {
        1 => 12,
        2 => 36,
        3 => 216,
        _ => 0,
    };
    let mut at = 16 + addresses;
    loop {
        let (found, length) = (*header.get(at)?, header.get(at + 1..at + 3)?);
        if found == kind {
            return Some(at + 3).filter(|at| header.len() >= at + 4);
        }
        at += 3 + usize::from(u16::from_be_bytes(length.try_into().ok()?));
    }
}

/// CRC-32C (Castagnoli), reflected; headers are short and rare enough for the bitwise form.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 {
                (sum >> 1) ^ 0x82F6_3B78
            } else {
                sum >> 1
            }
        })
    })
}
