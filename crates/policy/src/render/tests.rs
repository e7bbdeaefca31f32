//! Documents from flags.
