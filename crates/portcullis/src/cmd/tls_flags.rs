//! The flags of `tcp` and `tls` about TLS: towards clients, where the agent terminates it, and towards the upstream.
//!
//! Must never: read a file; the agent does, and again when it changes.

use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use portcullis_agent::{PemSource, TlsTermination};
use portcullis_model::{Code, Error};
use portcullis_net::upstream::Upstream;

/// Flags about TLS.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(crate) struct TlsFlags {
    /// Terminate clients' TLS here, with this certificate (PEM, leaf first): the server sees no plain byte.
    #[arg(long, value_name = "FILE", requires = "key")]
    crt: Option<PathBuf>,
    /// Private key of --crt, PEM.
    #[arg(long, value_name = "FILE", requires = "crt")]
    key: Option<PathBuf>,
    /// With --crt: let in only clients with a certificate of an authority in this file.
    #[arg(long, value_name = "FILE", requires = "crt")]
    mutual_tls_cas: Option<PathBuf>,
    /// Whether the certificate of an upstream tls://HOST:PORT is verified; it is unless this says no.
    #[arg(
        long,
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    upstream_tls_verify: Option<bool>,
    /// Authorities that may have issued the upstream's certificate, instead of public ones.
    #[arg(long, value_name = "FILE")]
    upstream_tls_verify_cas: Option<PathBuf>,
}

impl TlsFlags {
    /// The TLS of clients that the agent terminates.
    pub(crate) fn termination(&self) -> Option<TlsTermination> {
        let file = |path: &PathBuf| PemSource::File(path.clone());
        let mut tls = TlsTermination::new(file(self.crt.as_ref()?), file(self.key.as_ref()?));
        tls.authorities
            .extend(self.mutual_tls_cas.as_ref().map(file));
        Some(tls)
    }

    /// The upstream with what the flags say of its TLS.
    ///
    /// # Errors
    /// `PTC_UPSTREAM_INVALID` for flags that an upstream has no use for.
    pub(crate) fn upstream(&self, text: String) -> Result<String, Error> {
        if self.upstream_tls_verify.is_none() && self.upstream_tls_verify_cas.is_none() {
            return Ok(text);
        }
        let mut upstream: Upstream = text.parse()?;
        let Upstream::Tls(_, tls) = &mut upstream else {
            let why = format!(
                "--upstream-tls-verify and --upstream-tls-verify-cas are for upstreams with TLS; write `tls://…` instead of `{text}`"
            );
            return Err(Error::new(Code::UpstreamInvalid, why));
        };
        if let Some(verify) = self.upstream_tls_verify {
            tls.verify = verify;
        }
        if let Some(path) = &self.upstream_tls_verify_cas {
            tls.ca_file = Some(absolute(path)?);
        }
        let text = upstream.to_string();
        text.parse::<Upstream>()?; // what contradicts itself is told as in a URL
        Ok(text)
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|error| {
        let text = format!("{} cannot be used: {error}", path.display());
        Error::new(Code::UpstreamInvalid, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_what_an_upstream_can_say() {
        let upstream = |verify, cas: Option<&str>, text: &str| {
            TlsFlags {
                upstream_tls_verify: verify,
                upstream_tls_verify_cas: cas.map(PathBuf::from),
                ..TlsFlags::default()
            }
            .upstream(text.to_owned())
        };
        assert_eq!(upstream(None, None, "5432").unwrap(), "5432");
        assert_eq!(
            upstream(Some(false), None, "tls://h:1").unwrap(),
            "tls://h:1?verify=false"
        );
        assert_eq!(
            upstream(Some(true), Some("/ca.pem"), "tls://h:1").unwrap(),
            "tls://h:1?ca_file=/ca.pem"
        );
        for (verify, cas, text) in [
            (Some(true), None, "5432"),
            (None, Some("/ca.pem"), "tcp://h:1"),
            (Some(false), Some("/ca.pem"), "tls://h:1"),
        ] {
            let error = upstream(verify, cas, text).unwrap_err();
            assert_eq!(error.code, Code::UpstreamInvalid, "{text}");
        }
    }

    #[test]
    fn a_certificate_asks_for_clients_only_with_authorities() {
        let flags = TlsFlags {
            crt: Some("c".into()),
            key: Some("k".into()),
            ..TlsFlags::default()
        };
        assert!(flags.termination().unwrap().authorities.is_empty());
        let flags = TlsFlags {
            mutual_tls_cas: Some("ca".into()),
            ..flags
        };
        assert_eq!(
            flags.termination().unwrap().authorities,
            [PemSource::File("ca".into())]
        );
        assert!(TlsFlags::default().termination().is_none());
    }
}
