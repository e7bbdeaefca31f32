//! The agent and the Rust SDK: sessions, endpoints, upstreams, the local API.
