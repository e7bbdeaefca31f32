//! ACL rules: forms, refusals, and properties.
