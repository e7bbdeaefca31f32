//! The data directory: its lock, and the files that a server leaves in it for commands on the same
//! machine.
//!
//! Must never: leave a secret readable for others, or a file half-written.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use portcullis_model::{Code, Error};

/// A data directory that this process alone uses.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// Held until the process ends.
    _lock: Flock<File>,
}

impl DataDir {
    /// A folder in it for the server alone, made where it is not there.
    ///
    /// # Errors
    /// As [`DataDir::open`].
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.path.join(name);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| refusal(&path, &error))?;
        Ok(path)
    }

    /// Makes the directory if it is not there, and locks it.
    ///
    /// # Errors
    /// `PTC_STATE_DIR_LOCKED` with the holder's process id; `PTC_STORE_READ_ONLY`, `PTC_STORE_FULL`
    /// or `PTC_STORE_UNAVAILABLE` when it cannot be used.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => Error::new(
                    Code::StoreUnavailable,
                    format!("{} is not a directory", path.display()),
                ),
                _ => refusal(path, &error),
            })?;
        let path = std::fs::canonicalize(path).map_err(|error| refusal(path, &error))?;
        let file = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&file)
            .map_err(|error| refusal(&file, &error))
            .and_then(|file| {
                Flock::lock(file, FlockArg::LockExclusiveNonblock)
                    .map_err(|(_, errno)| locked(&path, errno))
            })?;
        let noted = lock
            .set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        noted.map_err(|error| refusal(&file, &error))?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is, as an absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The text of a file in it, if there is one; the file is this user's alone from then on.
    ///
    /// # Errors
    /// `PTC_STORE_…` when it is there and cannot be read.
    pub(crate) fn read(&self, name: &str) -> Result<Option<String>, Error> {
        let path = self.path.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                make_private(&path);
                Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(refusal(&path, &error)),
        }
    }

    /// Writes a file for this user alone, whole or not at all. What is there already is left alone.
    ///
    /// # Errors
    /// `PTC_STORE_…` when it cannot be written.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        if self.read(name)?.as_deref() == Some(text) {
            return Ok(());
        }
        let path = self.path.join(name);
        let fresh = self.path.join(format!(".{name}.tmp"));
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&fresh)?;
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            std::fs::rename(&fresh, &path)
        };
        write().map_err(|error| refusal(&path, &error))
    }
}

/// Takes a file's permissions away from others, should a copy or a restored backup have given them.
fn make_private(path: &Path) {
    let open = |metadata: &Metadata| metadata.permissions().mode() & 0o077 != 0;
    if !std::fs::metadata(path).is_ok_and(|metadata| open(&metadata)) {
        return;
    }
    match std::fs::set_permissions(path, Permissions::from_mode(0o600)) {
        Ok(()) => {
            tracing::warn!(path = %path.display(), "file was open to others; its mode is 0600 now");
        }
        Err(error) => tracing::warn!(path = %path.display(), %error, "file is open to others"),
    }
}

fn locked(path: &Path, errno: Errno) -> Error {
    if errno != Errno::EWOULDBLOCK {
        return Error::new(
            Code::StoreUnavailable,
            format!("{} cannot be locked: {errno}", path.display()),
        );
    }
    let holder = std::fs::read_to_string(path.join("lock")).unwrap_or_default();
    let holder = match holder.trim() {
        "" => "another process".to_owned(),
        pid => format!("process {pid}"),
    };
    Error::new(
        Code::StateDirLocked,
        format!("{} is in use by {holder}", path.display()),
    )
}

/// A file system's refusal, by its code.
fn refusal(path: &Path, error: &io::Error) -> Error {
    let code = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Code::StoreReadOnly,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::StoreFull,
        _ => Code::StoreUnavailable,
    };
    Error::new(code, format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let held = DataDir::open(&path).unwrap();
        let error = DataDir::open(&path).unwrap_err();
        assert_eq!(error.code, Code::StateDirLocked);
        assert!(
            error.message.contains(&std::process::id().to_string()),
            "{error}"
        );
        drop(held);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn files_are_for_this_user_alone() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        data.write("join", "secret").unwrap();
        data.write("join", "other").unwrap();
        assert_eq!(data.read("join").unwrap().as_deref(), Some("other"));
        let path = data.path().join("join");
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(data.read("join").unwrap().as_deref(), Some("other"));
        assert_eq!(mode(), 0o600, "as of a restored copy");
        assert_eq!(data.read("nothing").unwrap(), None);
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "").unwrap();
        let error = DataDir::open(&path.join("data")).unwrap_err();
        assert!(error.message.contains("file"), "{error}");
    }
}
