//! Values between CEL and JSON.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cel::Value as Cel;
use cel::objects::Key;
use chrono::{DateTime, FixedOffset, SecondsFormat};
use serde_json::{Map, Number, Value};

/// A moment, from microseconds since 1970.
pub(super) fn moment(micros: i64) -> Cel {
    Cel::Timestamp(
        DateTime::from_timestamp_micros(micros)
            .unwrap_or_default()
            .fixed_offset(),
    )
}

/// A text.
pub(super) fn text(text: impl Into<String>) -> Cel {
    Cel::from(text.into())
}

/// A list of texts.
pub(super) fn texts<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Cel {
    Cel::from(
        texts
            .into_iter()
            .map(|one| text(one.as_ref()))
            .collect::<Vec<Cel>>(),
    )
}

/// A map.
pub(super) fn map(entries: impl IntoIterator<Item = (String, Cel)>) -> Cel {
    Cel::from(entries.into_iter().collect::<HashMap<String, Cel>>())
}

/// The same in CEL.
pub(super) fn from_json(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(b) => Cel::Bool(*b),
        Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => Cel::Int(n),
            (None, Some(n)) => Cel::UInt(n),
            _ => Cel::Float(n.as_f64().unwrap_or_default()),
        },
        Value::String(s) => text(s.as_str()),
        Value::Array(list) => Cel::from(list.iter().map(from_json).collect::<Vec<Cel>>()),
        Value::Object(object) => map(object
            .iter()
            .map(|(key, value)| (key.clone(), from_json(value)))),
    }
}

/// The same in JSON: moments as RFC 3339, durations as `90s`, bytes as Base64.
pub(super) fn to_json(value: &Cel) -> Result<Value, String> {
    Ok(match value {
        Cel::Null => Value::Null,
        Cel::Bool(b) => Value::Bool(*b),
        Cel::Int(n) => Value::from(*n),
        Cel::UInt(n) => Value::from(*n),
        Cel::Float(n) => Number::from_f64(*n).map_or_else(
            || Value::String(n.to_string()),
            // 2.0 is not 2 in JSON either.
            Value::Number,
        ),
        Cel::String(s) => Value::String(s.as_str().to_owned()),
        Cel::Bytes(bytes) => Value::String(STANDARD.encode(bytes.as_slice())),
        Cel::Timestamp(at) => Value::String(rfc3339(at)),
        Cel::Duration(duration) => Value::String(seconds(*duration)),
        Cel::List(list) => Value::Array(list.iter().map(to_json).collect::<Result<Vec<_>, _>>()?),
        Cel::Map(entries) => {
            let mut object = Map::new();
            for (key, value) in entries.map.iter() {
                object.insert(key_text(key), to_json(value)?);
            }
            Value::Object(object)
        }
        other => return Err(format!("a {} is no value to go on with", other.type_of())),
    })
}

/// A map's key as text.
pub(super) fn key_text(key: &Key) -> String {
    match key {
        Key::Int(n) => n.to_string(),
        Key::Uint(n) => n.to_string(),
        Key::Bool(b) => b.to_string(),
        Key::String(s) => s.as_str().to_owned(),
    }
}

fn rfc3339(at: &DateTime<FixedOffset>) -> String {
    at.to_utc().to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

fn seconds(duration: chrono::TimeDelta) -> String {
    let nanos = duration.subsec_nanos();
    if nanos == 0 {
        return format!("{}s", duration.num_seconds());
    }
    let fraction = format!("{:09}", nanos.unsigned_abs());
    let sign = if duration < chrono::TimeDelta::zero() {
        "-"
    } else {
        ""
    };
    format!(
        "{sign}{}.{}s",
        duration.num_seconds().unsigned_abs(),
        fraction.trim_end_matches('0')
    )
}

/// A value as it stands in a text: a string bare, nothing for null, the rest as JSON.
pub(super) fn as_text(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
