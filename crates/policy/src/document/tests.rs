//! Documents: forms, faults, and bombs.
