//! The end-to-end tests: one binary, one module a subject. They drive the built product.

mod acme;
mod agent_tls;
mod agents;
mod api_client;
mod api_tls;
mod bad_input;
mod carriers;
mod commands;
mod conformance;
mod crowds;
mod databases;
mod direct;
mod exhaustion;
mod half_close;
mod names;
mod networks;
mod plain;
mod policies;
mod proxy_protocol;
mod real_services;
mod restarts;
mod sdk;
mod tenants;
mod tls;
mod upstreams;
