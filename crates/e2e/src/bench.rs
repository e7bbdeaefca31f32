//! The benchmark's parts: load, targets, and the report. Figures are ratios against a direct
//! connection of the same round; absolute rates say more of the machine than of us.

pub mod load;
pub mod report;
pub mod target;
