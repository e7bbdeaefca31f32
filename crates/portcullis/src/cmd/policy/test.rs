//! `portcullis policy test`: what a policy would do to a connection that the flags describe. Nothing is
//! asked of a server.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use portcullis_edge::places::{CategoryList, PlaceFiles, Places, is_category};
use portcullis_model::id::IpPolicyId;
use portcullis_model::{Code, EndpointType, EndpointUrl, Error, url};
use portcullis_policy::sniff::{self, Asked, First, Head, Looked, Protocol};
use portcullis_policy::tls::TlsFacts;
use portcullis_policy::world::{Bucket, Choice, IpSets, Place, Rate, World};
use portcullis_policy::{
    Conn, Decision, DenyMode, EndpointFacts, Facts, Given, Need, Next, OnError, Policy, Run, cidr,
};

use super::{For, facts, read_document};
use crate::failure::Failure;
use crate::output::{self, Format};

/// `test`.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// The document (`-` reads standard input).
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The type of endpoint that it is for.
    #[arg(
        long = "type",
        value_enum,
        default_value = "agent",
        value_name = "TYPE"
    )]
    kind: For,
    /// The client's address, with its port if that matters.
    #[arg(long, value_name = "IP[:PORT]", default_value = "192.0.2.1", value_parser = client_address)]
    client_ip: SocketAddr,
    /// The address that the client connects to.
    #[arg(long, value_name = "IP[:PORT]", default_value = "203.0.113.5", value_parser = server_address)]
    server_ip: SocketAddr,
    /// The endpoint's URL.
    #[arg(long, value_name = "URL", default_value = "tcp://edge.example.com:20001", value_parser = endpoint_url)]
    endpoint_url: EndpointUrl,
    /// A variable that no other flag gives, such as `conn.geo.country_code=DE`, `conn.protocol=ssh`,
    /// `conn.sni=db.example.com` or `conn.tls.client.subject.common_name=alice`. May be given several times.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
    /// The client's first bytes.
    #[arg(long, value_name = "FILE", conflicts_with = "request")]
    first_bytes: Option<PathBuf>,
    /// The head of an HTTP request, such as `GET / HTTP/1.1`; `\n` begins another line.
    #[arg(long, value_name = "TEXT")]
    request: Option<String>,
    /// An IP policy: a file with a rule on each line, such as `allow 10.0.0.0/8`. May be given several times.
    #[arg(long = "ip-policy", value_name = "ID=FILE", value_parser = assignment)]
    ip_policies: Vec<(String, String)>,
    /// A secret, `VAULT/NAME=VALUE`. May be given several times.
    #[arg(long = "secret", value_name = "VAULT/NAME=VALUE", value_parser = assignment)]
    secrets: Vec<(String, String)>,
    /// Where addresses are: a City or Country file in MaxMind's format.
    #[arg(long, value_name = "FILE")]
    geo_city: Option<PathBuf>,
    /// Whose addresses are: an ASN file in MaxMind's format.
    #[arg(long, value_name = "FILE")]
    geo_asn: Option<PathBuf>,
    /// Networks of a category: a file with one on each line. May be given several times.
    #[arg(long = "ip-category", value_name = "CATEGORY=FILE", value_parser = assignment)]
    ip_categories: Vec<(String, String)>,
    /// An internal endpoint that is not online. May be given several times.
    #[arg(long = "offline", value_name = "URL", value_parser = endpoint_url)]
    offline: Vec<EndpointUrl>,
    /// How to show it: a table on a terminal, JSON elsewhere.
    #[arg(long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
}

/// What happens to a client that says nothing where a rule waits for its request.
const NO_REQUEST: &str = "a rule waits for the head of an HTTP request, and none came; the server waits up to 10 s for it and closes the connection with request_timeout. --request or --first-bytes says what the client sends";
/// Why a request that cannot be read ends the connection.
const BAD_REQUEST: &str =
    "what the client says begins as an HTTP request, but cannot be read (PTC_REQUEST_INVALID)";
/// More of a request's head the server does not read: it is none then.
const REQUEST_HEAD_BYTES_MAX: usize = 16 * 1024;

/// Runs the policy and tells what it did.
///
/// # Errors
/// What is wrong with the document or the flags.
pub(super) fn run(args: &TestArgs) -> Result<(), Failure> {
    let text = read_document(&args.file)?;
    let policy = Policy::compile(&text, EndpointType::from(args.kind))?;
    let connection = Connection::of(args)?;
    let told = tell(&policy, &connection, &args.offline);
    match Format::settle(args.output) {
        Format::Json => output::line(&told.json().to_string()),
        Format::Table => told.print(),
    }
    Ok(())
}

/// The connection that the flags describe.
struct Connection {
    conn: Conn,
    url: EndpointUrl,
    bytes: Vec<u8>,
    first: Option<First>,
    /// What terminated TLS is known by; `None`: nothing is said of it.
    tls: Option<TlsFacts>,
    world: Described,
}

/// What a policy did.
struct Told {
    notices: Vec<String>,
    steps: Vec<String>,
    logged: Vec<serde_json::Value>,
    outcome: &'static str,
    detail: String,
}

impl Told {
    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "outcome": self.outcome,
            "detail": self.detail,
            "steps": self.steps,
            "logged": self.logged,
            "notices": self.notices,
        })
    }

    fn print(&self) {
        for notice in &self.notices {
            output::note(&format!("note: {notice}"));
        }
        for step in &self.steps {
            output::line(step);
        }
        for value in &self.logged {
            output::line(&format!("log: {value}"));
        }
        output::line(&format!("=> {}: {}", self.outcome, self.detail));
    }
}

fn tell(policy: &Policy, connection: &Connection, offline: &[EndpointUrl]) -> Told {
    let mut told = Told {
        notices: policy
            .notices()
            .iter()
            .map(|notice| format!("{}: {}", notice.path, notice.message))
            .collect(),
        steps: Vec::new(),
        logged: Vec::new(),
        outcome: "",
        detail: String::new(),
    };
    let (mut run, mut given) = (Run::explaining(), connection.given(policy));
    loop {
        let facts = Facts {
            conn: connection.conn,
            endpoint: EndpointFacts {
                id: "ep_test",
                url: &connection.url,
            },
            region: "test",
            started_micros: connection.world.now_micros,
            now_micros: connection.world.now_micros,
            random: 0,
            given: &given,
        };
        let next = run.go(policy, &facts, &connection.world);
        told.steps.append(&mut run.take_log());
        told.logged.append(&mut run.take_logged());
        let decision = match next {
            Next::Need(need) => match connection.give(need, &mut given) {
                Ok(step) => {
                    told.steps.push(step);
                    continue;
                }
                Err((outcome, why)) => {
                    (told.outcome, told.detail) = (outcome, why.to_owned());
                    return told;
                }
            },
            Next::Done(decision) => decision,
        };
        match &decision {
            Decision::Forward { url, on_error, .. } if offline.contains(url) => {
                let why = Error::new(
                    Code::ForwardTargetMissing,
                    format!("`{url}` is not online in the account"),
                );
                told.steps.push(why.message.clone());
                if *on_error == OnError::Halt {
                    (told.outcome, told.detail) = ("close", why.to_string());
                    return told;
                }
                run.failed(&why);
            }
            decided => {
                (told.outcome, told.detail) = outcome(decided);
                return told;
            }
        }
    }
}

/// What would happen, as a word for programs and a sentence for people.
fn outcome(decision: &Decision) -> (&'static str, String) {
    match decision {
        Decision::Forward { url, .. } => ("forward", format!("to {url}, whose policy runs next")),
        Decision::FallThrough => (
            "upstream",
            "nothing decided, so it goes to the endpoint's upstream".to_owned(),
        ),
        Decision::Deny { rule, mode } => {
            let how = match mode {
                DenyMode::Close => "closed".to_owned(),
                DenyMode::Reset => "reset".to_owned(),
                DenyMode::Tarpit(hold) => format!("held for {hold:?} and closed"),
            };
            ("deny", format!("`{rule}` denies it; it is {how}"))
        }
        Decision::Close { rule } => ("close", format!("`{rule}` closes it")),
        Decision::Restricted { rule, matched } => {
            let why = match matched {
                Some(network) => format!("`{rule}` denies {network}"),
                None => format!("`{rule}` allows no network of the client"),
            };
            ("restricted", why)
        }
        Decision::Respond {
            rule,
            bytes,
            status,
        } => {
            let what = match status {
                Some(status) => format!("HTTP status {status}"),
                None => format!("{} bytes", bytes.len()),
            };
            ("respond", format!("`{rule}` answers with {what}"))
        }
        Decision::Limited { rule, .. } => ("limited", format!("`{rule}` has no more to give")),
        Decision::NotHttp { rule } => (
            "not-http",
            format!("`{rule}` answers HTTP, and the client speaks something else"),
        ),
        Decision::Failed { path, error } => ("policy-error", format!("{path}: {error}")),
    }
}

impl Connection {
    fn of(args: &TestArgs) -> Result<Self, Failure> {
        let bytes = match (&args.first_bytes, &args.request) {
            (Some(path), _) => read_bytes(path)?,
            (None, Some(text)) => request_bytes(text),
            (None, None) => Vec::new(),
        };
        let mut world = Described {
            places: places(args)?,
            ..Described::default()
        };
        let (mut first, mut tls) = (None, None);
        for (name, value) in &args.set {
            match name.strip_prefix("conn.tls.") {
                Some(rest) => facts::set(tls.get_or_insert_default(), rest, value)?,
                None => world.set(name, value, &mut first)?,
            }
        }
        for (id, file) in &args.ip_policies {
            let id: IpPolicyId = id
                .parse()
                .map_err(|_| wrong(format!("{id} is not the id of an IP policy (ipp_…)")))?;
            world.ip_policies.insert(id, Arc::new(ip_sets(file)?));
        }
        for (name, value) in &args.secrets {
            let Some((vault, secret)) = name.split_once('/') else {
                return Err(wrong(format!("--secret {name}: write VAULT/NAME=VALUE")));
            };
            let name = (vault.to_owned(), secret.to_owned());
            world.secrets.insert(name, Arc::from(value.as_str()));
        }
        Ok(Self {
            conn: Conn::new(args.client_ip, args.server_ip),
            url: args.endpoint_url.clone(),
            bytes,
            first,
            tls,
            world,
        })
    }

    /// What is given from the start: TLS that an endpoint in front has terminated, where the policy does not.
    fn given(&self, policy: &Policy) -> Given {
        let tls = self.tls.clone().filter(|_| !policy.may_terminate_tls());
        Given {
            tls: tls.map(Arc::new),
            ..Given::default()
        }
    }

    /// Gets what is needed; says what it was, or what happens because it cannot be had, and why.
    fn give(&self, need: Need, given: &mut Given) -> Result<String, (&'static str, &'static str)> {
        Ok(match need {
            Need::First { .. } => {
                let first = self.first.clone().unwrap_or_else(|| self.look());
                let told = format!("the first bytes are {}", first.protocol.as_str());
                given.first = Some(first);
                told
            }
            Need::Tls(termination) => {
                let set = self.tls.clone().unwrap_or_default();
                if let Some(why) = facts::refused(&termination, &set) {
                    return Err(("tls-handshake", why));
                }
                let first = given.first.as_ref();
                let sni = first.and_then(|first| first.sni.as_deref());
                let mut facts = facts::of(&termination, &set, sni);
                facts.termination = Some(termination);
                let told = match facts.sni.as_str() {
                    "" => format!("TLS {} is terminated", facts.version),
                    name => format!("TLS {} is terminated for {name}", facts.version),
                };
                given.tls = Some(Arc::new(facts));
                told
            }
            Need::Request => {
                let request = match sniff::http_head(&self.bytes) {
                    Head::Whole(request, _) => Some(request),
                    Head::More if self.waits(given) => return Err(("request-timeout", NO_REQUEST)),
                    Head::Bad => return Err(("request-invalid", BAD_REQUEST)),
                    Head::More | Head::Not => None,
                };
                let told = match &request {
                    Some(request) => format!("the request is {} {}", request.method, request.url),
                    None => "what the client says is no HTTP request".to_owned(),
                };
                given.request = Some(request);
                told
            }
        })
    }

    /// Whether the server would wait for more of a request: nothing says that the client speaks anything else.
    fn waits(&self, given: &Given) -> bool {
        let is_other =
            |first: &First| !matches!(first.protocol, Protocol::Unknown | Protocol::Http);
        self.bytes.len() < REQUEST_HEAD_BYTES_MAX
            && (given.tls.is_some() || !self.first.as_ref().is_some_and(is_other))
    }

    fn look(&self) -> First {
        let (mut bytes, mut asked) = (self.bytes.as_slice(), Asked::default());
        loop {
            match sniff::look(bytes, true, asked) {
                Looked::Found(first) => return first,
                Looked::Answer { taken, then, .. } if taken > 0 => {
                    bytes = bytes.get(taken..).unwrap_or_default();
                    asked = then;
                }
                Looked::Answer { .. } | Looked::More => return First::default(),
            }
        }
    }
}

/// The world as the flags describe it. Limits are those of a server that serves nobody else.
#[derive(Default)]
struct Described {
    ip_policies: BTreeMap<IpPolicyId, Arc<IpSets>>,
    secrets: BTreeMap<(String, String), Arc<str>>,
    /// What `--set` says of every address; stronger than the files.
    place: Place,
    places: Places,
    now_micros: i64,
}

impl Described {
    fn set(&mut self, name: &str, value: &str, first: &mut Option<First>) -> Result<(), Failure> {
        let text = value.to_owned();
        if let Some(key) = name.strip_prefix("conn.geo.") {
            self.place.geo.insert(key.to_owned(), text);
            return Ok(());
        }
        match name {
            "conn.client_ip.as.number" => {
                self.place.as_number = value
                    .parse()
                    .map_err(|_| wrong(format!("--set {name}: a number is expected")))?;
            }
            "conn.client_ip.as.organization" => self.place.as_organization = text,
            "conn.client_ip.categories" => {
                self.place.categories = value.split(',').map(str::to_owned).collect();
            }
            "conn.protocol" => first.get_or_insert_default().protocol = protocol(value)?,
            "conn.sni" => first.get_or_insert_default().sni = Some(text),
            "conn.alpn" => {
                first.get_or_insert_default().alpn = value.split(',').map(str::to_owned).collect();
            }
            "conn.http.host" => first.get_or_insert_default().http_host = Some(text),
            "conn.minecraft.host" => first.get_or_insert_default().minecraft_host = Some(text),
            "time.now" => {
                let at: jiff::Timestamp = value
                    .parse()
                    .map_err(|error| wrong(format!("--set time.now: {error}")))?;
                self.now_micros = at.as_microsecond();
            }
            _ => {
                return Err(wrong(format!(
                    "--set {name}: it can set conn.geo.*, conn.client_ip.as.number, conn.client_ip.as.organization, conn.client_ip.categories, conn.protocol, conn.sni, conn.alpn, conn.http.host, conn.minecraft.host, conn.tls.* and time.now"
                )));
            }
        }
        Ok(())
    }
}

impl World for Described {
    fn ip_policy(&self, id: &IpPolicyId) -> Option<Arc<IpSets>> {
        self.ip_policies.get(id).cloned()
    }

    fn secret(&self, vault: &str, name: &str) -> Option<Arc<str>> {
        self.secrets
            .get(&(vault.to_owned(), name.to_owned()))
            .cloned()
    }

    fn place(&self, ip: IpAddr) -> Option<Arc<Place>> {
        let mut place = self
            .places
            .of(ip)
            .map_or_else(Place::default, Arc::unwrap_or_clone);
        let set = self.place.clone();
        place.geo.extend(set.geo);
        if set.as_number != 0 {
            place.as_number = set.as_number;
        }
        if !set.as_organization.is_empty() {
            place.as_organization = set.as_organization;
        }
        if !set.categories.is_empty() {
            place.categories = set.categories;
        }
        Some(Arc::new(place))
    }

    fn take_rate(&self, _: &Bucket, rate: &Rate) -> bool {
        rate.capacity > 0
    }

    fn hold(&self, _: &Bucket, most: u32) -> bool {
        most > 0
    }

    /// The first that was not tried and may be chosen: which one it would be is decided while serving.
    fn pick(&self, choice: &Choice<'_>) -> Option<usize> {
        let free = |at: &usize| !choice.tried.contains(at);
        (0..choice.weights.len())
            .filter(free)
            .find(|at| choice.weights[*at] > 0)
    }
}

/// What the files say of addresses.
fn places(args: &TestArgs) -> Result<Places, Failure> {
    let mut files = PlaceFiles {
        city: args.geo_city.clone(),
        asn: args.geo_asn.clone(),
        categories: Vec::new(),
    };
    for (category, file) in &args.ip_categories {
        if !is_category(category) {
            let what = "lower-case names with dots between are expected";
            return Err(wrong(format!("--ip-category {category}: {what}")));
        }
        files.categories.push(CategoryList {
            path: PathBuf::from(file),
            category: Some(category.clone()),
        });
    }
    Ok(Places::read(&files)?)
}

fn protocol(value: &str) -> Result<Protocol, Failure> {
    const ALL: [Protocol; 10] = [
        Protocol::Tls,
        Protocol::Ssh,
        Protocol::Http,
        Protocol::Postgres,
        Protocol::Mssql,
        Protocol::Redis,
        Protocol::Mqtt,
        Protocol::Minecraft,
        Protocol::Rdp,
        Protocol::Unknown,
    ];
    let found = ALL.into_iter().find(|known| known.as_str() == value);
    found.ok_or_else(|| {
        let names = ALL.map(Protocol::as_str).join(", ");
        wrong(format!("--set conn.protocol: {value} is none of {names}"))
    })
}

fn ip_sets(file: &str) -> Result<IpSets, Failure> {
    let text = read_document(Path::new(file))?;
    let (mut allow, mut deny) = (Vec::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let at = || format!("{file}:{}", number + 1);
        let (list, network) = match line.split_once(char::is_whitespace) {
            Some(("allow", network)) => (&mut allow, network),
            Some(("deny", network)) => (&mut deny, network),
            _ => {
                return Err(wrong(format!(
                    "{}: `allow CIDR` or `deny CIDR` is expected",
                    at()
                )));
            }
        };
        let network = cidr::parse(network.trim());
        list.push(network.map_err(|fault| wrong(format!("{}: {fault}", at())))?);
    }
    Ok(IpSets {
        allow: allow.into_iter().collect(),
        deny: deny.into_iter().collect(),
    })
}

/// Most of a file of first bytes that is read: what the edge reads at most.
const FIRST_BYTES_MAX: u64 = 64 * 1024;

fn read_bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read as _;
    let refuse = |error: std::io::Error| {
        Failure::new(
            Code::ConfigUnreadable,
            format!("{}: {error}", path.display()),
        )
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(refuse)?;
    file.take(FIRST_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(refuse)?;
    Ok(bytes)
}

fn request_bytes(text: &str) -> Vec<u8> {
    let text = text.replace("\\n", "\n");
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()
}

pub(super) fn wrong(message: String) -> Failure {
    Failure::new(Code::ConfigInvalid, message)
}

fn client_address(text: &str) -> Result<SocketAddr, String> {
    address(text, 40_000)
}

fn server_address(text: &str) -> Result<SocketAddr, String> {
    address(text, 20_001)
}

fn address(text: &str, port: u16) -> Result<SocketAddr, String> {
    let ip = text.trim_start_matches('[').trim_end_matches(']');
    match ip.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, port)),
        Err(_) => text
            .parse()
            .map_err(|_| "an IP address is expected, or one with a port".to_owned()),
    }
}

fn endpoint_url(text: &str) -> Result<EndpointUrl, String> {
    match url::parse(text, None) {
        Ok((_, url::UrlRequest::Exact(url))) => Ok(url),
        // Its port is known.
        Ok((_, url::UrlRequest::TlsName(_))) => text.parse().map_err(|error: Error| error.message),
        Ok(_) => Err("a whole URL is expected, such as tcp://db.internal:5432".to_owned()),
        Err(error) => Err(error.message),
    }
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("NAME=VALUE is expected".to_owned()),
    }
}

#[cfg(test)]
mod tests;
