//! A ClientHello's body, made whole and cut into records of any size: the names don't depend on the cuts.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_policy::sniff::{Asked, First, Looked, Protocol, ja4, look};

/// The message in records whose sizes come from `cuts`, in turn.
fn records(message: &[u8], cuts: [usize; 2]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = message;
    for each in cuts.into_iter().cycle() {
        let content = &rest[..each.min(rest.len())];
        bytes.extend([0x16, 3, 1, (content.len() >> 8) as u8, content.len() as u8]);
        bytes.extend(content);
        rest = &rest[content.len()..];
        if rest.is_empty() {
            break;
        }
    }
    bytes
}

fn found(bytes: &[u8]) -> First {
    match look(bytes, false, Asked::Nothing) {
        Looked::Found(first) => first,
        other => panic!("{other:?}"),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&[first, second], body)) = data.split_first_chunk() else {
        return;
    };
    if body.len() > 16_000 {
        return;
    }
    let message = [&[1, 0, (body.len() >> 8) as u8, body.len() as u8], body].concat();
    let one = found(&records(&message, [16 * 1024; 2]));
    let named = one.alpn.iter().any(|name| name == "postgresql" || name == "tds/8.0");
    assert!(one.protocol == Protocol::Tls || named);
    // No more than 1,024 records are followed.
    let least = message.len() / 512 + 1;
    let cuts = [first, second].map(|cut| usize::from(cut).max(least));
    let bytes = records(&message, cuts);
    assert_eq!(found(&bytes), one);
    let cut = &bytes[..bytes.len() - 1];
    assert_eq!(look(cut, false, Asked::Nothing), Looked::More);
    assert_eq!(ja4(&bytes), ja4(&records(&message, [16 * 1024; 2])));
    if let Some(name) = &one.sni {
        assert!(
            message
                .windows(name.len())
                .any(|at| at.eq_ignore_ascii_case(name.as_bytes()))
        );
    }
});
