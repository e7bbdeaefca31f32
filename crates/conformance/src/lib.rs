//! Checks any TCP proxy for what users of TCP rely on. The suite is both ends: it listens as the
//! proxy's target and connects to the proxy's public side, so each case holds the two sockets that
//! the proxy joins and says what one may see when the other does something.
//!
//! Cases run one at a time, because some of them carry no byte by which a connection could be told
//! from another. Before each case a probe goes through, and connections left over are thrown away.
//!
//! Must never: depend on another crate of the workspace (it judges them), judge speed, or wait for
//! anything without a deadline.

mod cases;
mod echo;
mod matrix;
mod memory;
mod options;
mod pattern;
mod report;
mod rig;
mod suite;
mod verdict;
mod wire;

pub use cases::{Case, all};
pub use matrix::markdown;
pub use options::Options;
pub use report::{CaseReport, Report};
pub use suite::{RunError, run};
pub use verdict::Verdict;
