//! The portcullis binary: reads the command line and wires the parts together.

fn main() {}
