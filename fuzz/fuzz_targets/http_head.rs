//! Heads of HTTP/1.x requests, and responses made of what stands in them: in pieces they give what they give at
//! once, a look at the same bytes agrees, and no response can be broken by its headers.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_policy::sniff::{
    Asked, HEAD_BYTES_MAX, HEADERS_MAX, Head, Looked, Protocol, http_head, http_reply, look,
};

/// The lines of a response's head.
fn lines(response: &[u8]) -> Vec<&[u8]> {
    let end = response
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("an end");
    response[..end].split(|byte| *byte == b'\n').collect()
}

fuzz_target!(|data: &[u8]| {
    let whole = http_head(data);
    for length in (0..=data.len()).step_by(data.len() / 128 + 1) {
        let front = http_head(&data[..length]);
        assert!(front == Head::More || front == whole);
    }
    let request = match whole {
        Head::More => return assert!(data.len() < HEAD_BYTES_MAX),
        Head::Not | Head::Bad => return,
        Head::Whole(request, taken) => {
            assert!(taken <= HEAD_BYTES_MAX && taken <= data.len());
            assert_eq!(http_head(&data[..taken - 1]), Head::More);
            request
        }
    };
    assert!(request.headers.len() <= HEADERS_MAX && request.url.contains(&request.path));
    if !data.starts_with(b"SSH-") {
        let Looked::Found(first) = look(data, false, Asked::Nothing) else {
            panic!("a whole head is found");
        };
        assert_eq!(first.protocol, Protocol::Http);
        assert_eq!(first.http_host.unwrap_or_default(), request.host);
    }
    // A policy may put anything of a request into a response.
    let headers: Vec<(String, String)> = request
        .headers
        .into_iter()
        .flat_map(|(name, value)| [(name.clone(), value.clone()), (value, name)])
        .collect();
    let response = http_reply(200, &headers, request.url.as_bytes(), false);
    assert!(response.ends_with(request.url.as_bytes()));
    let lines = lines(&response);
    assert!(lines.len() <= headers.len() + 4);
    assert!(
        lines
            .iter()
            .all(|line| !line[..line.len() - 1].contains(&b'\r'))
    );
    let lengths = lines
        .iter()
        .filter(|line| line.to_ascii_lowercase().starts_with(b"content-length:"));
    assert_eq!(lengths.count(), 1);
});
