//! `deny` and `custom-response`: how a connection is turned away.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis_model::Code;

use super::fields::Fields;
use super::{Reading, values};
use crate::cel::Template;
use crate::decide::{DenyMode, Reply};
use crate::defaults::{REPLY_BYTES_MAX, REPLY_HEADERS_MAX, TARPIT_HOLD, TARPIT_HOLD_MAX};
use crate::document::{Node, quoted};

/// Headers that the server writes itself.
const OWN_HEADERS: [&str; 4] = [
    "connection",
    "content-length",
    "keep-alive",
    "transfer-encoding",
];

pub(super) fn deny(path: &str, config: Node, reading: &mut Reading) -> Option<DenyMode> {
    if matches!(config, Node::Null) {
        return Some(DenyMode::Close);
    }
    let problems = &mut reading.problems;
    let mut fields = Fields::open(
        config,
        path,
        "the config of deny",
        Code::PolicyConfig,
        problems,
    )?;
    let mode = fields.take("mode").unwrap_or(Node::Null);
    let hold = fields.take("hold").filter(|node| *node != Node::Null);
    if fields.take("status_code").is_some() {
        let message = "deny on TCP has no status; under `on_http_request` use custom-response with `status_code`".to_owned();
        problems.add(Code::PolicyConfig, &format!("{path}.status_code"), message);
    }
    fields.close(&["mode", "hold"], problems);
    let mode_path = format!("{path}.mode");
    let mode = match mode {
        Node::Null => DenyMode::Close,
        Node::Text(word) if word == "close" => DenyMode::Close,
        Node::Text(word) if word == "reset" => DenyMode::Reset,
        Node::Text(word) if word == "tarpit" => DenyMode::Tarpit(TARPIT_HOLD),
        other => return values::wrong(&mode_path, &other, "`close`, `reset` or `tarpit`", reading),
    };
    let Some(hold) = hold else {
        return Some(mode);
    };
    let path = format!("{path}.hold");
    if !matches!(mode, DenyMode::Tarpit(_)) {
        let message = "`hold` is for `mode: tarpit` only".to_owned();
        reading.problems.add(Code::PolicyConfig, &path, message);
        return None;
    }
    let bounds = (Duration::from_millis(1), TARPIT_HOLD_MAX);
    values::duration(&path, &hold, bounds, reading).map(DenyMode::Tarpit)
}

pub(super) fn custom_response(path: &str, config: Node, reading: &mut Reading) -> Option<Reply> {
    let needs = "`text` or `bytes_base64`, or under `on_http_request` a `status_code`";
    let mut fields = values::config(
        path,
        config,
        ("custom-response", "the config of custom-response"),
        needs,
        reading,
    )?;
    let mut take = |key| fields.take(key).filter(|node| *node != Node::Null);
    let (text, bytes) = (take("text"), take("bytes_base64"));
    let (status, headers, body) = (take("status_code"), take("headers"), take("body"));
    let known = ["text", "bytes_base64", "status_code", "headers", "body"];
    fields.close(&known, &mut reading.problems);
    let is_http = status.is_some() || headers.is_some() || body.is_some();
    match (text, bytes, is_http) {
        (Some(text), None, false) => {
            let path = format!("{path}.text");
            let text = values::text(&path, text, "the text to write", reading)?;
            is_short(&path, text.len(), reading)?;
            values::template(&path, &text, reading).map(Reply::Text)
        }
        (None, Some(bytes), false) => read_bytes(&format!("{path}.bytes_base64"), bytes, reading),
        (None, None, true) => read_http(path, status, headers, body, reading),
        (None, None, false) => {
            let message = format!("custom-response needs {needs}");
            reading.problems.add(Code::PolicyConfig, path, message);
            None
        }
        _ => {
            let message = "use one of `text`, `bytes_base64`, and `status_code` with `headers` and `body`; they do not go together".to_owned();
            reading.problems.add(Code::PolicyConfig, path, message);
            None
        }
    }
}

fn read_bytes(path: &str, node: Node, reading: &mut Reading) -> Option<Reply> {
    let text = values::text(path, node, "bytes in base64", reading)?;
    let Ok(bytes) = STANDARD.decode(text.as_bytes()) else {
        let message = format!("{} is not base64", quoted(&text));
        reading.problems.add(Code::PolicyConfig, path, message);
        return None;
    };
    is_short(path, bytes.len(), reading)?;
    Some(Reply::Bytes(Arc::from(bytes)))
}

fn read_http(
    path: &str,
    status: Option<Node>,
    headers: Option<Node>,
    body: Option<Node>,
    reading: &mut Reading,
) -> Option<Reply> {
    if !reading.http {
        let message = "a response of HTTP answers a request; move the rule under `on_http_request`, or write `text`".to_owned();
        reading.problems.add(Code::PolicyConfig, path, message);
        return None;
    }
    let status_path = format!("{path}.status_code");
    let status = status.unwrap_or(Node::Null);
    let status = values::whole(&status_path, &status, (200, 599), reading);
    let headers = match headers {
        Some(node) => read_headers(&format!("{path}.headers"), node, reading),
        None => Some(Vec::new()),
    };
    let body_path = format!("{path}.body");
    let body = body.unwrap_or_else(|| Node::Text(String::new()));
    let body = values::text(&body_path, body, "the text of the body", reading);
    let body = body.and_then(|body| {
        is_short(&body_path, body.len(), reading)?;
        values::template(&body_path, &body, reading)
    });
    Some(Reply::Http {
        status: u16::try_from(status?).ok()?,
        headers: headers?,
        body: body?,
    })
}

fn read_headers(path: &str, node: Node, reading: &mut Reading) -> Option<Vec<(String, Template)>> {
    let entries = match node {
        Node::Map(entries) => entries,
        other => return values::wrong(path, &other, "a map of headers", reading),
    };
    if entries.len() > REPLY_HEADERS_MAX {
        let message = format!(
            "there are {} headers; at most {REPLY_HEADERS_MAX} are possible",
            entries.len()
        );
        reading.problems.add(Code::PolicyTooLarge, path, message);
        return None;
    }
    let headers: Vec<Option<(String, Template)>> = entries
        .into_iter()
        .map(|(name, value)| read_header(path, name, value, reading))
        .collect();
    headers.into_iter().collect()
}

fn read_header(
    path: &str,
    name: String,
    value: Node,
    reading: &mut Reading,
) -> Option<(String, Template)> {
    let lower = name.to_ascii_lowercase();
    let fault = if !is_token(&name) {
        format!("{} is no name of a header", quoted(&name))
    } else if OWN_HEADERS.contains(&lower.as_str()) {
        format!("`{name}` is written by the server; leave it out")
    } else {
        let path = format!("{path}.{name}");
        let value = match value {
            Node::Number(number) => number.to_string(),
            other => values::text(&path, other, "text", reading)?,
        };
        is_short(&path, value.len(), reading)?;
        if is_header_value(&value) {
            return values::template(&path, &value, reading).map(|value| (name, value));
        }
        format!("the value of `{name}` has a line break or control character in it")
    };
    reading.problems.add(Code::PolicyConfig, path, fault);
    None
}

/// What may stand behind a header's name; a line break there would begin another header.
pub(crate) fn is_header_value(value: &str) -> bool {
    !value.chars().any(|c| c.is_control() && c != '\t')
}

fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 128
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn is_short(path: &str, bytes: usize, reading: &mut Reading) -> Option<()> {
    if bytes <= REPLY_BYTES_MAX {
        return Some(());
    }
    let message = format!("this is {bytes} bytes long; at most {REPLY_BYTES_MAX} are possible");
    reading.problems.add(Code::PolicyTooLarge, path, message);
    None
}
