//! Which server, whom to trust there and as whom to come: from a join string, a bare authtoken,
//! the configuration, or the files of a server on the same machine.
//!
//! Must never: print a token; trust a server that nothing vouches for.

use std::path::{Path, PathBuf};

use portcullis_model::join::{JoinString, ServerTrust};
use portcullis_model::secret::Token;
use portcullis_model::{Code, Error, Secret};
use portcullis_net::tls::Trust;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::defaults;

/// How the server's certificate is checked (`connect_cas`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ConnectCas {
    /// The join string's pin, else the CA of a server on this machine, else public CAs.
    #[default]
    Trusted,
    /// The certificate bundle of this host.
    Host,
    /// The CAs of a PEM file.
    File(PathBuf),
}

/// What there is to go by.
#[derive(Debug, Clone, Default)]
pub struct ServerSources {
    /// A join string or a bare authtoken.
    pub authtoken: Option<Secret>,
    /// `host` or `host:port`; wins over the join string's.
    pub connect_url: Option<String>,
    /// How the server's certificate is checked.
    pub connect_cas: ConnectCas,
    /// Data directories of a server on this machine, in order.
    pub data_dirs: Vec<PathBuf>,
}

/// A server to connect to.
#[derive(Debug, Clone)]
pub struct Server {
    /// `host:port`.
    pub address: String,
    /// How it proves itself.
    pub trust: Trust,
    /// As whom to come.
    pub authtoken: Secret,
}

/// Certificate bundles, as the distributions place them.
const HOST_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

impl ServerSources {
    /// Settles on a server.
    ///
    /// # Errors
    /// `PTC_AUTHTOKEN_MISSING`, `PTC_AUTHTOKEN_MALFORMED`, `PTC_CONFIG_INVALID` for an address that
    /// cannot be read, `PTC_CERTIFICATE_INVALID` for CAs that cannot be found.
    pub fn resolve(&self) -> Result<Server, Error> {
        let token = match &self.authtoken {
            Some(token) if !token.expose().trim().is_empty() => token.clone(),
            _ => self
                .local_join()
                .ok_or_else(|| Error::of(Code::AuthtokenMissing))?,
        };
        if JoinString::is_claimed_by(token.expose()) {
            self.with_join(token.expose())
        } else {
            self.with_bare(token)
        }
    }

    fn with_join(&self, text: &str) -> Result<Server, Error> {
        let join = JoinString::parse(text).map_err(|error| {
            Error::new(
                Code::AuthtokenMalformed,
                format!("the join string cannot be used: {error}"),
            )
        })?;
        let address = self.address()?.unwrap_or_else(|| join.server.clone());
        let trust = match (&self.connect_cas, join.trust) {
            (ConnectCas::Trusted, ServerTrust::Pin(pin)) => Trust::Pin(pin),
            (ConnectCas::Trusted, ServerTrust::Web) => Trust::Web,
            (other, _) => self.trust_of(other, &address)?,
        };
        Ok(Server {
            address,
            trust,
            authtoken: join.authtoken,
        })
    }

    fn with_bare(&self, token: Secret) -> Result<Server, Error> {
        let token = Secret::new(token.expose().trim().to_owned());
        if Token::parse(token.expose()).is_err() {
            return Err(Error::of(Code::AuthtokenMalformed));
        }
        let address = self
            .address()?
            .unwrap_or_else(|| defaults::SERVER.to_owned());
        Ok(Server {
            trust: self.trust_of(&self.connect_cas, &address)?,
            address,
            authtoken: token,
        })
    }

    fn address(&self) -> Result<Option<String>, Error> {
        let Some(url) = &self.connect_url else {
            return Ok(None);
        };
        let address = hostport(url).map_err(|why| {
            Error::new(Code::ConfigInvalid, format!("the server's address: {why}"))
        })?;
        Ok(Some(address))
    }

    fn trust_of(&self, cas: &ConnectCas, address: &str) -> Result<Trust, Error> {
        let missing = |what: String| Error::new(Code::CertificateInvalid, what);
        match cas {
            ConnectCas::Trusted => Ok(self.local_pin(address).map_or(Trust::Web, Trust::Pin)),
            ConnectCas::Host => {
                let bundle = HOST_BUNDLES
                    .iter()
                    .map(Path::new)
                    .find(|path| path.exists());
                let bundle = bundle
                    .ok_or_else(|| missing("this host has no certificate bundle".to_owned()))?;
                Ok(Trust::CaFile(bundle.to_owned()))
            }
            ConnectCas::File(path) if path.exists() => Ok(Trust::CaFile(path.clone())),
            ConnectCas::File(path) => Err(missing(format!("{} does not exist", path.display()))),
        }
    }

    /// The join string that a server on this machine wrote for local use.
    fn local_join(&self) -> Option<Secret> {
        let read = |dir: &PathBuf| std::fs::read_to_string(dir.join("join")).ok();
        let text = self.data_dirs.iter().find_map(read)?;
        Some(Secret::new(text.trim().to_owned()))
    }

    /// The key of the CA of a server on this machine. A directory below the current one may have come
    /// with what somebody unpacked there, so it vouches for this machine's own server alone.
    fn local_pin(&self, address: &str) -> Option<[u8; 32]> {
        let file = self
            .data_dirs
            .iter()
            .filter(|dir| dir.is_absolute() || is_loopback(address))
            .map(|dir| dir.join("ca.pem"))
            .find(|path| path.exists())?;
        let certificate = CertificateDer::from_pem_file(file).ok()?;
        portcullis_net::tls::spki_sha256(&certificate).ok()
    }
}

/// Whether `host:port` is on this machine.
fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Reads `host` or `host:port` and adds the default port.
///
/// # Errors
/// What is wrong with it, for a message.
pub(crate) fn hostport(text: &str) -> Result<String, String> {
    let text = text.trim();
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(format!(
            "`{scheme}://` does not belong there; write {}",
            rest.trim_end_matches('/')
        ));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || host.contains(['/', '@', ' ', '?']) {
        return Err("is not host:port".to_owned());
    }
    let host = if host.contains(':') && !bracketed {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let port = match port {
        None => defaults::SERVER_PORT,
        Some(port) => port
            .parse::<u16>()
            .ok()
            .filter(|port| *port != 0)
            .ok_or("the port is not within 1 to 65535")?,
    };
    Ok(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use portcullis_model::id::ksuid;

    use super::*;

    fn token() -> Secret {
        Token::new(&ksuid(1_700_000_000, [3; 16]), [9; 24]).reveal()
    }

    #[test]
    fn addresses_get_the_default_port() {
        for (text, expected) in [
            ("edge.example.com", "edge.example.com:7443"),
            ("edge.example.com:443", "edge.example.com:443"),
            ("10.0.0.1", "10.0.0.1:7443"),
            ("[::1]:443", "[::1]:443"),
            ("[::1]", "[::1]:7443"),
            ("::1", "[::1]:7443"),
        ] {
            assert_eq!(hostport(text).as_deref(), Ok(expected));
        }
        for text in [
            "",
            ":443",
            "a:0",
            "a:65536",
            "a:b",
            "https://a",
            "a/b",
            "user@a",
        ] {
            assert!(hostport(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_join_string_names_server_and_trust_unless_overridden() {
        let join = JoinString {
            server: "edge:1".into(),
            trust: ServerTrust::Pin([7; 32]),
            authtoken: token(),
        };
        let mut sources = ServerSources {
            authtoken: Some(join.reveal()),
            ..ServerSources::default()
        };
        let server = sources.resolve().expect("a join string is enough");
        assert_eq!(
            (server.address.as_str(), &server.trust, &server.authtoken),
            ("edge:1", &Trust::Pin([7; 32]), &token())
        );
        sources.connect_url = Some("other".into());
        assert_eq!(sources.resolve().expect("usable").address, "other:7443");
        sources.connect_cas = ConnectCas::File("/nowhere.pem".into());
        assert_eq!(
            sources.resolve().expect_err("no such file").code,
            Code::CertificateInvalid
        );
    }

    #[test]
    fn a_bare_token_goes_to_this_machine_and_trusts_public_cas_without_a_local_one() {
        let sources = ServerSources {
            authtoken: Some(token()),
            ..ServerSources::default()
        };
        let server = sources.resolve().expect("usable");
        assert_eq!(
            (server.address.as_str(), server.trust),
            (defaults::SERVER, Trust::Web)
        );
    }

    #[test]
    fn a_directory_that_happens_to_be_here_vouches_for_this_machine_alone() {
        let dir = tempfile::tempdir_in(".").expect("a directory");
        let here = dir.path().file_name().map(PathBuf::from).expect("a name");
        let key = portcullis_net::seal::MasterKey::load_or_create(&here.join("k")).expect("a key");
        let ca = portcullis_net::tls::CertAuthority::load_or_create(&here, &key).expect("a CA");
        let trust = |address: &str, dir: &Path| {
            let sources = ServerSources {
                authtoken: Some(token()),
                connect_url: Some(address.to_owned()),
                data_dirs: vec![dir.to_owned()],
                ..ServerSources::default()
            };
            sources.resolve().expect("usable").trust
        };
        let pinned = Trust::Pin(ca.pin());
        assert_eq!(trust("edge.example.com", &here), Trust::Web);
        for local in ["127.0.0.1:7443", "[::1]:7443", "localhost"] {
            assert_eq!(trust(local, &here), pinned, "{local}");
        }
        let absolute = std::fs::canonicalize(&here).expect("it is there");
        assert_eq!(trust("edge.example.com", &absolute), pinned);
    }

    #[test]
    fn tokens_that_are_none_are_refused_without_being_quoted() {
        let code = |text: &str| {
            let sources = ServerSources {
                authtoken: Some(Secret::new(text.to_owned())),
                ..ServerSources::default()
            };
            let error = sources.resolve().expect_err("refused");
            assert!(
                text.trim().is_empty() || !error.message.contains(text),
                "{error}"
            );
            error.code
        };
        assert_eq!(code("  "), Code::AuthtokenMissing);
        assert_eq!(code("sesame-open"), Code::AuthtokenMalformed);
        assert_eq!(code("pc1.sesame-open"), Code::AuthtokenMalformed);
    }
}
