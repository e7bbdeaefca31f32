//! The figures: what is measured of a target, and into which section and columns of the report it goes.

pub mod listeners;
pub mod long;
pub mod memory;
pub mod names;
pub mod path;
pub mod policies;
pub mod tools;
