//! Responses of ours.

use super::*;

fn reply(status: u16, headers: &[(&str, &str)], body: &[u8], is_head: bool) -> String {
    let headers: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let bytes = http_reply(status, &headers, body, is_head);
    String::from_utf8(bytes).expect("text")
}

#[test]
fn a_response() {
    assert_eq!(
        reply(
            200,
            &[("content-type", "text/html")],
            b"Hello world!",
            false
        ),
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nContent-Length: 12\r\nConnection: close\r\n\r\nHello world!"
    );
    assert_eq!(
        reply(503, &[], b"later", false),
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n\
         Connection: close\r\n\r\nlater"
    );
}

#[test]
fn a_head_gets_no_body() {
    let whole = reply(404, &[("X-A", "b")], b"nothing here", false);
    let head = reply(404, &[("X-A", "b")], b"nothing here", true);
    assert_eq!(whole, format!("{head}nothing here"));
}

#[test]
fn statuses_without_a_body() {
    for status in [204, 304] {
        assert_eq!(
            reply(status, &[], b"body", false),
            format!(
                "HTTP/1.1 {status} {}\r\nConnection: close\r\n\r\n",
                if status == 204 {
                    "No Content"
                } else {
                    "Not Modified"
                }
            )
        );
    }
    assert!(
        reply(205, &[], b"body", false).ends_with("Content-Length: 0\r\nConnection: close\r\n\r\n")
    );
}

#[test]
fn a_status_that_cannot_end_anything_is_500() {
    for status in [0, 99, 100, 101, 199, 1000, u16::MAX] {
        assert!(
            reply(status, &[], b"", false).starts_with("HTTP/1.1 500 Internal Server Error\r\n")
        );
    }
    assert!(reply(299, &[], b"", false).starts_with("HTTP/1.1 299 Success\r\n"));
    assert!(reply(999, &[], b"", false).starts_with("HTTP/1.1 999 Unknown\r\n"));
}

#[test]
fn callers_cannot_break_the_message() {
    let text = reply(
        200,
        &[
            ("Content-Length", "0"),
            ("CONNECTION", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("X-Split", "a\r\nSet-Cookie: b\r\n\r\nbody"),
            ("X-Bad: y\r\nX", "z"),
            ("", "z"),
            ("X Y", "z"),
            ("X-Tab", "\r\n a\tb\0c\x7f\n"),
            ("X-Text", "grüße"),
        ],
        b"ok",
        false,
    );
    assert_eq!(
        text,
        "HTTP/1.1 200 OK\r\nX-Split: a  Set-Cookie: b    body\r\nX-Tab: a\tb c\r\nX-Text: grüße\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    );
}

#[test]
fn bytes_are_not_called_text() {
    let bytes = http_reply(200, &[], &[0xff, 0], false);
    let end = bytes.len() - 2;
    assert_eq!(&bytes[end..], [0xff, 0]);
    let head = std::str::from_utf8(&bytes[..end]).expect("text");
    assert!(head.contains("Content-Type: application/octet-stream\r\nContent-Length: 2\r\n"));
}
