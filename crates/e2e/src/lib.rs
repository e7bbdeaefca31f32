//! End-to-end tests: the harness and the one test binary that drives the built product.
