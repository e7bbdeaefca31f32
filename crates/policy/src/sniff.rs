//! The first bytes of a connection: which protocol they speak, and the names in them. Pure: bytes in, facts
//! out.
//!
//! Every protocol has a function of its own that says "found", "not this" or "more bytes may tell"; [`look`] asks
//! them in a fixed order. What each says of some bytes it also says of more, so [`look`] does.
//!
//! Must never: answer, wait, or take bytes away; whoever forwards the connection replays them.

mod bytes;
mod fixed;
mod host;
mod http;
mod ja4;
mod minecraft;
mod mqtt;
mod postgres;
mod redis;
mod reply;
mod tds;
#[cfg(test)]
mod tests;
mod tls;

use bytes::{Stop, Told};

/// [`look`] never wants more than so many bytes: a ClientHello of 64 KiB in 1,024 records, whose headers take
/// 5 bytes each.
pub const LOOK_BYTES_MAX: usize = tls::MESSAGE_BYTES_MAX + 5 * tls::RECORDS_MAX;
/// Longest head of a request, with the empty line behind it.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most headers of a request.
pub const HEADERS_MAX: usize = 100;

/// What the first bytes say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct First {
    /// Which protocol.
    pub protocol: Protocol,
    /// TLS, behind a front as well: the server's name that the client asks for, in lower case. `None`: it asks for
    /// none, or for what is no host name.
    pub sni: Option<String>,
    /// TLS: the protocols that the client offers, as far as they are printable ASCII, at most 64.
    pub alpn: Vec<String>,
    /// HTTP: the host that is asked for, as in [`Request::host`].
    pub http_host: Option<String>,
    /// Minecraft: the host that the player wrote, in lower case, without what mods and proxies append to it.
    pub minecraft_host: Option<String>,
    /// What stood before TLS, and an upstream must be told before the ClientHello.
    pub front: Front,
    /// PostgreSQL: the client wants a statement of another connection cancelled.
    pub cancel: Option<CancelKey>,
}

/// What stands before TLS in a protocol that begins without it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Front {
    /// Nothing: TLS begins at once, or there is none.
    #[default]
    None,
    /// PostgreSQL's `SSLRequest`, which was answered `S`.
    Postgres,
}

/// What PostgreSQL's `BackendKeyData` gave out, and a `CancelRequest` shows.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CancelKey {
    /// The process.
    pub process: u32,
    /// The secret key: 4 bytes, up to 256 from protocol 3.2 on.
    pub key: Vec<u8>,
}

/// Without the key.
impl std::fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelKey")
            .field("process", &self.process)
            .finish_non_exhaustive()
    }
}

/// The protocols that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Protocol {
    /// TLS, by its ClientHello.
    Tls,
    /// SSH.
    Ssh,
    /// HTTP/1.x, and HTTP/2 by its preface.
    Http,
    /// PostgreSQL.
    Postgres,
    /// SQL Server (TDS).
    Mssql,
    /// Redis.
    Redis,
    /// MQTT.
    Mqtt,
    /// Minecraft.
    Minecraft,
    /// RDP.
    Rdp,
    /// None of these, or nothing was said.
    #[default]
    Unknown,
}

impl Protocol {
    /// The value of `conn.protocol`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Ssh => "ssh",
            Self::Http => "http",
            Self::Postgres => "postgres",
            Self::Mssql => "mssql",
            Self::Redis => "redis",
            Self::Mqtt => "mqtt",
            Self::Minecraft => "minecraft",
            Self::Rdp => "rdp",
            Self::Unknown => "unknown",
        }
    }
}

/// What a look at the bytes came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked {
    /// More bytes may decide.
    More,
    /// What they are. [`Protocol::Unknown`]: no more bytes would change that.
    Found(First),
    /// PostgreSQL asks for encryption before it says anything: answer `say`, and look with `then` at what follows
    /// the `taken` bytes, which are not replayed.
    Answer {
        /// Bytes that are done with.
        taken: usize,
        /// What to answer: `S` to who asks for TLS, `N` to who asks for GSSAPI.
        say: &'static [u8],
        /// What was asked then.
        then: Asked,
    },
}

/// What the client asked for, and was answered, in front of the bytes that are looked at. Each is answered once at
/// most, so that a client is answered twice at most: GSSAPI, then TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Asked {
    /// Nothing: the bytes are its first.
    #[default]
    Nothing,
    /// PostgreSQL's `GSSENCRequest`, which was answered `N`.
    Gssapi,
    /// PostgreSQL's `SSLRequest`, which was answered `S`.
    Tls,
}

/// What a protocol says of all bytes that came so far, and of their end.
type Look = fn(&[u8], bool) -> Told<Looked>;

/// Those that are asked, in this order. The front of a message of TLS, Minecraft, MQTT, SQL Server and RDP tells it
/// from the others by its second byte at the latest. What is ambiguous goes to who stands first: `SSH-` is a method
/// that HTTP allows, and `PING / HTTP/1.1` is a line that Redis would read.
const PROTOCOLS: [Look; 11] = [
    tls::look,
    postgres::look,
    tds::look,
    fixed::rdp,
    mqtt::look,
    minecraft::look,
    fixed::ssh,
    redis::resp,
    fixed::http2,
    http::look,
    redis::inline,
];

/// Looks at all bytes that came so far behind what was `asked`; `ended`: no more will come, or nobody waits for them
/// any longer.
///
/// Not ended, any front of the bytes gives [`Looked::More`] or the answer of the whole; ended, it never gives
/// `More`. An ended front may give less than the whole would: [`Protocol::Unknown`], or the protocol without its
/// names where the front sufficed for that (TLS after 6 bytes, HTTP after its first line, a Minecraft ping of old
/// after the byte `FE`). In three cases it gives something else: `FE`, which may also begin a handshake of 254 bytes or
/// mean nothing, the front of an HTTP request whose method is a command of Redis, and TLS without its ALPN, which may
/// say that it is PostgreSQL or SQL Server.
///
/// Behind [`Asked::Tls`] it is PostgreSQL, whatever follows. [`Front::Postgres`] says that this is TLS, as far as it
/// came; a client that was told to begin with TLS and does not has no front, and no name.
///
/// It allocates for names that it found, and nothing before (but for TLS inside packets of SQL Server).
pub fn look(bytes: &[u8], ended: bool, asked: Asked) -> Looked {
    if asked != Asked::Nothing {
        return postgres::behind(bytes, ended, asked);
    }
    for protocol in PROTOCOLS {
        match protocol(bytes, ended) {
            Ok(looked) => return looked,
            Err(Stop::More) if !ended => return Looked::More,
            Err(Stop::More | Stop::Not) => {}
        }
    }
    Looked::Found(First::default())
}

/// The JA4 fingerprint of the ClientHello that the bytes begin with, such as `t13d1516h2_8daaf6152771_e5627efa2ab1`:
/// which versions, ciphers and extensions a client offers, however it shuffles them. `None`: it is not whole, or broken.
pub fn ja4(bytes: &[u8]) -> Option<String> {
    ja4::fingerprint(&tls::message(bytes)?)
}

impl First {
    /// A protocol without names.
    fn of(protocol: Protocol) -> Self {
        Self {
            protocol,
            ..Self::default()
        }
    }
}

/// A request's head.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// Such as `GET`.
    pub method: String,
    /// The target as it stands in the first line.
    pub url: String,
    /// Its path, without the query.
    pub path: String,
    /// The `Host` header in lower case, without its port, brackets and trailing dot; empty: there is none, there are
    /// several, or it is no host.
    pub host: String,
    /// Names in lower case, in their order.
    pub headers: Vec<(String, String)>,
}

/// What is known of a request's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// More bytes may complete it.
    More,
    /// It is not HTTP.
    Not,
    /// It begins as a request, but is none that can be read: malformed, longer or with more headers than a head may
    /// be, or of another version. A server could take it nevertheless.
    Bad,
    /// The head, and how many bytes it took.
    Whole(Request, usize),
}

/// Looks for a whole head in all bytes that came so far: at most [`HEAD_BYTES_MAX`] bytes and [`HEADERS_MAX`]
/// headers. TLS is [`Head::Not`], HTTP/2 without an upgrade [`Head::Bad`]. Any front of the bytes gives [`Head::More`] or the
/// answer of the whole.
pub fn http_head(bytes: &[u8]) -> Head {
    http::head(bytes)
}

/// A response of ours: with `Content-Length`, `Connection: close` and, to a `HEAD`, without its body.
///
/// Whatever is given, it is a valid message: a `Content-Length`, `Connection` or `Transfer-Encoding` of the caller is
/// left out, as is a header whose name is no token; line breaks and other control characters in values become spaces;
/// a status that is not a final one is 500. Without a `Content-Type` it is text if the body is UTF-8.
pub fn http_reply(
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
    is_head: bool,
) -> Vec<u8> {
    reply::render(status, headers, body, is_head)
}
