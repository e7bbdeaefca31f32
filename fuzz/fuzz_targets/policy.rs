//! Traffic Policy documents as people write them: compiled or refused, and what compiles decides about
//! any connection.

#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use portcullis_model::EndpointType;
use portcullis_policy::{Conn, Policy};

fuzz_target!(|text: &str| {
    let conns: [(SocketAddr, SocketAddr); 2] = [
        (
            ([192, 0, 2, 1], 40_000).into(),
            ([198, 51, 100, 1], 20_001).into(),
        ),
        (
            ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 40_000).into(),
            ([0, 0, 0, 0, 0, 0xffff, 0xc633, 0x6401], 1).into(),
        ),
    ];
    for kind in [EndpointType::Agent, EndpointType::Cloud] {
        match Policy::compile(text, kind) {
            Ok(policy) => {
                for (client, server) in conns {
                    let verdict = policy.on_tcp_connect(&Conn::new(client, server));
                    assert_eq!(verdict, policy.on_tcp_connect(&Conn::new(client, server)));
                }
            }
            Err(error) => assert!(!error.message.is_empty()),
        }
    }
});
