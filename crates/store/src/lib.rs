//! The store: an etcd-shaped trait, SQLite behind it, the typed registry and its snapshots.
