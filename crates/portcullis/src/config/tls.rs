//! `tls:` of the server's configuration: the port where endpoints are told apart by the name in clients' TLS, and
//! the names that there are.
//!
//! Must never: resolve a name.

use std::net::IpAddr;
use std::path::Path;

use portcullis_model::url::TLS_PORT;
use serde::Serialize;

use super::acme::{self, AcmeSettings};
use super::hosts::hostname;
use super::reader::Section;

/// Endpoints by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TlsConfig {
    /// The port; 0: none.
    pub(crate) port: u16,
    /// Whether it was given: then it is for TLS alone.
    #[serde(skip)]
    pub(crate) is_given: bool,
    /// IPs that the port listens on; empty: those of `listen.public`.
    pub(crate) listen: Vec<IpAddr>,
    /// Names at or below which accounts may have names; empty: the shared hosts.
    pub(crate) hosts: Vec<TlsHost>,
    /// Whether accounts may have any name beside the server's own.
    pub(crate) any_name: bool,
}

/// A name, and who may have names at or below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TlsHost {
    /// The name.
    pub(crate) host: String,
    /// Accounts (ids or names); empty: all.
    pub(crate) accounts: Vec<String>,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            port: TLS_PORT,
            is_given: false,
            listen: Vec::new(),
            hosts: Vec::new(),
            any_name: false,
        }
    }
}

/// Reads `tls:`, with how certificates are issued for its names.
pub(crate) fn tls(top: &mut Section, base: &Path) -> (TlsConfig, Option<AcmeSettings>) {
    let mut section = top.section("tls");
    let given = section.number("port", 0, u64::from(u16::MAX));
    let given = given.and_then(|port| u16::try_from(port).ok());
    let config = TlsConfig {
        port: given.unwrap_or(TLS_PORT),
        is_given: given.is_some(),
        listen: section.parsed_list("listen"),
        hosts: hosts(&mut section),
        any_name: section.flag("any_name").unwrap_or(false),
    };
    let acme = acme::acme(&mut section, base, config.port);
    section.finish();
    (config, acme)
}

fn hosts(tls: &mut Section) -> Vec<TlsHost> {
    let mut hosts: Vec<TlsHost> = Vec::new();
    for mut section in tls.sections("hosts") {
        let host = hostname(&mut section, "host");
        let accounts = section.parsed_list("accounts");
        match host {
            Some(host) if hosts.iter().any(|other| other.host == host) => {
                section.problem("host", format!("`{host}` stands twice"));
            }
            Some(host) if host.parse::<IpAddr>().is_ok() => {
                section.problem("host", "clients ask for a name, never for an address");
            }
            Some(host) => hosts.push(TlsHost { host, accounts }),
            None if section.has("host") => {}
            None => section.problem_here("`host` is required"),
        }
        section.finish();
    }
    hosts
}
