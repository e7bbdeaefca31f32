//! Tests of the wire as its users see it: golden bytes, two simulated ends, properties.

mod channel_simulation;
mod decoding;
mod golden;
mod pair;
mod properties;
mod samples;
mod seeds;
