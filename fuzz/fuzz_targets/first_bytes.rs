//! The first bytes of connections, of any protocol: in pieces they give what they give at once, an end always
//! gives an answer, and the wanted bytes are bounded.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_policy::sniff::{First, LOOK_BYTES_MAX, Looked, Protocol, look};

/// Names are lower-case ASCII without anything that could break a log line or a comparison.
fn is_host(name: &str) -> bool {
    let is_plain = |byte: u8| {
        byte.is_ascii_lowercase()
            || byte.is_ascii_digit()
            || matches!(byte, b'.' | b'-' | b'_' | b':')
    };
    !name.is_empty() && name.len() <= 253 && name.bytes().all(is_plain)
}

fn check(first: &First) {
    let hosts = [
        (Protocol::Tls, &first.sni),
        (Protocol::Http, &first.http_host),
        (Protocol::Minecraft, &first.minecraft_host),
    ];
    for (protocol, host) in hosts {
        assert!(
            host.as_deref()
                .is_none_or(|host| first.protocol == protocol && is_host(host))
        );
    }
    assert!(first.alpn.is_empty() || first.protocol == Protocol::Tls);
    assert!(
        first
            .alpn
            .iter()
            .flat_map(|name| name.bytes())
            .all(|byte| byte.is_ascii_graphic())
    );
}

fuzz_target!(|data: &[u8]| {
    let whole = look(data, false);
    match &whole {
        Looked::More => assert!(data.len() < LOOK_BYTES_MAX),
        Looked::Found(first) => check(first),
        Looked::Answer { taken, say } => assert!(*taken == 8 && data.len() >= 8 && *say == b"N"),
    }
    // Every cut of short inputs, and some of long ones.
    for length in (0..=data.len()).step_by(data.len() / 128 + 1) {
        let front = look(&data[..length], false);
        assert!(front == Looked::More || front == whole);
        let ended = look(&data[..length], true);
        assert!(ended != Looked::More && (front == Looked::More || ended == front));
        if let Looked::Found(first) = &ended {
            check(first);
        }
    }
});
