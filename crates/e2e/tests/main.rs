//! The end-to-end tests: one binary, one module a subject. They drive the built product.
