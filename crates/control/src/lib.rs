//! Control: the REST API. Authentication, the resources of an account, audit, and the OpenAPI document.
//!
//! Owns: how HTTP looks (paths, headers, pages, error bodies). ngrok's API client libraries work when
//! pointed here; what is ours sits beside their fields.
//! Must never: decide a rule about resources (the registry does), or touch a client connection but
//! through [`portcullis_telemetry::NodeCommands`].

mod app;
pub mod config;
pub mod defaults;
mod material;
mod openapi;
mod resources;
mod router;
mod server;
mod stall;
mod views;
mod web;

pub use config::{ControlConfig, Tls};
pub use openapi::openapi_json;
pub use server::{Control, ControlHandle};

#[cfg(test)]
mod tests;
