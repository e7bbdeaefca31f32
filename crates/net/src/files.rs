//! Small secret files: read with a bound, written whole or not at all.
//!
//! Must never: leave a half-written file under its final name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use portcullis_model::{Code, Error};

/// Reads a file of at most `bytes_max`; `None` when there is none.
pub(crate) fn read(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {bytes_max} bytes"),
        ));
    }
    Ok(Some(bytes))
}

/// Writes a file by way of a temporary one beside it, and makes it durable.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    try_write(path, bytes, mode).map_err(|error| explain("write", path, &error))
}

fn try_write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new.{}", std::process::id()));
    let temporary = dir.join(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&temporary)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // The error that matters is the first; a leftover temporary file is overwritten next time.
        drop(fs::remove_file(&temporary));
        return Err(error);
    }
    File::open(dir)?.sync_all()
}

/// Takes a secret file's permissions away from others, should someone have given them.
pub(crate) fn make_private(path: &Path) {
    let Ok(metadata) = fs::metadata(path) else {
        return;
    };
    if metadata.permissions().mode() & 0o077 == 0 {
        return;
    }
    match fs::set_permissions(path, fs::Permissions::from_mode(0o600)) {
        Ok(()) => {
            tracing::warn!(path = %path.display(), "file was readable by others; its mode is 0600 now")
        }
        Err(error) => tracing::warn!(path = %path.display(), %error, "file is readable by others"),
    }
}

/// The error of an operation on a file of the data directory.
pub(crate) fn explain(verb: &str, path: &Path, error: &io::Error) -> Error {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let code = match error.kind() {
        PermissionDenied | ReadOnlyFilesystem => Code::StoreReadOnly,
        StorageFull | QuotaExceeded => Code::StoreFull,
        _ => Code::StoreUnavailable,
    };
    Error::new(code, format!("cannot {verb} {}: {error}", path.display()))
}
