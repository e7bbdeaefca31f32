//! Endpoint URLs: every rule with its code, and properties.
