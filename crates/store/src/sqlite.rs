//! The store of one node: SQLite inside the process, write-ahead log, every commit synced to disk.
//!
//! Owns: the file's format and its checks at open. Must never: touch a file that is not its own, or
//! one that a newer release wrote.

mod open;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Row, params};

use crate::engine::{self, Backend, EmbeddedStore};
use crate::error::StoreError;
use crate::kv::{Entry, LeaseId};

/// Opens SQLite stores.
#[derive(Debug)]
pub struct SqliteStore;

impl SqliteStore {
    /// Opens the store at a path, or makes it (mode 0600).
    ///
    /// # Errors
    /// `StoreError`: no permission, not a store, damaged, written by a newer release.
    pub fn open(path: impl AsRef<Path>) -> Result<EmbeddedStore, StoreError> {
        engine::start(Sqlite::open(path.as_ref())?, "sqlite-store")
    }
}

struct Sqlite {
    connection: Connection,
    path: PathBuf,
    /// The revision this process knows; another one in the file means another writer.
    revision: u64,
}

const SELECT: &str = "SELECT key, value, create_revision, mod_revision, lease FROM kv";

impl Sqlite {
    fn fail(&self, error: rusqlite::Error) -> StoreError {
        translate(&self.path, error)
    }

    fn execute(&self, sql: &str, values: impl rusqlite::Params) -> Result<(), StoreError> {
        let mut statement = self
            .connection
            .prepare_cached(sql)
            .map_err(|error| self.fail(error))?;
        statement
            .execute(values)
            .map(|_| ())
            .map_err(|error| self.fail(error))
    }

    fn stored_revision(&self) -> Result<u64, StoreError> {
        let sql = "SELECT value FROM meta WHERE name = 'revision'";
        let read = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row([], |row| row.get::<_, u64>(0)));
        read.map_err(|error| self.fail(error))
    }
}

/// The end of the keys that start with `prefix`. Keys never hold this character.
fn end_of(prefix: &str) -> String {
    format!("{prefix}\u{10FFFF}")
}

fn entry(row: &Row<'_>) -> Result<Entry, rusqlite::Error> {
    Ok(Entry {
        key: row.get(0)?,
        value: row.get(1)?,
        create_revision: row.get(2)?,
        mod_revision: row.get(3)?,
        lease: row.get::<_, Option<i64>>(4)?.map(LeaseId),
    })
}

impl Backend for Sqlite {
    fn revision(&mut self) -> Result<u64, StoreError> {
        self.revision = self.stored_revision()?;
        Ok(self.revision)
    }

    fn leases(&mut self) -> Result<Vec<(LeaseId, Duration)>, StoreError> {
        let read = || -> Result<Vec<(LeaseId, Duration)>, rusqlite::Error> {
            let mut statement = self
                .connection
                .prepare_cached("SELECT id, ttl_ms FROM lease")?;
            let rows = statement.query_map([], |row| {
                Ok((
                    LeaseId(row.get(0)?),
                    Duration::from_millis(row.get::<_, u64>(1)?),
                ))
            })?;
            rows.collect()
        };
        read().map_err(|error| self.fail(error))
    }

    fn get(&mut self, key: &str) -> Result<Option<Entry>, StoreError> {
        let read = || -> Result<Option<Entry>, rusqlite::Error> {
            let mut statement = self
                .connection
                .prepare_cached(&format!("{SELECT} WHERE key = ?1"))?;
            statement.query_row([key], entry).optional()
        };
        read().map_err(|error| self.fail(error))
    }

    fn list(&mut self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        let read = || -> Result<Vec<Entry>, rusqlite::Error> {
            let sql = format!("{SELECT} WHERE key >= ?1 AND key < ?2 ORDER BY key");
            let mut statement = self.connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params![prefix, end_of(prefix)], entry)?;
            rows.collect()
        };
        read().map_err(|error| self.fail(error))
    }

    fn newest(&mut self, prefix: &str) -> Result<u64, StoreError> {
        let read = || -> Result<u64, rusqlite::Error> {
            let sql = "SELECT COALESCE(MAX(mod_revision), 0) FROM kv WHERE key >= ?1 AND key < ?2";
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_row(params![prefix, end_of(prefix)], |row| row.get(0))
        };
        read().map_err(|error| self.fail(error))
    }

    fn lease_keys(&mut self, lease: LeaseId) -> Result<Vec<String>, StoreError> {
        let read = || -> Result<Vec<String>, rusqlite::Error> {
            let mut statement = self
                .connection
                .prepare_cached("SELECT key FROM kv WHERE lease = ?1 ORDER BY key")?;
            let rows = statement.query_map([lease.0], |row| row.get(0))?;
            rows.collect()
        };
        read().map_err(|error| self.fail(error))
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        self.execute("BEGIN IMMEDIATE", [])?;
        match self.stored_revision() {
            Ok(found) if found == self.revision => Ok(()),
            Ok(_) => {
                self.rollback();
                Err(StoreError::Locked {
                    what: self.path.display().to_string(),
                })
            }
            Err(error) => {
                self.rollback();
                Err(error)
            }
        }
    }

    fn put(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let sql = "INSERT INTO kv (key, value, create_revision, mod_revision, lease) VALUES (?1, ?2, ?3, ?4, ?5) \
                   ON CONFLICT (key) DO UPDATE SET value = ?2, mod_revision = ?4, lease = ?5";
        let lease = entry.lease.map(|lease| lease.0);
        self.execute(
            sql,
            params![
                entry.key,
                entry.value,
                entry.create_revision,
                entry.mod_revision,
                lease
            ],
        )
    }

    fn delete(&mut self, key: &str) -> Result<(), StoreError> {
        self.execute("DELETE FROM kv WHERE key = ?1", [key])
    }

    fn lease_put(&mut self, lease: LeaseId, ttl: Duration) -> Result<(), StoreError> {
        let millis = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        self.execute(
            "INSERT OR REPLACE INTO lease (id, ttl_ms) VALUES (?1, ?2)",
            params![lease.0, millis],
        )
    }

    fn lease_delete(&mut self, lease: LeaseId) -> Result<(), StoreError> {
        self.execute("DELETE FROM lease WHERE id = ?1", [lease.0])
    }

    fn commit(&mut self, revision: u64) -> Result<(), StoreError> {
        self.execute(
            "UPDATE meta SET value = ?1 WHERE name = 'revision'",
            [revision],
        )?;
        self.execute("COMMIT", [])?;
        self.revision = revision;
        Ok(())
    }

    fn rollback(&mut self) {
        // SQLite rolls back by itself on some errors (a full disk is one); there is nothing to do then.
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "the store could not roll back");
        }
    }
}

/// SQLite's errors in the store's words.
fn translate(path: &Path, error: rusqlite::Error) -> StoreError {
    let what = path.display().to_string();
    let cause = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full { what },
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            StoreError::ReadOnly { what, cause }
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Corrupt { what, cause }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked { what },
        Some(ErrorCode::SystemIoFailure) if turned_read_only(path) => {
            StoreError::ReadOnly { what, cause }
        }
        Some(_) => StoreError::Unavailable {
            cause: format!("{what}: {cause}"),
        },
        // Not SQLite's: a column has a type that we never write.
        None => StoreError::Corrupt { what, cause },
    }
}

/// Whether the file system takes no writes any more, as after a failure of its disk. SQLite knows that
/// as an I/O error among others, so a file beside the store has to tell.
fn turned_read_only(path: &Path) -> bool {
    let probe = path.with_extension("probe");
    match std::fs::File::create(&probe) {
        Ok(_) => {
            if let Err(error) = std::fs::remove_file(&probe) {
                tracing::warn!(%error, "cannot remove {}", probe.display());
            }
            false
        }
        Err(error) => error.kind() == std::io::ErrorKind::ReadOnlyFilesystem,
    }
}

#[cfg(test)]
mod tests;
