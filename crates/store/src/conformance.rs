//! The promises of [`Store`], as a suite that any implementation can run:
//! `conformance::run(|| async { my_store().await }).await`.
//!
//! Each case takes a store of its own, empty and at any revision. A broken promise panics with the
//! case's words, for this is test code that lives here so that other crates can call it.
#![allow(clippy::expect_used, reason = "test code for other crates' tests")]

mod leases;
mod transactions;
mod watches;

use std::future::Future;
use std::sync::Arc;

use crate::kv::{Guard, LeaseId, Op, Store, Txn, TxnOutcome};

/// Runs every case, each on a store that the factory makes.
pub async fn run<F, Fut>(factory: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Store>>,
{
    transactions::reads_what_was_written(factory().await).await;
    transactions::lists_by_prefix_in_key_order(factory().await).await;
    transactions::guards_decide(factory().await).await;
    transactions::none_newer_sees_creations_and_changes(factory().await).await;
    transactions::all_or_nothing(factory().await).await;
    transactions::refuses_to_change_a_key_twice(factory().await).await;
    transactions::revisions_only_grow(factory().await).await;
    transactions::one_of_many_writers_wins(factory().await).await;
    watches::tells_every_change_once_in_order(factory().await).await;
    watches::starts_from_a_past_revision(factory().await).await;
    watches::sees_only_its_prefix(factory().await).await;
    watches::keeps_a_transaction_together(factory().await).await;
    watches::refuses_what_is_no_longer_kept(factory().await).await;
    leases::ending_deletes_the_keys(factory().await).await;
    leases::keeping_alive_keeps_the_keys(factory().await).await;
    leases::revoking_deletes_the_keys_in_one_revision(factory().await).await;
    leases::a_key_leaves_its_lease_when_put_without(factory().await).await;
    leases::a_lease_that_is_gone_is_refused(factory().await).await;
}

fn put(key: &str, value: &str) -> Op {
    put_under(key, value, None)
}

fn put_under(key: &str, value: &str, lease: Option<LeaseId>) -> Op {
    Op::Put {
        key: key.to_owned(),
        value: value.as_bytes().to_vec(),
        lease,
    }
}

fn delete(key: &str) -> Op {
    Op::Delete {
        key: key.to_owned(),
    }
}

async fn write(store: &dyn Store, ops: Vec<Op>) -> u64 {
    committed(
        store
            .txn(Txn {
                guards: Vec::new(),
                ops,
            })
            .await
            .expect("a write without guards succeeds"),
    )
}

async fn guarded(store: &dyn Store, guard: Guard, op: Op) -> TxnOutcome {
    store
        .txn(Txn {
            guards: vec![guard],
            ops: vec![op],
        })
        .await
        .expect("a guarded write answers")
}

fn committed(outcome: TxnOutcome) -> u64 {
    match outcome {
        TxnOutcome::Committed { revision } => revision,
        TxnOutcome::Refused { .. } => panic!("the transaction should have happened"),
    }
}

async fn value(store: &dyn Store, key: &str) -> Option<String> {
    let entry = store.get(key).await.expect("get answers");
    entry.map(|entry| String::from_utf8(entry.value).expect("tests write text"))
}
