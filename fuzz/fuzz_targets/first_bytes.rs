//! The first bytes of connections, of any protocol: in pieces they give what they give at once, an end always
//! gives an answer, and the wanted bytes are bounded.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_policy::sniff::{
    Asked, First, Front, LOOK_BYTES_MAX, Looked, Protocol, ja4, look,
};

/// Names are lower-case ASCII without anything that could break a log line or a comparison.
fn is_host(name: &str) -> bool {
    let is_plain = |byte: u8| {
        byte.is_ascii_lowercase()
            || byte.is_ascii_digit()
            || matches!(byte, b'.' | b'-' | b'_' | b':')
    };
    !name.is_empty() && name.len() <= 253 && name.bytes().all(is_plain)
}

/// Protocols that may come in TLS, and so with its names.
const IN_TLS: [Protocol; 3] = [Protocol::Tls, Protocol::Postgres, Protocol::Mssql];

fn check(first: &First) {
    let hosts = [
        (&IN_TLS[..], &first.sni),
        (&[Protocol::Http], &first.http_host),
        (&[Protocol::Minecraft], &first.minecraft_host),
    ];
    for (protocols, host) in hosts {
        assert!(
            host.as_deref()
                .is_none_or(|host| protocols.contains(&first.protocol) && is_host(host))
        );
    }
    assert!(first.alpn.is_empty() || IN_TLS.contains(&first.protocol));
    assert!(
        first
            .alpn
            .iter()
            .flat_map(|name| name.bytes())
            .all(|byte| byte.is_ascii_graphic())
    );
    assert!(first.front == Front::None || first.protocol == Protocol::Postgres);
    if let Some(cancel) = &first.cancel {
        assert!(first.protocol == Protocol::Postgres && (4..=256).contains(&cancel.key.len()));
    }
}

fn check_all(data: &[u8], asked: Asked) {
    let whole = look(data, false, asked);
    match &whole {
        Looked::More => assert!(data.len() < LOOK_BYTES_MAX),
        Looked::Found(first) => check(first),
        Looked::Answer { taken, say, then } => {
            assert!(*taken == 8 && data.len() >= 8 && *then != asked && asked != Asked::Tls);
            let said: &[u8] = if *then == Asked::Tls { b"S" } else { b"N" };
            assert_eq!(*say, said);
        }
    }
    // Every cut of short inputs, and some of long ones.
    for length in (0..=data.len()).step_by(data.len() / 128 + 1) {
        let front = look(&data[..length], false, asked);
        assert!(front == Looked::More || front == whole);
        let ended = look(&data[..length], true, asked);
        assert!(ended != Looked::More && (front == Looked::More || ended == front));
        if let Looked::Found(first) = &ended {
            check(first);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    for asked in [Asked::Nothing, Asked::Gssapi, Asked::Tls] {
        check_all(data, asked);
    }
    assert!(ja4(data).is_none_or(|text| text.len() == 36 && text.is_ascii()));
});
