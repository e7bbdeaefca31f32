//! The variables of a policy: which there are, of which kind, and their values for one connection.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::LazyLock;

use cel::Value as Cel;

use super::values::{map, moment, text, texts};
use super::{Scope, certificates};
use crate::cidr;

/// What a variable holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Int,
    Bool,
    Texts,
    /// A list of maps.
    Maps,
    Time,
    Headers,
}

const PLAIN: &[(&str, Kind)] = &[
    ("conn.client_ip", Kind::Text),
    ("conn.client_port", Kind::Int),
    ("conn.server_ip", Kind::Text),
    ("conn.server_port", Kind::Int),
    ("conn.server_region", Kind::Text),
    ("conn.ts.start", Kind::Time),
    ("conn.bytes_in", Kind::Int),
    ("conn.bytes_out", Kind::Int),
    ("conn.protocol", Kind::Text),
    ("conn.sni", Kind::Text),
    ("conn.alpn", Kind::Texts),
    ("conn.http.host", Kind::Text),
    ("conn.minecraft.host", Kind::Text),
    ("conn.tls.sni", Kind::Text),
    ("conn.tls.version", Kind::Text),
    ("conn.tls.cipher_suite", Kind::Text),
    ("conn.tls.negotiated_alpn", Kind::Text),
    ("conn.tls.ja4_fingerprint", Kind::Text),
    ("conn.tls.session_resumed", Kind::Bool),
    ("endpoint.id", Kind::Text),
    ("endpoint.url", Kind::Text),
    ("endpoint.addr", Kind::Text),
    ("endpoint.host", Kind::Text),
    ("endpoint.port", Kind::Int),
    ("endpoint.protocol", Kind::Text),
    ("time.now", Kind::Time),
    ("req.method", Kind::Text),
    ("req.url", Kind::Text),
    ("req.host", Kind::Text),
    ("req.path", Kind::Text),
    ("req.headers", Kind::Headers),
    ("req.content_length", Kind::Int),
];

const GEO: &[&str] = &[
    "city",
    "country",
    "country_code",
    "subdivision",
    "latitude",
    "longitude",
    "radius",
];

const ADDRESS: &[(&str, Kind)] = &[
    ("categories", Kind::Texts),
    ("is_on_blocklist", Kind::Bool),
    ("is_tor_node", Kind::Bool),
    ("as.number", Kind::Int),
    ("as.organization", Kind::Text),
];

const CERTIFICATE: &[(&str, Kind)] = &[
    ("subject", Kind::Text),
    ("issuer", Kind::Text),
    ("san.dns_names", Kind::Texts),
    ("san.email_addresses", Kind::Texts),
    ("san.ip_addresses", Kind::Texts),
    ("san.uris", Kind::Texts),
    ("serial_number", Kind::Text),
    ("signature_algorithm", Kind::Text),
    ("validity.not_before", Kind::Text),
    ("validity.not_after", Kind::Text),
    ("extensions", Kind::Maps),
    ("pem", Kind::Text),
];

const NAME: &[(&str, Kind)] = &[
    ("common_name", Kind::Text),
    ("country", Kind::Texts),
    ("locality", Kind::Texts),
    ("organization", Kind::Texts),
    ("organizational_unit", Kind::Texts),
    ("postal_code", Kind::Texts),
    ("province", Kind::Texts),
    ("street_address", Kind::Texts),
];

/// Every variable with a fixed name.
static PATHS: LazyLock<BTreeMap<String, Kind>> = LazyLock::new(|| {
    let mut paths: BTreeMap<String, Kind> = PLAIN
        .iter()
        .map(|(path, kind)| ((*path).to_owned(), *kind))
        .collect();
    let mut add = |base: &str, below: &[(&str, Kind)]| {
        for (name, kind) in below {
            paths.insert(format!("{base}.{name}"), *kind);
        }
    };
    let geo: Vec<(&str, Kind)> = GEO.iter().map(|name| (*name, Kind::Text)).collect();
    add("conn.geo", &geo);
    for side in ["conn.client_ip", "conn.server_ip"] {
        add(side, ADDRESS);
        add(&format!("{side}.geo.location"), &geo);
        add(&format!("{side}.geo.registered_location"), &geo);
    }
    for side in ["conn.tls.client", "conn.tls.server"] {
        add(side, CERTIFICATE);
        add(&format!("{side}.subject"), NAME);
        add(&format!("{side}.issuer"), NAME);
    }
    paths
});

/// The kind of a variable with a fixed name.
pub(super) fn kind(path: &str) -> Option<Kind> {
    PATHS.get(path).copied()
}

/// Whether there are variables below this name.
pub(super) fn is_node(path: &str) -> bool {
    below(path).next().is_some()
}

/// All names, for suggestions.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    PATHS
        .keys()
        .map(String::as_str)
        .chain(["vars", "actions.ngrok"])
}

/// The variables below a name, without the name.
fn below(path: &str) -> impl Iterator<Item = (&'static str, Kind)> {
    let prefix = format!("{path}.");
    PATHS
        .range(prefix.clone()..)
        .take_while(move |(name, _)| name.starts_with(&prefix))
        .map({
            let skip = path.len() + 1;
            move |(name, kind)| (name.get(skip..).unwrap_or_default(), *kind)
        })
}

/// The value of a variable, or the map of those below.
pub(super) fn value(path: &str, scope: &Scope<'_>) -> Cel {
    if let Some(kind) = kind(path) {
        return leaf(path, kind, scope);
    }
    let children: std::collections::BTreeSet<&str> = below(path)
        .map(|(name, _)| name.split('.').next().unwrap_or_default())
        .collect();
    map(children
        .into_iter()
        .map(|name| (name.to_owned(), value(&format!("{path}.{name}"), scope))))
}

fn leaf(path: &str, kind: Kind, scope: &Scope<'_>) -> Cel {
    let facts = scope.facts;
    let client = cidr::unmap(facts.conn.client.ip());
    let server = cidr::unmap(facts.conn.server.ip());
    let (root, rest) = path.split_once('.').unwrap_or((path, ""));
    let known = match (root, rest) {
        ("conn", "client_ip") => Some(text(client.to_string())),
        ("conn", "client_port") => Some(Cel::Int(facts.conn.client.port().into())),
        ("conn", "server_ip") => Some(text(server.to_string())),
        ("conn", "server_port") => Some(Cel::Int(facts.conn.server.port().into())),
        ("conn", "server_region") => Some(text(facts.region)),
        ("conn", "ts.start") => Some(moment(facts.started_micros)),
        ("conn", rest) => {
            if let Some(rest) = rest.strip_prefix("client_ip.") {
                of_address(rest, client, scope)
            } else if let Some(rest) = rest.strip_prefix("server_ip.") {
                of_address(rest, server, scope)
            } else if let Some(name) = rest.strip_prefix("geo.") {
                of_address(&format!("geo.location.{name}"), client, scope)
            } else if let Some(rest) = rest.strip_prefix("tls.") {
                certificates::value(rest, scope)
            } else {
                of_first(rest, scope)
            }
        }
        ("time", _) => Some(moment(facts.now_micros)),
        ("endpoint", rest) => of_endpoint(rest, scope),
        ("req", rest) => of_request(rest, scope),
        _ => None,
    };
    known.unwrap_or_else(|| empty(kind, facts.started_micros))
}

fn of_address(rest: &str, ip: IpAddr, scope: &Scope<'_>) -> Option<Cel> {
    let place = scope.world.place(ip)?;
    let has = |wanted: &str| {
        place.categories.iter().any(|category| {
            category
                .strip_prefix(wanted)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    };
    Some(match rest {
        "categories" => texts(&place.categories),
        "is_on_blocklist" => Cel::Bool(has("blocklist")),
        "is_tor_node" => Cel::Bool(has("proxy.anonymous.tor")),
        "as.number" => Cel::Int(place.as_number.into()),
        "as.organization" => text(place.as_organization.as_str()),
        // Where a network is registered is not in the files; its location stands for both.
        _ => {
            let name = rest.rsplit('.').next()?;
            text(place.geo.get(name)?.as_str())
        }
    })
}

fn of_first(rest: &str, scope: &Scope<'_>) -> Option<Cel> {
    let first = scope.facts.given.first.as_ref()?;
    match rest {
        "protocol" => Some(text(first.protocol.as_str())),
        "sni" => first.sni.as_deref().map(text),
        "alpn" => Some(texts(&first.alpn)),
        "http.host" => first.http_host.as_deref().map(text),
        "minecraft.host" => first.minecraft_host.as_deref().map(text),
        _ => None,
    }
}

fn of_endpoint(rest: &str, scope: &Scope<'_>) -> Option<Cel> {
    let endpoint = scope.facts.endpoint;
    Some(match rest {
        "id" => text(endpoint.id),
        "url" => text(endpoint.url.to_string()),
        "addr" => text(endpoint.url.hostport()),
        "host" => text(endpoint.url.host()),
        "port" => Cel::Int(endpoint.url.port().into()),
        "protocol" => text(endpoint.url.scheme().as_str()),
        _ => return None,
    })
}

fn of_request(rest: &str, scope: &Scope<'_>) -> Option<Cel> {
    let request = scope.facts.given.request.as_ref()?.as_ref()?;
    Some(match rest {
        "method" => text(request.method.as_str()),
        "url" => text(request.url.as_str()),
        "host" => text(request.host.as_str()),
        "path" => text(request.path.as_str()),
        "content_length" => Cel::Int(
            headers(scope, "content-length")
                .next()
                .and_then(|value| value.trim().parse().ok())
                .unwrap_or(0),
        ),
        "headers" => {
            let mut all: BTreeMap<String, Vec<&str>> = BTreeMap::new();
            for (name, value) in &request.headers {
                all.entry(name.to_ascii_lowercase())
                    .or_default()
                    .push(value);
            }
            map(all.into_iter().map(|(name, values)| (name, texts(values))))
        }
        _ => return None,
    })
}

/// The values of one header.
pub(super) fn headers<'a>(
    scope: &Scope<'a>,
    name: &'a str,
) -> impl Iterator<Item = &'a str> + use<'a> {
    let facts = scope.facts;
    let request = facts.given.request.as_ref().and_then(Option::as_ref);
    request
        .into_iter()
        .flat_map(|request| &request.headers)
        .filter(move |(own, _)| own.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

fn empty(kind: Kind, started_micros: i64) -> Cel {
    match kind {
        Kind::Text => text(""),
        Kind::Int => Cel::Int(0),
        Kind::Bool => Cel::Bool(false),
        Kind::Texts | Kind::Maps => texts(Vec::<&str>::new()),
        Kind::Headers => map([]),
        Kind::Time => moment(started_micros),
    }
}
