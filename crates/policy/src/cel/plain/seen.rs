//! Values of variables as they stand in what is known of a connection: borrowed, or written into a small
//! buffer. What is not listed here is made as for the interpreter.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use cel::Value as Cel;

use super::super::paths::{self, Kind};
use super::super::slots::Slot;
use super::super::{Scope, slots};
use crate::cidr;
use crate::sniff::{First, Request};

/// One end of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Side {
    Client,
    Server,
}

impl Side {
    /// Its address; an IPv4 address within IPv6 is the IPv4 address.
    pub(super) fn ip(self, scope: &Scope<'_>) -> IpAddr {
        let conn = &scope.facts.conn;
        cidr::unmap(match self {
            Self::Client => conn.client.ip(),
            Self::Server => conn.server.ip(),
        })
    }
}

/// A variable, with what is known of it when the expression is compiled.
#[derive(Debug, Clone)]
pub(in super::super) struct Variable {
    place: Place,
    slot: Slot,
    kind: Kind,
}

/// Where a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Ip(Side),
    ClientPort,
    ServerPort,
    Region,
    EndpointId,
    EndpointHost,
    EndpointPort,
    Protocol,
    Sni,
    Alpn,
    HttpHost,
    MinecraftHost,
    Method,
    Url,
    Path,
    Host,
    /// A header's values.
    Header,
    /// Wherever the interpreter has it from.
    Elsewhere,
}

/// Where the value of a path stands.
fn place_of(path: &str) -> Place {
    match path {
        "conn.client_ip" => Place::Ip(Side::Client),
        "conn.server_ip" => Place::Ip(Side::Server),
        "conn.client_port" => Place::ClientPort,
        "conn.server_port" => Place::ServerPort,
        "conn.server_region" => Place::Region,
        "endpoint.id" => Place::EndpointId,
        "endpoint.host" => Place::EndpointHost,
        "endpoint.port" => Place::EndpointPort,
        "conn.protocol" => Place::Protocol,
        "conn.sni" => Place::Sni,
        "conn.alpn" => Place::Alpn,
        "conn.http.host" => Place::HttpHost,
        "conn.minecraft.host" => Place::MinecraftHost,
        "req.method" => Place::Method,
        "req.url" => Place::Url,
        "req.path" => Place::Path,
        "req.host" => Place::Host,
        _ => Place::Elsewhere,
    }
}

/// A text for as long as it is compared.
pub(super) enum Seen<'a> {
    Text(&'a str),
    Written(Written),
    Made(Cel),
}

impl Seen<'_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Written(written) => written.as_str(),
            Self::Made(Cel::String(text)) => text.as_str(),
            Self::Made(_) => "",
        }
    }
}

/// The longest text of an address: six groups and an IPv4 address.
const ADDRESS_BYTES_MAX: usize = "0000:0000:0000:0000:0000:0000:255.255.255.255".len();

/// The text of an address.
pub(super) struct Written {
    bytes: [u8; ADDRESS_BYTES_MAX],
    len: usize,
}

impl Written {
    fn of(ip: IpAddr) -> Option<Self> {
        let mut written = Self {
            bytes: [0; ADDRESS_BYTES_MAX],
            len: 0,
        };
        match ip {
            IpAddr::V4(ip) => written.v4(ip)?,
            IpAddr::V6(ip) => write!(written, "{ip}").ok()?,
        }
        Some(written)
    }

    /// Five times as fast as by way of `Display`, and most clients have one.
    fn v4(&mut self, ip: Ipv4Addr) -> Option<()> {
        for (at, part) in ip.octets().into_iter().enumerate() {
            if at > 0 {
                self.push(b'.')?;
            }
            if part >= 100 {
                self.push(b'0' + part / 100)?;
            }
            if part >= 10 {
                self.push(b'0' + part / 10 % 10)?;
            }
            self.push(b'0' + part % 10)?;
        }
        Some(())
    }

    fn push(&mut self, byte: u8) -> Option<()> {
        *self.bytes.get_mut(self.len)? = byte;
        self.len += 1;
        Some(())
    }

    fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.len).unwrap_or_default();
        // Nothing but ASCII was written.
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl std::fmt::Write for Written {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        let free = self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?;
        free.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

impl Variable {
    /// The variable of a slot; `None`: its kind is known only when it is looked up.
    pub(super) fn of(slot: &Slot) -> Option<Self> {
        let (place, kind) = match slot {
            Slot::Known(path) => (place_of(path), paths::kind(path)?),
            Slot::Header(_) => (Place::Header, Kind::Texts),
            _ => return None,
        };
        let slot = slot.clone();
        Some(Self { place, slot, kind })
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Which address it is.
    pub(super) fn side(&self) -> Option<Side> {
        match self.place {
            Place::Ip(side) => Some(side),
            _ => None,
        }
    }

    /// Whether it is as long as the client likes.
    pub(super) fn is_long(&self) -> bool {
        !self.slot.is_small()
    }

    /// Its value as for the interpreter.
    fn made(&self, scope: &Scope<'_>) -> Option<Cel> {
        slots::look_up(&self.slot, false, scope).ok()
    }

    pub(super) fn text<'a>(&self, scope: &Scope<'a>) -> Option<Seen<'a>> {
        let facts = scope.facts;
        let first = |of: fn(&First) -> Option<&str>| {
            Some(Seen::Text(
                facts.given.first.as_ref().and_then(of).unwrap_or_default(),
            ))
        };
        let request = |of: fn(&Request) -> &str| {
            let request = facts.given.request.as_ref().and_then(Option::as_ref);
            Some(Seen::Text(request.map(of).unwrap_or_default()))
        };
        match self.place {
            Place::Ip(side) => Written::of(side.ip(scope)).map(Seen::Written),
            Place::Region => Some(Seen::Text(facts.region)),
            Place::EndpointId => Some(Seen::Text(facts.endpoint.id)),
            Place::EndpointHost => Some(Seen::Text(facts.endpoint.url.host())),
            Place::Protocol => first(|first| Some(first.protocol.as_str())),
            Place::Sni => first(|first| first.sni.as_deref()),
            Place::HttpHost => first(|first| first.http_host.as_deref()),
            Place::MinecraftHost => first(|first| first.minecraft_host.as_deref()),
            Place::Method => request(|request| &request.method),
            Place::Url => request(|request| &request.url),
            Place::Path => request(|request| &request.path),
            Place::Host => request(|request| &request.host),
            _ => match self.made(scope)? {
                made @ Cel::String(_) => Some(Seen::Made(made)),
                _ => None,
            },
        }
    }

    pub(super) fn int(&self, scope: &Scope<'_>) -> Option<i64> {
        let facts = scope.facts;
        match self.place {
            Place::ClientPort => Some(facts.conn.client.port().into()),
            Place::ServerPort => Some(facts.conn.server.port().into()),
            Place::EndpointPort => Some(facts.endpoint.url.port().into()),
            _ => match self.made(scope)? {
                Cel::Int(n) => Some(n),
                _ => None,
            },
        }
    }

    pub(super) fn bool(&self, scope: &Scope<'_>) -> Option<bool> {
        match self.made(scope)? {
            Cel::Bool(is) => Some(is),
            _ => None,
        }
    }

    /// What `has()` says of a text or list.
    pub(super) fn holds(&self, scope: &Scope<'_>) -> Option<bool> {
        Some(match (self.kind, self.place, &self.slot) {
            (Kind::Text, Place::Elsewhere, _) => return self.asked(scope),
            (Kind::Text, ..) => !self.text(scope)?.as_str().is_empty(),
            (_, Place::Alpn, _) => !alpn(scope).is_empty(),
            (_, _, Slot::Header(name)) => paths::headers(scope, name).next().is_some(),
            _ => return self.asked(scope),
        })
    }

    fn asked(&self, scope: &Scope<'_>) -> Option<bool> {
        match slots::look_up(&self.slot, true, scope).ok()? {
            Cel::Bool(is) => Some(is),
            _ => None,
        }
    }

    /// Whether this list of texts has one of them.
    pub(super) fn has(&self, text: &str, scope: &Scope<'_>) -> Option<bool> {
        Some(match (self.place, &self.slot) {
            (Place::Alpn, _) => alpn(scope).iter().any(|one| one == text),
            (_, Slot::Header(name)) => paths::headers(scope, name).any(|one| one == text),
            _ => match self.made(scope)? {
                Cel::List(list) => list
                    .iter()
                    .any(|one| matches!(one, Cel::String(one) if one.as_str() == text)),
                _ => return None,
            },
        })
    }
}

fn alpn<'a>(scope: &Scope<'a>) -> &'a [String] {
    let first = scope.facts.given.first.as_ref();
    first.map(|first| first.alpn.as_slice()).unwrap_or_default()
}
