//! ACL rules of a credential: which binds an agent that holds it may ask for.
//!
//! Forms: `*` (all); `bind:HOST:PORT` and `bind:HOST:FROM-TO` and `bind:HOST:*` (public addresses;
//! HOST may be `*`); `bind:NAME.internal:PORT` with `*.` in front for a wildcard label; `bind:HOST`
//! (every port of it); `bind:tcp://` and `bind:tls://` (random addresses and names). `tcp://` or `tls://` in front
//! of HOST or NAME narrows a rule to that scheme. An empty list restricts nothing; as soon
//! as there is one rule, everything that no rule allows is refused.
//!
//! `*` as HOST covers public addresses only, and `bind:*` (with every port) random ones as well;
//! `*.` in front of a name covers one label or more in its place.

use std::fmt;

use crate::defaults::{ACL_RULE_BYTES_MAX, ACL_RULES_MAX, QUOTE_CHARS_MAX};
use crate::endpoint::Binding;
use crate::errors::{Code, Error};
use crate::url::{EndpointUrl, Host, Scheme, read_host, read_port};

#[cfg(test)]
mod tests;

/// The parsed rules of one credential.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Acl {
    rules: Vec<Rule>,
}

/// What an agent asks to bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindRequest<'a> {
    /// A random public address, or a random name for TLS.
    Random(Scheme),
    /// A URL of a binding.
    Url(Binding, &'a EndpointUrl),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// As the user wrote it, for messages.
    text: String,
    scope: Scope,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    Everything,
    Random(Scheme),
    Bind {
        /// `None`: any.
        scheme: Option<Scheme>,
        host: HostPattern,
        ports: Ports,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostPattern {
    /// `*`: every public host.
    AnyPublic,
    /// `*.rest`, kept as `.rest`.
    Below(String),
    Exact(String),
}

/// Both ends are included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports {
    from: u16,
    to: u16,
}

const ALL_PORTS: Ports = Ports {
    from: 1,
    to: u16::MAX,
};

impl Acl {
    /// Reads the rules of a credential.
    ///
    /// # Errors
    /// `PTC_ACL_SYNTAX`, naming the rule by its place and saying what is wrong with it.
    pub fn parse(rules: &[String]) -> Result<Self, Error> {
        if rules.len() > ACL_RULES_MAX {
            let message = format!(
                "there are {} ACL rules; a credential has at most {ACL_RULES_MAX}, so use port ranges or wildcards",
                rules.len()
            );
            return Err(Error::new(Code::AclSyntax, message));
        }
        let numbered = rules.iter().enumerate();
        let rules = numbered.map(|(place, text)| {
            read_rule(text.trim()).map_err(|fault| {
                let quoted: String = text
                    .chars()
                    .map(|c| if c.is_control() { '\u{fffd}' } else { c })
                    .take(QUOTE_CHARS_MAX)
                    .collect();
                Error::new(
                    Code::AclSyntax,
                    format!("ACL rule {} (`{quoted}`): {fault}", place + 1),
                )
            })
        });
        Ok(Self {
            rules: rules.collect::<Result<_, Error>>()?,
        })
    }

    /// Whether there are no rules, so that everything is allowed.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether the rules allow a bind.
    ///
    /// # Errors
    /// `PTC_CREDENTIAL_ACL` or `PTC_CREDENTIAL_ACL_RANDOM`, naming the rule that came nearest.
    pub fn check(&self, request: BindRequest<'_>) -> Result<(), Error> {
        if self.rules.is_empty() || self.rules.iter().any(|rule| rule.scope.allows(request)) {
            return Ok(());
        }
        match request {
            BindRequest::Random(scheme) => Err(Error::new(
                Code::CredentialAclRandom,
                format!(
                    "the credential's rules ({}) do not allow a random {}; name one that they cover, or add the rule `bind:{scheme}://`",
                    self.listed(),
                    match scheme {
                        Scheme::Tcp => "address",
                        Scheme::Tls => "name",
                    }
                ),
            )),
            BindRequest::Url(binding, url) => Err(self.refusal(binding, url)),
        }
    }

    fn refusal(&self, binding: Binding, url: &EndpointUrl) -> Error {
        let host_missed = self
            .rules
            .iter()
            .find(|rule| rule.scope.covers_host(binding, url));
        let port_missed = || {
            self.rules
                .iter()
                .find(|rule| rule.scope.covers_port(url.port()))
        };
        let nearest = match (host_missed, port_missed()) {
            (Some(rule), _) if rule.scope.covers_port(url.port()) => {
                format!("the nearest rule, `{rule}`, is not for {}", url.scheme())
            }
            (Some(rule), _) => format!(
                "the nearest rule, `{rule}`, covers the host but not the port {}",
                url.port()
            ),
            (None, Some(rule)) => format!("the nearest rule, `{rule}`, does not cover the host"),
            (None, None) => format!(
                "none of its rules ({}) covers the host or the port",
                self.listed()
            ),
        };
        let message = format!(
            "the credential does not allow `{url}` (binding {binding}): {nearest}; a rule that would allow it is `bind:{}{}`",
            match url.scheme() {
                Scheme::Tcp => "",
                Scheme::Tls => "tls://",
            },
            url.hostport()
        );
        Error::new(Code::CredentialAcl, message)
    }

    /// The first rules, for messages.
    fn listed(&self) -> String {
        const SHOWN: usize = 3;
        let shown: Vec<String> = self
            .rules
            .iter()
            .take(SHOWN)
            .map(|rule| format!("`{rule}`"))
            .collect();
        let more = self.rules.len().saturating_sub(SHOWN);
        if more == 0 {
            shown.join(", ")
        } else {
            format!("{} and {more} more", shown.join(", "))
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Scope {
    fn allows(&self, request: BindRequest<'_>) -> bool {
        match (self, request) {
            (Self::Everything, _) => true,
            (Self::Random(allowed), BindRequest::Random(scheme)) => *allowed == scheme,
            (
                Self::Bind {
                    scheme: only,
                    host,
                    ports,
                },
                BindRequest::Random(scheme),
            ) => {
                only.is_none_or(|only| only == scheme)
                    && *host == HostPattern::AnyPublic
                    && *ports == ALL_PORTS
            }
            (Self::Bind { .. } | Self::Random(_), BindRequest::Url(binding, url)) => {
                self.covers_scheme(url.scheme())
                    && self.covers_host(binding, url)
                    && self.covers_port(url.port())
            }
        }
    }

    fn covers_scheme(&self, scheme: Scheme) -> bool {
        match self {
            Self::Everything => true,
            Self::Random(_) => false,
            Self::Bind { scheme: only, .. } => only.is_none_or(|only| only == scheme),
        }
    }

    fn covers_host(&self, binding: Binding, url: &EndpointUrl) -> bool {
        match self {
            Self::Everything => true,
            Self::Random(_) => false,
            Self::Bind {
                host: HostPattern::AnyPublic,
                ..
            } => binding == Binding::Public,
            Self::Bind {
                host: HostPattern::Exact(host),
                ..
            } => host == url.host(),
            Self::Bind {
                host: HostPattern::Below(rest),
                ..
            } => url.host().len() > rest.len() && url.host().ends_with(rest.as_str()),
        }
    }

    fn covers_port(&self, port: u16) -> bool {
        match self {
            Self::Everything => true,
            Self::Random(_) => false,
            Self::Bind { ports, .. } => (ports.from..=ports.to).contains(&port),
        }
    }
}

/// Reads one rule; the error is the rest of a sentence that began with the rule.
fn read_rule(text: &str) -> Result<Rule, String> {
    if text.len() > ACL_RULE_BYTES_MAX {
        return Err(format!(
            "is {} bytes long; at most {ACL_RULE_BYTES_MAX} are read",
            text.len()
        ));
    }
    let scope = match text.strip_prefix("bind:") {
        _ if text == "*" => Scope::Everything,
        Some("") => return Err("nothing follows `bind:`; write `bind:host:port`".to_owned()),
        Some("tcp://") => Scope::Random(Scheme::Tcp),
        Some("tls://") => Scope::Random(Scheme::Tls),
        Some(target) => read_target(target)?,
        None if text.is_empty() => return Err("the rule is empty; leave it out".to_owned()),
        None => {
            return Err(format!(
                "a rule is `*` or starts with `bind:`; write `bind:{text}`"
            ));
        }
    };
    Ok(Rule {
        text: text.to_owned(),
        scope,
    })
}

fn read_target(target: &str) -> Result<Scope, String> {
    let named = [Scheme::Tcp, Scheme::Tls].into_iter().find_map(|scheme| {
        let rest = target.strip_prefix(scheme.as_str())?;
        Some((scheme, rest.strip_prefix("://")?))
    });
    let (scheme, target) = match named {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, target),
    };
    if target.contains('=') {
        return Err("label rules are not supported; write `bind:host:port`".to_owned());
    }
    if target.contains("://") {
        return Err("tcp and tls are the only schemes; write `bind:host:port`".to_owned());
    }
    let (host, ports) = split_target(target)?;
    if host.is_empty() {
        return Err(
            "has no host; write `bind:host:port`, or `bind:*:port` for every public host"
                .to_owned(),
        );
    }
    let ports = ports.map_or(Ok(ALL_PORTS), |ports| read_ports(ports, host))?;
    Ok(Scope::Bind {
        scheme,
        host: read_pattern(host)?,
        ports,
    })
}

fn split_target(target: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(end) = target.find(']').filter(|_| target.starts_with('[')) {
        let (host, tail) = target.split_at(end + 1);
        return match tail.strip_prefix(':') {
            Some(ports) => Ok((host, Some(ports))),
            None if tail.is_empty() => Ok((host, None)),
            None => Err("only `:port` may follow the `]`".to_owned()),
        };
    }
    match target.rsplit_once(':') {
        Some((host, _)) if host.contains(':') => Err("more than one `:` behind the host; an IPv6 address stands in brackets, as in `bind:[2001:db8::1]:20001`".to_owned()),
        Some((host, ports)) => Ok((host, Some(ports))),
        None => Ok((target, None)),
    }
}

fn read_ports(text: &str, host: &str) -> Result<Ports, String> {
    let port =
        |text: &str| read_port(text.trim(), Scheme::Tcp, host).map_err(|error| error.message);
    match text.split_once('-') {
        _ if text == "*" => Ok(ALL_PORTS),
        _ if text.is_empty() => Err(format!(
            "no port behind the colon; write `bind:{host}:20001`, or `bind:{host}` for every port"
        )),
        Some(("", _) | (_, "")) => Err(format!(
            "the range of ports lacks an end; write it as `bind:{host}:20000-20010`"
        )),
        None => port(text).map(|port| Ports {
            from: port,
            to: port,
        }),
        Some((from, to)) => match (port(from)?, port(to)?) {
            (from, to) if from <= to => Ok(Ports { from, to }),
            (from, to) => Err(format!(
                "the range runs backwards; write `bind:{host}:{to}-{from}`"
            )),
        },
    }
}

fn read_pattern(host: &str) -> Result<HostPattern, String> {
    if host == "*" {
        return Ok(HostPattern::AnyPublic);
    }
    let (below, rest) = host
        .strip_prefix("*.")
        .map_or((false, host), |rest| (true, rest));
    if rest.contains('*') {
        return Err(
            "a wildcard is the whole host (`*`) or its whole first label (`*.rest`)".to_owned(),
        );
    }
    match read_host(rest).map_err(|error| error.message)? {
        Host::Name(name) if below => Ok(HostPattern::Below(format!(".{name}"))),
        Host::Ip(_) if below => Err("a wildcard cannot stand before an IP address".to_owned()),
        host @ (Host::Name(_) | Host::Ip(_)) => Ok(HostPattern::Exact(host.name())),
    }
}
