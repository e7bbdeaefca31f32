//! The edge: listeners, admission, routing, pools, agent sessions and the story of a connection.
//!
//! Start reading at `connection.rs`. Owns: the sockets of clients and agents, and the sessions. Must
//! never: decide who owns an address (the registry does) or tell of a connection outside its record.

mod admission;
mod agents;
mod cancel;
mod client;
mod config;
mod connection;
mod decide;
pub mod defaults;
mod dialled;
mod early;
mod farewell;
mod handle;
mod health;
mod limits;
mod listeners;
mod names;
mod network;
mod node;
mod on_change;
mod open;
mod pace;
pub mod places;
mod policy_state;
mod pool;
mod reads;
mod refusal;
mod restrict;
mod route;
mod session;
mod sessions;
mod source;
mod status;
mod terminate;
mod upstreams;
mod world;

pub use config::{EdgeConfig, Limits};
pub use handle::{Edge, EdgeHandle};
pub use network::Network;
pub use places::{CategoryList, PlaceFiles, Places};
