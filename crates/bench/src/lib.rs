//! The benchmark's parts: a load generator, a delay relay, targets (ours and the peers'), the figures
//! and the report. Figures are ratios formed in the same round; absolute rates say more of the machine
//! than of us.
//!
//! Must never: measure a target that it did not start, or leave one behind.

pub mod bench;
pub mod child;
pub mod delay;
pub mod figures;
pub mod instructions;
pub mod load;
pub mod options;
pub mod output;
pub mod peers;
mod poll;
pub mod reach;
pub mod report;
pub mod target;
pub mod usage;
