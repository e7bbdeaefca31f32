//! HTTP/1.x: the first line tells it, byte by byte; the head has the names.

use httparse::{EMPTY_HEADER, Header, Status};

use super::bytes::{Stop, Told, begins, byte, must};
use super::{First, HEAD_BYTES_MAX, HEADERS_MAX, Head, Looked, Protocol, Request, host};

/// Longest method. The longest that is registered, `UPDATEREDIRECTREF`, has 17.
const METHOD_BYTES_MAX: usize = 32;

/// HTTP by its first line; the host by its head, if that is whole and valid.
pub(super) fn look(bytes: &[u8], ended: bool) -> Told<Looked> {
    first_line(bytes)?;
    let http_host = match parsed(bytes, |request, _| host_of(request.headers)) {
        Ok(host) => host,
        Err(Stop::More) if !ended => return Err(Stop::More),
        Err(Stop::More | Stop::Not) => None,
    };
    Ok(Looked::Found(First {
        http_host,
        ..First::of(Protocol::Http)
    }))
}

/// The whole head. What begins as a request and does not end as one is no other protocol: a server behind us may be
/// less strict, and then a rule on requests would not have seen what it should.
pub(super) fn head(bytes: &[u8]) -> Head {
    let is_full = bytes.len() >= HEAD_BYTES_MAX;
    match first_line_of(front(bytes)) {
        Ok(()) => match parsed(bytes, whole) {
            Ok(whole) => whole,
            Err(Stop::More) => Head::More,
            Err(Stop::Not) => Head::Bad,
        },
        Err(Stop::More) if is_full => Head::Bad,
        Err(Stop::More) => Head::More,
        Err(Stop::Not) => match begins_as_request(bytes) {
            Ok(()) => Head::Bad,
            Err(Stop::More) if !is_full => Head::More,
            Err(Stop::More | Stop::Not) => Head::Not,
        },
    }
}

/// Methods that servers know, WebDAV's and HTTP/2's first line among them.
const METHODS: [&[u8]; 20] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"CONNECT ",
    b"OPTIONS ",
    b"TRACE ",
    b"PATCH ",
    b"QUERY ",
    b"PRI ",
    b"PROPFIND ",
    b"PROPPATCH ",
    b"MKCOL ",
    b"COPY ",
    b"MOVE ",
    b"LOCK ",
    b"UNLOCK ",
    b"REPORT ",
    b"SEARCH ",
];

/// Whether a server could take it for a request: a method that is known, behind any empty lines.
fn begins_as_request(bytes: &[u8]) -> Told<()> {
    let empty = bytes.iter().take_while(|byte| b"\r\n".contains(byte));
    let bytes = &bytes[empty.count()..];
    if METHODS.iter().any(|method| bytes.starts_with(method)) {
        return Ok(());
    }
    let may_become = METHODS.iter().any(|method| method.starts_with(bytes));
    Err(if may_become { Stop::More } else { Stop::Not })
}

/// Goes on behind `METHOD target HTTP/1.x`. The parser of heads would take empty lines before it, and tells some
/// that cannot become one only at their end.
fn first_line(bytes: &[u8]) -> Told<()> {
    let bytes = front(bytes);
    within(bytes, || first_line_of(bytes))
}

fn first_line_of(bytes: &[u8]) -> Told<()> {
    let method = bytes.iter().take_while(|byte| is_token(**byte)).count();
    must(method <= METHOD_BYTES_MAX)?;
    must(byte(bytes, method)? == b' ' && method > 0)?;
    let rest = &bytes[method + 1..];
    let target = rest.iter().take_while(|byte| is_target(**byte)).count();
    must(byte(rest, target)? == b' ' && target > 0)?;
    let rest = &rest[target + 1..];
    begins(rest, b"HTTP/1.")?;
    must(matches!(byte(rest, 7)?, b'0' | b'1'))?;
    let end = byte(rest, 8)?;
    must(end == b'\n' || end == b'\r')?;
    must(end == b'\n' || byte(rest, 9)? == b'\n')
}

/// Gives the head, if it is whole, to `read`, with the bytes that it takes.
fn parsed<T>(bytes: &[u8], read: impl FnOnce(&httparse::Request<'_, '_>, usize) -> T) -> Told<T> {
    let bytes = front(bytes);
    within(bytes, || {
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(bytes) {
            Ok(Status::Complete(taken)) => Ok(read(&request, taken)),
            Ok(Status::Partial) => Err(Stop::More),
            Err(_) => Err(Stop::Not),
        }
    })
}

/// What may belong to a head.
fn front(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(HEAD_BYTES_MAX)]
}

/// Of bytes that are as long as a head may be, no more are wanted.
fn within<T>(bytes: &[u8], told: impl FnOnce() -> Told<T>) -> Told<T> {
    match told() {
        Err(Stop::More) if bytes.len() >= HEAD_BYTES_MAX => Err(Stop::Not),
        told => told,
    }
}

fn whole(request: &httparse::Request<'_, '_>, taken: usize) -> Head {
    let url = request.path.unwrap_or_default();
    let headers = request.headers.iter().map(|header| {
        let value = String::from_utf8_lossy(header.value);
        (header.name.to_ascii_lowercase(), value.into_owned())
    });
    let request = Request {
        method: request.method.unwrap_or_default().to_owned(),
        url: url.to_owned(),
        path: path_of(url).to_owned(),
        host: host_of(request.headers).unwrap_or_default(),
        headers: headers.collect(),
    };
    Head::Whole(request, taken)
}

/// The path of `/path?query`, `http://host/path?query` or `*`; that of `host:port` (CONNECT) is empty.
fn path_of(url: &str) -> &str {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let url = &url[..end];
    if url.starts_with('/') || url == "*" {
        return url;
    }
    let Some((_, rest)) = url.split_once("://") else {
        return "";
    };
    match rest.find('/') {
        Some(at) => &rest[at..],
        None => "/",
    }
}

/// The host of the only `Host`. Of several, the server may believe another than we.
fn host_of(headers: &[Header<'_>]) -> Option<String> {
    let mut hosts = headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case("host"));
    let only = hosts.next()?;
    match hosts.next() {
        Some(_) => None,
        None => host::before_port(only.value),
    }
}

/// A byte of a method or of a header's name, RFC 9110.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A byte of a request's target, as far as the parser of heads takes it.
fn is_target(byte: u8) -> bool {
    byte.is_ascii_graphic() || byte >= 0x80
}
