//! What the data directory keeps of an ACME authority: the account and the certificates with their keys, sealed.
//!
//! Must never: write a key unsealed.

use std::fmt;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis_model::Error;
use rustls::pki_types::PrivatePkcs8KeyDer;

use crate::defaults::PEM_FILE_BYTES_MAX;
use crate::files;
use crate::seal::MasterKey;

/// The directory in the data directory.
const DIRECTORY: &str = "acme";
/// The account's file in it.
const ACCOUNT_FILE: &str = "account.sealed";

/// The files.
pub(super) struct Kept {
    dir: PathBuf,
    key: Arc<MasterKey>,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kept").field(&self.dir).finish()
    }
}

/// An account that was made earlier.
pub(super) struct KeptAccount {
    /// The directory that it is known to.
    pub(super) directory: String,
    /// The account's address there.
    pub(super) id: String,
    /// Its key.
    pub(super) key: PrivatePkcs8KeyDer<'static>,
}

impl Kept {
    pub(super) fn open(data_dir: &Path, key: &Arc<MasterKey>) -> Result<Self, Error> {
        let dir = data_dir.join(DIRECTORY);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|error| files::explain("create", &dir, &error))?;
        Ok(Self {
            dir,
            key: Arc::clone(key),
        })
    }

    /// The chain and key for a name, as PEM.
    pub(super) fn certificate(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.read(&format!("{name}.sealed"))
    }

    pub(super) fn keep_certificate(&self, name: &str, pem: &[u8]) -> Result<(), Error> {
        self.write(&format!("{name}.sealed"), pem)
    }

    /// The account, if there is one that can be read.
    pub(super) fn account(&self) -> Result<Option<KeptAccount>, Error> {
        let text = self.read(ACCOUNT_FILE)?;
        Ok(text.and_then(|text| {
            let text = String::from_utf8(text).ok()?;
            let mut lines = text.lines();
            let (directory, id) = (lines.next()?.to_owned(), lines.next()?.to_owned());
            let key = STANDARD.decode(lines.next()?).ok()?.into();
            Some(KeptAccount { directory, id, key })
        }))
    }

    pub(super) fn keep_account(
        &self,
        directory: &str,
        id: &str,
        key: &PrivatePkcs8KeyDer<'_>,
    ) -> Result<(), Error> {
        let key = STANDARD.encode(key.secret_pkcs8_der());
        self.write(
            ACCOUNT_FILE,
            format!("{directory}\n{id}\n{key}\n").as_bytes(),
        )
    }

    fn read(&self, file: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = self.dir.join(file);
        let sealed = files::read(&path, PEM_FILE_BYTES_MAX)
            .map_err(|error| files::explain("read", &path, &error))?;
        let Some(sealed) = sealed else {
            return Ok(None);
        };
        let plain = self.key.open_for(&sealed, &place(file))?;
        if !self.key.is_newest(&sealed) {
            self.write(file, plain.expose())?;
            tracing::info!(path = %path.display(), "sealed with the newest master key");
        }
        Ok(Some(plain.expose().clone()))
    }

    fn write(&self, file: &str, plain: &[u8]) -> Result<(), Error> {
        let sealed = self.key.seal_for(plain, &place(file))?;
        files::write(&self.dir.join(file), &sealed, 0o600)
    }
}

/// What a file is sealed for: one that is moved to another's place does not open.
fn place(file: &str) -> String {
    format!("{DIRECTORY}/{file}")
}
