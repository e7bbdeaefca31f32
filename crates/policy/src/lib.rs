//! Traffic Policy: parse, check, compile, decide. Pure.
