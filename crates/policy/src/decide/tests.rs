//! Decisions: order, restriction, resuming.
