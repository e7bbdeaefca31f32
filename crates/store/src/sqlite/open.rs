//! Opening the file: is it ours, is it whole, is it of this release; then its settings and migrations.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::{Sqlite, translate};
use crate::defaults;
use crate::error::StoreError;

/// "PTCS": marks the file as a Portcullis store, in SQLite's header.
const APPLICATION_ID: i64 = 0x5054_4353;
/// How long to wait for another connection, such as a backup, before giving up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Each step takes the file from its index to the next `user_version`. A published step never changes.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE kv (
        key TEXT NOT NULL PRIMARY KEY,
        value BLOB NOT NULL,
        create_revision INTEGER NOT NULL,
        mod_revision INTEGER NOT NULL,
        lease INTEGER
    ) STRICT;
    CREATE INDEX kv_lease ON kv (lease) WHERE lease IS NOT NULL;
    CREATE TABLE lease (id INTEGER NOT NULL PRIMARY KEY, ttl_ms INTEGER NOT NULL) STRICT;
    CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) STRICT;
    INSERT INTO meta (name, value) VALUES ('revision', 0);
"];

impl Sqlite {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        create_private(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(path, flags).map_err(|error| translate(path, error))?;
        let mut store = Self {
            connection,
            path: path.to_owned(),
            revision: 0,
        };
        store.identify()?;
        store.configure().map_err(|error| store.fail(error))?;
        store.verify()?;
        store.migrate().map_err(|error| store.fail(error))?;
        Ok(store)
    }

    fn pragma(&self, name: &str) -> Result<i64, StoreError> {
        self.connection
            .pragma_query_value(None, name, |row| row.get(0))
            .map_err(|error| self.fail(error))
    }

    /// Refuses what isn't ours before anything is written.
    fn identify(&self) -> Result<(), StoreError> {
        let what = || self.path.display().to_string();
        self.connection
            .busy_timeout(BUSY_TIMEOUT)
            .map_err(|error| self.fail(error))?;
        let application = self.pragma("application_id")?;
        let found = self.pragma("user_version")?;
        let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        let empty = self.pragma("page_count")? == 0;
        if application != APPLICATION_ID && !(empty && application == 0) {
            return Err(StoreError::Foreign { what: what() });
        }
        if found > known {
            return Err(StoreError::Version {
                what: what(),
                found,
                known,
            });
        }
        if self
            .connection
            .is_readonly("main")
            .map_err(|error| self.fail(error))?
        {
            let cause = "the file system or its permissions allow reading only".to_owned();
            return Err(StoreError::ReadOnly {
                what: what(),
                cause,
            });
        }
        Ok(())
    }

    fn configure(&self) -> Result<(), rusqlite::Error> {
        self.connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        self.connection
            .pragma_update(None, "wal_autocheckpoint", defaults::WAL_PAGES_MAX)
    }

    fn verify(&self) -> Result<(), StoreError> {
        let verdict: String = self
            .connection
            .pragma_query_value(None, "quick_check", |row| row.get(0))
            .map_err(|error| self.fail(error))?;
        if verdict != "ok" {
            return Err(StoreError::Corrupt {
                what: self.path.display().to_string(),
                cause: verdict,
            });
        }
        Ok(())
    }

    fn migrate(&mut self) -> Result<(), rusqlite::Error> {
        let transaction = self.connection.transaction()?;
        let found: usize =
            transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        for step in MIGRATIONS.iter().skip(found) {
            transaction.execute_batch(step)?;
        }
        if found < MIGRATIONS.len() {
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(
                None,
                "user_version",
                i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX),
            )?;
        }
        transaction.commit()
    }
}

/// Makes the file with mode 0600 if there is none; SQLite gives its log the same mode.
fn create_private(path: &Path) -> Result<(), StoreError> {
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == ErrorKind::StorageFull => Err(StoreError::Full {
            what: path.display().to_string(),
        }),
        Err(error) => Err(StoreError::ReadOnly {
            what: path.display().to_string(),
            cause: error.to_string(),
        }),
    }
}
