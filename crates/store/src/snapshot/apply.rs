//! Applying changes of the store.
