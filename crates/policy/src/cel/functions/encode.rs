//! Base64, JSON, query strings, URLs and the header of basic authentication.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cel::common::types::{BYTES_TYPE, CelBytes, DYN_TYPE, MAP_TYPE, STRING_TYPE};
use cel::common::value::CowVal;
use cel::{DeclarationError, Env, ExecutionError, Value as Cel};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::super::budget;
use super::super::values::{as_text, from_json, key_text, map, text, texts, to_json};
use super::{Args, Outcome, answer, answer_bool, answer_text, both, failed, text_at, value_at};

/// What RFC 3986 calls unreserved stands for itself.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

pub(super) fn register(env: &mut Env) -> Result<(), DeclarationError> {
    let string = || STRING_TYPE;
    env.add_overload("base64.encode", "s", vec![string()], base64_encode)?;
    env.add_overload("base64.encode", "b", vec![BYTES_TYPE], base64_encode_bytes)?;
    env.add_overload("base64.decode", "s", vec![string()], base64_decode)?;
    env.add_member_overload("encodeBase64", "s", string(), vec![], base64_encode)?;
    env.add_member_overload("decodeBase64", "s", string(), vec![], base64_decode_text)?;
    both(env, "encodeJson", "json.encode", || DYN_TYPE, json_encode)?;
    both(env, "decodeJson", "json.decode", string, json_decode)?;
    both(
        env,
        "encodeQueryString",
        "queryString.encode",
        || MAP_TYPE,
        query_encode,
    )?;
    both(
        env,
        "decodeQueryString",
        "queryString.decode",
        string,
        query_decode,
    )?;
    both(env, "escapeUrl", "url.escape", string, url_escape)?;
    both(env, "unescapeUrl", "url.unescape", string, url_unescape)?;
    both(env, "parseUrl", "url.parse", string, url_parse)?;
    env.add_overload(
        "basic_auth.encode",
        "s",
        vec![string(), string()],
        basic_auth,
    )?;
    env.add_member_overload("isJson", "s", string(), vec![], is_json)?;
    env.add_member_overload("isURL", "s", string(), vec![], is_url)?;
    env.add_member_overload("isQueryString", "s", string(), vec![], is_query)
}

fn base64_encode<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    answer_text(STANDARD.encode(text_at(&args, 0)?))
}

fn base64_encode_bytes<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let bytes = args
        .first()
        .and_then(|bytes| bytes.downcast_ref::<CelBytes<'_>>())
        .ok_or_else(ExecutionError::missing_argument_or_target)?;
    answer_text(STANDARD.encode(bytes.inner()))
}

fn decoded(function: &str, args: &Args<'_, '_>) -> Result<Vec<u8>, ExecutionError> {
    STANDARD
        .decode(text_at(args, 0)?)
        .map_err(|_| failed(function, "the text is no Base64"))
}

fn base64_decode<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let bytes = decoded("base64.decode", &args)?;
    Ok(CowVal::owned(CelBytes::from(bytes)))
}

fn base64_decode_text<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let bytes = decoded("decodeBase64", &args)?;
    answer_text(
        String::from_utf8(bytes).map_err(|_| failed("decodeBase64", "the bytes are no text"))?,
    )
}

fn json_encode<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let json = to_json(&value_at(&args, 0)?).map_err(|why| failed("json.encode", why))?;
    answer_text(json.to_string())
}

fn json_decode<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let encoded = text_at(&args, 0)?;
    // `[[[[` makes a value of every byte.
    budget::spend(u64::try_from(encoded.len()).unwrap_or(u64::MAX))?;
    let json: serde_json::Value =
        serde_json::from_str(encoded).map_err(|_| failed("json.decode", "the text is no JSON"))?;
    answer(from_json(&json))
}

fn is_json<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    answer_bool(serde_json::from_str::<serde::de::IgnoredAny>(text_at(&args, 0)?).is_ok())
}

fn basic_auth<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let pair = format!("{}:{}", text_at(&args, 0)?, text_at(&args, 1)?);
    answer_text(format!("Basic {}", STANDARD.encode(pair)))
}

fn escape(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// The text with `%41` and the like undone; `None` for a broken escape or bytes that are no text.
fn unescape(text: &str) -> Option<String> {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let digits = rest.get(at + 1..at + 3)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        rest = rest.get(at + 3..)?;
    }
    let bytes = percent_encoding::percent_decode_str(text);
    bytes.decode_utf8().ok().map(String::from)
}

fn url_escape<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    answer_text(escape(text_at(&args, 0)?))
}

fn url_unescape<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    answer_text(
        unescape(text_at(&args, 0)?)
            .ok_or_else(|| failed("url.unescape", "the text has a broken escape"))?,
    )
}

/// The names and values of a query; in it, `+` is a space.
fn query(text: &str) -> Option<BTreeMap<String, Vec<String>>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        if pair.contains(';') {
            return None;
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = unescape(&name.replace('+', " "))?;
        let value = unescape(&value.replace('+', " "))?;
        all.entry(name).or_default().push(value);
    }
    Some(all)
}

fn query_decode<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let encoded = text_at(&args, 0)?;
    budget::spend(u64::try_from(encoded.len()).unwrap_or(u64::MAX))?;
    let pairs = query(encoded.strip_prefix('?').unwrap_or(encoded))
        .ok_or_else(|| failed("queryString.decode", "the text is no query string"))?;
    answer(map(pairs
        .into_iter()
        .map(|(name, values)| (name, texts(values)))))
}

fn query_encode<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let Cel::Map(entries) = value_at(&args, 0)? else {
        return Err(ExecutionError::missing_argument_or_target());
    };
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (name, value) in entries.map.iter() {
        let values = match value {
            Cel::List(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        };
        for value in values {
            let json = to_json(value).map_err(|why| failed("queryString.encode", why))?;
            pairs.push((escape(&key_text(name)), escape(&as_text(&json))));
        }
    }
    // The interpreter's maps have no order; the values of one name keep theirs.
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
    answer_text(pairs.join("&"))
}

fn is_query<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let encoded = text_at(&args, 0)?;
    budget::spend(u64::try_from(encoded.len()).unwrap_or(u64::MAX))?;
    answer_bool(query(encoded.strip_prefix('?').unwrap_or(encoded)).is_some())
}

/// The parts of a URL, as RFC 3986 cuts it.
struct Url<'a> {
    scheme: &'a str,
    user: &'a str,
    host: &'a str,
    port: &'a str,
    path: &'a str,
    query: &'a str,
    fragment: &'a str,
}

fn cut(url: &str) -> Option<Url<'_>> {
    if url.chars().any(|c| c.is_control() || c == ' ') {
        return None;
    }
    let (url, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (url, query) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (scheme, Some(rest)),
        None => ("", None),
    };
    if !scheme.is_empty() && !is_scheme(scheme) {
        return None;
    }
    let Some(rest) = rest else {
        return Some(Url {
            scheme: "",
            user: "",
            host: "",
            port: "",
            path: url,
            query,
            fragment,
        });
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (user, hostport) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (host, port) = match hostport.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest.split_once(']')?;
            (host, behind.strip_prefix(':').unwrap_or(behind))
        }
        None => hostport.split_once(':').unwrap_or((hostport, "")),
    };
    if !port.is_empty() && port.parse::<u16>().is_err() {
        return None;
    }
    Some(Url {
        scheme,
        user,
        host,
        port,
        path,
        query,
        fragment,
    })
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn is_url<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let url = cut(text_at(&args, 0)?);
    answer_bool(url.is_some_and(|url| !url.scheme.is_empty() && !url.host.is_empty()))
}

fn url_parse<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let whole = text_at(&args, 0)?;
    let url = cut(whole).ok_or_else(|| failed("url.parse", "the text is no URL"))?;
    let host = match (url.host.contains(':'), url.port.is_empty()) {
        (true, true) => format!("[{}]", url.host),
        (true, false) => format!("[{}]:{}", url.host, url.port),
        (false, true) => url.host.to_owned(),
        (false, false) => format!("{}:{}", url.host, url.port),
    };
    let parts = [
        ("scheme", url.scheme),
        ("user", url.user),
        ("host", host.as_str()),
        ("hostname", url.host),
        ("port", url.port),
        ("path", url.path),
        ("query", url.query),
        ("fragment", url.fragment),
    ];
    answer(map(parts
        .into_iter()
        .map(|(name, part)| (name.to_owned(), text(part)))))
}
