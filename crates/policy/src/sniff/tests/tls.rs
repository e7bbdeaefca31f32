//! ClientHellos: names that are none, fragments, limits, broken ones.

use super::*;

fn sni_of(name: &[u8]) -> Option<String> {
    found(&hello(&[server_name(name)])).sni
}

#[test]
fn only_names_of_hosts_are_names() {
    let longest = [
        &[b'a'; 63][..],
        b".",
        &[b'b'; 63],
        b".",
        &[b'c'; 63],
        b".",
        &[b'd'; 61],
    ]
    .concat();
    for (name, sni) in [
        (&b"db.example.com"[..], "db.example.com"),
        (b"DB.Example.COM", "db.example.com"),
        (b"db.example.com.", "db.example.com"),
        (b"_x.my_host", "_x.my_host"),
        (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
        (b"1.2.3.4a", "1.2.3.4a"),
        (&longest, std::str::from_utf8(&longest).expect("text")),
    ] {
        assert_eq!(sni_of(name).as_deref(), Some(sni));
    }
    let too_long = [&longest[..], b"d"].concat();
    for name in [
        &b""[..],
        b".",
        b"a..b",
        b".a",
        b"a b",
        b"a\0b",
        b"a\r\nb",
        b"a/b",
        b"*.example.com",
        b"b\xc3\xbccher.example",
        b"\xff\xfe",
        b"-a.example",
        b"a-.example",
        b"192.0.2.1",
        b"2001:db8::1",
        b"[::1]",
        b"example.com:443",
        &[b'a'; 64],
        &too_long,
    ] {
        assert_eq!(sni_of(name), None, "{:?}", String::from_utf8_lossy(name));
    }
}

#[test]
fn names_that_another_reader_may_read_otherwise_are_none() {
    let name = server_name(b"a.example");
    // Twice the extension, twice the name, another type of name, bytes behind it.
    assert_eq!(
        found(&hello(&[name.clone(), name.clone()])),
        plain(Protocol::Tls)
    );
    let one = [vec![0], long(b"a.example")].concat();
    for content in [
        long(&[one.clone(), one.clone()].concat()),
        long(&[vec![1], long(b"a.example")].concat()),
        [long(&one), vec![0]].concat(),
        Vec::new(),
    ] {
        assert_eq!(found(&hello(&[(0, content)])).sni, None);
    }
}

#[test]
fn protocols_are_kept_if_they_can_be_read() {
    let alpn = |names: &[&[u8]]| {
        (
            16,
            long(&names.iter().copied().flat_map(short).collect::<Vec<u8>>()),
        )
    };
    let first = found(&hello(&[
        alpn(&[b"\x0a\x0a", b"h2", b"\xda\xda", b"with space", b"http/1.1"]),
        server_name(b"a.example"),
    ]));
    assert_eq!(first.alpn, ["h2", "http/1.1"]);
    assert_eq!(first.sni.as_deref(), Some("a.example"));
    let many = found(&hello(&[alpn(&[b"x".as_slice(); 200])]));
    assert_eq!(many.alpn.len(), 64);
    // A broken list makes the whole broken.
    assert_eq!(
        found(&hello(&[server_name(b"a.example"), (16, vec![0, 9, 1])])),
        plain(Protocol::Tls)
    );
}

#[test]
fn records_of_any_size() {
    let message = message(&[server_name(b"a.example"), (21, vec![0; 200])]);
    for each in [1, 2, 3, 4, 5, 6, 100, message.len() - 1, message.len()] {
        let first = found(&records(&message, each));
        assert_eq!(first.sni.as_deref(), Some("a.example"), "records of {each}");
    }
    // What follows the message in its record, or behind it, doesn't matter.
    let followed = [&message[..], &[2, 0, 0, 0]].concat();
    assert_eq!(
        found(&records(&followed, 100)).sni.as_deref(),
        Some("a.example")
    );
}

#[test]
fn broken_hellos_are_tls_without_names() {
    let whole = message(&[server_name(b"a.example")]);
    // Another record in between; a record of another version; an empty one.
    for header in [[0x17, 3, 1, 0, 5], [0x16, 2, 1, 0, 5], [0x16, 3, 1, 0, 0]] {
        let mut bytes = records(&whole[..20], 20);
        bytes.extend(header);
        assert_eq!(found(&bytes), plain(Protocol::Tls));
    }
    // Every length in it, and the version, changed.
    for at in [4, 38, 40, 43, 46, 50, 52, 55] {
        let mut message = whole.clone();
        message[at] ^= 0x5a;
        assert_eq!(found(&records(&message, 4096)).sni, None, "byte {at}");
    }
    // Cut off by its end: 6 bytes are enough to know it.
    let bytes = records(&whole, 4096);
    for length in 0..bytes.len() {
        let protocol = if length < 6 {
            Protocol::Unknown
        } else {
            Protocol::Tls
        };
        assert_eq!(
            look(&bytes[..length], true),
            Looked::Found(plain(protocol)),
            "{length}"
        );
    }
}

/// Extensions that make a message of so many bytes.
fn message_of(bytes: usize) -> Vec<u8> {
    let empty = message(&[server_name(b"a.example"), (21, Vec::new())]).len();
    let whole = message(&[server_name(b"a.example"), (21, vec![0; bytes - empty])]);
    assert_eq!(whole.len(), bytes);
    whole
}

#[test]
fn a_hello_has_limits() {
    // The extensions, whose length has 16 bits, stand behind 47 bytes: together they can be longer than 64 KiB.
    let most = message_of(47 + 0xffff);
    let bytes = records(&most, 16 * 1024);
    let Looked::Found(first) = look(&bytes, false) else {
        panic!("it is whole");
    };
    assert_eq!(first.sni, None, "it is longer than 64 KiB");
    let most = message_of(64 * 1024);
    let bytes = records(&most, 16 * 1024);
    assert_eq!(look(&bytes[..bytes.len() - 1], false), Looked::More);
    let Looked::Found(first) = look(&bytes, false) else {
        panic!("it is whole");
    };
    assert_eq!(first.sni.as_deref(), Some("a.example"));
    // One byte more is refused as soon as its length is there.
    assert_eq!(found(&records(&[1, 1, 0, 0], 4)), plain(Protocol::Tls));
    let long = [1, 0, 0xff, 0xfd];
    assert_eq!(found(&records(&long, 4)), plain(Protocol::Tls));
    assert_eq!(look(&records(&[1, 0, 0xff, 0xfc], 4), false), Looked::More);
}

#[test]
fn a_hello_has_few_records() {
    let whole = message(&[server_name(b"a.example"), (21, vec![0; 1024])]);
    let (front, back) = whole.split_at(1023);
    let bytes = [records(front, 1), records(back, 4096)].concat();
    assert_eq!(found_at_end(&bytes).sni.as_deref(), Some("a.example"));
    let (front, back) = whole.split_at(1024);
    let bytes = [records(front, 1), records(back, 4096)].concat();
    assert_eq!(found_at_end(&bytes), plain(Protocol::Tls));
}

fn found_at_end(bytes: &[u8]) -> First {
    match look(bytes, false) {
        Looked::Found(first) => first,
        other => panic!("{other:?}"),
    }
}
