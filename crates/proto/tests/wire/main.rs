//! Tests of the wire as its users see it: golden bytes, two simulated ends, properties.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod channel_simulation;
mod decoding;
mod golden;
mod move_simulation;
mod moving;
mod pair;
mod properties;
mod samples;
mod seeds;
mod session_simulation;
mod world;
