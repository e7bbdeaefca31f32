//! The agent against a small edge: sessions, endpoints, connections, the SDK and the local API.

mod connections;
mod edge;
mod endpoints;
mod local_api;
mod notices;
mod sdk;
mod sessions;
mod tls;

use std::time::Duration;

use portcullis_agent::{Agent, AgentBuilder};

use edge::{FakeEdge, soon};

/// An agent for this edge that does not wait long between attempts.
fn builder(edge: &FakeEdge) -> AgentBuilder {
    Agent::builder()
        .authtoken(edge.join())
        .backoff(Duration::from_millis(1), Duration::from_millis(20))
}

async fn connect(edge: &FakeEdge) -> Agent {
    soon("the first session", builder(edge).connect())
        .await
        .expect("connected")
}

/// Waits until the status is as `wanted`.
async fn status(
    agent: &Agent,
    what: &str,
    wanted: impl FnMut(&portcullis_agent::Status) -> bool,
) -> portcullis_agent::Status {
    let mut status = agent.status();
    soon(what, status.wait_for(wanted))
        .await
        .expect("the agent is alive")
        .clone()
}
