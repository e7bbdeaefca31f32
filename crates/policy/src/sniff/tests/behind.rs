//! What follows an answer to a PostgreSQL client that asked for encryption.

use super::*;

const ASKS_TLS: [u8; 8] = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];
const ASKS_GSSAPI: [u8; 8] = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x30];
const STARTUP: &[u8] = b"\0\0\0\x15\0\x03\0\0user\0alice\0\0";

/// What was found, with "more" or the same at every cut, and always an answer at the end.
fn behind(bytes: &[u8], asked: Asked) -> Looked {
    let whole = super::super::look(bytes, false, asked);
    for length in 0..=bytes.len() {
        let front = super::super::look(&bytes[..length], false, asked);
        assert!(
            front == Looked::More || front == whole,
            "{length}: {front:?}"
        );
        let ended = super::super::look(&bytes[..length], true, asked);
        assert_ne!(ended, Looked::More);
        assert!(front == Looked::More || ended == front);
    }
    whole
}

fn front(sni: Option<&str>) -> Looked {
    Looked::Found(First {
        sni: sni.map(str::to_owned),
        front: Front::Postgres,
        ..plain(Protocol::Postgres)
    })
}

#[test]
fn tls_behind_its_request_is_postgresql_with_its_name() {
    let bytes = hello(&[server_name(b"DB.example.com")]);
    assert_eq!(behind(&bytes, Asked::Tls), front(Some("db.example.com")));
    // Of psql, to an address.
    let recorded = include_bytes!("../testdata/tls_psql");
    assert_eq!(behind(recorded, Asked::Tls), front(None));
}

/// Who was told to go ahead will begin with TLS, should it be slow.
#[test]
fn silence_behind_a_request_for_tls_still_has_its_front() {
    let bytes = hello(&[server_name(b"db.example.com")]);
    for length in 0..bytes.len() {
        let looked = super::super::look(&bytes[..length], true, Asked::Tls);
        assert_eq!(looked, front(None), "{length}");
    }
}

/// It is what it was, but nothing is said for it to an upstream.
#[test]
fn what_is_no_tls_has_no_front() {
    let postgres = Looked::Found(plain(Protocol::Postgres));
    for bytes in [STARTUP, &ASKS_TLS, &ASKS_GSSAPI, b"GET / HTTP/1.1\r\n\r\n"] {
        assert_eq!(behind(bytes, Asked::Tls), postgres);
        // It is known at the first byte.
        let looked = super::super::look(&bytes[..1], false, Asked::Tls);
        assert_eq!(looked, postgres);
    }
}

#[test]
fn behind_gssapi_a_client_asks_for_tls_or_begins() {
    let goes_ahead = Looked::Answer {
        taken: 8,
        say: b"S",
        then: Asked::Tls,
    };
    let postgres = Looked::Found(plain(Protocol::Postgres));
    assert_eq!(behind(&ASKS_TLS, Asked::Gssapi), goes_ahead);
    for bytes in [STARTUP, &ASKS_GSSAPI, b"SSH-2.0-x\r\n"] {
        assert_eq!(behind(bytes, Asked::Gssapi), postgres);
    }
    let silent = super::super::look(b"", true, Asked::Gssapi);
    assert_eq!(silent, postgres);
}

/// However a client goes on, it is answered twice at most.
#[test]
fn nobody_is_answered_more_than_twice() {
    for asks in [[&ASKS_TLS; 8], [&ASKS_GSSAPI; 8]] {
        let (mut asked, mut answers) = (Asked::Nothing, 0);
        for ask in asks {
            match super::super::look(ask, false, asked) {
                Looked::Answer { then, .. } => {
                    assert_ne!(then, asked);
                    asked = then;
                    answers += 1;
                }
                looked => assert_eq!(looked, Looked::Found(plain(Protocol::Postgres))),
            }
        }
        assert_eq!(answers, 1);
    }
}
