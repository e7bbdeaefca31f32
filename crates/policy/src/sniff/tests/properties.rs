//! What holds for any bytes.

use proptest::prelude::*;

use super::*;

/// Fronts that lead deep into the parsers.
fn fronts() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<Vec<u8>> = vec![
        Vec::new(),
        hello(&[server_name(b"a.example"), (16, vec![0, 3, 2, b'h', b'2'])]),
        records(&message(&[server_name(b"a.example")]), 7),
        b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec(),
        b"\0\0\0\x08\x04\xd2\x16\x30".to_vec(),
        b"\0\0\0\x14\x04\xd2\x16\x2e\0\0\0\x07abcdefgh".to_vec(),
        hello(&[(16, long(&short(b"postgresql"))), server_name(b"a.example")]),
        [
            &b"\x12\0\0\x1c\0\0\x01\0"[..],
            &hello(&[server_name(b"a.example")])[..20],
            b"\x12\x01\0\x48\0\0\x02\0",
            &hello(&[server_name(b"a.example")])[20..],
        ]
        .concat(),
        b"\0\0\0\x38\0\x03\0\0user\0alice\0".to_vec(),
        b"\x12\x01\0\x2f\0\0\x01\0\0\0\x1a".to_vec(),
        b"\x03\0\0\x2b\x26\xe0\0\0\0\0\0Cookie: m".to_vec(),
        b"\x10\x16\0\x04MQTT\x04\xc2\0\x3c".to_vec(),
        minecraft(b"a.example\0FML\0", 2),
        b"\xfe\x01\xfa\0\x0b\0M\0C\0|\0P\0i\0n\0g\0H\0o\0s\0t\0\x19\x4a\0\x09".to_vec(),
        b"SSH-2.0-x\r\n".to_vec(),
        b"*1\r\n$4\r\nping\r\n".to_vec(),
        b"PING\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"GET /a HTTP/1.1\r\nHost: a.example:80\r\nX: y\r\n\r\n".to_vec(),
        b"PING /a HTTP/1.1\nHost: a\n\n".to_vec(),
    ];
    proptest::sample::select(known)
}

/// A known front, cut, with bytes of it changed and others behind it.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let behind = proptest::collection::vec(any::<u8>(), 0..40);
    (fronts(), any::<prop::sample::Index>(), changes, behind).prop_map(
        |(mut front, cut, changes, behind)| {
            front.truncate(cut.index(front.len() + 1));
            for (at, to) in changes {
                if !front.is_empty() {
                    let at = at.index(front.len());
                    front[at] = to;
                }
            }
            [front, behind].concat()
        },
    )
}

/// Every front of the bytes gives "more" or the answer of the whole; ended, it gives an answer, which is the same
/// once there is one.
fn consistent(bytes: &[u8]) {
    let whole = look(bytes, false);
    let head = http_head(bytes);
    for length in 0..=bytes.len() {
        let front = &bytes[..length];
        let looked = look(front, false);
        assert!(
            looked == Looked::More || looked == whole,
            "{length}: {looked:?}, {whole:?}"
        );
        let ended = look(front, true);
        assert_ne!(ended, Looked::More);
        if looked != Looked::More {
            assert_eq!(ended, looked);
        }
        less_or_same(front, &ended, &whole);
        let of_head = http_head(front);
        assert!(
            of_head == Head::More || of_head == head,
            "{length}: {of_head:?}, {head:?}"
        );
    }
}

/// What an ended front gives: nothing, the protocol without names, or all of it, but for the two cases that [`look`]
/// names.
fn less_or_same(front: &[u8], ended: &Looked, whole: &Looked) {
    let (Looked::Found(ended), Looked::Found(whole)) = (ended, whole) else {
        return;
    };
    let is_excepted = matches!(front, [0xfe] | [0xfe, 1])
        || (ended.protocol == Protocol::Redis && front[0] != b'*')
        || (*ended == First::of(Protocol::Tls) && !whole.alpn.is_empty());
    let is_less = *ended == First::default() || *ended == First::of(whole.protocol);
    assert!(
        is_less || ended == whole || is_excepted,
        "{ended:?}, {whole:?}"
    );
}

/// What a head says and what a look at it says is the same.
fn agree(bytes: &[u8]) {
    if let Head::Whole(request, taken) = http_head(bytes) {
        assert!(taken <= bytes.len().min(HEAD_BYTES_MAX));
        assert_eq!(http_head(&bytes[..taken - 1]), Head::More);
        if bytes.starts_with(b"SSH-") {
            return;
        }
        let host = (!request.host.is_empty()).then_some(request.host);
        let expected = First {
            http_host: host,
            ..First::of(Protocol::Http)
        };
        assert_eq!(look(bytes, false), Looked::Found(expected));
    }
}

/// The same behind what a client asked for. There it is always PostgreSQL.
fn consistent_behind(bytes: &[u8]) {
    for asked in [Asked::Gssapi, Asked::Tls] {
        let at = |front: &[u8], ended| super::super::look(front, ended, asked);
        let whole = at(bytes, false);
        for length in 0..=bytes.len() {
            let front = &bytes[..length];
            let looked = at(front, false);
            assert!(looked == Looked::More || looked == whole);
            let ended = at(front, true);
            assert!(looked == Looked::More || looked == ended);
            match ended {
                Looked::Found(first) => assert!(
                    first.protocol == Protocol::Postgres || asked == Asked::Gssapi,
                    "{first:?}"
                ),
                Looked::Answer { then, .. } => {
                    assert_eq!((asked, then), (Asked::Gssapi, Asked::Tls))
                }
                Looked::More => panic!("it ended"),
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_looked_at_in_pieces_as_at_once(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        consistent(&bytes);
    }

    #[test]
    fn near_misses_are_looked_at_in_pieces_as_at_once(bytes in bytes()) {
        consistent(&bytes);
        consistent_behind(&bytes);
        agree(&bytes);
        // Whatever they are, it comes to an end.
        let fingerprint = ja4(&bytes);
        assert!(fingerprint.is_none_or(|text| text.len() == 36 && text.is_ascii()));
    }

    #[test]
    fn a_look_never_wants_more_than_its_limit(front in bytes(), fill in any::<u8>()) {
        let mut bytes = front;
        bytes.resize(LOOK_BYTES_MAX, fill);
        assert_ne!(look(&bytes, false), Looked::More);
        assert_ne!(http_head(&bytes[..HEAD_BYTES_MAX]), Head::More);
    }

    #[test]
    fn a_response_is_read_back(
        status in any::<u16>(),
        headers in proptest::collection::vec((any::<String>(), any::<String>()), 0..5),
        body in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        let bytes = http_reply(status, &headers, &body, false);
        let mut into = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut into);
        let parsed = response.parse(&bytes).expect("valid");
        let httparse::Status::Complete(taken) = parsed else {
            panic!("it is not whole");
        };
        let length = response.headers.iter().filter(|header| header.name == "Content-Length");
        let length: Vec<&[u8]> = length.map(|header| header.value).collect();
        let status = response.code.expect("a status");
        if matches!(status, 204 | 304) {
            assert!(length.is_empty() && taken == bytes.len());
        } else {
            assert_eq!(length, [(bytes.len() - taken).to_string().as_bytes()]);
        }
        let closes = response.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("connection"));
        assert_eq!(closes.map(|header| header.value).collect::<Vec<_>>(), [b"close"]);
    }
}
