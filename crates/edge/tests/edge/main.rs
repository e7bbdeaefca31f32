//! The edge in one process, against a real store and a fake agent that speaks the real protocol: what
//! a client sees, and what the node tells of it. After every test opened = closed + open.

mod agent;
mod bed;
mod changes;
mod counts;
mod first;
mod fronts;
mod limits;
mod names;
mod noted;
mod paths;
mod plain;
mod policy;
mod pools;
mod ports;
mod reasons;
mod restrictions;
mod sessions;
mod shutdown;
mod terminate;
