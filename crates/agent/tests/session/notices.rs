//! What the agent logs of its endpoints' policies.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex};

use portcullis_agent::{EndpointOptions, EndpointUpdate};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::connect;
use crate::edge::FakeEdge;

/// Keeps the warnings of the thread that it is set for.
#[derive(Debug, Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Those of policies, since it was last asked.
    fn of_policies(&self) -> Vec<String> {
        let mut all = std::mem::take(&mut *self.0.lock().expect("no panic"));
        all.retain(|line| line.contains("traffic policy"));
        all
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.0.lock().expect("no panic").push(line.0);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, "{field}={value:?} ").expect("a String");
    }
}

const NOBODY: &str =
    "on_tcp_connect: [{actions: [{type: restrict-ips, config: {deny: [10.0.0.0/8]}}]}]";

#[tokio::test]
async fn notices_of_a_policy_are_logged_once() {
    let warnings = Warnings::default();
    let _guard = tracing::subscriber::set_default(warnings.clone());
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let forwarder = agent
        .forward(EndpointOptions::new().name("plain"), "5432")
        .await;
    let _plain = forwarder.expect("bound");
    assert!(warnings.of_policies().is_empty());

    let options = EndpointOptions::new().name("db").traffic_policy(NOBODY);
    let _db = agent.forward(options, "5432").await.expect("bound");
    let told = warnings.of_policies();
    assert_eq!(told.len(), 1, "{told:?}");
    for part in [
        "traffic policy: on_tcp_connect[0]",
        "`deny` without `allow`",
        "endpoint=\"db\"",
    ] {
        assert!(told[0].contains(part), "{part} in {told:?}");
    }

    let update = EndpointUpdate {
        metadata: Some("m".into()),
        ..EndpointUpdate::default()
    };
    agent.update("db", update).await.expect("changed");
    assert!(warnings.of_policies().is_empty(), "the policy is the same");
    let update = EndpointUpdate {
        traffic_policy: Some(NOBODY.into()),
        ..EndpointUpdate::default()
    };
    agent.update("plain", update).await.expect("changed");
    assert_eq!(warnings.of_policies().len(), 1);
}
