//! Writing headers.

use std::net::{IpAddr, SocketAddr};

use super::{Tlv, Version, same_family};

/// What every v2 header starts with.
pub(super) const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const V2_PROXY: u8 = 0x21;
/// TCP over IPv4.
const V2_TCP4: u8 = 0x11;
/// TCP over IPv6.
const V2_TCP6: u8 = 0x21;

/// The bytes of a header. With addresses of two families the IPv4 one is written as IPv6. TLVs are
/// for v2 only; those that would make the header longer than 65,535 bytes are left out.
pub fn encode(version: Version, client: SocketAddr, server: SocketAddr, tlvs: &[Tlv]) -> Vec<u8> {
    let (client, server) = same_family(client, server);
    match version {
        Version::V1 => v1(client, server),
        Version::V2 => v2(client, server, tlvs),
    }
}

fn v1(client: SocketAddr, server: SocketAddr) -> Vec<u8> {
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    let line = format!(
        "PROXY {family} {} {} {} {}\r\n",
        client.ip(),
        server.ip(),
        client.port(),
        server.port()
    );
    line.into_bytes()
}

fn v2(client: SocketAddr, server: SocketAddr, tlvs: &[Tlv]) -> Vec<u8> {
    let mut body = Vec::with_capacity(36);
    for ip in [client.ip(), server.ip()] {
        match ip {
            IpAddr::V4(ip) => body.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => body.extend_from_slice(&ip.octets()),
        }
    }
    body.extend_from_slice(&client.port().to_be_bytes());
    body.extend_from_slice(&server.port().to_be_bytes());
    for tlv in tlvs {
        let Ok(length) = u16::try_from(tlv.value.len()) else {
            continue;
        };
        if body.len() + 3 + tlv.value.len() > usize::from(u16::MAX) {
            continue;
        }
        body.push(tlv.kind);
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(&tlv.value);
    }
    let family = if client.is_ipv4() { V2_TCP4 } else { V2_TCP6 };
    let length = u16::try_from(body.len()).expect("kept below 65,536 above");
    let mut header = Vec::with_capacity(16 + body.len());
    header.extend_from_slice(&V2_SIGNATURE);
    header.extend_from_slice(&[V2_PROXY, family]);
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(&body);
    header
}
