//! CIDRs: strict reading, and matching against a naive search.
