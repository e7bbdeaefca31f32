//! Placeholder of the compiled policy until the policy crate's type is there.

/// A compiled policy.
#[derive(Debug)]
pub struct Policy;
