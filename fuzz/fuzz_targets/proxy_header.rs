//! PROXY protocol headers at the front of a connection. What is recognised is recognised without the
//! bytes behind it and not without its last byte, and is written again to the same.

#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use portcullis_net::proxy_protocol::{Header, encode, parse};

/// `PP2_TYPE_CRC32C`: it covers the whole header, so it can't be copied into another.
const CHECKSUM: u8 = 0x03;

fn again(header: &Header) {
    let Some((client, server)) = header.addresses else {
        return;
    };
    if header.tlvs.iter().any(|tlv| tlv.kind == CHECKSUM) {
        return;
    }
    let bytes = encode(header.version, client, server, &header.tlvs);
    // An IPv4 address in IPv6 clothes is written as what it is.
    let plain = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
    let canonical = Header {
        addresses: Some((plain(client), plain(server))),
        ..header.clone()
    };
    let parsed = parse(&bytes)
        .expect("its own form")
        .expect("the whole of it");
    let seen = parsed
        .0
        .addresses
        .map(|(client, server)| (plain(client), plain(server)));
    assert_eq!(
        (
            Header {
                addresses: seen,
                ..parsed.0
            },
            parsed.1
        ),
        (canonical, bytes.len())
    );
}

fuzz_target!(|data: &[u8]| {
    match parse(data) {
        Ok(Some((header, length))) => {
            assert!(length <= data.len());
            assert_eq!(parse(&data[..length]), Ok(Some((header.clone(), length))));
            // A v1 line without addresses may hold anything, so that its front may be one as well.
            if header.addresses.is_some() {
                assert_eq!(parse(&data[..length - 1]), Ok(None));
            }
            again(&header);
        }
        // What may still become a header does so with more bytes only.
        Ok(None) => assert!(data.len() < 64 * 1024),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
