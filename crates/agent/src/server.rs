//! Which server, whom to trust there and as whom to come: from a join string, a bare authtoken,
//! the configuration, or the files of a server on the same machine.
//!
//! Must never: print a token; trust a server that nothing vouches for.

use std::path::{Path, PathBuf};

use portcullis_model::join::{JoinString, ServerTrust};
use portcullis_model::secret::Token;
use portcullis_model::{Code, Error, Secret};

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
