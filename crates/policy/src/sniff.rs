//! The first bytes of a connection: which protocol they speak, and the names in them. Pure: bytes in, facts
//! out.
//!
//! Must never: answer, wait, or take bytes away; whoever forwards the connection replays them.

/// What the first bytes say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct First {
    /// Which protocol.
    pub protocol: Protocol,
    /// TLS: the server's name that the client asks for.
    pub sni: Option<String>,
    /// TLS: the protocols that the client offers.
    pub alpn: Vec<String>,
    /// HTTP: the host that is asked for, without its port.
    pub http_host: Option<String>,
    /// Minecraft: the host that the player wrote.
    pub minecraft_host: Option<String>,
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
    /// PostgreSQL asks for encryption before it says anything: answer `say` and look at what follows the
    /// `taken` bytes, which are not replayed. (Nothing is encrypted here yet, so `say` is `N`.)
    Answer {
        /// Bytes that are done with.
        taken: usize,
        /// What to answer.
        say: &'static [u8],
    },
}

/// Looks at all bytes that came so far; `ended`: no more will come.
pub fn look(_bytes: &[u8], _ended: bool) -> Looked {
    Looked::Found(First::default())
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
    /// The `Host` header without its port; empty: none.
    pub host: String,
    /// Names in lower case, in their order.
    pub headers: Vec<(String, String)>,
}

/// What is known of a request's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// More bytes may complete it.
    More,
    /// It is not HTTP/1.x, or its head is too long.
    Not,
    /// The head, and how many bytes it took.
    Whole(Request, usize),
}

/// Looks for a whole head in all bytes that came so far.
pub fn http_head(_bytes: &[u8]) -> Head {
    Head::Not
}

/// A response of ours: with `Content-Length`, `Connection: close` and, to a `HEAD`, without its body.
pub fn http_reply(
    _status: u16,
    _headers: &[(String, String)],
    _body: &[u8],
    _is_head: bool,
) -> Vec<u8> {
    Vec::new()
}
