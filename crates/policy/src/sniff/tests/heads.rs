//! Heads of requests.

use super::*;

fn head(text: &str) -> (Request, usize) {
    let bytes = text.as_bytes();
    for length in 0..bytes.len() {
        let end = text.find("\r\n\r\n").map_or(bytes.len(), |at| at + 4);
        let expected = http_head(&bytes[..length]);
        assert_eq!(expected == Head::More, length < end, "{length} bytes");
    }
    match http_head(bytes) {
        Head::Whole(request, taken) => (request, taken),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_whole_head() {
    let text = "POST /a/b?x=1&y=%20 HTTP/1.1\r\nHost: App.Example.com:8080\r\nX-Many: 1\r\nx-many:  2 \r\n\
                Content-Length: 5\r\n\r\nhello";
    let (request, taken) = head(text);
    assert_eq!(taken, text.len() - 5);
    assert_eq!(request.method, "POST");
    assert_eq!(request.url, "/a/b?x=1&y=%20");
    assert_eq!(request.path, "/a/b");
    assert_eq!(request.host, "app.example.com");
    let headers: Vec<(&str, &str)> = request
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        headers,
        [
            ("host", "App.Example.com:8080"),
            ("x-many", "1"),
            ("x-many", "2"),
            ("content-length", "5"),
        ]
    );
}

#[test]
fn heads_that_are_short_of_something() {
    let (request, _) = head("GET / HTTP/1.0\r\n\r\n");
    assert_eq!((request.host.as_str(), request.headers.len()), ("", 0));
    // Line feeds alone, as people type them.
    assert!(
        matches!(http_head(b"GET / HTTP/1.1\nHost: a\n\n"), Head::Whole(request, 24) if request.host == "a")
    );
}

#[test]
fn targets_have_paths() {
    for (target, path) in [
        ("/", "/"),
        ("/a?b?c", "/a"),
        ("/a#b", "/a"),
        ("*", "*"),
        ("http://a.example/b/c?d", "/b/c"),
        ("http://a.example", "/"),
        ("http://a.example?x=/y", "/"),
        ("a.example:443", ""),
    ] {
        let (request, _) = head(&format!("OPTIONS {target} HTTP/1.1\r\n\r\n"));
        assert_eq!(
            (request.url.as_str(), request.path.as_str()),
            (target, path)
        );
    }
}

#[test]
fn hosts_lose_their_port() {
    for (value, host) in [
        ("a.example", "a.example"),
        ("a.example.", "a.example"),
        ("a.example:80", "a.example"),
        ("a.example:", "a.example"),
        ("192.0.2.1:80", "192.0.2.1"),
        ("[2001:DB8:0::1]:80", "2001:db8::1"),
        ("[::1]", "::1"),
        ("2001:db8::1", ""),
        ("[::1", ""),
        ("[::1]x", ""),
        ("[a]", ""),
        ("a.example:8x", ""),
        ("a.example:123456", ""),
        ("a b", ""),
        ("user@a.example", ""),
        ("", ""),
    ] {
        let text = format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n");
        assert_eq!(head(&text).0.host, host, "{value}");
        let expected = (!host.is_empty()).then(|| host.to_owned());
        assert_eq!(found(text.as_bytes()).http_host, expected, "{value}");
    }
    // Of two, the server may believe the other.
    let text = "GET / HTTP/1.1\r\nHost: a.example\r\nhost: b.example\r\n\r\n";
    assert_eq!(head(text).0.host, "");
    assert_eq!(found(text.as_bytes()), plain(Protocol::Http));
}

#[test]
fn what_is_no_head() {
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01"[..],
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n",
        b"EHLO mail.example.com\r\n",
        b"\r\n\r\nEHLO mail.example.com\r\n",
        b"A-METHOD-THAT-IS-LONGER-THAN-THIRTY-TWO / HTTP/1.1\r\n\r\n",
    ] {
        assert_eq!(http_head(bytes), Head::Not, "{}", bytes.escape_ascii());
    }
    assert_eq!(http_head(b"\x16"), Head::Not);
    assert_eq!(http_head(b""), Head::More);
}

/// A server could read them, more or less as we do: no rule on requests may be gone around so.
#[test]
fn what_begins_as_a_request_and_cannot_be_read_is_no_other_protocol() {
    for bytes in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        b"GET / HTTP/3",
        b"GET /\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\n\r\n",
        b"\n\nPOST / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"ODD / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded: a\r\n\r\n",
        b"GET / HTTP/1.1\r\na: b\0c\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
    ] {
        assert_eq!(http_head(bytes), Head::Bad, "{}", bytes.escape_ascii());
    }
    // It is told at the byte that excludes.
    assert_eq!(http_head(b"PRI * HTTP/"), Head::More);
    assert_eq!(http_head(b"PRI * HTTP/2"), Head::Bad);
    assert_eq!(http_head(b"\r\nGE"), Head::More);
}

/// A broken or endless head is HTTP all the same, of no host.
#[test]
fn the_first_line_is_enough_to_be_http() {
    let text = b"GET / HTTP/1.1\r\nHost: a.example\r\nno colon\r\n";
    assert_eq!(found(text), plain(Protocol::Http));
    let text = b"GET / HTTP/1.1\r\nHost: a.example\r\nX: y";
    for length in 0..text.len() {
        let protocol = if length < 16 {
            Protocol::Unknown
        } else {
            Protocol::Http
        };
        assert_eq!(look(&text[..length], true), Looked::Found(plain(protocol)));
    }
}

#[test]
fn a_head_has_limits() {
    let of = |bytes: usize| {
        let front = "GET / HTTP/1.1\r\nHost: a.example\r\nX: ";
        format!("{front}{}\r\n\r\n", "x".repeat(bytes - front.len() - 4))
    };
    let most = of(HEAD_BYTES_MAX);
    assert!(matches!(
        http_head(most.as_bytes()),
        Head::Whole(_, HEAD_BYTES_MAX)
    ));
    let behind = [most.as_bytes(), &[0; 100]].concat();
    assert!(matches!(http_head(&behind), Head::Whole(_, HEAD_BYTES_MAX)));
    let long = of(HEAD_BYTES_MAX + 1);
    assert_eq!(
        http_head(&long.as_bytes()[..HEAD_BYTES_MAX - 1]),
        Head::More
    );
    assert_eq!(http_head(&long.as_bytes()[..HEAD_BYTES_MAX]), Head::Bad);
    assert_eq!(http_head(long.as_bytes()), Head::Bad);
    assert_eq!(
        look(long.as_bytes(), false),
        Looked::Found(plain(Protocol::Http))
    );
    // A target that never ends is nothing.
    let target = format!("GET /{}", "x".repeat(HEAD_BYTES_MAX));
    assert_eq!(http_head(target.as_bytes()), Head::Bad);
    assert_eq!(
        look(target.as_bytes(), false),
        Looked::Found(First::default())
    );

    let with = |headers: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(headers));
    assert!(matches!(
        http_head(with(HEADERS_MAX).as_bytes()),
        Head::Whole(..)
    ));
    assert_eq!(http_head(with(HEADERS_MAX + 1).as_bytes()), Head::Bad);
}
