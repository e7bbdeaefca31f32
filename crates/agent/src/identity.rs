//! Who this installation is: an id, a secret and a generation that counts the starts, kept in the
//! state directory. The server gives the same random addresses to the same identity.
//!
//! Owns `identity.json` (0600) and `lock` in the state directory (0700). Must never: share an identity
//! between two live processes, or print the secret.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use portcullis_model::secret::hex;
use portcullis_model::{AgentId, Code, Error, Secret, Timestamp};
use serde::{Deserialize, Serialize};

const IDENTITY_FILE: &str = "identity.json";
const LOCK_FILE: &str = "lock";

/// An identity in use. The lock on its directory lives as long as the value.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) agent_id: AgentId,
    pub(crate) secret: Secret,
    pub(crate) generation: u64,
    /// Why it is kept in memory only, when it is; for the log.
    pub(crate) in_memory_because: Option<String>,
    _lock: Option<Flock<File>>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    agent_id: AgentId,
    secret: String,
    generation: u64,
}

impl Identity {
    /// An identity that lasts as long as the value.
    ///
    /// # Errors
    /// `PTC_INTERNAL` when the system has no randomness.
    pub(crate) fn in_memory(because: &str) -> Result<Self, Error> {
        let fresh = Kept::fresh()?;
        Ok(fresh.into_identity(None, Some(because.to_owned())))
    }

    /// The identity of a state directory, one generation on. When another live process holds the
    /// directory, an identity in memory.
    ///
    /// # Errors
    /// `PTC_STORE_READ_ONLY`, `PTC_STORE_FULL` or `PTC_STORE_UNAVAILABLE` when the directory or its
    /// file cannot be used, `PTC_STORE_CORRUPT` when the file holds something else.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        make_dir(dir)?;
        let Some(lock) = lock(dir)? else {
            return Self::in_memory(&format!("another live agent holds {}", dir.display()));
        };
        let path = dir.join(IDENTITY_FILE);
        let mut kept = match std::fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice::<Kept>(&bytes).map_err(|error| corrupt(&path, &error))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::fresh()?,
            Err(error) => return Err(refused(&path, &error)),
        };
        kept.generation = kept.generation.saturating_add(1);
        let json = serde_json::to_vec_pretty(&kept).map_err(Error::internal)?;
        write_private(&path, &json)?;
        Ok(kept.into_identity(Some(lock), None))
    }
}

impl Kept {
    fn fresh() -> Result<Self, Error> {
        let mut entropy = [0_u8; portcullis_model::id::ENTROPY_BYTES];
        let mut secret = [0_u8; 32];
        getrandom::fill(&mut entropy).map_err(Error::internal)?;
        getrandom::fill(&mut secret).map_err(Error::internal)?;
        let now = Timestamp::from(jiff::Timestamp::now());
        Ok(Self {
            agent_id: AgentId::new(now.unix_seconds(), entropy),
            secret: hex(&secret),
            generation: 1,
        })
    }

    fn into_identity(
        self,
        lock: Option<Flock<File>>,
        in_memory_because: Option<String>,
    ) -> Identity {
        Identity {
            agent_id: self.agent_id,
            secret: Secret::new(self.secret),
            generation: self.generation,
            in_memory_because,
            _lock: lock,
        }
    }
}

/// Takes the directory's lock, or tells that another process has it.
fn lock(dir: &Path) -> Result<Option<Flock<File>>, Error> {
    let path = dir.join(LOCK_FILE);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| refused(&path, &error))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(refused(&path, &io::Error::from(errno))),
    }
}

/// Makes a directory that only its owner may use, unless it is there.
///
/// # Errors
/// `PTC_STORE_FULL`, `PTC_STORE_READ_ONLY`, `PTC_STORE_UNAVAILABLE`.
pub(crate) fn make_dir(dir: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| refused(dir, &error))
}

/// Writes a file that only its owner may read, so that a crash leaves the old one or the new one. Only one
/// process may write it: the other name that it has at first is always the same.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let fresh = PathBuf::from(format!("{}.new", path.display()));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&fresh)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)
    };
    write().map_err(|error| refused(path, &error))
}

/// Why a file or directory of the state cannot be used.
pub(crate) fn refused(path: &Path, error: &io::Error) -> Error {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::StoreFull,
        io::ErrorKind::NotFound => return gone(path),
        _ => Code::StoreReadOnly,
    };
    Error::new(code, format!("cannot use {}: {error}", path.display()))
}

/// What is missing is the directory: files are made where they are not there.
fn gone(path: &Path) -> Error {
    let dir = path.parent().unwrap_or(path);
    let message = format!(
        "cannot use {}: the directory {} is not there, or was removed meanwhile",
        path.display(),
        dir.display()
    );
    Error::new(Code::StoreUnavailable, message)
}

fn corrupt(path: &Path, error: &serde_json::Error) -> Error {
    let what = format!(
        "{} is damaged; delete it to start with a new identity and new random addresses",
        path.display()
    );
    // The parser's message may quote what it found, which may be the secret.
    Error::new(Code::StoreCorrupt, what).with_internal(format_args!(
        "line {} column {}",
        error.line(),
        error.column()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_restarts_and_counts_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = dir.path().join("agent");
        let first = Identity::open(&state).expect("a new one");
        let (id, secret, generation) = (
            first.agent_id.clone(),
            first.secret.clone(),
            first.generation,
        );
        drop(first);
        let second = Identity::open(&state).expect("the same");
        assert_eq!(
            (&second.agent_id, second.secret.expose()),
            (&id, secret.expose())
        );
        assert_eq!(second.generation, generation + 1);
        let mode = |name: &str| {
            std::fs::metadata(state.join(name))
                .expect("there")
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!(
            (mode("."), mode(IDENTITY_FILE), mode(LOCK_FILE)),
            (0o700, 0o600, 0o600)
        );
    }

    #[test]
    fn a_second_live_process_gets_an_identity_of_its_own() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = Identity::open(dir.path()).expect("a new one");
        let second = Identity::open(dir.path()).expect("one in memory");
        assert_ne!(first.agent_id, second.agent_id);
        assert!(first.in_memory_because.is_none());
        assert!(second.in_memory_because.is_some());
    }

    #[test]
    fn a_damaged_file_is_reported_and_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join(IDENTITY_FILE), b"{\"agent_id\":").expect("written");
        let error = Identity::open(dir.path()).expect_err("damaged");
        assert_eq!(error.code, Code::StoreCorrupt);
        assert!(dir.path().join(IDENTITY_FILE).exists());
    }

    #[test]
    fn a_missing_directory_is_not_called_read_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let gone = dir.path().join("gone");
        let error = write_private(&gone.join(IDENTITY_FILE), b"{}").expect_err("no directory");
        assert_eq!(error.code, Code::StoreUnavailable);
        let named = format!("the directory {} is not there", gone.display());
        assert!(error.message.contains(&named), "{error}");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_reported() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("file"), b"").expect("written");
        let error =
            Identity::open(&dir.path().join("file").join("agent")).expect_err("not a directory");
        assert_eq!(error.code, Code::StoreReadOnly);
    }
}
