//! The master key of a data directory, and sealing with it: AES-256-GCM under a random nonce.
//!
//! Must never: print the key, or write it anywhere but its own file.

use std::fmt;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use portcullis_model::{Code, Error};

use crate::files;

/// Bytes of the key, and of its file.
const KEY_BYTES: usize = 32;
/// First byte of everything sealed, so that another form can come.
const VERSION: u8 = 1;

/// The key that private keys at rest are sealed with.
pub struct MasterKey(RandomizedNonceKey);

impl MasterKey {
    /// Reads the key, or makes it at first start (mode 0600).
    ///
    /// # Errors
    /// `PTC_STORE_READ_ONLY`, `PTC_STORE_FULL` or `PTC_STORE_UNAVAILABLE` when the file cannot be
    /// read or written, `PTC_STORE_CORRUPT` when it is no key.
    pub fn load_or_create(path: &Path) -> Result<Self, Error> {
        let bytes_max = u64::try_from(KEY_BYTES).unwrap_or(u64::MAX);
        let bytes =
            match files::read(path, bytes_max).map_err(|e| files::explain("read", path, &e))? {
                Some(bytes) => {
                    files::make_private(path);
                    bytes
                }
                None => {
                    let mut fresh = vec![0; KEY_BYTES];
                    getrandom::fill(&mut fresh).map_err(Error::internal)?;
                    files::write(path, &fresh, 0o600)?;
                    fresh
                }
            };
        Self::from_bytes(&bytes).ok_or_else(|| {
            let text = format!(
                "{} is not a master key of {KEY_BYTES} bytes",
                path.display()
            );
            Error::new(Code::StoreCorrupt, text)
        })
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == KEY_BYTES)
            .then(|| RandomizedNonceKey::new(&AES_256_GCM, bytes).ok().map(Self))?
    }

    /// Seals a text; the result is version, nonce, ciphertext and tag.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, Error> {
        let mut body = plain.to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from([VERSION]), &mut body)
            .map_err(|_| Error::internal("sealing failed"))?;
        let mut sealed = vec![VERSION];
        sealed.extend_from_slice(nonce.as_ref());
        sealed.append(&mut body);
        Ok(sealed)
    }

    /// Opens what [`Self::seal`] made.
    ///
    /// # Errors
    /// `PTC_STORE_CORRUPT` when it is not that, was changed, or was sealed with another key.
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        self.try_open(sealed).ok_or_else(|| {
            Error::new(
                Code::StoreCorrupt,
                "a sealed secret cannot be opened with this master key",
            )
        })
    }

    fn try_open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (version, rest) = sealed.split_first()?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>()?;
        if *version != VERSION {
            return None;
        }
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self
            .0
            .open_in_place(nonce, Aad::from([VERSION]), &mut body)
            .ok()?
            .len();
        body.truncate(length);
        Some(body)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[master key]")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn key_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let sealed = MasterKey::load_or_create(&path)
            .unwrap()
            .seal(b"secret")
            .unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let again = MasterKey::load_or_create(&path).unwrap();
        assert_eq!(again.open(&sealed).unwrap(), b"secret");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn what_was_changed_or_cut_does_not_open() {
        let dir = tempfile::tempdir().unwrap();
        let key = MasterKey::load_or_create(&dir.path().join("k")).unwrap();
        let other = MasterKey::load_or_create(&dir.path().join("other")).unwrap();
        let sealed = key.seal(b"secret").unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key.open(&changed).unwrap_err().code, Code::StoreCorrupt);
            assert!(key.open(&sealed[..at]).is_err());
        }
        assert!(other.open(&sealed).is_err());
    }

    #[test]
    fn files_that_are_no_key_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        for wrong in [&b""[..], b"short", &[1; 33]] {
            std::fs::write(&path, wrong).unwrap();
            assert!(MasterKey::load_or_create(&path).is_err());
        }
        let missing = MasterKey::load_or_create(&dir.path().join("no/such/dir/k")).unwrap_err();
        assert_eq!(missing.code, Code::StoreUnavailable);
    }
}
