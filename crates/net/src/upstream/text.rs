//! The text of an upstream: what is accepted, and the one form that is printed.
//!
//! Must never: accept what could mean two things.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use portcullis_model::{Code, Error};

use super::{Target, Upstream, UpstreamTls};
use crate::defaults::UPSTREAM_TEXT_BYTES_MAX;

impl FromStr for Upstream {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if text.len() > UPSTREAM_TEXT_BYTES_MAX {
            return Err(invalid(text, "it is too long"));
        }
        parse(text).map_err(|why| invalid(text, &why))
    }
}

fn invalid(text: &str, why: &str) -> Error {
    let shown: String = text.chars().take(100).collect();
    Error::new(
        Code::UpstreamInvalid,
        format!("the upstream `{shown}` cannot be used: {why}"),
    )
}

fn parse(text: &str) -> Result<Upstream, String> {
    if text.bytes().any(|b| b.is_ascii_control()) {
        return Err("it has control characters".to_owned());
    }
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(path);
    }
    if let Some(name) = text.strip_prefix("srv:") {
        return Ok(Upstream::Tcp(Target::Service(host_name(name)?)));
    }
    match text.split_once("://") {
        Some(("tcp", rest)) if rest.contains('?') => {
            Err("tcp:// takes no options; tls:// does".to_owned())
        }
        Some(("tcp", rest)) => Ok(Upstream::Tcp(target(rest)?)),
        Some(("tls", rest)) => {
            let (host, options) = rest.split_once('?').unwrap_or((rest, ""));
            Ok(Upstream::Tls(target(host)?, tls_options(options)?))
        }
        Some((scheme, rest)) => Err(format!(
            "`{scheme}://` is not supported; for its TCP stream write `tcp://{rest}`"
        )),
        None if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
            Ok(Upstream::Tcp(Target::HostPort {
                host: "localhost".to_owned(),
                port: port(text)?,
            }))
        }
        None => Ok(Upstream::Tcp(target(text)?)),
    }
}

fn unix(path: &str) -> Result<Upstream, String> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if Path::new(path).is_absolute() && path.len() > 1 {
        Ok(Upstream::Unix(PathBuf::from(path)))
    } else {
        Err("a Unix socket is written `unix:/absolute/path`".to_owned())
    }
}

fn target(text: &str) -> Result<Target, String> {
    if let Some(unwanted) = text.chars().find(|c| "/@?#".contains(*c)) {
        return Err(format!("it has a `{unwanted}`; write only host and port"));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("a `]` is missing")?;
        let ip: Ipv6Addr = host
            .parse()
            .map_err(|_| format!("`{host}` is not an IPv6 address"))?;
        let digits = rest.strip_prefix(':').ok_or("the port is missing")?;
        return Ok(Target::HostPort {
            host: ip.to_string(),
            port: port(digits)?,
        });
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(format!(
            "an IPv6 address stands in brackets: `[{text}]:PORT`"
        ));
    }
    match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Err("it has more than one `:`".to_owned()),
        Some((host, digits)) => Ok(Target::HostPort {
            host: host_name(host)?,
            port: port(digits)?,
        }),
        // Names of SRV records, and only those, begin with an underscore.
        None if text.starts_with('_') => Ok(Target::Service(host_name(text)?)),
        None => Err("the port is missing; write `host:port`".to_owned()),
    }
}

fn port(digits: &str) -> Result<u16, String> {
    match digits.parse() {
        Ok(port) if port > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ if digits.is_empty() => Err("the port is missing".to_owned()),
        _ => Err(format!("`{digits}` is not a port from 1 to 65535")),
    }
}

fn host_name(text: &str) -> Result<String, String> {
    let plain = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return Err("the host is missing".to_owned());
    }
    if name.len() > 253 || !name.split('.').all(plain) {
        return Err(format!("`{text}` is not a host name or address"));
    }
    let numeric = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if numeric && name.parse::<Ipv4Addr>().is_err() {
        return Err(format!("`{text}` is not an IPv4 address"));
    }
    Ok(text.to_ascii_lowercase())
}

fn tls_options(text: &str) -> Result<UpstreamTls, String> {
    let mut options = UpstreamTls::default();
    let mut seen = Vec::new();
    for option in text.split('&').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        if seen.contains(&key) {
            return Err(format!("`{key}` stands twice"));
        }
        seen.push(key);
        match (key, value) {
            ("verify", "true") => options.verify = true,
            ("verify", "false") => options.verify = false,
            ("verify", _) => return Err("`verify` is true or false".to_owned()),
            ("ca_file", path) if Path::new(path).is_absolute() => {
                options.ca_file = Some(PathBuf::from(path))
            }
            ("ca_file", _) => return Err("`ca_file` is an absolute path".to_owned()),
            ("server_name", name) => options.server_name = Some(host_name(name)?),
            _ => {
                return Err(format!(
                    "`{key}` is not an option; there are verify, ca_file and server_name"
                ));
            }
        }
    }
    if !options.verify && options.ca_file.is_some() {
        return Err("`ca_file` has no use with `verify=false`".to_owned());
    }
    Ok(options)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostPort { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::HostPort { host, port } => write!(f, "{host}:{port}"),
            Self::Service(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(Target::Service(name)) => write!(f, "srv:{name}"),
            Self::Tcp(target) => write!(f, "tcp://{target}"),
            Self::Tls(target, tls) => write!(f, "tls://{target}{tls}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verify = (!self.verify).then(|| "verify=false".to_owned());
        let ca_file = self
            .ca_file
            .as_ref()
            .map(|path| format!("ca_file={}", path.display()));
        let server_name = self
            .server_name
            .as_ref()
            .map(|name| format!("server_name={name}"));
        for (at, option) in [verify, ca_file, server_name]
            .into_iter()
            .flatten()
            .enumerate()
        {
            write!(f, "{}{option}", if at == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}
