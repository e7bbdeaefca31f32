//! Documents: every problem with its code and path.
