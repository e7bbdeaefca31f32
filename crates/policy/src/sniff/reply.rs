//! A response of HTTP/1.1 after which the connection ends.

use super::http::is_token;

/// What the message itself says, so that a caller can't.
const OURS: [&str; 3] = ["content-length", "connection", "transfer-encoding"];

pub(super) fn render(
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
    is_head: bool,
) -> Vec<u8> {
    // Those below 200 announce another response.
    let status = match status {
        200..=999 => status,
        _ => 500,
    };
    // RFC 9110, 8.6 and 15.4.5: these have no body, whatever is asked for.
    let is_bodiless = matches!(status, 204 | 205 | 304);
    let body = if is_bodiless { b"" } else { body };
    let mut message = Vec::with_capacity(256 + body.len());
    message.extend_from_slice(format!("HTTP/1.1 {status} {}\r\n", reason(status)).as_bytes());
    let mut is_typed = false;
    for (name, value) in headers {
        let is_name = !name.is_empty() && name.bytes().all(is_token);
        if !is_name || OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name)) {
            continue;
        }
        is_typed |= name.eq_ignore_ascii_case("content-type");
        header(&mut message, name, value);
    }
    if !is_typed && !is_bodiless {
        let kind = match std::str::from_utf8(body) {
            Ok(_) => "text/plain; charset=utf-8",
            Err(_) => "application/octet-stream",
        };
        header(&mut message, "Content-Type", kind);
    }
    // A 204 must not have one; that of a 304 would be another response's.
    if !matches!(status, 204 | 304) {
        header(&mut message, "Content-Length", &body.len().to_string());
    }
    header(&mut message, "Connection", "close");
    message.extend_from_slice(b"\r\n");
    if !is_head {
        message.extend_from_slice(body);
    }
    message
}

fn header(message: &mut Vec<u8>, name: &str, value: &str) {
    message.extend_from_slice(name.as_bytes());
    message.extend_from_slice(b": ");
    let is_plain = |byte: u8| byte == b'\t' || !byte.is_ascii_control();
    let value =
        value.trim_matches(|character: char| character.is_ascii_control() || character == ' ');
    message.extend(value.bytes().map(|byte| match is_plain(byte) {
        true => byte,
        false => b' ',
    }));
    message.extend_from_slice(b"\r\n");
}

/// The reason phrase, RFC 9110 and the registry of status codes.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        418 => "I'm a teapot",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        511 => "Network Authentication Required",
        _ => class(status),
    }
}

/// What a status without a registered phrase is, RFC 9110 section 15.
fn class(status: u16) -> &'static str {
    match status {
        200..=299 => "Success",
        300..=399 => "Redirection",
        400..=499 => "Client Error",
        500..=599 => "Server Error",
        _ => "Unknown",
    }
}
