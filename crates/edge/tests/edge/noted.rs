//! What a connection's only log line tells of its policies.

use std::fmt;
use std::sync::{Arc, Mutex};

use portcullis_telemetry::CloseReason;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber};

use crate::bed::{Bed, echo, ending, exchange};

/// Keeps the fields `policy`, `reason` and `error` of every access line.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<[String; 3]>>>);

struct Fields([String; 3]);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        let at = ["policy", "reason", "error"];
        if let Some(at) = at.iter().position(|name| *name == field.name()) {
            value.clone_into(&mut self.0[at]);
        }
    }
    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "access"
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(Default::default());
        event.record(&mut fields);
        self.0.lock().expect("sound").push(fields.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// On one thread, where the lines go to whom this test names.
#[tokio::test]
async fn the_line_says_what_ran_what_was_logged_and_where_it_failed() {
    let lines = Lines::default();
    // A single dispatcher would let the lines of tests that have none be decided for this one as well.
    let _second = Dispatch::new(Lines::default());
    let _guard = tracing::subscriber::set_default(lines.clone());
    let bed = Bed::start().await;
    let policy = "
on_tcp_connect:
  - name: tells
    actions:
      - {type: log, config: {metadata: {who: 'at ${conn.client_ip}', count: 2}}}
";
    let change = |spec: &mut portcullis_store::DirectSpec| {
        policy.clone_into(&mut spec.traffic_policy);
    };
    let told = bed.direct_with("tcp://", echo("t").await, change).await;
    assert_eq!(exchange(bed.connect(&told).await, b"").await, b"t");
    bed.closed(CloseReason::ClientFinished).await;
    let fails = "
on_tcp_connect:
  - expressions: ['true', '1 / (conn.client_port - conn.client_port) == 1']
    actions: [{type: close-connection}]
  - actions: [{type: deny}]
";
    let fails = bed.cloud("tcp://", fails).await;
    // The reset is another test's.
    drop(ending(&mut bed.connect(&fails).await).await);
    bed.closed(CloseReason::PolicyError).await;
    bed.finish().await;

    let lines = lines.0.lock().expect("sound").clone();
    let line = |reason: &str| {
        let found = lines.iter().find(|[_, is, _]| is == reason);
        found.unwrap_or_else(|| panic!("no {reason} in {lines:?}"))
    };
    let [policy, ..] = line("client_finished");
    assert!(policy.contains("tells: log"), "{policy}");
    assert!(
        policy.contains(r#"{"count":2,"who":"at 127.0.0.1"}"#),
        "{policy}"
    );
    let [_, _, error] = line("policy_error");
    let path = "on_tcp_connect[0].expressions[1]: ";
    assert!(error.starts_with(path), "{error}");
}
