//! The written form of a health check: read, checked and written.
//!
//! Must never: let a value through that the bounds exclude.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{
    EXPECT_BYTES_MAX, FALL, HOST_BYTES_MAX, HealthCheck, IN_A_ROW_MAX, INTERVAL, INTERVAL_BOUNDS,
    PATH_BYTES_MAX, Probe, RISE, SEND_BYTES_MAX, TIMEOUT, TIMEOUT_BOUNDS,
};
use crate::{Code, Error};

/// The status of an HTTP check unless it is given.
const STATUS: (u16, u16) = (200, 399);
const WORDS: &str = "tcp, expect, postgres, mysql, redis, smtp, ssh, http or tls";

fn invalid(field: &str, cause: impl std::fmt::Display) -> Error {
    Error::new(Code::HealthInvalid, format!("{field}: {cause}"))
}

pub(super) fn read(written: &Value) -> Result<HealthCheck, Error> {
    match written {
        Value::String(text) => read_text(text),
        Value::Object(map) => read_map(map),
        _ => Err(invalid("health", "expected a word or a map")),
    }
}

pub(super) fn read_text(text: &str) -> Result<HealthCheck, Error> {
    let text = text.trim();
    if text.starts_with('{') {
        let value: Value = serde_json::from_str(text)
            .map_err(|error| invalid("health", format!("the map cannot be read: {error}")))?;
        return read(&value);
    }
    let check = match text.split_once(':') {
        Some((scheme @ ("http" | "https"), rest)) if rest.starts_with("//") => {
            return Err(web_address(scheme, text, rest));
        }
        Some(("http", path)) => HealthCheck::new(Probe::Http {
            path: path.to_owned(),
            host: None,
            status: STATUS,
        }),
        _ => HealthCheck::new(probe(text, &mut Fields::default())?),
    };
    check_of(check)
}

/// A check asks the upstream that it belongs to, so that a host in it could only be misunderstood.
fn web_address(scheme: &str, text: &str, rest: &str) -> Error {
    let behind = rest.strip_prefix("//").unwrap_or(rest);
    let path = behind.split_once('/');
    let path = path.map_or("", |(_, path)| path).trim_start_matches('/');
    let path: String = path.chars().take(80).collect();
    let shown: String = text.chars().take(80).collect();
    let tls = match scheme {
        "https" => "; it speaks TLS where the upstream is tls://",
        _ => "",
    };
    let cause = format!(
        "`{shown}` is a web address, and the check asks the upstream itself: write `http:/{path}`{tls}; a map's `host` sets the Host header"
    );
    invalid("check", cause)
}

fn check_of(check: HealthCheck) -> Result<HealthCheck, Error> {
    check.check()?;
    Ok(check)
}

fn read_map(map: &Map<String, Value>) -> Result<HealthCheck, Error> {
    let mut fields = Fields(map.clone());
    let word = fields.text("check")?;
    let word = word.ok_or_else(|| invalid("check", format!("is missing; use {WORDS}")))?;
    let check = HealthCheck {
        probe: probe(&word, &mut fields)?,
        interval: fields.span("interval")?.unwrap_or(INTERVAL),
        timeout: fields.span("timeout")?.unwrap_or(TIMEOUT),
        rise: fields.count("rise")?.unwrap_or(RISE),
        fall: fields.count("fall")?.unwrap_or(FALL),
    };
    if let Some(other) = fields.0.keys().next() {
        let shown: String = other.chars().take(40).collect();
        return Err(invalid(&shown, format!("is no field of a {word} check")));
    }
    check_of(check)
}

fn probe(word: &str, fields: &mut Fields) -> Result<Probe, Error> {
    Ok(match word {
        "tcp" => Probe::Tcp,
        "expect" => Probe::Expect {
            send: fields.bytes("send", "send_base64")?.unwrap_or_default(),
            expect: fields
                .bytes("expect", "expect_base64")?
                .ok_or_else(|| invalid("expect", "is missing; give the bytes to look for"))?,
        },
        "postgres" => Probe::Postgres,
        "mysql" => Probe::Mysql,
        "redis" => Probe::Redis,
        "smtp" => Probe::Smtp,
        "ssh" => Probe::Ssh,
        "http" => Probe::Http {
            path: fields.text("path")?.unwrap_or_else(|| "/".to_owned()),
            host: fields.text("host")?,
            status: fields.status()?,
        },
        "tls" => Probe::Tls,
        other => {
            let shown: String = other.chars().take(40).collect();
            return Err(invalid(
                "check",
                format!("`{shown}` is not known; use {WORDS}"),
            ));
        }
    })
}

/// What of the map is not read yet.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn text(&mut self, key: &str) -> Result<Option<String>, Error> {
        match self.0.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(invalid(key, "must be text")),
        }
    }

    fn bytes(&mut self, plain: &str, base64: &str) -> Result<Option<Vec<u8>>, Error> {
        match (self.text(plain)?, self.text(base64)?) {
            (Some(_), Some(_)) => Err(invalid(base64, format!("cannot be given beside {plain}"))),
            (Some(text), None) => Ok(Some(text.into_bytes())),
            (None, Some(text)) => STANDARD
                .decode(text)
                .map(Some)
                .map_err(|error| invalid(base64, error)),
            (None, None) => Ok(None),
        }
    }

    fn span(&mut self, key: &str) -> Result<Option<Duration>, Error> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        let span = text.parse::<jiff::SignedDuration>().ok();
        let span = span.and_then(|span| Duration::try_from(span).ok());
        let span = span.ok_or_else(|| invalid(key, "is no time span; write 10s or 500ms"))?;
        Ok(Some(span))
    }

    fn count(&mut self, key: &str) -> Result<Option<u32>, Error> {
        match self.0.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value
                .as_u64()
                .and_then(|count| u32::try_from(count).ok())
                .map(Some)
                .ok_or_else(|| invalid(key, "must be a whole number")),
        }
    }

    /// `204`, or `200-299`.
    fn status(&mut self) -> Result<(u16, u16), Error> {
        let text = match self.0.remove("status") {
            None | Some(Value::Null) => return Ok(STATUS),
            Some(Value::String(text)) => text,
            Some(Value::Number(number)) => number.to_string(),
            Some(_) => return Err(invalid("status", "must be a status or a range of them")),
        };
        let (first, last) = text.split_once('-').unwrap_or((&text, &text));
        let one = |text: &str| text.trim().parse::<u16>().ok();
        let range = one(first).zip(one(last));
        range.ok_or_else(|| invalid("status", "must be a status such as 200, or 200-399"))
    }
}

pub(super) fn check(check: &HealthCheck) -> Result<(), Error> {
    let within = |field: &str, span: Duration, (least, most): (Duration, Duration)| {
        if span < least || span > most {
            let cause = format!("must be from {} to {}", text_of(least), text_of(most));
            return Err(invalid(field, cause));
        }
        Ok(())
    };
    within("interval", check.interval, INTERVAL_BOUNDS)?;
    within("timeout", check.timeout, TIMEOUT_BOUNDS)?;
    for (field, count) in [("rise", check.rise), ("fall", check.fall)] {
        if count == 0 || count > IN_A_ROW_MAX {
            return Err(invalid(field, format!("must be from 1 to {IN_A_ROW_MAX}")));
        }
    }
    match &check.probe {
        Probe::Expect { send, expect } => check_expect(send, expect),
        Probe::Http { path, host, status } => check_http(path, host.as_deref(), *status),
        _ => Ok(()),
    }
}

fn check_expect(send: &[u8], expect: &[u8]) -> Result<(), Error> {
    if send.len() > SEND_BYTES_MAX {
        return Err(invalid("send", format!("may have {SEND_BYTES_MAX} bytes")));
    }
    if expect.is_empty() || expect.len() > EXPECT_BYTES_MAX {
        let cause = format!("must have 1 to {EXPECT_BYTES_MAX} bytes");
        return Err(invalid("expect", cause));
    }
    Ok(())
}

/// Nothing of it may end the request's head early.
fn check_http(path: &str, host: Option<&str>, status: (u16, u16)) -> Result<(), Error> {
    let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if !path.starts_with('/') || path.len() > PATH_BYTES_MAX || !visible(path) {
        let cause =
            format!("must begin with / and have at most {PATH_BYTES_MAX} visible ASCII characters");
        return Err(invalid("path", cause));
    }
    if host.is_some_and(|host| host.is_empty() || host.len() > HOST_BYTES_MAX || !visible(host)) {
        let cause = format!("must have 1 to {HOST_BYTES_MAX} visible ASCII characters");
        return Err(invalid("host", cause));
    }
    let (first, last) = status;
    if first > last || first < 100 || last > 599 {
        return Err(invalid(
            "status",
            "must be from 100 to 599, the lower first",
        ));
    }
    Ok(())
}

pub(super) fn written(check: &HealthCheck) -> Value {
    let mut map = Map::new();
    map.insert("check".to_owned(), json!(check.probe.as_str()));
    match &check.probe {
        Probe::Expect { send, expect } => {
            for (key, bytes) in [("send", send), ("expect", expect)] {
                let (key, text) = match std::str::from_utf8(bytes) {
                    Ok(text) => (key.to_owned(), text.to_owned()),
                    Err(_) => (format!("{key}_base64"), STANDARD.encode(bytes)),
                };
                if !text.is_empty() {
                    map.insert(key, json!(text));
                }
            }
        }
        Probe::Http { path, host, status } => {
            map.insert("path".to_owned(), json!(path));
            if let Some(host) = host {
                map.insert("host".to_owned(), json!(host));
            }
            let (first, last) = status;
            map.insert("status".to_owned(), json!(format!("{first}-{last}")));
        }
        _ => {}
    }
    map.insert("interval".to_owned(), json!(text_of(check.interval)));
    map.insert("timeout".to_owned(), json!(text_of(check.timeout)));
    map.insert("rise".to_owned(), json!(check.rise));
    map.insert("fall".to_owned(), json!(check.fall));
    Value::Object(map)
}

fn text_of(span: Duration) -> String {
    match span.subsec_millis() {
        0 => format!("{}s", span.as_secs()),
        _ => format!("{}ms", span.as_millis()),
    }
}
