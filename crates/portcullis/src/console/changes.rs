//! What changed between two moments of an agent: for scripts and for programs.
//!
//! Must never: tell of figures; those change all the time.

use std::collections::BTreeMap;

use portcullis_agent::{EndpointState, EndpointStatus, SessionState, Status};
use portcullis_model::{Code, Error};
use serde_json::{Value, json};

/// What was told last.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    session: Option<(SessionState, Option<String>, Option<Code>)>,
    endpoints: BTreeMap<String, Shown>,
}

/// What is told of an endpoint; of its health whether it is healthy, not each check.
type Shown = (EndpointState, String, Option<Error>, Option<Error>, bool);

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// The session.
    Session(Box<Status>),
    /// One endpoint.
    Endpoint(Box<EndpointStatus>),
    /// An endpoint is gone.
    Gone(String),
}

impl Seen {
    /// What is new, and remembers it.
    pub(crate) fn update(&mut self, status: &Status) -> Vec<Change> {
        let mut changes = Vec::new();
        let id = status
            .session
            .as_ref()
            .map(|session| session.id.to_string());
        let session = (
            status.state,
            id,
            status.error.as_ref().map(|error| error.code),
        );
        if self.session.as_ref() != Some(&session) {
            self.session = Some(session);
            changes.push(Change::Session(Box::new(Status {
                endpoints: Vec::new(),
                ..status.clone()
            })));
        }
        let mut endpoints = BTreeMap::new();
        for endpoint in &status.endpoints {
            let shown = (
                endpoint.state,
                endpoint.url.clone(),
                endpoint.error.clone(),
                endpoint.upstream_error.clone(),
                endpoint.health.as_ref().is_none_or(|health| health.healthy),
            );
            if self.endpoints.get(&endpoint.name) != Some(&shown) {
                changes.push(Change::Endpoint(Box::new(endpoint.clone())));
            }
            endpoints.insert(endpoint.name.clone(), shown);
        }
        let gone = self
            .endpoints
            .keys()
            .filter(|name| !endpoints.contains_key(*name));
        changes.extend(gone.cloned().map(Change::Gone));
        self.endpoints = endpoints;
        changes
    }
}

fn cause(error: Option<&Error>) -> Value {
    error.map_or(
        Value::Null,
        |error| json!({"code": error.code, "message": error.message}),
    )
}

impl Change {
    /// One line of JSON.
    pub(crate) fn json(&self, at: jiff::Timestamp) -> String {
        let mut object = match self {
            Self::Session(status) => json!({
                "event": "session",
                "state": status.state.as_str(),
                "server": status.server,
                "session_id": status.session.as_ref().map(|session| session.id.to_string()),
                "account": status.session.as_ref().map(|session| session.account.clone()),
                "node": status.session.as_ref().map(|session| session.node.clone()),
                "region": status.session.as_ref().map(|session| session.region.clone()),
                "attempts": status.attempts,
                "error": cause(status.error.as_ref()),
            }),
            Self::Endpoint(endpoint) => json!({
                "event": "endpoint",
                "state": endpoint.state.as_str(),
                "name": endpoint.name,
                "id": endpoint.id.as_ref().map(ToString::to_string),
                "url": endpoint.url,
                "upstream": endpoint.upstream,
                "error": cause(endpoint.error.as_ref()),
                "upstream_error": cause(endpoint.upstream_error.as_ref()),
                "healthy": endpoint.health.as_ref().map(|health| health.healthy),
                "health_reason": cause(endpoint.health.as_ref().and_then(|health| health.reason.as_ref())),
            }),
            Self::Gone(name) => {
                json!({"event": "endpoint", "state": EndpointState::Closed.as_str(), "name": name})
            }
        };
        object["time"] = Value::String(portcullis_model::Timestamp::from(at).to_string());
        object.to_string()
    }

    /// A line for scripts when an endpoint is online; everything else is in the agent's log.
    pub(crate) fn line(&self) -> Option<String> {
        match self {
            Self::Endpoint(endpoint)
                if endpoint.state == EndpointState::Online && endpoint.upstream_error.is_none() =>
            {
                let unhealthy = endpoint
                    .health
                    .as_ref()
                    .is_some_and(|health| !health.healthy);
                let mark = if unhealthy { " (unhealthy)" } else { "" };
                Some(format!("{} -> {}{mark}", endpoint.url, endpoint.upstream))
            }
            Self::Session(_) | Self::Endpoint(_) | Self::Gone(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_and_figures_are_none() {
        let mut seen = Seen::default();
        let mut status = Status::default();
        assert_eq!(seen.update(&status).len(), 1);
        assert!(seen.update(&status).is_empty());
        status.connections.opened = 5;
        assert!(seen.update(&status).is_empty());
        status.endpoints.push(EndpointStatus {
            name: "db".into(),
            state: EndpointState::Online,
            ..EndpointStatus::default()
        });
        let changes = seen.update(&status);
        assert_eq!(changes.len(), 1);
        let line: Value =
            serde_json::from_str(&changes[0].json(jiff::Timestamp::UNIX_EPOCH)).unwrap();
        assert_eq!(
            (line["event"].as_str(), line["state"].as_str()),
            (Some("endpoint"), Some("online"))
        );
        status.endpoints.clear();
        assert_eq!(seen.update(&status), [Change::Gone("db".into())]);
    }
}
