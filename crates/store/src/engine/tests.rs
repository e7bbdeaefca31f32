//! Leases in a time that the test decides.

use super::*;
use crate::kv::Op;
use crate::memory::Memory;

const TTL: Duration = Duration::from_secs(10);

fn engine_with_a_lease() -> (Engine<Memory>, LeaseId) {
    let mut engine = Engine {
        backend: Memory::default(),
        revision: 0,
        leases: BTreeMap::new(),
        history: Arc::new(Mutex::new(History::starting_after(0))),
        published: watch::channel(0).0,
    };
    let answers = engine.attempt(&[Command::Grant(TTL)]).expect("granted");
    let Some(Answer::Lease(lease)) = answers.into_iter().next() else {
        panic!("a lease");
    };
    let put = Op::Put {
        key: "k".into(),
        value: Vec::new(),
        lease: Some(lease),
    };
    let txn = Txn {
        guards: Vec::new(),
        ops: vec![put],
    };
    engine.attempt(&[Command::Txn(txn)]).expect("put");
    (engine, lease)
}

#[test]
fn a_lease_ends_at_its_deadline_and_not_before() {
    let (mut engine, lease) = engine_with_a_lease();
    let deadline = engine.leases[&lease].deadline;
    engine.expire(deadline - Duration::from_millis(1));
    assert!(engine.backend.get("k").expect("reads").is_some());
    engine.expire(deadline);
    assert!(engine.backend.get("k").expect("reads").is_none());
    assert!(engine.leases.is_empty());
}

#[test]
fn a_process_that_stood_still_gives_every_lease_its_time_again() {
    let (mut engine, lease) = engine_with_a_lease();
    let late = engine.leases[&lease].deadline + Duration::from_secs(3600);
    engine.expire(late);
    assert!(engine.backend.get("k").expect("reads").is_some());
    assert_eq!(engine.leases[&lease].deadline, late + TTL);
}
