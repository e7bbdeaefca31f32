//! The sockets of the data path: accept, TLS, PROXY protocol, upstream dial, relay, tunnel channels, drain.
