//! What seals and opens the values of secrets. The keys are not the store's: whoever has the database alone
//! has no value.

use std::fmt;

use portcullis_model::{Error, Sealed, Secret};

/// Seals values for a place in the store, and opens them there.
pub trait Sealer: fmt::Debug + Send + Sync {
    /// Seals a value with the newest key.
    ///
    /// # Errors
    /// When it cannot be sealed.
    fn seal(&self, plain: &[u8], place: &str) -> Result<Sealed, Error>;

    /// Opens what was sealed for the same place, with whichever key.
    ///
    /// # Errors
    /// When it was changed, is of another place, or its key is gone.
    fn open(&self, sealed: &Sealed, place: &str) -> Result<Secret<Vec<u8>>, Error>;

    /// Whether the newest key sealed it.
    fn is_newest(&self, sealed: &Sealed) -> bool;
}
