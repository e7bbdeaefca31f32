//! `tls.acme`: which names the server has certificates issued for, by whom, and how they are proved.
//!
//! Must never: agree to an authority's terms by itself.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use portcullis_net::tls::acme::{AcmeChallenge, AcmeConfig};
use serde::Serialize;

use super::reader::Section;

/// Where authorities look for HTTP-01.
const HTTP_PORT: u16 = 80;
/// Where they look for TLS-ALPN-01.
const TLS_PORT: u16 = 443;

/// `tls.acme`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct AcmeSettings {
    pub(crate) directory: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) email: Option<String>,
    /// `http-01` or `tls-alpn-01`.
    pub(crate) challenge: &'static str,
    /// Where challenges are answered.
    pub(crate) port: u16,
    pub(crate) names: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Whether challenges come to the port of TLS names: while that is open, the edge answers them.
    pub(crate) shares_port: bool,
}

impl AcmeSettings {
    /// What is asked of the authority.
    pub(crate) fn config(&self) -> AcmeConfig {
        AcmeConfig {
            directory: self.directory.clone(),
            email: self.email.clone(),
            challenge: match self.challenge {
                "tls-alpn-01" => AcmeChallenge::TlsAlpn01,
                _ => AcmeChallenge::Http01,
            },
            listen: vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, self.port))],
            others_answer: self.shares_port,
            names: self.names.clone(),
            ca_file: self.ca_file.clone(),
        }
    }
}

/// Reads `acme:` of `tls:`.
pub(super) fn acme(tls: &mut Section, base: &Path, names_port: u16) -> Option<AcmeSettings> {
    let given = tls.has("acme");
    let mut section = tls.section("acme");
    let settings = read(&mut section, given, base);
    section.finish();
    settings.map(|settings| AcmeSettings {
        shares_port: settings.challenge == "tls-alpn-01" && settings.port == names_port,
        ..settings
    })
}

fn read(section: &mut Section, given: bool, base: &Path) -> Option<AcmeSettings> {
    let directory = section.text("directory");
    let email = section.text("email");
    let challenge = match section.text("challenge").as_deref() {
        None | Some("http-01") => "http-01",
        Some("tls-alpn-01") => "tls-alpn-01",
        Some(other) => {
            let cause = format!("`{other}` is not one of http-01, tls-alpn-01");
            section.problem("challenge", cause);
            "http-01"
        }
    };
    let mut port = |key| {
        let number = section.number(key, 1, u64::from(u16::MAX));
        number.and_then(|port| u16::try_from(port).ok())
    };
    let (http_port, tls_port) = (port("http_port"), port("tls_port"));
    let names: Vec<String> = section.parsed_list("names");
    let ca_file = section.file("ca_file").map(|path| base.join(path));
    let agreed = section.flag("terms_agreed");
    if !given {
        return None;
    }
    if agreed != Some(true) {
        section.problem(
            "terms_agreed",
            "must be true: read the authority's terms of service, and say that you agree to them",
        );
    }
    let Some(directory) = directory else {
        section.problem(
            "directory",
            "is required, such as https://acme-v02.api.letsencrypt.org/directory",
        );
        return None;
    };
    let settings = AcmeSettings {
        directory,
        email,
        challenge,
        port: match challenge {
            "http-01" => http_port.unwrap_or(HTTP_PORT),
            _ => tls_port.unwrap_or(TLS_PORT),
        },
        names: names
            .into_iter()
            .map(|name| name.to_ascii_lowercase())
            .collect(),
        ca_file,
        shares_port: false,
    };
    if let Err(error) = settings.config().check() {
        section.problem_here(error.message);
    }
    Some(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ServerConfig;

    fn parse(acme: &str) -> Result<Option<AcmeSettings>, String> {
        let yaml = format!("tls: {{ acme: {{ {acme} }} }}");
        ServerConfig::parse(&yaml, "test", Path::new("/etc/portcullis"))
            .map(|config| config.acme)
            .map_err(|error| error.message)
    }

    #[test]
    fn what_is_said_is_what_is_asked_for() {
        let given =
            "directory: https://acme.example/dir, names: [DB.example.com], terms_agreed: true";
        let settings = parse(given).unwrap().unwrap();
        assert_eq!((settings.challenge, settings.port), ("http-01", 80));
        assert_eq!(settings.names, ["db.example.com"]);
        let given = format!("{given}, challenge: tls-alpn-01, tls_port: 8443, ca_file: ca.pem");
        let config = parse(&given).unwrap().unwrap().config();
        assert_eq!(config.challenge, AcmeChallenge::TlsAlpn01);
        assert_eq!(config.listen[0].port(), 8443);
        assert_eq!(config.ca_file, Some("/etc/portcullis/ca.pem".into()));
        let none = ServerConfig::parse("metrics: true", "test", Path::new("/"));
        assert!(none.unwrap().acme.is_none());
    }

    #[test]
    fn what_cannot_work_is_told() {
        let whole =
            "directory: https://acme.example/dir, names: [a.example.com], terms_agreed: true";
        for (given, named) in [
            ("", "directory"),
            (
                "directory: https://acme.example/dir, names: [a.example.com]",
                "terms_agreed",
            ),
            (
                "directory: https://acme.example/dir, terms_agreed: true",
                "no name",
            ),
            (
                "directory: http://acme.example/dir, names: [a.example.com], terms_agreed: true",
                "https://",
            ),
            (&format!("{whole}, challenge: dns-01"), "dns-01"),
            (&format!("{whole}, http_port: 0"), "http_port"),
            (&format!("{whole}, domains: [b.example.com]"), "domains"),
            (&whole.replace("[a.", "['*."), "is not"),
        ] {
            let given = given.replace("['*.example.com]", "['*.example.com']");
            let error = parse(&given).expect_err(&given);
            assert!(
                error.contains(named) || error.contains("wildcard"),
                "{given}: {error}"
            );
        }
    }
}
