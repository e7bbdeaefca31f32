//! TLS that the agent terminates: which certificate it shows, whom it lets in, and what has become of the files
//! since.
//!
//! Must never: show a key, or go on with files that were changed into something unusable without saying so.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use portcullis_model::{Error, Secret};
pub use portcullis_net::tls::ClientVerification;
use portcullis_net::tls::{ClientAuth, ServerIdentity, Setup, Terminator, read_pem};
use tokio::time::Instant;

use crate::defaults;

/// PEM, or the file that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PemSource {
    /// Read when the endpoint begins, and again when it has changed.
    File(PathBuf),
    /// The text itself.
    Text(Secret),
}

impl PemSource {
    /// The text itself if it is PEM, else the name of a file.
    pub fn parse(text: Secret) -> Self {
        match text.expose().contains("-----BEGIN") {
            true => Self::Text(text),
            false => Self::File(text.expose().trim().into()),
        }
    }

    /// Whether it is a file.
    pub fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    fn read(&self) -> Result<Vec<u8>, Error> {
        match self {
            Self::File(path) => read_pem(path),
            Self::Text(text) => Ok(text.expose().as_bytes().to_vec()),
        }
    }

    /// When its file was changed last; `None`: there is none, or none any more.
    fn changed(&self) -> Option<SystemTime> {
        match self {
            Self::File(path) => std::fs::metadata(path)
                .and_then(|metadata| metadata.modified())
                .ok(),
            Self::Text(_) => None,
        }
    }
}

/// TLS of an endpoint's clients that the agent terminates: the server in between sees no plain byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsTermination {
    /// The certificate that is shown, and the chain behind it.
    pub certificate: PemSource,
    /// Its private key.
    pub private_key: PemSource,
    /// Who may have issued clients' certificates; none: clients are not asked for one, unless the verification
    /// is another than the default.
    pub authorities: Vec<PemSource>,
    /// What is done with clients' certificates.
    pub verification: ClientVerification,
}

impl TlsTermination {
    /// With a certificate and its key, for clients of any kind.
    pub fn new(certificate: PemSource, private_key: PemSource) -> Self {
        Self {
            certificate,
            private_key,
            authorities: Vec::new(),
            verification: ClientVerification::RequireAndVerify,
        }
    }

    /// Lets in only clients with a certificate of this authority, and of those given before.
    #[must_use]
    pub fn client_authority(mut self, authority: PemSource) -> Self {
        self.authorities.push(authority);
        self
    }

    /// Reads everything and checks it.
    ///
    /// # Errors
    /// `PTC_CERTIFICATE_INVALID`, saying what cannot be used and why.
    pub fn check(&self) -> Result<(), Error> {
        self.load().map(drop)
    }

    fn load(&self) -> Result<Terminator, Error> {
        let authorities = self.authorities.iter().map(PemSource::read);
        let authorities = authorities.collect::<Result<Vec<_>, _>>()?;
        let asks =
            !authorities.is_empty() || self.verification != ClientVerification::RequireAndVerify;
        let setup = Setup {
            only_13: false,
            only_12: false,
            identity: ServerIdentity::Pem {
                certificate: self.certificate.read()?,
                private_key: self.private_key.read()?,
            },
            clients: asks.then_some(ClientAuth {
                verification: self.verification,
                authorities,
            }),
            alpn: Vec::new(),
        };
        Terminator::new(&setup).map_err(|error| {
            let files = [&self.certificate, &self.private_key];
            let files = files.into_iter().chain(&self.authorities);
            let named: Vec<String> = files
                .filter_map(|source| match source {
                    PemSource::File(path) => Some(path.display().to_string()),
                    PemSource::Text(_) => None,
                })
                .collect();
            match named.is_empty() {
                true => error,
                false => Error::new(
                    error.code,
                    format!("{} (of {})", error.message, named.join(", ")),
                ),
            }
        })
    }

    fn stamps(&self) -> Vec<Option<SystemTime>> {
        let files = [&self.certificate, &self.private_key];
        files
            .into_iter()
            .chain(&self.authorities)
            .map(PemSource::changed)
            .collect()
    }
}

/// A termination that follows its files.
#[derive(Debug)]
pub(crate) struct Terminating {
    source: TlsTermination,
    state: Mutex<Option<State>>,
}

#[derive(Debug)]
struct State {
    terminator: Terminator,
    stamps: Vec<Option<SystemTime>>,
    looked_at: Instant,
}

impl Terminating {
    pub(crate) fn new(source: TlsTermination) -> Self {
        Self {
            source,
            state: Mutex::new(None),
        }
    }

    /// What to terminate with now. Files are looked at once a second at most; one that cannot be used leaves the
    /// last good ones in place.
    pub(crate) fn current(&self) -> Result<Terminator, Error> {
        // Only whole states are stored under it.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let Some(known) = &mut *state else {
            let stamps = self.source.stamps(); // before the files: a change in between shows next time
            let terminator = self.source.load()?;
            *state = Some(State {
                terminator: terminator.clone(),
                stamps,
                looked_at: now,
            });
            return Ok(terminator);
        };
        if now.duration_since(known.looked_at) >= defaults::CERTIFICATE_LOOK {
            known.looked_at = now;
            let stamps = self.source.stamps();
            if stamps != known.stamps {
                match self.source.load() {
                    Ok(fresh) => {
                        tracing::info!("certificate files read again");
                        known.terminator = fresh;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "certificate files changed and cannot be used; the last good ones stay");
                    }
                }
                known.stamps = stamps;
            }
        }
        Ok(known.terminator.clone())
    }
}

#[cfg(test)]
mod tests;
