//! What can go wrong with the store itself.

use portcullis_model::{Code, Error};

/// An error of a store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No space left; the change was not made, everything else stands.
    #[error("no space left for {what}")]
    Full {
        /// The file or store.
        what: String,
    },
    /// Permissions or a read-only mount.
    #[error("cannot write {what}: {cause}")]
    ReadOnly {
        /// The file or store.
        what: String,
        /// The system's words.
        cause: String,
    },
    /// The bytes are not what was written.
    #[error("{what} is damaged: {cause}")]
    Corrupt {
        /// The file or key.
        what: String,
        /// What was found.
        cause: String,
    },
    /// Another kind of file.
    #[error("{what} is not a Portcullis store")]
    Foreign {
        /// The file.
        what: String,
    },
    /// Written by a newer release.
    #[error("{what} has format {found}, this release knows up to {known}")]
    Version {
        /// The file.
        what: String,
        /// Its format.
        found: i64,
        /// The newest format that this release knows.
        known: i64,
    },
    /// Another process writes the same store.
    #[error("another process uses {what}")]
    Locked {
        /// The file.
        what: String,
    },
    /// A watch asked for changes that are no longer kept.
    #[error("changes from revision {wanted} are no longer kept; the oldest is {oldest}")]
    Compacted {
        /// The revision asked for.
        wanted: u64,
        /// The oldest that is kept.
        oldest: u64,
    },
    /// The lease has ended.
    #[error("the lease has ended")]
    LeaseGone,
    /// A transaction that can never work, such as one that changes a key twice.
    #[error("not a valid transaction: {cause}")]
    Invalid {
        /// Why.
        cause: String,
    },
    /// The store's thread or server is gone, or the system failed in another way.
    #[error("the store failed: {cause}")]
    Unavailable {
        /// The system's words.
        cause: String,
    },
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::Full { .. } => Code::StoreFull,
            StoreError::ReadOnly { .. } => Code::StoreReadOnly,
            StoreError::Corrupt { .. } | StoreError::Foreign { .. } => Code::StoreCorrupt,
            StoreError::Version { .. } => Code::StoreVersion,
            StoreError::Locked { .. } => Code::StateDirLocked,
            StoreError::Invalid { .. } => Code::Internal,
            StoreError::Compacted { .. }
            | StoreError::LeaseGone
            | StoreError::Unavailable { .. } => Code::StoreUnavailable,
        };
        match code {
            Code::Internal => Self::internal(error),
            _ => Self::new(code, format!("{error}. {}", code.remedy())),
        }
    }
}
