//! The master keys of a data directory, and sealing with them: AES-256-GCM under a random nonce.
//!
//! The file holds one key of 32 bytes after the other. The newest, which stands last, seals; all of them open,
//! so that a key can be replaced while something is still sealed with the one before.
//!
//! Must never: print a key, or write it anywhere but its own file.

use std::fmt;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest;
use portcullis_model::{Code, Error, Secret};

use crate::files;

/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Keys of one file; with a new one every year there is room for sixteen years of backups.
const KEYS_MAX: usize = 16;
/// Bytes of a key's id, which stands in what it sealed.
const ID_BYTES: usize = 4;
/// First byte of what the first release sealed: nonce, ciphertext and tag follow.
const VERSION_WITHOUT_ID: u8 = 1;
/// First byte of everything sealed since: the key's id, nonce, ciphertext and tag follow.
const VERSION: u8 = 2;

/// The keys that private keys and secrets at rest are sealed with.
pub struct MasterKey {
    /// Oldest first; never empty.
    keys: Vec<Key>,
}

struct Key {
    /// Names the key without telling it: the start of a hash of its 256 random bits.
    id: [u8; ID_BYTES],
    cipher: RandomizedNonceKey,
}

impl Key {
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut named = b"portcullis master key".to_vec();
        named.extend_from_slice(bytes);
        let named = Secret::new(named);
        let hash = digest::digest(&digest::SHA256, named.expose());
        Some(Self {
            id: *hash.as_ref().first_chunk()?,
            cipher: RandomizedNonceKey::new(&AES_256_GCM, bytes).ok()?,
        })
    }

    /// What is authenticated beside the text: the form, the key, and what it is sealed for.
    fn aad(&self, place: &str) -> Aad<Vec<u8>> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.id);
        bytes.extend_from_slice(place.as_bytes());
        Aad::from(bytes)
    }

    /// Opens nonce, ciphertext and tag.
    fn open<A: AsRef<[u8]>>(&self, aad: Aad<A>, rest: &[u8]) -> Option<Secret<Vec<u8>>> {
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.cipher.open_in_place(nonce, aad, &mut body).ok()?.len();
        body.truncate(length);
        Some(Secret::new(body))
    }
}

impl MasterKey {
    /// Reads the keys, or makes the first at first start (mode 0600).
    ///
    /// # Errors
    /// `PTC_STORE_READ_ONLY`, `PTC_STORE_FULL` or `PTC_STORE_UNAVAILABLE` when the file cannot be
    /// read or written, `PTC_STORE_CORRUPT` when it holds no keys.
    pub fn load_or_create(path: &Path) -> Result<Self, Error> {
        let bytes = match read(path)? {
            Some(bytes) => {
                files::make_private(path);
                bytes
            }
            None => {
                let fresh = fresh()?;
                files::write(path, fresh.expose(), 0o600)?;
                fresh
            }
        };
        Self::from_bytes(bytes.expose()).ok_or_else(|| no_keys(path))
    }

    /// Adds a key to the file, which seals from the next start on. Nothing may have the file open meanwhile.
    /// Returns how many there are.
    ///
    /// # Errors
    /// As [`Self::load_or_create`]; `PTC_STORE_UNAVAILABLE` when there is no file, `PTC_STORE_FULL` when it
    /// holds as many keys as it may.
    pub fn add(path: &Path) -> Result<usize, Error> {
        let Some(old) = read(path)? else {
            let text = format!("{} is not there; the first start makes it", path.display());
            return Err(Error::new(Code::StoreUnavailable, text));
        };
        let count = Self::from_bytes(old.expose())
            .ok_or_else(|| no_keys(path))?
            .keys
            .len();
        if count == KEYS_MAX {
            let text = format!(
                "{} holds {KEYS_MAX} keys, as many as it may; take the oldest out",
                path.display()
            );
            return Err(Error::new(Code::StoreFull, text));
        }
        let mut all = Vec::with_capacity((count + 1) * KEY_BYTES);
        all.extend_from_slice(old.expose());
        all.extend_from_slice(fresh()?.expose());
        files::write(path, Secret::new(all).expose(), 0o600)?;
        Ok(count + 1)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (keys, rest) = bytes.as_chunks::<KEY_BYTES>();
        if keys.is_empty() || keys.len() > KEYS_MAX || !rest.is_empty() {
            return None;
        }
        let keys = keys.iter().map(|key| Key::from_bytes(key));
        Some(Self {
            keys: keys.collect::<Option<Vec<_>>>()?,
        })
    }

    /// The id of the key that seals, as it stands in what is sealed.
    fn newest(&self) -> Result<&Key, Error> {
        self.keys
            .last()
            .ok_or_else(|| Error::internal("there is a master key"))
    }

    /// Seals a text that is for no place in particular.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, Error> {
        self.seal_for(plain, "")
    }

    /// Seals a text for a place: it opens for the same place only.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn seal_for(&self, plain: &[u8], place: &str) -> Result<Vec<u8>, Error> {
        let key = self.newest()?;
        // The copy becomes the ciphertext in place; room for the tag, lest growing it leave a copy of the text.
        let mut body = Vec::with_capacity(plain.len() + AES_256_GCM.tag_len());
        body.extend_from_slice(plain);
        let nonce = key
            .cipher
            .seal_in_place_append_tag(key.aad(place), &mut body)
            .map_err(|_| Error::internal("sealing failed"))?;
        let mut sealed = vec![VERSION];
        sealed.extend_from_slice(&key.id);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.append(&mut body);
        Ok(sealed)
    }

    /// Opens what [`Self::seal`] made, in this release or the first.
    ///
    /// # Errors
    /// `PTC_STORE_CORRUPT` when it is not that, was changed, or was sealed with a key that is not here.
    pub fn open(&self, sealed: &[u8]) -> Result<Secret<Vec<u8>>, Error> {
        let opened = match sealed.split_first() {
            Some((&VERSION_WITHOUT_ID, rest)) => self
                .keys
                .iter()
                .rev()
                .find_map(|key| key.open(Aad::from([VERSION_WITHOUT_ID]), rest)),
            _ => self.try_open(sealed, ""),
        };
        opened.ok_or_else(cannot_open)
    }

    /// Opens what [`Self::seal_for`] made for the same place.
    ///
    /// # Errors
    /// `PTC_STORE_CORRUPT` when it is not that, was changed, is of another place, or was sealed with a key
    /// that is not here.
    pub fn open_for(&self, sealed: &[u8], place: &str) -> Result<Secret<Vec<u8>>, Error> {
        self.try_open(sealed, place).ok_or_else(cannot_open)
    }

    fn try_open(&self, sealed: &[u8], place: &str) -> Option<Secret<Vec<u8>>> {
        let (id, rest) = with_id(sealed)?;
        // Two keys may share an id, if hardly ever.
        let mut keys = self.keys.iter().rev().filter(|key| key.id == *id);
        keys.find_map(|key| key.open(key.aad(place), rest))
    }

    /// Whether the newest key sealed this. What an older one sealed wants to be sealed anew.
    pub fn is_newest(&self, sealed: &[u8]) -> bool {
        let Some(newest) = self.keys.last() else {
            return false;
        };
        match sealed.split_first() {
            Some((&VERSION_WITHOUT_ID, rest)) => {
                newest.open(Aad::from([VERSION_WITHOUT_ID]), rest).is_some()
            }
            _ => with_id(sealed).is_some_and(|(id, _)| *id == newest.id),
        }
    }
}

/// The key's id, and what follows it.
fn with_id(sealed: &[u8]) -> Option<(&[u8; ID_BYTES], &[u8])> {
    let (version, rest) = sealed.split_first()?;
    (*version == VERSION)
        .then(|| rest.split_first_chunk())
        .flatten()
}

fn read(path: &Path) -> Result<Option<Secret<Vec<u8>>>, Error> {
    let bytes_max = u64::try_from(KEYS_MAX * KEY_BYTES).unwrap_or(u64::MAX);
    let bytes = files::read(path, bytes_max).map_err(|e| files::explain("read", path, &e))?;
    Ok(bytes.map(Secret::new))
}

fn fresh() -> Result<Secret<Vec<u8>>, Error> {
    let mut fresh = vec![0; KEY_BYTES];
    getrandom::fill(&mut fresh).map_err(Error::internal)?;
    Ok(Secret::new(fresh))
}

fn no_keys(path: &Path) -> Error {
    let text = format!(
        "{} does not hold master keys of {KEY_BYTES} bytes, {KEYS_MAX} at most",
        path.display()
    );
    Error::new(Code::StoreCorrupt, text)
}

fn cannot_open() -> Error {
    Error::new(
        Code::StoreCorrupt,
        "a sealed secret cannot be opened with these master keys",
    )
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
        assert_eq!(again.open(&sealed).unwrap().expose(), b"secret");
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

    #[test]
    fn what_is_sealed_opens_for_its_place_only() {
        let dir = tempfile::tempdir().unwrap();
        let key = MasterKey::load_or_create(&dir.path().join("k")).unwrap();
        let sealed = key.seal_for(b"secret", "secret/a/1").unwrap();
        assert_eq!(
            key.open_for(&sealed, "secret/a/1").unwrap().expose(),
            b"secret"
        );
        for other in ["secret/a/2", "secret/b/1", "secret/a/", ""] {
            let error = key.open_for(&sealed, other).unwrap_err();
            assert_eq!(error.code, Code::StoreCorrupt, "{other}");
        }
        assert!(key.open(&sealed).is_err());
        let nowhere = key.seal(b"secret").unwrap();
        assert!(key.open_for(&nowhere, "secret/a/1").is_err());
    }

    #[test]
    fn an_added_key_seals_and_the_older_ones_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        assert!(MasterKey::add(&path).is_err(), "there is none to add to");
        let old = MasterKey::load_or_create(&path).unwrap();
        let sealed = old.seal_for(b"secret", "p").unwrap();
        assert!(old.is_newest(&sealed));
        assert_eq!(MasterKey::add(&path).unwrap(), 2);
        let both = MasterKey::load_or_create(&path).unwrap();
        assert_eq!(both.open_for(&sealed, "p").unwrap().expose(), b"secret");
        assert!(!both.is_newest(&sealed));
        let anew = both.seal_for(b"secret", "p").unwrap();
        assert!(both.is_newest(&anew) && old.open_for(&anew, "p").is_err());
        // As docs/configuration.md says it: the newest alone is the last 32 bytes.
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[32..]).unwrap();
        let newest = MasterKey::load_or_create(&path).unwrap();
        assert_eq!(newest.open_for(&anew, "p").unwrap().expose(), b"secret");
        assert!(newest.open_for(&sealed, "p").is_err());
        for _ in 1..KEYS_MAX {
            MasterKey::add(&path).unwrap();
        }
        assert_eq!(MasterKey::add(&path).unwrap_err().code, Code::StoreFull);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_the_first_release_sealed_opens() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let keys = MasterKey::load_or_create(&path).unwrap();
        let mut body = b"secret".to_vec();
        let nonce = keys.keys[0]
            .cipher
            .seal_in_place_append_tag(Aad::from([VERSION_WITHOUT_ID]), &mut body)
            .unwrap();
        let mut sealed = vec![VERSION_WITHOUT_ID];
        sealed.extend_from_slice(nonce.as_ref());
        sealed.append(&mut body);
        assert_eq!(keys.open(&sealed).unwrap().expose(), b"secret");
        assert!(keys.open_for(&sealed, "").is_err(), "secrets came later");
        assert!(keys.is_newest(&sealed));
        MasterKey::add(&path).unwrap();
        let both = MasterKey::load_or_create(&path).unwrap();
        assert_eq!(both.open(&sealed).unwrap().expose(), b"secret");
        assert!(!both.is_newest(&sealed));
    }
}
